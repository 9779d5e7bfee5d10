r"""What limits of large width predict: risks of random features, infinitely deep classifiers, and three ways beyond.

A kernel with eigenvalues lambda_i and a target with coefficients v_i in its eigenfunctions are all that the risk of
ridge regression knows. A kernel iterated through infinitely many layers is one of three classifiers. With a random
scale of the readout the limit is a Student process; with outputs that grow along with the width it learns its Gram
matrices; and logistic regression with a large learning rate is a perceptron.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "DeepLimit",
    "Risk",
    "StudentProcess",
    "deep_kernel",
    "deep_kernel_objective",
    "deep_limit",
    "feature_risk",
    "linear_grams",
    "optimal_ratio",
    "separation_steps",
    "squared_exponential",
    "student_process",
    "vote",
]

F64 = torch.float64
HALVINGS = 56  # of an interval of 90 units in log gamma: below the rounding of a double


class Risk(NamedTuple):
    """Predictions for ridge regression on features: mean squared errors, and the two scalars behind them; (...)."""

    test: Tensor
    train: Tensor
    kappa: Tensor
    gamma: Tensor
    ratio: Tensor  # delta / (n kappa), the root of train / test


class DeepLimit(NamedTuple):
    """What a kernel becomes at infinite depth: "majority", "nearest", "vote" or "other", and the exponent of a vote."""

    kind: str
    exponent: float


class StudentProcess(NamedTuple):
    """A multivariate t distribution: mean (M), scale matrix (M, M), degrees of freedom."""

    mean: Tensor
    scale: Tensor
    freedom: float


def _refuse(name: str, received: object, valid: str, repair: str) -> None:
    raise ValueError(f"{name}: received {received}; valid is {valid}. Repair: {repair}.")


# ------------------------------------------------------------------------------------------------------ random features


def feature_risk(
    eigenvalues: Tensor,
    squares: Tensor,
    n: Tensor | float,
    k: Tensor | float = math.inf,
    ridge: Tensor | float = 0.0,
    noise: float = 0.0,
) -> Risk:
    r"""Test and train error of ridge regression with n samples on k random features, from the spectrum alone.

    gamma and kappa solve n = z + delta / kappa and k = z + k kappa / gamma with z = sum_i lambda_i/(lambda_i + gamma).
    With q = sum_i (lambda_i / (lambda_i + gamma))^2

        test = [sum_i (gamma/(lambda_i+gamma) - kappa lambda_i/(lambda_i+gamma)^2 k/(k-q)) v_i^2 + sigma^2]
               / [1 - (q (k - 2z) + z^2) / (n (k - q))],         train = (delta / (n kappa))^2 test.

    Eliminating kappa = gamma (k - z) / k leaves one decreasing function of gamma, solved by halving intervals. Without
    a ridge z = min(n, k). The ridge delta is added to the n x n kernel matrix Phi Phi^T, not to its mean.

    Args:
        eigenvalues: (M) lambda_i > 0 of the kernel that the features approximate.
        squares: (M) v_i^2, squared coefficients of the target.
        n: number of samples; n, k and ridge broadcast to (...).
        k: number of features; infinite for the kernel itself.
        ridge: delta >= 0; where it is zero min(n, k) must be below M.
        noise: sigma^2, variance of the label noise; it is part of the test error.

    Returns:
        Risk with tensors (...), float64. Where n = k without ridge the errors are infinite.

    Raises:
        ValueError: a spectrum that is not positive, shapes that differ, or counts out of range.

    Source: Simon, Karkada, Ghosh & Belkin 2023, "More is better in modern machine learning"; the solver is ours.

    >>> flat = torch.ones(1000) / 1000
    >>> risk = feature_risk(flat, flat, n=500)  # half of the directions are seen: the kernel knows half of the target
    >>> round(float(risk.test), 6), float(risk.train)
    (0.5, 0.0)
    """
    lam, v2 = _spectrum(eigenvalues, squares)
    given = [torch.as_tensor(t, dtype=F64, device=lam.device) for t in (n, k, ridge)]
    N, K, delta = torch.broadcast_tensors(*given)
    least = torch.minimum(N, K)
    if not (bool((least > 0).all()) and bool((delta >= 0).all()) and bool(delta.isfinite().all()) and noise >= 0):
        _refuse("n, k, ridge, noise", "a value out of range", "n, k > 0 and ridge, noise >= 0", "ridge=1e-3")
    if bool(((delta == 0) & (least >= len(lam))).any()):
        _refuse("ridge", f"0 with min(n, k) >= {len(lam)} modes", "a positive ridge there", "ridge=1e-9")
    if not bool(N.isfinite().all()):
        _refuse("n", "an infinite value", "a finite number of samples", "n=1e6")

    def share(gamma: Tensor) -> Tensor:
        return lam / (lam + gamma[..., None])

    def thinned(z: Tensor) -> Tensor:  # kappa / gamma
        return torch.where(K.isinf(), 1.0, 1 - z / K)

    high = (2 * lam.sum() / least + 4 * delta / N).log()
    low = high - 90
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        gamma = middle.exp()
        z = share(gamma).sum(-1)
        # Too small: more directions than samples or features can carry.
        small = (z >= least) | (z + delta / (gamma * thinned(z).clamp_min(1e-300)) > N)
        low, high = torch.where(small, middle, low), torch.where(small, high, middle)
    gamma = ((low + high) / 2).exp()
    s = share(gamma)
    z, q = s.sum(-1), s.square().sum(-1)
    kappa = torch.where(delta > 0, gamma * thinned(z), gamma * (1 - least / K).clamp_min(0))
    ratio = torch.where(delta > 0, 1 - z / N, (1 - K / N).clamp_min(0))
    kept = torch.where(K.isinf(), 1.0, K / (K - q))  # k / (k - q)
    lost = torch.where(K.isinf(), q / N, kept * (q * (1 - 2 * z / K) + z * z / K) / N)
    bias = ((1 - s) * v2).sum(-1) - kappa * kept * (s.square() / lam * v2).sum(-1)
    test = torch.where((delta == 0) & (N == K), math.inf, (bias + noise) / (1 - lost))
    train = torch.where(ratio > 0, ratio.square() * test, torch.zeros_like(test))
    return Risk(test, train, kappa, gamma, ratio)


def _spectrum(eigenvalues: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
    lam, v2 = eigenvalues.detach().to(F64), squares.detach().to(F64)
    if lam.dim() != 1 or lam.shape != v2.shape or len(lam) == 0:
        _refuse("eigenvalues, squares", f"{tuple(lam.shape)}, {tuple(v2.shape)}", "one length (M)", "flatten both")
    if not (bool((lam > 0).all()) and bool((v2 >= 0).all()) and bool(torch.isfinite(lam + v2).all())):
        _refuse("eigenvalues, squares", "a value out of range", "eigenvalues > 0, squares >= 0", "drop empty modes")
    return lam, v2


def optimal_ratio(alpha: float, beta: float, noise: float = 0.0) -> float:
    r"""The best ratio r = sqrt(train / test error) of kernel ridge regression for power laws, many samples.

    For lambda_i = i^-alpha and v_i^2 = i^-beta it is the root of the decreasing function

        alpha - beta - (alpha - 1) beta r + alpha (alpha - 1) s (1 - r)^beta

    or zero where that is negative at zero: then it is best to fit the data exactly.

    Args:
        alpha: decay of the eigenvalues, above 1.
        beta: decay of the squared coefficients, above 1.
        noise: s, variance of the label noise over the test error of the fit without noise and without ridge.

    Returns:
        r between 0 and 1.

    Raises:
        ValueError: an exponent of one or less, or a negative noise.

    Source: derived for this package from the eigenframework of Simon et al. 2023.

    >>> round(optimal_ratio(2, 1.5), 4), optimal_ratio(1.5, 2)
    (0.3333, 0.0)
    """
    if not (1 < alpha < math.inf and 1 < beta < math.inf and 0 <= noise < math.inf):
        _refuse("alpha, beta, noise", (alpha, beta, noise), "alpha, beta > 1 and noise >= 0", "alpha=1.5")

    def slope(r: float) -> float:
        return alpha - beta - (alpha - 1) * beta * r + alpha * (alpha - 1) * noise * (1 - r) ** beta

    low, high = 0.0, 1.0
    if slope(0.0) <= 0:
        return 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return (low + high) / 2


# ------------------------------------------------------------------------------------------------------- infinite depth


def _coefficients(coefficients: Tensor | Sequence[float]) -> Tensor:
    a = torch.as_tensor(coefficients, dtype=F64)
    if a.dim() != 1 or len(a) < 2 or not bool((a >= 0).all()) or abs(float(a.sum()) - 1) > 1e-9:
        _refuse("coefficients", a.tolist(), "at least two numbers >= 0 with sum 1", "a / a.sum()")
    return a


def deep_limit(coefficients: Tensor | Sequence[float]) -> DeepLimit:
    r"""Which classifier the kernel of an infinitely deep network is, for inputs on a sphere.

    One layer maps the cosine xi to p(xi) = sum_k a_k xi^k, p(1) = 1. Then sign(y^T K^-1 k(x)) tends to: a majority
    vote of all labels where p(0) > 0; the nearest neighbour where p(0) = p'(0) = 0; and where p(0) = 0 < p'(0) < 1
    < p'(1) to sign sum_i y_i |x - x_i|^-alpha with alpha = -2 log p'(0) / log p'(1). "other" is p(xi) = xi.

    Args:
        coefficients: (k + 1) a_0, a_1, ... >= 0 with sum 1: squared Hermite coefficients of the activation.

    Returns:
        DeepLimit; the exponent is 0 for a majority vote, infinite for the nearest neighbour, NaN for "other".

    Raises:
        ValueError: coefficients that are negative or do not sum to one.

    Source: Radhakrishnan, Belkin & Uhler 2022, "Wide and deep neural networks achieve optimality for classification";
    the exponent as derived for this package.

    >>> deep_limit([0, 0.5, 0, 0.5])  # activation (h_1 + h_3) / sqrt 2
    DeepLimit(kind='vote', exponent=2.0)
    """
    a = _coefficients(coefficients)
    slope = float((a * torch.arange(len(a), dtype=F64)).sum())
    if float(a[0]) > 0:
        return DeepLimit("majority", 0.0)
    if float(a[1]) == 0:
        return DeepLimit("nearest", math.inf)
    if slope <= 1:
        return DeepLimit("other", math.nan)
    return DeepLimit("vote", -2 * math.log(float(a[1])) / math.log(slope))


def deep_kernel(
    cosines: Tensor, coefficients: Tensor | Sequence[float], depth: int, *, tangent: bool = False
) -> Tensor:
    r"""The kernel of a network with that many nonlinear layers on a sphere: p(p(... xi)), or the tangent kernel.

    Theta_0 = xi, Theta_{l+1} = p(xi_l) + Theta_l p'(xi_l). Near xi = 1 the gap 1 - xi is iterated in its own right:
    it grows by p'(1) a layer from far below the rounding of xi. The NTK is divided by its value at 1.

    Args:
        cosines: (...) between -1 and 1.
        coefficients: (k + 1) of p, as in :func:`deep_limit`.
        depth: number of nonlinear layers, >= 0.
        tangent: Theta instead of the covariance.

    Returns:
        (...), float64; 1 at xi = 1.

    Raises:
        ValueError: cosines beyond +-1, a negative depth, or coefficients as in :func:`deep_limit`.

    Source: Radhakrishnan, Belkin & Uhler 2022; Jacot, Gabriel & Hongler 2018 for the recursion.

    >>> deep_kernel(torch.tensor([1.0, 0.5]), [0, 0, 1], 2)  # xi^4
    tensor([1.0000, 0.0625], dtype=torch.float64)
    """
    a, xi = _coefficients(coefficients), cosines.to(F64)
    if depth < 0 or not bool((xi.abs() <= 1 + 1e-9).all()):
        _refuse("cosines, depth", (float(xi.abs().max()), depth), "|cos| <= 1 and depth >= 0", "x / x.norm()")
    xi = xi.clamp(-1, 1)
    gap = 1 - xi
    # 1 - p(1 - u) as a polynomial in u; its constant term is zero.
    about_one = [-sum(float(a[k]) * math.comb(k, j) for k in range(j, len(a))) * (-1) ** j for j in range(1, len(a))]
    powers = torch.arange(len(a), dtype=F64)
    theta, peak = xi, 1.0
    for _ in range(depth):
        if tangent:
            theta = theta * _horner((a * powers)[1:].tolist(), xi)
            peak = peak * float((a * powers).sum()) + 1
        close = gap < 0.25
        near = gap[close]
        near = near * _horner(about_one, near)
        xi = _horner(a.tolist(), xi)
        gap = 1 - xi
        gap[close], xi[close] = near, 1 - near
        theta = theta + xi if tangent else theta
    return theta / peak if tangent else xi


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total.mul_(x).add_(c)
    return total


def vote(x: Tensor, points: Tensor, labels: Tensor, exponent: float) -> Tensor:
    r"""sum_i y_i |x - x_i|^-alpha in units of its largest weight: positive for class +1. Infinite alpha: the nearest.

    Args:
        x: (M, d) where to vote.
        points: (N, d) with labels.
        labels: (N) of +1 and -1.
        exponent: alpha >= 0; the dimension of the data makes it the Hilbert estimate.

    Returns:
        (M), float64.

    Raises:
        ValueError: a negative exponent, or shapes that do not fit.

    Source: Devroye, Gyorfi & Krzyzak 1998, "The Hilbert kernel regression estimate".

    >>> line = torch.tensor([[0.0], [1.0], [3.0]])
    >>> [round(float(vote(torch.tensor([[0.4]]), line, torch.tensor([1, -1, -1]), a)), 2) for a in (0, 1, torch.inf)]
    [-1.0, 0.18, 1.0]
    """
    if not exponent >= 0 or points.dim() != 2 or x.shape[1:] != points.shape[1:] or labels.shape != points.shape[:1]:
        received = (exponent, tuple(x.shape), tuple(points.shape), tuple(labels.shape))
        _refuse("exponent, x, points, labels", received, "alpha >= 0, (M, d), (N, d), (N)", "labels.flatten()")
    away = torch.cdist(x.to(F64), points.to(F64), compute_mode="donot_use_mm_for_euclid_dist")
    near = away.min(-1, keepdim=True).values.clamp_min(torch.finfo(F64).tiny)
    weights = (near / away.clamp_min(torch.finfo(F64).tiny)) ** exponent
    return weights @ labels.to(F64)


# ------------------------------------------------------------------------------------------------------- scale mixtures


def student_process(
    K: Tensor, cross: Tensor, prior: Tensor, y: Tensor, a: float, b: float, noise: float = 0.0
) -> StudentProcess:
    r"""The posterior of an infinitely wide network whose readout variance is drawn once, s ~ InvGamma(a, b).

    Before data outputs are a t process with 2a degrees of freedom and scale (b / a) K. Given n values y, the mean is
    that of the Gaussian process, C K^-1 y with C = K(x, X), and only the width of the band looks at the labels:

        scale = (2b + y^T K^-1 y) / (2a + n) (K(x, x) - C K^-1 C^T),    2a + n degrees of freedom.

    Args:
        K: (n, n) kernel of the training points.
        cross: (M, n) C, test against train.
        prior: (M, M) K(x, x), test against test.
        y: (n) values.
        a: shape of the prior, positive.
        b: scale of the prior, positive.
        noise: variance of label noise in units of s, added to the diagonal of K.

    Returns:
        StudentProcess. With a = b and a -> infinity it is the Gaussian process.

    Raises:
        ValueError: shapes that do not fit, or a, b that are not positive.

    Source: Lee, Yun, Yang & Lee 2022, "Scale mixtures of neural network Gaussian processes".

    >>> one = torch.ones(1, 1, dtype=torch.float64)
    >>> t = student_process(one, 0.5 * one, one, torch.tensor([3.0]), a=1, b=1)
    >>> float(t.mean), round(float(t.scale), 4), t.freedom  # 11 / 3 times 3 / 4
    (1.5, 2.75, 3)
    """
    n, M = len(y), len(prior)
    if y.dim() != 1 or K.shape != (n, n) or cross.shape != (M, n) or prior.shape != (M, M):
        received = [tuple(t.shape) for t in (K, cross, prior, y)]
        _refuse("K, cross, prior, y", received, "(n, n), (M, n), (M, M), (n)", "y.flatten()")
    if not (a > 0 and b > 0 and noise >= 0):
        _refuse("a, b, noise", (a, b, noise), "a, b > 0 and noise >= 0", "a=b=2.0")
    root = torch.linalg.cholesky(K + noise * torch.eye(n, dtype=K.dtype, device=K.device))
    half = torch.linalg.solve_triangular(root, torch.cat([cross.mT, y.to(K.dtype)[:, None]], 1), upper=False)
    C, w = half[:, :-1], half[:, -1]
    factor = (2 * b + w.square().sum()) / (2 * a + n)
    return StudentProcess(C.mT @ w, factor * (prior - C.mT @ C), 2 * a + n)


# ------------------------------------------------------------------------------------------------- deep kernel machines


def squared_exponential(G: Tensor) -> Tensor:
    """exp(-|x_i - x_j|^2 / 2) from a Gram matrix (..., P, P) of the x_i.

    Args:
        G: (..., P, P).

    Returns:
        (..., P, P), ones on the diagonal.

    Source: A. Yang et al. 2023, "A theory of representation learning gives a deep generalisation of kernel methods".

    >>> squared_exponential(torch.zeros(1, 1))
    tensor([[1.]])
    """
    g = G.diagonal(dim1=-2, dim2=-1)
    return (G - (g[..., :, None] + g[..., None, :]) / 2).exp()


def deep_kernel_objective(
    grams: Sequence[Tensor],
    G0: Tensor,
    Y: Tensor,
    nu: Sequence[float],
    *,
    kernel: Callable[[Tensor], Tensor] = squared_exponential,
    noise: float = 0.0,
) -> Tensor:
    r"""What a deep kernel machine maximises over the Gram matrices G_1, ..., G_L of its layers:

        log P(Y | G_L) - sum_l nu_l KL(N(0, G_l) || N(0, K(G_{l-1}))),  KL = (tr K^-1 G - log det K^-1 G - P) / 2.

    The likelihood is regression on G_L as it is: columns of Y independent N(0, G_L + noise I), without its constant. As
    nu grows G_l is tied to K(G_{l-1}): the fixed kernel of an infinitely wide network.

    Args:
        grams: L positive definite matrices (P, P).
        G0: (P, P) Gram matrix of the inputs, positive definite where the kernel is linear.
        Y: (P, O) targets.
        nu: L widths relative to one output.
        kernel: maps G_{l-1} to K; the identity for a linear network.
        noise: variance of label noise.

    Returns:
        The objective, a scalar.

    Raises:
        ValueError: shapes or lengths that do not fit.

    Source: A. Yang, Robeyns, Milsom, Anson, Schoots & Aitchison 2023.

    >>> one = torch.ones(1, 1)
    >>> round(float(deep_kernel_objective([2 * one], one, 2 * one, [1.0], kernel=lambda G: G)), 4)  # the logs cancel
    -1.5
    """
    if len(grams) != len(nu) or any(G.shape != G0.shape for G in grams) or len(Y) != len(G0):
        received = (len(grams), len(nu), tuple(G0.shape), tuple(Y.shape))
        _refuse("grams, nu, G0, Y", received, "L, L, (P, P), (P, O)", "one nu for each Gram matrix")
    top = grams[-1] + noise * torch.eye(len(Y), dtype=Y.dtype, device=Y.device)
    root = torch.linalg.cholesky(top)
    w = torch.linalg.solve_triangular(root, Y, upper=False)
    total = -w.square().sum() / 2 - Y.shape[1] * root.diagonal().log().sum()
    for before, G, weight in zip([G0, *grams[:-1]], grams, nu, strict=True):
        total = total - weight * _divergence(G, kernel(before))
    return total


def _divergence(G: Tensor, K: Tensor) -> Tensor:
    root = torch.linalg.cholesky(K)
    logdet = 2 * (torch.linalg.cholesky(G).diagonal().log().sum() - root.diagonal().log().sum())
    return (torch.cholesky_solve(G, root).diagonal().sum() - logdet - len(G)) / 2


def linear_grams(G0: Tensor, top: Tensor, layers: int) -> list[Tensor]:
    r"""The Gram matrices of a linear deep kernel machine: a geodesic, G_l = (top G_0^-1)^{l / (L + 1)} G_0.

    For equal nu_l = nu, O = nu outputs and no noise; top = Y Y^T / nu, of full rank. Computed as
    G_0^{1/2} (G_0^{-1/2} top G_0^{-1/2})^{l / (L+1)} G_0^{1/2}.

    Args:
        G0: (P, P) positive definite.
        top: (P, P) positive definite.
        layers: L.

    Returns:
        G_1, ..., G_L.

    Raises:
        ValueError: matrices of different shapes, or no layer.

    Source: derived for this package from the objective of A. Yang et al. 2023.

    >>> float(linear_grams(torch.ones(1, 1), 16 * torch.ones(1, 1), 3)[1])
    4.0
    """
    if layers < 1 or G0.shape != top.shape:
        _refuse("layers, G0, top", (layers, tuple(G0.shape), tuple(top.shape)), "layers >= 1, (P, P) twice", "layers=1")
    values, U = torch.linalg.eigh(G0)
    root, back = (U * values.sqrt()) @ U.mT, (U / values.sqrt()) @ U.mT
    s, V = torch.linalg.eigh(back @ top @ back)
    return [root @ (V * s ** (step / (layers + 1))) @ V.mT @ root for step in range(1, layers + 1)]


# -------------------------------------------------------------------------------------------------- logistic regression


def separation_steps(x: Tensor, y: Tensor, lr: float, *, normalized: bool = True, limit: int = 100_000) -> int | None:
    r"""Steps of gradient descent on the logistic loss, from zero, until the signs of all products are right.

    theta += lr beta mean_i w_i y_i x_i with w_i = 1 / (1 + exp(y_i <x_i, theta>)); beta = 1, or 1 / mean(w) if
    normalized. An infinite rate stands for the limit of theta / lr: the batch perceptron, w_i = 1 for a wrong sign, 0
    for a right one and 1/2 at zero.

    Args:
        x: (N, d) inputs, one a row.
        y: (N) labels +1, -1.
        lr: learning rate, positive.
        normalized: divide by the mean weight, which bounds the steps by R^2 / mu^2 + 2 log(2N - 1) / (lr mu^2).
        limit: give up after so many.

    Returns:
        The number of steps, or None.

    Raises:
        ValueError: shapes that do not fit, or a rate that is not positive.

    Source: Tyurin 2024, "From logistic regression to the perceptron algorithm".

    >>> x = torch.tensor([[0.5, -1.0], *[[-0.5, -1.0]] * 999], dtype=torch.float64)
    >>> y = torch.tensor([1.0, *[-1.0] * 999])
    >>> separation_steps(x, y, 100.0), separation_steps(x, y, 100.0, normalized=False)
    (2, 308)
    """
    if not lr > 0 or x.dim() != 2 or y.shape != x.shape[:1]:
        _refuse("x, y, lr", (tuple(x.shape), tuple(y.shape), lr), "(N, d), (N) and lr > 0", "lr=1.0")
    signed = x * y.to(x.dtype)[:, None]
    theta = torch.zeros_like(signed[0])
    for step in range(limit + 1):
        margins = signed @ theta
        if bool((margins > 0).all()):
            return step
        w = (1 - margins.sign()) / 2 if math.isinf(lr) else torch.sigmoid(-margins)
        move = w @ signed / (w.sum() if normalized else len(w))
        theta = theta + (1.0 if math.isinf(lr) else lr) * move
    return None
