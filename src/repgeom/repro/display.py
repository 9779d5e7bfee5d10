"""Numbers and tables as a page shows them: HTML for the site, a plain-text twin for terminals and for nbval."""

import html
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def approx(x: float, digits: int = 3) -> str:
    """A number that training or timing produced: printed after ``≈``, which says that it moves between machines.

    >>> approx(3.8), approx(0.01234), approx(-12345.6), approx(3.2e-16)
    ('≈ 3.80', '≈ 0.0123', '≈ -12346', '≈ 3.20e-16')
    """
    return "≈ " + number(x, digits)


def number(x: float | bool | int, digits: int = 3) -> str:
    """A number to ``digits`` significant digits, without an exponent where it reads well; integers in full.

    >>> number(2), number(2.0), number(0.5), number(True)
    ('2', '2.00', '0.500', 'yes')
    """
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int) or not math.isfinite(x):
        return str(x)
    if x == 0.0:
        return "0"
    power = math.floor(math.log10(abs(x)))
    if -5 < power < 7:
        return f"{x:.{max(0, digits - 1 - power)}f}"
    return f"{x:.{digits - 1}e}"


def emit(html_text: str, plain: str) -> None:
    """Show in a notebook as HTML with its plain twin; print the twin anywhere else."""
    ipython = sys.modules.get("IPython")
    if ipython is not None and ipython.get_ipython() is not None:
        from IPython.display import display

        display({"text/html": html_text, "text/plain": plain}, raw=True)
    else:
        print(plain)


def html_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    caption: str | None = None,
    css: str = "repgeom-table",
    row_ids: Sequence[str] | None = None,
) -> str:
    """An HTML table of ready cells (escaped here unless they are :class:`Markup`) that scrolls by itself when wide."""
    head = "".join(f'<th scope="col">{_cell(c)}</th>' for c in columns)
    body = []
    for k, row in enumerate(rows):
        anchor = f' id="{html.escape(row_ids[k])}"' if row_ids else ""
        body.append(f"<tr{anchor}>" + "".join(f"<td>{_cell(c)}</td>" for c in row) + "</tr>")
    title = f"<caption>{_cell(caption)}</caption>" if caption else ""
    return (
        f'<div class="repgeom-scroll" style="overflow-x:auto"><table class="{css}">{title}'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody></table></div>"
    )


class Markup(str):
    """Text that is HTML already."""


def _cell(text: str) -> str:
    """Escaped, and a number stays on the line of its ≈."""
    return text if isinstance(text, Markup) else html.escape(text, quote=False).replace("≈ ", "≈&nbsp;")


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> str:
    """The same table for a terminal."""
    grid = [list(columns), *[list(r) for r in rows]]
    widths = [max(len(row[k]) for row in grid) for k in range(len(columns))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in grid]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(([caption] if caption else []) + lines)


def cells_of(
    rows: Sequence[Mapping[str, Any] | Sequence[Any]],
    columns: Sequence[str] | None,
    measured: bool | Sequence[str],
) -> tuple[list[str], list[list[str]]]:
    """Bring rows (mappings or sequences) into columns and text cells; floats of measured columns go after ``≈``."""
    if not rows:
        raise ValueError("rows is empty; give at least one row")
    if columns is None:
        if not isinstance(rows[0], Mapping):
            raise ValueError("columns=None needs rows that are mappings; give the column names")
        columns = list(rows[0])
    table = [[row[c] for c in columns] if isinstance(row, Mapping) else list(row) for row in rows]
    for row in table:
        if len(row) != len(columns):
            raise ValueError(f"row {row} has {len(row)} cells for {len(columns)} columns")
    moves = [measured if isinstance(measured, bool) else c in measured for c in columns]
    return list(columns), [[_text(v, m) for v, m in zip(row, moves, strict=True)] for row in table]


def _text(value: Any, measured: bool) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # scalars of numpy and torch
        value = value.item()
    if isinstance(value, float):
        return approx(value) if measured else number(value)
    return number(value) if isinstance(value, bool | int) else str(value)


def show(obj: Callable[..., Any] | type, *more: Callable[..., Any] | type) -> None:
    """Show the real source of functions, folded in the page.

    Raises ValueError for what has no Python source (a builtin, a compiled function).
    """
    for item in (obj, *more):
        item = inspect.unwrap(item)
        try:
            source = inspect.getsource(item).rstrip()
        except (TypeError, OSError) as error:
            raise ValueError(f"show({item!r}): no Python source ({error}); give a function or class") from error
        name = getattr(item, "__qualname__", item.__name__)
        module = getattr(item, "__module__", "")
        full = f"{module}.{name}" if module and module != "__main__" else name
        emit(
            f'<details class="repgeom-source"><summary>Source of <code>{html.escape(full)}</code></summary>'
            f'<div class="highlight"><pre>{_highlight(source)}</pre></div></details>',
            f"Source of {full}\n\n{source}",
        )


def _highlight(source: str) -> str:
    """Classes for the site's colours; plain text where pygments is not installed."""
    try:
        from pygments import highlight
        from pygments.formatters import HtmlFormatter
        from pygments.lexers import PythonLexer
    except ImportError:
        return html.escape(source)
    return highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()
