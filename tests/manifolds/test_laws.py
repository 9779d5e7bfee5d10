"""Every law over every space, in float32 and float64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import laws


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("space", laws.SPACES, ids=lambda space: space.name)
def test_law(space: laws.Space, law: Callable[[laws.Space, torch.dtype, int], None], dtype: torch.dtype) -> None:
    @settings(max_examples=space.examples, database=None, deadline=None, derandomize=True)
    @given(seed=st.integers(0, 2**32 - 1))
    def over_seeds(seed: int) -> None:
        law(space, dtype, seed)

    over_seeds()


def test_every_verb_is_there() -> None:
    for space in laws.SPACES:
        for verb in ("distance", "exp", "log", "geodesic", "transport", "mean", "project", "random"):
            assert callable(getattr(space.module, verb)), f"{space.name}.{verb}"
            assert verb in space.module.__all__, f"{space.name}.{verb}"


def test_names_are_unique() -> None:
    assert len({space.name for space in laws.SPACES}) == len(laws.SPACES)
