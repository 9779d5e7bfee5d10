import functools
import html
import math

import pytest

from repgeom.repro import approx, display, show


@pytest.mark.parametrize(
    ("x", "text"),
    [(3.8, "≈ 3.80"), (-0.5, "≈ -0.500"), (123456.7, "≈ 123457"), (1e-9, "≈ 1.00e-09"), (math.inf, "≈ inf")],
)
def test_approx(x: float, text: str) -> None:
    assert approx(x) == text


def test_digits() -> None:
    assert display.number(math.pi, 5) == "3.1416"
    assert display.number(0.0) == "0"


def test_measured_columns_only_are_marked() -> None:
    rows = [{"code": "6d", "error": 0.5, "theory": 0.25, "n": 3}]
    columns, cells = display.cells_of(rows, None, measured=["error"])
    assert columns == ["code", "error", "theory", "n"]
    assert cells == [["6d", "≈ 0.500", "0.250", "3"]]


def test_tensors_and_numpy_scalars_are_numbers() -> None:
    import numpy as np
    import torch

    _, cells = display.cells_of([[torch.tensor(1.5), np.float64(2.5), torch.tensor(3)]], ["a", "b", "c"], measured=True)
    assert cells == [["≈ 1.50", "≈ 2.50", "3"]]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [([], None, "empty"), ([[1, 2]], None, "column names"), ([[1, 2]], ["a"], "2 cells for 1 columns")],
)
def test_malformed_tables_are_refused(rows: list, columns: list | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        display.cells_of(rows, columns, measured=True)


def test_html_is_escaped() -> None:
    text = display.html_table(["a<b"], [["<script>"]], caption="x & y")
    assert "<script>" not in text and "a&lt;b" in text and "x &amp; y" in text


def test_plain_table_is_aligned() -> None:
    assert display.plain_table(["a", "bb"], [["long", "1"]]) == "a     bb\n----  --\nlong  1"


def test_show_prints_the_real_source(capsys: pytest.CaptureFixture) -> None:
    @functools.lru_cache
    def fold(x: int) -> int:
        return x + 41

    show(fold, display.approx)
    said = capsys.readouterr().out
    assert "return x + 41" in said and "def approx(" in said


def test_show_folds_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(display, "emit", lambda rich, plain: shown.append((rich, plain)))
    show(display.plain_table)
    rich, plain = shown[0]
    assert rich.startswith('<details class="repgeom-source"><summary>')
    assert "plain_table" in html.unescape(rich) and "ljust" in plain


def test_show_refuses_what_has_no_source() -> None:
    with pytest.raises(ValueError, match="no Python source"):
        show(math.sin)
