"""Exponents against a table that was read by hand, and what they do to models against what they say."""

import copy
import pickle
from fractions import Fraction

import pytest
import torch
from torch import nn

from repgeom.theory import abc

HALF = Fraction(1, 2)
every_optimizer = pytest.mark.parametrize("optimizer", ["sgd", "adam"])


def mlp(n: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(5, n, bias=bias), nn.Tanh(), nn.Linear(n, n, bias=bias), nn.Tanh(), nn.Linear(n, 3, bias=bias)
    )


def seeded(make, n: int, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(n)


# ------------------------------------------------------------------------------------------------------------ exponents

# Table 1 of Yang & Hu 2021 with one common rate: a, b, c, r, regime.
PUBLISHED = {
    ("sp", 2, 1): ((0, 0, 0), (0, HALF, HALF), HALF, "kernel"),
    ("sp", 2, 0): ((0, 0, 0), (0, HALF, HALF), -1, "unstable"),
    ("ntp", 2, 0): ((0, HALF, HALF), (0, 0, 0), HALF, "kernel"),
    ("mfp", 1, -1): ((0, 1), (0, 0), 0, "features"),
    ("mup", 2, 0): ((-HALF, 0, HALF), (HALF, HALF, HALF), 0, "features"),
    ("mup", 4, 0): ((-HALF, 0, 0, 0, HALF), (HALF,) * 5, 0, "features"),
}


@pytest.mark.parametrize("case", PUBLISHED, ids=str)
def test_the_table_of_the_paper(case) -> None:
    name, hidden, c = case
    a, b, r, regime = PUBLISHED[case]
    rules = abc.scheme(name, rate=c) if name == "sp" else abc.scheme(name)
    e = abc.same_rate(abc.exponents(rules, hidden), c)
    assert e == abc.Exponents(a, b, (c,) * (hidden + 1))
    verdict = abc.judge(e)
    assert (verdict.r, verdict.regime) == (r, regime) and verdict.maximal == (regime == "features")


@every_optimizer
@pytest.mark.parametrize("name", ["sp", "ntp", "mup"])
@pytest.mark.parametrize("c", [-1, 0, HALF])
def test_shifting_exponents_changes_no_verdict_and_no_slope(name: str, optimizer: str, c) -> None:
    e = abc.exponents(abc.scheme(name, optimizer), 3)
    shifted = abc.same_rate(e, c)
    assert set(shifted.c) == {c} and abc.judge(shifted) == abc.judge(e)
    assert abc.predicted_slopes(shifted) == abc.predicted_slopes(e)


@pytest.mark.parametrize(
    ("name", "optimizer", "r", "regime", "layers"),
    [
        ("sp", "adam", -1, "unstable", (0, -1)),
        ("ntp", "adam", HALF, "kernel", (HALF, HALF)),
        ("mup", "adam", 0, "features", (0, 0)),
        ("mup", "sgd", 0, "features", (0, 0)),
        ("sp", "sgd", -1, "unstable", (HALF, -HALF)),
    ],
)
def test_layers_one_by_one(name: str, optimizer: str, r, regime: str, layers) -> None:
    verdict = abc.judge(abc.exponents(abc.scheme(name, optimizer), 2))
    assert verdict.regime == regime
    assert verdict.layers == layers or (name, optimizer) == ("sp", "sgd")  # there the readout's update feeds back
    assert verdict.r == min(verdict.layers) == r


def test_each_condition_of_stability_counts() -> None:
    good = abc.exponents(abc.scheme("mup"), 2)
    assert abc.judge(good).stable
    for layer, up in ((0, HALF), (0, -HALF), (1, HALF), (1, -HALF), (2, -HALF)):
        b = list(good.b)
        b[layer] += up
        assert not abc.judge(good._replace(b=tuple(b))).stable, (layer, up)
    for layer in range(3):
        c = list(good.c)
        c[layer] -= HALF
        assert abc.judge(good._replace(c=tuple(c))).regime == "unstable", layer
    ntp = abc.exponents(abc.scheme("ntp"), 2)  # a start that grows, with features too slow to make it worse
    loud = ntp._replace(b=(0, 0, -Fraction(1, 4)), c=(1, 1, 0))
    assert abc.judge(loud).r > 1 and not abc.judge(loud).stable
    assert abc.judge(loud._replace(b=(0, 0, 0))).stable
    slow = abc.judge(good._replace(c=tuple(c + 1 for c in good.c), b=(*good.b[:-1], good.b[-1] + 1)))
    assert slow.regime == "trivial"


def test_slopes_that_were_measured_elsewhere() -> None:
    """One step, two hidden layers: output at start, h1, h2, output."""
    expected = {
        ("sp", "sgd", None): (0, -HALF, HALF, 1),
        ("sp", "sgd", 1): (0, -3 * HALF, -HALF, 0),
        ("ntp", "sgd", None): (0, -HALF, -HALF, 0),
        ("mup", "sgd", None): (-HALF, 0, 0, 0),
        ("sp", "adam", None): (0, 0, 1, 3 * HALF),
        ("mup", "adam", None): (-HALF, 0, 0, 0),
    }
    for (name, optimizer, rate), slopes in expected.items():
        found = abc.predicted_slopes(abc.exponents(abc.scheme(name, optimizer, rate), 2))
        assert tuple(found[k] for k in ("output at start", "h1", "h2", "output")) == slopes, name


@every_optimizer
def test_the_table_prints_every_rule(optimizer: str) -> None:
    rows = abc.table(optimizer)
    assert len(rows) == 12 and all(len(row) == 5 for row in rows)
    hidden = next(row for row in rows if row["scheme"] == "mup" and row["layer"] == "hidden")
    assert hidden["rate"] == ("1" if optimizer == "sgd" else "n^-1")
    output = rows[-1]
    assert (output["multiplier"], output["std"], output["rate"]) == ("n^-1", "1", "n" if optimizer == "sgd" else "1")


def test_bad_exponents_are_refused() -> None:
    with pytest.raises(ValueError, match=r"name: received 'np'; valid is sp, ntp, mfp, mup\. Repair"):
        abc.scheme("np")
    with pytest.raises(ValueError, match="optimizer: received 'lion'"):
        abc.scheme("mup", "lion")
    for hidden in (0, True, 1.0):
        with pytest.raises(ValueError, match="hidden: received"):
            abc.exponents(abc.scheme("mup"), hidden)
    with pytest.raises(ValueError, match=r"e: received tuples of length 1, 1, 1"):
        abc.judge(abc.Exponents((HALF,), (HALF,), (HALF,)))
    with pytest.raises(ValueError, match="length 2, 2, 3"):
        abc.predicted_slopes(abc.Exponents((HALF,) * 2, (HALF,) * 2, (HALF,) * 3))


# --------------------------------------------------------------------------------------------------------------- models


class Zoo(nn.Module):
    """One of each: embedding, position, norm, convolution, tied sizes, readout."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, n)
        self.place = nn.Parameter(torch.randn(4, n))
        self.norm = nn.LayerNorm(n)
        self.conv = nn.Conv1d(n, 2 * n, 3, padding=1)
        self.back = nn.Linear(2 * n, n, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.readout = nn.Linear(n, 3)

    def forward(self, x):
        h = self.norm(self.embedding(x) + self.place)
        h = self.back(self.conv(h.mT).mT)
        return self.readout(h.mean(1)) * self.scale


ZOO = {  # role, initial, multiplier, rate under SGD, under Adam; four times the base
    "place": ("input", 1, 1, 4, 1),
    "scale": ("fixed", 1, 1, 1, 1),
    "embedding.weight": ("input", 1, 1, 4, 1),
    "norm.weight": ("input", 1, 1, 4, 1),
    "norm.bias": ("input", 1, 1, 4, 1),
    "conv.weight": ("hidden", 1, 1, 1, 1 / 4),
    "conv.bias": ("input", 2, 1, 4, 1),
    "back.weight": ("hidden", 1, 1, 1, 1 / 4),
    "readout.weight": ("output", 2, 1 / 4, 4, 1),
    "readout.bias": ("fixed", 2, 1, 1, 1),
}


@every_optimizer
def test_roles_and_factors_of_every_kind_of_parameter(optimizer: str) -> None:
    rows = abc.plan(Zoo(16), Zoo(4), abc.scheme("mup", optimizer))
    assert [row.parameter for row in rows] == list(ZOO)
    for row in rows:
        role, initial, multiplier, sgd, adam = ZOO[row.parameter]
        assert row.role == role, row
        assert row[3:] == pytest.approx((initial, multiplier, sgd if optimizer == "sgd" else adam)), row


@every_optimizer
@pytest.mark.parametrize("name", ["sp", "ntp", "mup"])
def test_at_the_base_width_nothing_changes(name: str, optimizer: str) -> None:
    model, base = Zoo(4), Zoo(4)
    before, x = copy.deepcopy(model.state_dict()), torch.tensor([[0, 1, 2, 3]])
    out = model(x)
    groups = abc.parametrise(model, base, abc.scheme(name, optimizer), 0.1, weight_decay=0.2)
    assert all(torch.equal(p, before[k]) for k, p in model.state_dict().items())
    assert torch.equal(model(x), out)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 0.2)]


@every_optimizer
def test_parametrise_does_what_the_plan_says(optimizer: str) -> None:
    model, base, rules = Zoo(16), Zoo(4), abc.scheme("mup", optimizer)
    before, rows = copy.deepcopy(model.state_dict()), {r.parameter: r for r in abc.plan(model, base, rules)}
    groups = abc.parametrise(model, base, rules, 0.1, weight_decay=0.02)
    names = {id(p): name for name, p in model.named_parameters()}
    seen = {}
    for group in groups:
        assert group["lr"] * group["weight_decay"] == pytest.approx(0.1 * 0.02)
        for p in group["params"]:
            name = names[id(p)]
            seen[name] = group["lr"]
            assert torch.allclose(p, before[name] * rows[name].initial)
    assert seen == pytest.approx({name: 0.1 * row.rate for name, row in rows.items()})
    h = torch.randn(2, 16)
    assert torch.allclose(model.readout(h), model.readout.weight.matmul(h.mT / 4).mT + model.readout.bias)


def test_ntp_multiplies_the_weight_and_not_the_bias() -> None:
    model = seeded(mlp, 64)
    weight, bias = model[2].weight.detach().clone(), model[2].bias.detach().clone()
    abc.parametrise(model, seeded(mlp, 4), abc.scheme("ntp"), 1.0)
    h = torch.randn(3, 64)
    assert torch.allclose(model[2](h), h @ weight.mT + 4 * bias, atol=1e-5)  # 4 in the start, 1/4 in the pass
    assert torch.allclose(model[2].weight, 4 * weight)


def test_copies_keep_the_multiplier_and_no_model_is_changed_twice() -> None:
    model, rules = mlp(16), abc.scheme("mup")
    abc.parametrise(model, mlp(4), rules, 0.1)
    x = torch.randn(2, 5)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(x), model(x))
        with pytest.raises(ValueError, match=r"model: received one that follows 'mup' already; .* Repair"):
            abc.parametrise(twin, mlp(4), rules, 0.1)


def test_zero_readout_is_zero_and_nothing_else() -> None:
    model = mlp(16, bias=False)
    abc.parametrise(model, mlp(4, bias=False), abc.scheme("mup"), 0.1, zero_readout=True)
    assert not model[4].weight.any() and model[2].weight.all()


def test_models_that_do_not_match_are_refused() -> None:
    rules = abc.scheme("mup")
    with pytest.raises(ValueError, match=r"differs in '0\.bias'"):
        abc.plan(mlp(8), mlp(4, bias=False), rules)
    uneven = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 32)), nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 8))
    with pytest.raises(ValueError, match=r"received 1.weight of shape \(32, 8\) for \(8, 4\).*one factor"):
        abc.plan(*uneven, rules)

    class Raw(nn.Module):
        def __init__(self, n: int) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(n, n))

    with pytest.raises(ValueError, match="received w, to be multiplied by n"):
        abc.plan(Raw(8), Raw(4), abc.scheme("ntp"))
    assert abc.plan(Raw(8), Raw(4), abc.scheme("mup", "adam"))[0].rate == 0.5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["ntp", "mup"])
def test_equal_exponents_in_raw_form_train_alike(name: str, optimizer: str) -> None:
    """The model that parametrise made, against weights, multipliers and rates written out from the exponents."""
    n, base, rules = 48, 12, abc.scheme(name, optimizer)
    model = seeded(lambda k: mlp(k, bias=False), n).double()
    start = [p.detach().clone() for p in model.parameters()]
    groups = abc.parametrise(model, mlp(base, bias=False).double(), rules, 0.1)
    e, m = abc.same_rate(abc.exponents(rules, 2), 0), n / base
    scale = [1.0, m**0.5, m**0.5]  # what turns a framework's start into one of width-independent size
    ws = [(W * s * m ** -float(b)).requires_grad_() for W, s, b in zip(start, scale, e.b, strict=True)]
    kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
    options = {} if optimizer == "sgd" else {"eps": 0.0}
    ours, raw = kind(groups, **options), kind(ws, lr=0.1, **options)
    x, y = torch.randn(8, 5, dtype=torch.float64), torch.randn(8, 3, dtype=torch.float64)
    for _ in range(4):
        for step, out in ((ours, model(x)), (raw, written_out(x, ws, e.a, m))):
            step.zero_grad()
            (out - y).square().mean().backward()
            step.step()
    assert torch.allclose(model(x), written_out(x, ws, e.a, m), atol=1e-9, rtol=0)


def written_out(x, ws, a, m: float):
    for layer, w in enumerate(ws):
        x = (x.tanh() if layer else x) @ w.mT * m ** -float(a[layer])
    return x


# ---------------------------------------------------------------------------------------------------- coordinate checks


def loss(out):
    return (out - 1).square().mean()


def test_a_check_sees_the_regimes() -> None:
    x = nn.functional.normalize(torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    slopes = {}
    for name, optimizer in (("sp", "adam"), ("mup", "adam"), ("ntp", "sgd"), ("mup", "sgd")):
        found = abc.coordinate_check(
            lambda n: mlp(n, bias=False), (64, 256, 1024), x, loss, rules=abc.scheme(name, optimizer), lr=2**-8,
            seeds=(0, 1), modules={"0": "h1", "2": "h2"},
        )  # fmt: skip
        slopes[name, optimizer] = {k: sum(v) / 2 for k, v in found.slopes(2).items()}
    assert slopes["sp", "adam"]["h2"] == pytest.approx(1, abs=0.15)
    assert slopes["ntp", "sgd"]["h2"] == pytest.approx(-0.5, abs=0.15)
    for optimizer in ("sgd", "adam"):
        assert [slopes["mup", optimizer][k] for k in ("h1", "h2")] == pytest.approx([0, 0], abs=0.15)


def test_rows_slopes_and_tables_of_a_check() -> None:
    state = torch.get_rng_state()
    found = abc.coordinate_check(
        mlp, (4, 8, 16), torch.ones(2, 5), loss, rules=abc.scheme("mup"), lr=0.1, steps=2, seeds=(3, 5)
    )
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    assert len(found.rows) == 6 * 3 * 3 * 2  # modules with the output, widths, steps, seeds
    assert {row.module for row in found.rows} == {"0", "1", "2", "3", "4", "output"}
    assert all(row.change == 0 for row in found.rows if row.step == 1)
    assert all(row.change > 0 for row in found.rows if row.step == 2)
    size = found.slopes(1, "size")["output"]
    assert len(size) == 2
    assert set(found.table()[0]) == {"module", "t = 2", "t = 3"}
    assert set(found.table("size")[0]) == {"module", "t = 1", "t = 2", "t = 3"}
    by_hand = torch.tensor([r.size for r in found.rows if (r.module, r.seed, r.step) == ("4", 3, 1)]).log2()
    x = torch.tensor([-1.0, 0, 1])
    assert size[0] == pytest.approx(float((x * by_hand).sum() / 2), rel=1e-5)
    frame = found.frame()
    assert list(frame.columns) == ["module", "width", "seed", "step", "size", "change"]
    assert len(frame) == len(found.rows)
    assert frame.groupby("module")["change"].max()["4"] == max(r.change for r in found.rows if r.module == "4")
    with pytest.raises(ValueError, match="what: received 'std'"):
        found.slopes(1, "std")


def test_a_check_needs_widths_steps_and_seeds() -> None:
    for options in ({"widths": (4,)}, {"steps": 0}, {"seeds": ()}):
        with pytest.raises(ValueError, match="widths, steps, seeds: received"):
            abc.coordinate_check(
                mlp, options.pop("widths", (4, 8)), torch.ones(1, 5), loss, rules=abc.scheme("mup"), lr=0.1, **options
            )


def test_coordinate_check_plots_what_it_tables() -> None:
    rows = [
        abc.Coordinate(m, n, seed, 2, 1.0, c * n)
        for m, c in (("a", 1.0), ("b", 3.0))
        for n in (4, 8)
        for seed in (0, 1)
    ]
    axes = abc.CoordinateCheck(rows).plot()
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines == {"a": ([4, 8], [4.0, 8.0]), "b": ([4, 8], [12.0, 24.0])}
    axes.figure.clear()
