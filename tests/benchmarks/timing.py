"""What the benchmarks share: competitors timed in turns, and one line per ratio.

Everything that is compared is timed in turns, and the best turn counts, in processor time: a busy machine then slows
all competitors alike, and the ratios stay.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]


def gaussian(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def best_times(calls: dict[str, Call], turns: int) -> dict[str, float]:
    """Milliseconds of processor time of the best turn of each."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(turns):
        for name, call in calls.items():
            start = time.process_time()
            call()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best


def forward(f: Callable[[Tensor], Tensor], x: Tensor) -> Call:
    def run() -> None:
        with torch.no_grad():
            f(x)

    return run


def both(f: Callable[[Tensor], Tensor], x: Tensor, G: Tensor) -> Call:
    x = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(f(x), x, G)


def backward(f: Callable[[Tensor], Tensor], x: Tensor, G: Tensor) -> Call:
    x = x.clone().requires_grad_()
    R = f(x)
    return lambda: torch.autograd.grad(R, x, G, retain_graph=True)


class Row(NamedTuple):
    """Ours beside another time: how many times as long the other takes; or, beside a unit, how many units ours takes.

    The target is the least ratio that is asked for, or the most units; None where nothing is.
    """

    name: str
    ours: float
    other: str
    theirs: float
    target: float | None = None
    units: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.units else self.theirs / self.ours

    @property
    def met(self) -> bool:
        return self.target is None or (self.ratio <= self.target if self.units else self.ratio >= self.target)


def report(title: str, conditions: str, rows: list[Row]) -> None:
    """One line per row, then an error if a target was missed."""
    print(f"\n\n{title} ({conditions}, best turn, processor time)")
    for row in rows:
        line = f"  {row.name:<34} {row.ours:8.2f} ms   {row.other:<30} {row.theirs:8.2f} ms   "
        line += f"{'units' if row.units else 'ratio'} {row.ratio:6.2f}"
        if row.target is not None:
            line += f"   target {'<=' if row.units else '>='} {row.target:g}: {'met' if row.met else 'MISSED'}"
        print(line)
    missed = [f"{row.name}: {row.ratio:.2f}, asked for {row.target:g}" for row in rows if not row.met]
    assert not missed, missed


def peak_memory(call: Callable[[], object]) -> int:
    """The most bytes of tensors that a call held at once, above what was there before: from the allocator's own log."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        call()
    events = [e for e in trace.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = most = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        most = max(most, live)
    return most
