"""What nbval needs to know about this book; a pytest plugin, switched on in ``tests/pytest.ini``.

A cell tagged ``data-<name>`` is executed but not compared where that data set is not available; the summary says so.
Standard error is never compared, because the twins do not keep it.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

NOTE = "not compared"


def data_names(cell: Any) -> list[str]:
    """Names of the data sets on which the output of a cell depends."""
    return [tag.removeprefix("data-") for tag in cell.metadata.get("tags", []) if tag.startswith("data-")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Switch off the comparison of cells whose data is not here."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is None or not hasattr(item, "options"):
            continue
        parent: Any = item.parent
        if "stderr" not in parent.skip_compare:
            parent.skip_compare = (*parent.skip_compare, "stderr")
        try:
            missing = [name for name in data_names(cell) if not available(name)]
        except (KeyError, ValueError) as error:
            setattr(item, "runtest", partial(fail, f"tag of {parent.path.name} {item.name}: {error}"))  # noqa: B010
            continue
        if missing:
            item.options["check"] = False
            item.user_properties.append((NOTE, f"{parent.path.name} {item.name} (no {', '.join(missing)})"))


def available(name: str) -> bool:
    """Whether a data set can be loaded here."""
    from repgeom import data

    return data.available(name)


def fail(message: str) -> None:
    """Stands in for a cell whose tag names no data set."""
    raise ValueError(message)


def _notes(stats: dict[str, list[Any]]) -> Iterator[str]:
    for reports in stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                yield from (value for key, value in getattr(report, "user_properties", []) if key == NOTE)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say which cells were executed without a comparison."""
    notes = sorted(set(_notes(terminalreporter.stats)))
    if notes:
        terminalreporter.section("cells whose output was not compared")
        for note in notes:
            terminalreporter.write_line(note)
