r"""Networks of infinite width that learn features and fit into a computer: linear ones under muP.

A one-hidden-layer linear network f(x) = V U x with U (n, d), V (d_out, n) and entries N(0, 1/n) trains like a sampled
version of a network of width d + d_out that starts from two blocks of an identity. With embeddings as U and logits as
V U this is Word2Vec.
"""

import torch
from torch import Tensor

__all__ = [
    "adapt",
    "cbow",
    "cbow_start",
    "linear_path",
    "linear_start",
    "maml_step",
    "sample_width",
    "scalar_path",
]


def _require_counts(**counts: int) -> None:
    for name, value in counts.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}: received {value!r}; valid is a whole number, at least 1. Repair: {name}=1.")


def linear_start(
    d: int, d_out: int, s1: float = 1.0, s2: float = 1.0, *, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    r"""The start of the limit of a linear network: U = [s1 I_d; 0], V = [0, s2 I_{d_out}].

    For an input x the rows of U in the limit are n independent draws of s1 <omega, x> with omega ~ N(0, I_d), those of
    V likewise; what is random enters as coordinates, and d + d_out of them span all that training can reach.

    Args:
        d: inputs.
        d_out: outputs.
        s1: scale of the input weights: finite networks start from N(0, s1^2 / n).
        s2: scale of the readout; with zero the last d_out coordinates are never used.
        dtype: of the result.

    Returns:
        U (d + d_out, d) and V (d_out, d + d_out).

    Raises:
        ValueError: a count below one.

    Source: Yang & Hu 2021, Corollary 6.2, for vectors.

    >>> linear_start(1, 1)
    (tensor([[1.],
            [0.]], dtype=torch.float64), tensor([[0., 1.]], dtype=torch.float64))
    """
    _require_counts(d=d, d_out=d_out)
    U = torch.cat([s1 * torch.eye(d, dtype=dtype), torch.zeros(d_out, d, dtype=dtype)])
    V = torch.cat([torch.zeros(d_out, d, dtype=dtype), s2 * torch.eye(d_out, dtype=dtype)], 1)
    return U, V


def sample_width(
    U: Tensor, V: Tensor, n: int, generator: torch.Generator | None = None, runs: int = 1
) -> tuple[Tensor, Tensor]:
    r"""A network of width n from the limit: U_n = n^{-1/2} Omega U, V_n = n^{-1/2} V Omega^T, Omega ~ N(0, 1)^{n x m}.

    It holds at every time: Omega^T Omega / n is the identity up to n^{-1/2}, so V_n U_n is V U up to that.

    Args:
        U: (m, d) of the limit.
        V: (d_out, m) of the limit.
        n: width.
        generator: source of randomness; it must live where U is. The global one if omitted.
        runs: how many networks.

    Returns:
        U_n (runs, n, d) and V_n (runs, d_out, n).

    Raises:
        ValueError: a count below one, or shapes that do not fit.

    Source: the released code of Yang & Hu 2021.

    >>> U, V = sample_width(*linear_start(2, 1), n=1000, generator=torch.Generator().manual_seed(0))
    >>> U.shape, bool((U[0].mT @ U[0] - torch.eye(2)).abs().max() < 0.1)
    (torch.Size([1, 1000, 2]), True)
    """
    _require_counts(n=n, runs=runs)
    if U.dim() != 2 or V.dim() != 2 or U.shape[0] != V.shape[1]:
        raise ValueError(
            f"U, V: received shapes {tuple(U.shape)} and {tuple(V.shape)}; valid are (m, d) and (d_out, m). "
            "Repair: U, V = linear_start(d, d_out)."
        )
    Omega = torch.randn(runs, n, U.shape[0], generator=generator, dtype=U.dtype, device=U.device) / n**0.5
    return Omega @ U, V @ Omega.mT


def linear_path(U: Tensor, V: Tensor, x: Tensor, y: Tensor, lr: float) -> Tensor:
    r"""The map V U of a linear network while SGD sees one sample a step, loss |V U x - y|^2 / 2.

    With chi = V U x - y, and both from the same old values: U <- U - lr V^T chi x^T, V <- V - lr chi (U x)^T. This is
    muP at any width in which U and V start with entries of size n^{-1/2}, and the limit from :func:`linear_start`.

    Args:
        U: (..., n, d).
        V: (..., d_out, n).
        x: (T, d) inputs, or (T, ..., d) with one for each run.
        y: (T, d_out), or (T, ..., d_out).
        lr: learning rate.

    Returns:
        (T + 1, ..., d_out, d), the start first.

    Raises:
        ValueError: x and y of different lengths.

    Source: Yang & Hu 2021, Section 6.

    >>> ones = torch.ones(200, 1, dtype=torch.float64)
    >>> linear_path(*linear_start(1, 1), ones, ones, lr=0.1)[-1].round(decimals=3)
    tensor([[1.]], dtype=torch.float64)
    """
    if len(x) != len(y):
        raise ValueError(f"x, y: received {len(x)} inputs and {len(y)} outputs; valid is as many. Repair: y[:len(x)].")
    path = [V @ U]
    for now, target in zip(x, y, strict=True):
        h = U @ now[..., None]
        chi = V @ h - target[..., None]
        U, V = U - lr * (V.mT @ chi) * now[..., None, :], V - lr * chi * h.mT
        path.append(V @ U)
    return torch.stack(path)


def scalar_path(x: Tensor, y: Tensor, lr: float) -> Tensor:
    r"""The slope f(1) of the limit for one input and one output, by four numbers.

    Z^{nV} = A Z^{V0} + B Z^{U0}, Z^U = C Z^{V0} + D Z^{U0} for two independent standard Gaussians, so
    f(x) = (A C + B D) x; from A = D = 1, B = C = 0: (A, B) -= lr chi x (C, D), (C, D) -= lr chi x (A, B), at once.

    Args:
        x: (T,) inputs.
        y: (T,) targets.
        lr: learning rate.

    Returns:
        (T + 1,) slopes, zero first.

    Raises:
        ValueError: x and y of different lengths.

    Source: Yang & Hu 2021, Corollary 6.2.

    >>> scalar_path(torch.ones(2), torch.ones(2), 0.5)
    tensor([0., 1., 1.])
    """
    if len(x) != len(y):
        raise ValueError(f"x, y: received {len(x)} inputs and {len(y)} outputs; valid is as many. Repair: y[:len(x)].")
    A, B, C, D = 1.0, 0.0, 0.0, 1.0
    slopes = [A * C + B * D]
    for now, target in zip(x.tolist(), y.tolist(), strict=True):
        step = lr * (slopes[-1] * now - target) * now
        A, B, C, D = A - step * C, B - step * D, C - step * A, D - step * B
        slopes.append(A * C + B * D)
    return torch.tensor(slopes, dtype=x.dtype)


def cbow_start(words: int, *, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    r"""The start of Word2Vec of infinite width: embeddings E = I, output vectors O = 0, both (words, words).

    By :func:`sample_width` a network of width n starts from E_n with entries N(0, 1/n) and O_n = 0. Since O starts at
    zero, the coordinates that would belong to it are never used.

    Args:
        words: size of the vocabulary.
        dtype: of the result.

    Returns:
        E and O, both (words, words).

    Raises:
        ValueError: a count below one.

    Source: Yang & Hu 2021, Section 9; that width ``words`` is enough is derived here.

    >>> cbow_start(2)
    (tensor([[1., 0.],
            [0., 1.]]), tensor([[0., 0.],
            [0., 0.]]))
    """
    _require_counts(words=words)
    return torch.eye(words, dtype=dtype), torch.zeros(words, words, dtype=dtype)


def cbow(
    E: Tensor, O: Tensor, contexts: Tensor, targets: Tensor, lr: float, *, multiplier: float = 1.0
) -> tuple[Tensor, Tensor]:
    r"""Word2Vec with negative sampling: predict a word from the mean of its context's embeddings, one position a step.

    h = mean of the context's rows of E; p_j = sigmoid(m O_j . h) for the word (label 1) and for drawn ones (label 0);
    g_j = lr m (label_j - p_j); then O_j += g_j h, and every row of the context += sum_j g_j O_j / #context, with the
    old O. A word that occurs twice is updated twice.

    Args:
        E: (S, words, n) embeddings of S runs.
        O: (S, words, n) output vectors.
        contexts: (T, S, C) words of the context.
        targets: (T, S, 1 + K) the word itself, then K negatives.
        lr: learning rate.
        multiplier: m; one for muP, n^{-1/2} for the neural tangent parametrisation.

    Returns:
        E and O after T steps; the arguments are left as they were.

    Raises:
        ValueError: shapes that do not fit.

    Source: Mikolov et al. 2013; Yang & Hu 2021, Section 9.

    >>> E, O = cbow_start(3)
    >>> E, O = cbow(E[None], O[None], torch.tensor([[[0]]]), torch.tensor([[[1, 2]]]), lr=1.0)
    >>> O[0] @ E[0, 0]
    tensor([ 0.0000,  0.5000, -0.5000])
    """
    shapes = [tuple(t.shape) for t in (E, O, contexts, targets)]
    fits = E.dim() == 3 and E.shape == O.shape and contexts.dim() == targets.dim() == 3
    if not fits or contexts.shape[:2] != targets.shape[:2] or contexts.shape[1] != len(E):
        raise ValueError(
            f"E, O, contexts, targets: received shapes {shapes}; valid are (S, words, n) twice, (T, S, C) and "
            "(T, S, 1 + K). Repair: E[None], O[None], contexts[:, None] for one run."
        )
    runs, words, n = E.shape
    shift = words * torch.arange(runs, device=E.device)[:, None]  # runs stand one below the other
    E, O, size = E.reshape(-1, n).clone(), O.reshape(-1, n).clone(), contexts.shape[2]
    label = torch.zeros(targets.shape[2], dtype=E.dtype, device=E.device)
    label[0] = 1
    for context, drawn in zip(contexts + shift, targets + shift, strict=True):
        h, rows = E[context].mean(1), O[drawn]
        g = lr * multiplier * (label - torch.sigmoid(multiplier * (rows @ h[..., None]).squeeze(-1)))
        back = (g[:, None] @ rows) / size
        O.index_add_(0, drawn.flatten(), (g[..., None] * h[:, None]).flatten(0, 1))
        E.index_add_(0, context.flatten(), back.expand(-1, size, -1).flatten(0, 1))
    return E.unflatten(0, (runs, words)), O.unflatten(0, (runs, words))


def _slopes(U: Tensor, V: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the mean cross-entropy of V U x by U (T, n, d) and V (T, K, n); x (T, K * m, d), class by class."""
    h = x @ U.mT
    K = V.shape[-2]
    labels = torch.arange(K, device=x.device).repeat_interleave(x.shape[-2] // K)
    p = ((h @ V.mT).softmax(-1) - torch.nn.functional.one_hot(labels, K)) / len(labels)
    return (p @ V).mT @ x, p.mT @ h


def adapt(U: Tensor, V: Tensor, x: Tensor, *, steps: int, lr: float, features: bool = True) -> tuple[Tensor, Tensor]:
    r"""A linear network after a few steps of SGD on each of several tasks, cross-entropy of V U x, one copy a task.

    With entries of size n^{-1/2} and a constant rate this is muP at any width, and the limit from :func:`linear_start`.

    Args:
        U: (n, d), or (T, n, d).
        V: (K, n), or (T, K, n).
        x: (T, K m, d): for each task m examples of class 0, then of class 1, and so on.
        steps: how many.
        lr: learning rate.
        features: whether U moves too.

    Returns:
        U (T, n, d) and V (T, K, n) of each task.

    Raises:
        ValueError: examples that are not as many for each class.

    Source: Finn, Abbeel & Levine 2017, "Model-agnostic meta-learning": the inner loop.

    >>> x = torch.eye(3, dtype=torch.float64)[None]
    >>> U, V = adapt(*linear_start(3, 3, s2=0.0), x, steps=1, lr=3.0)
    >>> (x @ U.mT @ V.mT).argmax(-1)
    tensor([[0, 1, 2]])
    """
    if x.dim() != 3 or x.shape[1] % V.shape[-2] or not x.shape[1]:
        raise ValueError(
            f"x: received shape {tuple(x.shape)} for {V.shape[-2]} classes; valid is (tasks, classes * m, d). "
            "Repair: give every class as many examples."
        )
    U, V = U.expand(len(x), *U.shape[-2:]), V.expand(len(x), *V.shape[-2:])
    for _ in range(steps):
        dU, dV = _slopes(U, V, x)
        U, V = U - lr * dU if features else U, V - lr * dV
    return U, V


def maml_step(
    U: Tensor,
    V: Tensor,
    support: Tensor,
    query: Tensor,
    *,
    steps: int,
    lr: float,
    meta_lr: float,
    features: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""One step of first-order MAML: the common start moves by the gradients on ``query`` at the adapted networks.

    Args:
        U: (n, d).
        V: (K, n).
        support: (T, K m, d) examples to adapt to, class by class as in :func:`adapt`.
        query: (T, K m', d) other examples of the same tasks.
        steps: inner steps.
        lr: inner rate.
        meta_lr: outer rate.
        features: whether U moves too, inside and outside.

    Returns:
        U and V after the step.

    Raises:
        ValueError: as in :func:`adapt`.

    Source: Finn, Abbeel & Levine 2017, first-order version; with linear networks Yang & Hu 2021.

    >>> x = torch.eye(3, dtype=torch.float64)[None]
    >>> U, V = linear_start(3, 3, s2=0.0)
    >>> moved, V = maml_step(U, V, x, x, steps=1, lr=3.0, meta_lr=1.0)
    >>> bool((moved - U).norm() > 0.1), bool(V.diagonal().min() > 0)
    (True, True)
    """
    dU, dV = _slopes(*adapt(U, V, support, steps=steps, lr=lr, features=features), query)
    return U - meta_lr * dU.mean(0) if features else U, V - meta_lr * dV.mean(0)
