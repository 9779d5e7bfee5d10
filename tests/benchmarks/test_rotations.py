"""Speed of the rotation decoders: one thread, 100 000 rotations, float32, ratios measured in one run.

Run with ``repgeom bench`` (or ``make bench``). Agreement is checked first. pytest-benchmark repeats our own time, for
its JSON files.
"""

from collections.abc import Callable

import pytest
import roma
import torch
from timing import Row, backward, best_times, both, forward, gaussian, report
from torch import Tensor

from repgeom.manifolds import rotations as r

N = 100_000
CONDITIONS = f"one thread, {N} rotations, float32"


def agree(f: Callable[[Tensor], Tensor], peer: Callable[[Tensor], Tensor], x: Tensor, G: Tensor, atol: float) -> None:
    """Values to ``atol``, gradients to 100 ``atol`` of their size squared, where conditioning enters."""
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    R, S = f(a), peer(b)
    torch.testing.assert_close(R, S, rtol=0, atol=atol)
    ours, theirs = torch.autograd.grad(R, a, G)[0], torch.autograd.grad(S, b, G)[0]
    size = theirs.flatten(1).norm(dim=1).square() + 1
    assert ((ours - theirs).flatten(1).norm(dim=1) / size).max() < 100 * atol


@torch.no_grad()
def compiled(f: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor] | None:
    """``torch.compile`` of f, checked against f; None where there is no working compiler."""
    try:
        fast = torch.compile(f)
        R = fast(x)
    except Exception as error:  # whatever the compiler's trouble is, say it and go on
        print(f"\ntorch.compile is not available here: {type(error).__name__}")
        return None
    torch.testing.assert_close(R, f(x), rtol=0, atol=1e-3)  # some of the columns are nearly parallel
    return fast


@pytest.mark.filterwarnings("ignore")  # torch.compile warns about its own internals
@pytest.mark.benchmark(group="from_6d")
def test_from_6d(benchmark: Callable[..., object]) -> None:
    """Gram-Schmidt against RoMa, and against one copy of the result, which is what memory allows."""
    x, G = gaussian(N, 6), gaussian(N, 3, 3, seed=1)
    matrix = x.reshape(N, 2, 3).mT.contiguous()  # RoMa's layout, prepared outside its time

    def peer_in_our_layout(y: Tensor) -> Tensor:
        return roma.special_gramschmidt(y.reshape(-1, 2, 3).mT)

    easy = torch.linalg.cross(x[:, :3], x[:, 3:]).norm(dim=-1) > 0.1 * x[:, :3].norm(dim=-1) * x[:, 3:].norm(dim=-1)
    agree(r.from_6d, peer_in_our_layout, x[easy], G[easy], 1e-5)
    out, into = r.from_6d(x), torch.empty(N, 3, 3)
    fast = compiled(r.from_6d, x)
    calls = {
        "ours": forward(r.from_6d, x),
        "roma": forward(roma.special_gramschmidt, matrix),
        "copy": lambda: into.copy_(out),
        "ours both": both(r.from_6d, x, G),
        "roma both": both(roma.special_gramschmidt, matrix, G),
    }
    if fast is not None:
        calls["compiled"] = forward(fast, x)
    t = best_times(calls, 25)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["ours"], rounds=5)
    rows = [
        Row("forward", t["ours"], "roma special_gramschmidt", t["roma"], 4.0),
        Row("forward + backward", t["ours both"], "roma special_gramschmidt", t["roma both"], 4.0),
        Row("copy of the result", t["copy"], "ours, eager", t["ours"]),
    ]
    if fast is not None:
        rows.append(Row("copy of the result", t["copy"], "ours, compiled", t["compiled"]))
    report("from_6d", CONDITIONS, rows)
    print(
        "  Between us and the copy: eager torch passes over memory once for each of about 30 operations, and moving\n"
        "  components to the front and back is 15 strided passes, a third of the time. torch.compile fuses the former."
    )


@pytest.mark.benchmark(group="from_9d")
def test_from_9d(benchmark: Callable[..., object]) -> None:
    """The nearest rotation against RoMa (its closed form and its SVD) and against our own SVD twin."""
    M, G = gaussian(N, 3, 3), gaussian(N, 3, 3, seed=1)

    def ours(M: Tensor) -> Tensor:
        return r.from_9d(M.flatten(-2))

    def svd(M: Tensor) -> Tensor:
        return roma.special_procrustes(M, method="svd")

    s, sign = torch.linalg.svdvals(M.double()), torch.linalg.det(M.double()).sign()
    easy = (s[:, 1] + sign * s[:, 2]) / s[:, 0] > 0.05  # away from the singular set
    agree(ours, roma.special_procrustes, M[easy], G[easy], 1e-5)
    M64, G64 = M[easy][:20_000].double(), G[easy][:20_000].double()
    agree(ours, lambda M: roma.special_procrustes(M, gradient_eps=1e-12), M64, G64, 1e-12)
    calls = {"ours": forward(ours, M), "ours both": both(ours, M, G), "ours back": backward(ours, M, G)}
    for name, peer in (("roma", roma.special_procrustes), ("roma svd", svd)):
        calls |= {name: forward(peer, M), name + " both": both(peer, M, G), name + " back": backward(peer, M, G)}
    calls["svd"] = forward(lambda M: r.from_9d_svd(M.flatten(-2)), M)
    t = best_times(calls, 5)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["ours"], rounds=3)
    rows = [
        Row("forward", t["ours"], "roma special_procrustes", t["roma"], 3.0),
        Row("forward + backward", t["ours both"], "roma special_procrustes", t["roma both"], 3.0),
        Row("backward alone", t["ours back"], "roma special_procrustes", t["roma back"], 3.0),
        Row("forward", t["ours"], "roma, method='svd'", t["roma svd"]),
        Row("forward + backward", t["ours both"], "roma, method='svd'", t["roma svd both"]),
        Row("backward alone", t["ours back"], "roma, method='svd'", t["roma svd back"]),
        Row("forward", t["ours"], "from_9d_svd (LAPACK)", t["svd"]),
    ]
    report("from_9d", CONDITIONS, rows)


@pytest.mark.benchmark(group="from_quaternion")
def test_quaternion_and_rotation_vector(benchmark: Callable[..., object]) -> None:
    """No target: for the record."""
    q, v, G = gaussian(N, 4), gaussian(N, 3), gaussian(N, 3, 3, seed=1)

    def peer(q: Tensor) -> Tensor:
        return roma.unitquat_to_rotmat(roma.quat_wxyz_to_xyzw(torch.nn.functional.normalize(q, dim=-1)))

    agree(r.from_quaternion, peer, q, G, 1e-5)
    agree(r.from_rotvec, roma.rotvec_to_rotmat, v, G, 1e-5)
    calls = {}
    for name, ours, theirs, x in (("q", r.from_quaternion, peer, q), ("v", r.from_rotvec, roma.rotvec_to_rotmat, v)):
        calls |= {f"ours {name}": forward(ours, x), f"ours {name} both": both(ours, x, G)}
        calls |= {f"roma {name}": forward(theirs, x), f"roma {name} both": both(theirs, x, G)}
    t = best_times(calls, 15)
    benchmark.extra_info.update(t)
    benchmark.pedantic(calls["ours q"], rounds=5)
    rows = [
        Row(f"{step}, {name}", t[f"ours {key}{end}"], peer_name, t[f"roma {key}{end}"])
        for key, name, peer_name in (("q", "q", "roma, with normalisation"), ("v", "v", "roma rotvec_to_rotmat"))
        for step, end in (("forward", ""), ("both", " both"))
    ]
    report("from_quaternion (q) and from_rotvec (v)", CONDITIONS, rows)
