r"""How initialisation, multipliers and learning rates scale with width, and what a network of any width does then.

Layer l = 1, ..., L+1 computes with n^{-a_l} w^l; entries of w^l start as N(0, n^{-2 b_l}); its learning rate is
eta n^{-c_l}. Layer 1 reads a fixed input, layer L+1 is the readout to a fixed output, all others map width n to n. The
exponents (a, b, c) decide whether a wide network blows up, is a kernel machine or learns features.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Coordinate",
    "CoordinateCheck",
    "Exponents",
    "Plan",
    "Rule",
    "Scheme",
    "Verdict",
    "coordinate_check",
    "exponents",
    "judge",
    "parametrise",
    "plan",
    "predicted_slopes",
    "same_rate",
    "scheme",
    "table",
]

HALF, ONE, ZERO = Fraction(1, 2), Fraction(1), Fraction(0)
OPTIMIZERS, ROLES = ("sgd", "adam"), ("input", "hidden", "output")


class Rule(NamedTuple):
    """Exponents of one kind of layer, in units of the width: multiplier n^-a, initial std n^-b, learning rate n^-c."""

    a: Fraction
    b: Fraction
    c: Fraction


class Scheme(NamedTuple):
    """A parametrisation for one optimiser: a rule for each kind of layer. Biases and gains follow the input layer."""

    name: str
    optimizer: str
    input: Rule
    hidden: Rule
    output: Rule

    def rule(self, role: str) -> Rule:
        """The rule of ``"input"``, ``"hidden"`` or ``"output"``."""
        return {"input": self.input, "hidden": self.hidden, "output": self.output}[role]


# (a, b) of input, hidden and output layers; then c under SGD and under Adam.
_SCHEMES: dict[str, tuple[tuple[Any, ...], ...]] = {
    "sp": ((0, 0), (0, HALF), (0, HALF), (0, 0, 0), (0, 0, 0)),
    "ntp": ((0, 0), (HALF, 0), (HALF, 0), (0, 0, 0), (HALF, 1, HALF)),
    "mfp": ((0, 0), (HALF, 0), (1, 0), (-1, -1, -1), (0, HALF, 0)),
    "mup": ((0, 0), (0, HALF), (1, 0), (-1, 0, -1), (0, 1, 0)),
}


def _one_of(name: str, value: object, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ValueError(f"{name}: received {value!r}; valid is {', '.join(valid)}. Repair: {name}={valid[-1]!r}.")


def scheme(name: str, optimizer: str = "sgd", rate: Fraction | float | None = None) -> Scheme:
    r"""A parametrisation by name: standard, neural tangent, mean field, or maximal update (muP).

    ``"sp"`` is what frameworks do. ``"mup"`` is Table 8 of the source: readout with a multiplier 1/n, rates n, 1, n of
    input, hidden and output layers under SGD, and 1, 1/n, 1 under Adam. ``"mfp"`` is for networks with one hidden
    layer; its rule for hidden weights copies the common rate. Under Adam the rates of ``"ntp"`` are ours: the largest
    that keep every layer in the kernel regime.

    Args:
        name: "sp", "ntp", "mfp" or "mup".
        optimizer: "sgd" (also with momentum) or "adam" (also AdamW).
        rate: replaces every exponent c; "sp" under SGD needs rate=1 to be stable.

    Returns:
        The rules of its layers.

    Raises:
        ValueError: a name that is not one of these.

    Source: Yang & Hu 2021, Table 1; Yang et al. 2022, Table 8.

    >>> scheme("mup", "adam").hidden.c, scheme("sp", rate=1).output.c
    (Fraction(1, 1), Fraction(1, 1))
    """
    _one_of("name", name, tuple(_SCHEMES))
    _one_of("optimizer", optimizer, OPTIMIZERS)
    *layers, sgd, adam = _SCHEMES[name]
    rates = sgd if optimizer == "sgd" else adam
    if rate is not None:
        rates = (rate,) * 3
    rules = [Rule(Fraction(a), Fraction(b), Fraction(c)) for (a, b), c in zip(layers, rates, strict=True)]
    return Scheme(name, optimizer, *rules)


def table(optimizer: str = "sgd") -> list[dict[str, str]]:
    """All parametrisations as rows to print: for each kind of layer multiplier, initial std and rate as powers of n.

    Args:
        optimizer: "sgd" or "adam".

    Returns:
        One row a scheme and kind of layer.

    Raises:
        ValueError: another optimiser.

    Source: Yang et al. 2022, Table 8, in its width-dependent part; "sp", "ntp", "mfp" likewise.

    >>> table("adam")[-2]
    {'scheme': 'mup', 'layer': 'hidden', 'multiplier': '1', 'std': 'n^-1/2', 'rate': 'n^-1'}
    """

    def power(exponent: Fraction) -> str:
        return "1" if exponent == 0 else "n" if exponent == -1 else f"n^{-exponent}"

    rows = []
    for name in _SCHEMES:
        for role in ROLES:
            a, b, c = scheme(name, optimizer).rule(role)
            rows.append({"scheme": name, "layer": role, "multiplier": power(a), "std": power(b), "rate": power(c)})
    return rows


# --------------------------------------------------------------------------------------------------- what n -> inf does


class Exponents(NamedTuple):
    """Exponents of every layer of a network with L hidden layers: three tuples of length L + 1, and the optimiser."""

    a: tuple[Fraction, ...]
    b: tuple[Fraction, ...]
    c: tuple[Fraction, ...]
    optimizer: str = "sgd"


class Verdict(NamedTuple):
    """What a parametrisation does at large width. r: the last features move by n^-r; layers: the same, layer by layer.

    regime: "unstable" (activations, outputs or updates blow up), "trivial" (the function does not move), "kernel"
    (r > 0) or "features" (r = 0). maximal: every layer moves as much as is stable, and the readout starts as large.
    """

    r: Fraction
    layers: tuple[Fraction, ...]
    stable: bool
    regime: str
    maximal: bool


def exponents(rules: Scheme, hidden: int) -> Exponents:
    """Exponents of every layer under a scheme.

    Args:
        rules: from :func:`scheme`.
        hidden: number L of hidden layers, at least 1.

    Returns:
        Tuples of length L + 1.

    Raises:
        ValueError: no hidden layer.

    Source: Yang & Hu 2021, Definition 3.1, with a rate for each layer.

    >>> exponents(scheme("ntp"), 2).a
    (Fraction(0, 1), Fraction(1, 2), Fraction(1, 2))
    """
    if not isinstance(hidden, int) or isinstance(hidden, bool) or hidden < 1:
        raise ValueError(f"hidden: received {hidden!r}; valid is a whole number, at least 1. Repair: hidden=1.")
    layers = [rules.input, *[rules.hidden] * (hidden - 1), rules.output]
    a, b, c = (tuple(rule[k] for rule in layers) for k in range(3))
    return Exponents(a, b, c, rules.optimizer)


def same_rate(e: Exponents, c: Fraction | float = 0) -> Exponents:
    r"""The same network with one learning rate: a_l + t_l, b_l - t_l, c_l - 2 t_l (SGD) or c_l - t_l (Adam).

    With W = n^{-a} w the update of W is eta n^{-2a - c} times its gradient under SGD, and eta n^{-a - c} under Adam
    (which divides by the size of the gradient); both are untouched, and so is the start n^{-(a+b)}.

    Args:
        e: exponents.
        c: the common exponent that every layer is to have.

    Returns:
        Exponents that give the same function at every step.

    Source: Yang & Hu 2021, Eq. 5, layer by layer.

    >>> same_rate(exponents(scheme("mup"), 2)).a  # Table 1 of the source
    (Fraction(-1, 2), Fraction(0, 1), Fraction(1, 2))
    """
    c, share = Fraction(c), 2 if e.optimizer == "sgd" else 1
    t = [(each - c) / share for each in e.c]
    a = tuple(x + s for x, s in zip(e.a, t, strict=True))
    return Exponents(a, tuple(x - s for x, s in zip(e.b, t, strict=True)), (c,) * len(t), e.optimizer)


def _require_exponents(e: Exponents) -> None:
    if len({len(e.a), len(e.b), len(e.c)}) > 1 or len(e.a) < 2:
        raise ValueError(
            f"e: received tuples of length {len(e.a)}, {len(e.b)}, {len(e.c)}; valid is one length L + 1, at least 2. "
            "Repair: exponents(scheme('mup'), hidden=1)."
        )
    _one_of("optimizer", e.optimizer, OPTIMIZERS)


def judge(e: Exponents) -> Verdict:
    r"""The regime of a parametrisation, from its exponents alone.

    SGD: layer l moves its features by n^{-r_l} with
    r_l = min(a_{L+1} + b_{L+1}, 2 a_{L+1} + c_{L+1}) + 2 a_l + c_l - 1 + [l = 1], and r = min_l r_l. Stable if and only
    if a_1 + b_1 = 0, a_l + b_l = 1/2 inside, a_{L+1} + b_{L+1} >= 1/2, r >= 0, 2 a_{L+1} + c_{L+1} >= 1 and
    a_{L+1} + b_{L+1} + r >= 1. Not trivial if one of the last two is an equality. Adam takes steps of the size of the
    rate, whatever the gradient: r_l = a_l + c_l - 1 + [l = 1], and a + c in place of 2a + c; that line is derived here.

    Args:
        e: exponents of all layers.

    Returns:
        r, the r_l, and what follows.

    Raises:
        ValueError: tuples of different lengths, or fewer than two layers.

    Source: Yang & Hu 2021, Definition 3.2, Theorems 3.3 to 3.8, Propositions 5.3 and 5.5.

    >>> [str(judge(exponents(s, 2)).r) for s in (scheme("sp", rate=1), scheme("ntp"), scheme("mup"))]
    ['1/2', '1/2', '0']
    >>> judge(exponents(scheme("sp"), 2)).regime
    'unstable'
    """
    _require_exponents(e)
    *inner, last = [a + b for a, b in zip(e.a, e.b, strict=True)]
    if e.optimizer == "sgd":
        update = 2 * e.a[-1] + e.c[-1]
        gradient = min(last, update)
        layers = [gradient + 2 * a + c - 1 for a, c in zip(e.a[:-1], e.c[:-1], strict=True)]
    else:
        update = e.a[-1] + e.c[-1]
        layers = [a + c - 1 for a, c in zip(e.a[:-1], e.c[:-1], strict=True)]
    layers[0] += 1
    r = min(layers)
    stable = inner[0] == 0 and all(x == HALF for x in inner[1:]) and last >= HALF
    stable = stable and r >= 0 and update >= 1 and last + r >= 1
    moves = update == 1 or last + r == 1
    regime = "unstable" if not stable else "trivial" if not moves else "kernel" if r > 0 else "features"
    maximal = stable and not any(layers) and update == 1 and last + r == 1
    return Verdict(r, tuple(layers), stable, regime, maximal)


def predicted_slopes(e: Exponents) -> dict[str, Fraction]:
    r"""Powers of n in a coordinate check: the outputs at the start, and what one step of small rate changes.

    With g = -(a + b)_{L+1}, the size of dh: input layer n^{-c - 2a + g} under SGD and n^{-a - c} under Adam; a hidden
    layer has a further n, the sum over its inputs, or inherits the move of the layer below; the output has the move of
    the readout n^{1 - c - 2a} (Adam: n^{1 - a - c}), or n^{1 + g} times the move of the last features.

    Args:
        e: exponents of all layers.

    Returns:
        "output at start", then "h1", ..., "hL" and "output" for the changes.

    Raises:
        ValueError: tuples of different lengths, or fewer than two layers.

    Source: derived here after Yang & Hu 2021.

    >>> {name: str(slope) for name, slope in predicted_slopes(exponents(scheme("sp"), 2)).items()}
    {'output at start': '0', 'h1': '-1/2', 'h2': '1/2', 'output': '1'}
    """
    _require_exponents(e)
    g = -(e.a[-1] + e.b[-1])
    slopes = {"output at start": HALF + g}
    move = None
    for layer, (a, c) in enumerate(zip(e.a[:-1], e.c[:-1], strict=True)):
        own = -c - 2 * a + g if e.optimizer == "sgd" else -a - c
        move = own if move is None else max(move, own + 1)
        slopes[f"h{layer + 1}"] = move
    readout = 1 - e.c[-1] - e.a[-1] * (2 if e.optimizer == "sgd" else 1)
    slopes["output"] = max(readout, 1 + g + slopes[f"h{len(e.a) - 1}"])
    return slopes


# ------------------------------------------------------------------------------------------------------- a user's model


class Plan(NamedTuple):
    """What happens to one parameter: its kind, its width over the base's, and three factors."""

    parameter: str
    role: str
    ratio: float
    initial: float  # on the entries that the model was built with
    multiplier: float  # on the input of its layer, in every forward pass
    rate: float  # on the learning rate


class _Multiplier:
    """Forward pre-hook: multiplies the first input of a layer. A class, so that models can be copied and pickled."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0] * self.factor, *inputs[1:])


_MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # weight (out, in, ...)


def _ratios(name: str, p: Tensor, q: Tensor) -> list[Fraction]:
    """Growth of each dimension of a parameter over the base's."""
    if p.dim() != q.dim():
        raise ValueError(f"base: received {name} of shape {tuple(q.shape)}; valid is {p.dim()} dimensions. {_SAME}")
    ratios = [Fraction(m, n) for m, n in zip(p.shape, q.shape, strict=True)]
    if len({ratio for ratio in ratios if ratio != 1}) > 1:
        raise ValueError(
            f"model: received {name} of shape {tuple(p.shape)} for {tuple(q.shape)} in the base; valid is one factor "
            f"for all dimensions that grow. {_SAME}"
        )
    return ratios


_SAME = "Repair: build base by the same function, with a smaller width everywhere."


def plan(model: nn.Module, base: nn.Module, rules: Scheme) -> list[Plan]:
    """What :func:`parametrise` would do to every parameter, without doing it.

    A dimension that differs between ``model`` and ``base`` is a width. Weights of linear and convolutional layers with
    a width on both sides are hidden, with one on the side of the input only, output; what else has a width (input
    weights, embeddings, biases, gains) follows the input rule; what has none is left alone. Their start is taken to be
    the framework's: std of 1 / sqrt(fan_in) for weights and for biases.

    Args:
        model: the network at its width.
        base: the same network at the width at which nothing is to change; all widths smaller by one factor.
        rules: from :func:`scheme`.

    Returns:
        One row a parameter, in the order of ``named_parameters``.

    Raises:
        ValueError: parameters that do not match, or widths that grow by different factors.

    Source: Yang et al. 2022, Table 8, and the roles of their package.

    >>> small, large = (nn.Sequential(nn.Linear(3, n), nn.Linear(n, 2, bias=False)) for n in (4, 16))
    >>> [(row.parameter, row.role, row.rate) for row in plan(large, small, scheme("mup"))]
    [('0.weight', 'input', 4.0), ('0.bias', 'input', 4.0), ('1.weight', 'output', 4.0)]
    """
    ours, theirs = dict(model.named_parameters()), dict(base.named_parameters())
    if ours.keys() != theirs.keys():
        odd = sorted(ours.keys() ^ theirs.keys())
        raise ValueError(f"base: received a model that differs in {odd[0]!r}; valid are equal names. {_SAME}")
    rows = []
    for name, p in ours.items():
        ratios = _ratios(name, p, theirs[name])
        path, _, kind = name.rpartition(".")
        matrix = isinstance(model.get_submodule(path), _MATRICES)
        m = float(max(ratios, key=lambda ratio: abs(math.log(ratio)), default=ONE))
        wide = [ratio != 1 for ratio in ratios]
        role = "fixed" if not any(wide) else "input"
        if sum(wide) > 1:
            role = "hidden"
        elif matrix and kind == "weight" and wide[1]:
            role = "output"
        a, b, c = rules.rule(role) if role != "fixed" else Rule(ZERO, ZERO, ZERO)
        initial = m ** float(HALF - b) if role in ("hidden", "output") else m ** -float(b)
        if matrix and kind == "bias" and rules.name != "sp":  # keeps the size that it has in the base
            weight = f"{path}.weight".removeprefix(".")
            initial = float(Fraction(ours[weight].shape[1], theirs[weight].shape[1])) ** 0.5
        if a != 0 and not matrix:
            raise ValueError(
                f"model: received {name}, to be multiplied by n^{-a} outside a linear or convolutional layer; valid "
                f"schemes for it have none, such as 'mup'. Repair: scheme('mup', {rules.optimizer!r})."
            )
        rows.append(Plan(name, role, m, initial, m ** -float(a), m ** -float(c)))
    return rows


def parametrise(
    model: nn.Module,
    base: nn.Module,
    rules: Scheme,
    lr: float,
    *,
    weight_decay: float = 0.0,
    zero_readout: bool = False,
) -> list[dict[str, Any]]:
    """Make a model follow a scheme: rescale its start, multiply inputs of layers, and return groups for an optimiser.

    Acts on the model in place, once: on a model as it was built, before training. At the width of ``base`` every
    scheme is the model itself. Weight decay is kept in product with the rate, as AdamW's decay needs it.

    Args:
        model: the network at its width.
        base: the same network at the base width.
        rules: from :func:`scheme`, for the optimiser that the groups are for.
        lr: learning rate at the base width.
        weight_decay: at the base width.
        zero_readout: start output weights at zero, which removes the small outputs that differ between widths.

    Returns:
        Parameter groups, one a rate: ``torch.optim.Adam(groups)``.

    Raises:
        ValueError: as :func:`plan`, or a model that was parametrised before.

    Source: Yang et al. 2022, Table 8.

    >>> small, large = (nn.Sequential(nn.Linear(3, n), nn.Linear(n, n), nn.Linear(n, 2)) for n in (4, 16))
    >>> groups = parametrise(large, small, scheme("mup", "adam"), lr=0.1)
    >>> sorted(group["lr"] for group in groups), len(torch.optim.Adam(groups).param_groups)
    ([0.025, 0.1], 2)
    """
    if "_parametrised" in model.__dict__:
        raise ValueError(
            f"model: received one that follows {model.__dict__['_parametrised']!r} already; valid is a fresh one. "
            "Repair: build it again."
        )
    rows, parameters = plan(model, base, rules), dict(model.named_parameters())
    groups: dict[float, list[Tensor]] = {}
    for row in rows:
        p = parameters[row.parameter]
        with torch.no_grad():
            p.mul_(0.0 if zero_readout and row.role == "output" else row.initial)
        if row.multiplier != 1:
            model.get_submodule(row.parameter.rpartition(".")[0]).register_forward_pre_hook(_Multiplier(row.multiplier))
        groups.setdefault(row.rate, []).append(p)
    model.__dict__["_parametrised"] = rules.name
    return [{"params": ps, "lr": lr * k, "weight_decay": weight_decay / k} for k, ps in groups.items()]


# ------------------------------------------------------------------------------------------------------------ the check


class Coordinate(NamedTuple):
    """Mean absolute entry of a module's output, and of its change since before the first step."""

    module: str
    width: int
    seed: int
    step: int  # 1 is before any update
    size: float
    change: float


class CoordinateCheck(NamedTuple):
    """What :func:`coordinate_check` saw, one row a module, width, seed and step."""

    rows: list[Coordinate]

    def frame(self) -> Any:
        """The rows as a data frame of pandas, with the fields of :class:`Coordinate` as columns."""
        import pandas

        return pandas.DataFrame(self.rows, columns=list(Coordinate._fields))

    def slopes(self, step: int, what: str = "change") -> dict[str, list[float]]:
        """Slope of log ``what`` ("size" or "change") against log width at a step: for each module, one a seed."""
        _one_of("what", what, ("size", "change"))
        found: dict[str, list[float]] = {}
        for module, seed in dict.fromkeys((row.module, row.seed) for row in self.rows):
            points = [r for r in self.rows if (r.module, r.seed, r.step) == (module, seed, step)]
            y = torch.tensor([getattr(r, what) for r in points], dtype=torch.float64).log2()
            x = torch.tensor([r.width for r in points], dtype=torch.float64).log2()
            x = x - x.mean()
            found.setdefault(module, []).append(float((x * y).sum() / x.square().sum()))
        return found

    def table(self, what: str = "change") -> list[dict[str, float | str]]:
        """Slopes averaged over seeds, one row a module and one column a step."""
        steps = sorted({row.step for row in self.rows})[1 if what == "change" else 0 :]
        columns = {step: self.slopes(step, what) for step in steps}
        modules = dict.fromkeys(row.module for row in self.rows)
        return [{"module": m, **{f"t = {t}": sum(columns[t][m]) / len(columns[t][m]) for t in steps}} for m in modules]

    def plot(self, step: int = 2, what: str = "change", axes: Any = None) -> Any:
        """Draw ``what`` against width, mean over seeds, one line a module, on logarithmic axes of matplotlib."""
        _one_of("what", what, ("size", "change"))
        if axes is None:
            import matplotlib.pyplot as plt

            axes = plt.subplots()[1]
        for module in dict.fromkeys(row.module for row in self.rows):
            sizes: dict[int, list[float]] = {}
            for row in self.rows:
                if (row.module, row.step) == (module, step):
                    sizes.setdefault(row.width, []).append(getattr(row, what))
            axes.loglog(list(sizes), [sum(v) / len(v) for v in sizes.values()], marker="o", base=2, label=module)
        axes.set(xlabel="width", ylabel=f"mean {what} at t = {step}")
        axes.legend()
        return axes


def _outputs(model: nn.Module, x: Any, names: Sequence[str]) -> tuple[Any, dict[str, Tensor]]:
    """Output of a model, and detached outputs of modules; "output" is the model's own."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, out: Any) -> None:
            if isinstance(out, Tensor):
                seen[name] = out.detach().clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        out = model(x)
    finally:
        for handle in handles:
            handle.remove()
    return out, {**seen, "output": out.detach().clone()}


def coordinate_check(
    make_model: Callable[[int], nn.Module],
    widths: Sequence[int],
    x: Any,
    loss: Callable[[Any], Tensor],
    *,
    rules: Scheme,
    lr: float,
    base: int | None = None,
    steps: int = 1,
    seeds: Sequence[int] = (0,),
    modules: Mapping[str, str] | None = None,
    zero_readout: bool = False,
) -> CoordinateCheck:
    r"""Train models of several widths for some steps on one batch and record the size of every module's output.

    The slope of log size against log n is 0 for every module after a step in a parametrisation that learns features
    at every width. Before the first step outputs may shrink like n^{-1/2}. A flat check is necessary for rates to
    transfer, not sufficient. Inputs should have length of order one, and the rate should be large but stable.

    Args:
        make_model: builds the network at a width, by torch's own random numbers.
        widths: at least two.
        x: the batch.
        loss: loss(model output) -> scalar, for that batch.
        rules: from :func:`scheme`; plain SGD, or Adam with torch's betas.
        lr: learning rate at the base width.
        base: base width; the smallest of ``widths`` if omitted.
        steps: how many.
        seeds: one run each; torch's global generator is left as it was.
        modules: path -> name of the modules to record; all modules without children if omitted.
        zero_readout: as in :func:`parametrise`.

    Returns:
        Rows with ``slopes(step)``, ``table()``, ``frame()`` and ``plot()``; step 1 is before any update.

    Raises:
        ValueError: fewer than two widths, no seed or no step, or as :func:`plan`.

    Source: Yang et al. 2022, Appendix D, "coord check".

    >>> check = coordinate_check(
    ...     lambda n: nn.Sequential(nn.Linear(3, n), nn.ReLU(), nn.Linear(n, 1)), (64, 256), torch.ones(1, 3),
    ...     lambda f: (f - 1).square().mean(), rules=scheme("mup"), lr=0.01)
    >>> abs(check.slopes(step=2)["output"][0]) < 0.5
    True
    """
    if len(set(widths)) < 2 or steps < 1 or not seeds:
        raise ValueError(
            f"widths, steps, seeds: received {list(widths)}, {steps}, {list(seeds)}; valid are two widths, one step "
            "and one seed, or more. Repair: widths=(128, 256, 512)."
        )
    rows = []
    for seed in seeds:
        for width in widths:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                smallest = make_model(base or min(widths))
                torch.manual_seed(seed)
                model = make_model(width)
            groups = parametrise(model, smallest, rules, lr, zero_readout=zero_readout)
            optimizer = (torch.optim.SGD if rules.optimizer == "sgd" else torch.optim.Adam)(groups)
            names = modules or {
                path: path for path, each in model.named_modules() if path and not [*each.children()]
            }  # fmt: skip
            first: dict[str, Tensor] = {}
            for step in range(1, steps + 2):
                out, seen = _outputs(model, x, list(names))
                first = first or seen
                for path, h in seen.items():
                    moved = (h - first[path]).abs().mean()
                    name = {**names, "output": "output"}[path]
                    rows.append(Coordinate(name, width, seed, step, float(h.abs().mean()), float(moved)))
                if step <= steps:
                    optimizer.zero_grad()
                    loss(out).backward()
                    optimizer.step()
    return CoordinateCheck(rows)
