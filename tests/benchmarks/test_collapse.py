"""Speed and memory of the measurements of neural collapse: 50 000 features of 512 numbers, 10 classes, one thread.

The unit is one pass as one would write it: class means by ``index_add_``, deviations, one GEMM, all in float32. Ours
sums in float64, in blocks. Agreement is checked first. Run with ``repgeom bench -k collapse``.
"""

from collections.abc import Callable

import pytest
import torch
from timing import Row, best_times, gaussian, peak_memory, report
from torch import Tensor

from repgeom.probes import collapse

N, WIDTH, K = 50_000, 512, 10
CONDITIONS = f"one thread, {N} x {WIDTH} float32, {K} classes"
UNIT = "means and one GEMM, float32"


def made() -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.randint(K, (N,), generator=torch.Generator().manual_seed(1))
    return gaussian(N, WIDTH) + gaussian(K, WIDTH, seed=2)[labels], labels, gaussian(K, WIDTH, seed=3)


def one_pass(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    means = torch.zeros(K, WIDTH).index_add_(0, labels, features) / torch.bincount(labels, minlength=K)[:, None]
    off = features - means[labels]
    return means, off.mT @ off / N


def all_metrics(features: Tensor, labels: Tensor, A: Tensor, dtype: torch.dtype = torch.float64) -> tuple[object, ...]:
    moments = collapse.class_moments(features, labels, K, dtype=dtype)
    means, centred = moments.means, moments.centred
    return (
        collapse.nc1(moments),
        collapse.scatter_ratio(moments),
        collapse.frame_distance(A),
        collapse.frame_distance(centred, "simplex"),
        collapse.alignment_distance(A, means),
        collapse.self_duality(A, centred),
        collapse.class_lengths(means),
        collapse.simplex_spread(centred),
    )


def in_batches(features: Tensor, labels: Tensor, size: int) -> collapse.ClassMoments:
    moments = collapse.ClassMoments(K, WIDTH)
    for x, y in zip(features.split(size), labels.split(size), strict=True):
        moments.update(x, y)
    return moments


@pytest.mark.benchmark(group="collapse")
def test_all_metrics(benchmark: Callable[..., object]) -> None:
    features, labels, A = made()
    means, within = one_pass(features, labels)
    for moments in (collapse.class_moments(features, labels, K), in_batches(features, labels, 128)):
        torch.testing.assert_close(moments.means.float(), means, rtol=0, atol=1e-4)
        torch.testing.assert_close(moments.within.float(), within, rtol=0, atol=1e-5)
    t = best_times(
        {
            "pass": lambda: one_pass(features, labels),
            "gemm": lambda: features.mT @ features,
            "ours": lambda: all_metrics(features, labels, A),
            "float32": lambda: all_metrics(features, labels, A, torch.float32),
            "batches": lambda: in_batches(features, labels, 128),
        },
        5,
    )
    benchmark.extra_info.update(t)
    benchmark.pedantic(lambda: all_metrics(features, labels, A), rounds=1)
    report("Neural collapse", CONDITIONS, [
        Row("all metrics", t["ours"], UNIT, t["pass"], 3.0, units=True),
        Row("all metrics, sums in float32", t["float32"], UNIT, t["pass"], 3.0, units=True),
        Row("moments from batches of 128", t["batches"], UNIT, t["pass"], units=True),
        Row("all metrics", t["ours"], "the GEMM alone, float32", t["gemm"], units=True),
    ])  # fmt: skip


@pytest.mark.benchmark(group="collapse memory")
def test_memory(benchmark: Callable[..., object]) -> None:
    """Beyond the features themselves; the pass as one would write it holds two copies of them."""
    features, labels, A = made()
    most = peak_memory(lambda: all_metrics(features, labels, A))
    naive = peak_memory(lambda: one_pass(features, labels))
    size = features.numel() * features.element_size()
    benchmark.pedantic(lambda: all_metrics(features, labels, A), rounds=1)
    report("Memory of all metrics", CONDITIONS, [
        Row("peak (MiB)", most / 2**20, "the features", size / 2**20, 2.0, units=True),
        Row("peak (MiB)", most / 2**20, UNIT, naive / 2**20, 1.0, units=True),
    ])  # fmt: skip
