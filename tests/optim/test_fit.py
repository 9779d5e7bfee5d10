"""The one training loop."""

import inspect
import math
import sys

import pytest
import torch
from torch import Tensor, nn

from repgeom.optim import RiemannianSGD, fit


def problem() -> tuple[nn.Parameter, Tensor]:
    return nn.Parameter(torch.tensor([3.0, -2.0])), torch.tensor([1.0, 0.5])


def test_it_minimises_and_reports_every_loss() -> None:
    x, target = problem()
    seen: list[int] = []

    def loss(step: int) -> Tensor:
        seen.append(step)
        return (x - target).square().sum()

    losses = fit([x], loss, 300, lr=0.1)
    assert seen == list(range(300))
    assert losses.shape == (300,)
    assert not losses.requires_grad
    assert losses[0].item() == pytest.approx(4 + 6.25)
    assert losses[-1] < 1e-4
    assert (x - target).abs().max() < 0.01


@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
@pytest.mark.parametrize("steps", [1, 2, 20, 21, 100])
def test_schedule(schedule: str, steps: int) -> None:
    """Against torch's Adam, with the rates written out."""
    x, target = problem()
    fit([x], lambda step: (x - target).square().sum(), steps, lr=0.1, schedule=schedule)
    y, _ = problem()
    optimizer = torch.optim.Adam([y], lr=0.1)
    rise = max(1, round(steps / 20))
    for k in range(1, steps + 1):
        falling = 1.0 if k <= rise else 0.5 + 0.5 * math.cos(math.pi * (k - rise) / (steps - rise))
        rate = 0.1 * min(k / rise, 1) * falling if schedule == "one-cycle" else 0.1
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        (y - target).square().sum().backward()
        optimizer.step()
    torch.testing.assert_close(x, y)


@pytest.mark.parametrize("schedule", ["one-cycle", "constant"])
def test_an_optimiser_of_the_callers(schedule: str) -> None:
    """It makes the steps; the rates of its groups are the peaks of the schedule, before and after."""
    ends = []
    for ours in (True, False):
        x, target = problem()
        y = nn.Parameter(torch.tensor([[1.0], [0.0]]))
        groups = [{"params": [x], "lr": 0.1}, {"params": [y], "lr": 0.02, "manifold": "stiefel"}]
        optimizer = RiemannianSGD(groups, lr=1.0, momentum=0.5)
        rates: list[tuple[float, float]] = []

        def loss(step: int, x: Tensor = x, y: Tensor = y, target: Tensor = target) -> Tensor:
            return (x - target).square().sum() + (y[:, 0] * x).sum()

        def watched(step: int, optimizer: RiemannianSGD = optimizer, rates: list = rates, loss=loss) -> Tensor:
            rates.append(tuple(group["lr"] for group in optimizer.param_groups))
            return loss(step)

        if ours:
            fit([x, y], watched, 40, lr=7.0, schedule=schedule, optimizer=optimizer)
            shape = [a / 0.1 for a, _ in rates]
            assert [b / 0.02 for _, b in rates] == pytest.approx(shape)
            assert max(shape) == pytest.approx(1)
            assert min(shape) == pytest.approx(0 if schedule == "one-cycle" else 1, abs=1e-9)
            assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.02]  # ready for another call
        else:
            for step, factor in enumerate(shape):
                for group, peak in zip(optimizer.param_groups, (0.1, 0.02), strict=True):
                    group["lr"] = peak * factor
                optimizer.zero_grad()
                loss(step).backward()
                optimizer.step()
        ends.append((x, y))
    torch.testing.assert_close(ends[0], ends[1])
    assert (ends[0][1].norm() - 1).abs() < 1e-6


def test_progress_goes_to_stderr_with_its_label(capsys: pytest.CaptureFixture[str]) -> None:
    x, target = problem()
    fit([x], lambda step: (x - target).square().sum(), 3)
    assert capsys.readouterr() == ("", "")
    fit([x], lambda step: (x - target).square().sum(), 3, progress=True, label="codes")
    out, err = capsys.readouterr()
    assert out == ""
    assert "codes" in err and "3/3" in err


def test_bad_input() -> None:
    x, _ = problem()
    for call in (
        lambda: fit([], lambda step: x.sum(), 1),
        lambda: fit([x], lambda step: x.sum(), 0),
        lambda: fit([x], lambda step: x.sum(), 1, schedule="cosine"),
    ):
        with pytest.raises(ValueError, match=r"parameters, steps, schedule: received .*; valid is .*Repair: "):
            call()
    with pytest.raises(ValueError, match=r"loss: received shape \(2,\); valid is a scalar. Repair: "):
        fit([x], lambda step: x, 1)


def test_the_loop_stays_short() -> None:
    """Forty lines of code: a chapter that needs more writes its own loop."""
    source = inspect.getsource(sys.modules["repgeom.optim.fit"])
    code = source.replace(fit.__doc__ or "", "").splitlines()
    assert len([line for line in code if line.strip()]) <= 50
