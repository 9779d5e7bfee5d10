"""The report of a re-run as text and as one HTML file."""

import html
from collections import Counter
from typing import Any

from repgeom.cli.compare import PASSING
from repgeom.repro.display import Markup, html_table, number, plain_table

COLUMNS = ["", "claim", "recorded", "re-run", "verdict", "remark"]
MEANING = {
    0: "nothing contradicts the records",
    1: "a claim does not stand as the record says",
    3: "a page failed to execute",
}
STYLE = """body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}
table{border-collapse:collapse}
td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top}
caption{text-align:left;font-weight:bold}.bad{font-weight:bold;color:#a40000}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}.bad{color:#ff8a80}}"""


def _value(value: float | bool | None, unit: str = "", interval: list[float] | None = None) -> str:
    if value is None:
        return "–"
    inside = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return number(value) + inside + (f" {unit}" if unit else "")


def _row(claim: dict[str, Any]) -> list[str]:
    passed = claim["status"] in PASSING
    remark = claim["status"] + (f": {claim['detail']}" if claim["detail"] else "")
    return [
        "ok" if passed else "!!",
        claim["id"],
        _value(claim["recorded_value"], claim["unit"]),
        _value(claim["value"], claim["unit"], claim["interval"]),
        claim["verdict"] or "–",
        "" if claim["status"] == "ok" else remark,
    ]


def summary(content: dict[str, Any]) -> str:
    """One line: how many claims stand, and what the exit status means."""
    states = Counter(claim["status"] for chapter in content["chapters"] for claim in chapter["claims"])
    counted = ", ".join(f"{count} {state}" for state, count in states.most_common()) or "no claims"
    return f"{counted}. Status {content['status']}: {MEANING[content['status']]}."


def _head(chapter: dict[str, Any]) -> str:
    seconds = ", ".join(f"{run['wall_s']:.0f} s" for run in chapter["runs"])
    peak = max((run["peak_mib"] for run in chapter["runs"]), default=0)
    where = f"{chapter['part']}: " if chapter["part"] else ""
    return f"{where}{chapter['slug']}" + (f" ({seconds}; {peak} MiB)" if chapter["runs"] else "")


def as_text(content: dict[str, Any]) -> str:
    """The report for a terminal."""
    lines = [f"Re-run at scale {content['scale']}, base seeds {', '.join(map(str, content['seeds']))}", ""]
    for chapter in content["chapters"]:
        if chapter["claims"]:
            lines.append(plain_table(COLUMNS, map(_row, chapter["claims"]), _head(chapter)))
        else:
            lines.append(_head(chapter))
        lines += [f"  {note}" for note in _notes(chapter, content["scale"])]
        lines.append("")
    return "\n".join([*lines, summary(content), ""])


def _notes(chapter: dict[str, Any], scale: str) -> list[str]:
    notes = [f"FAILED to execute: {chapter['error']}"] if chapter["error"] else []
    if chapter["record"] is None:
        notes.append(f"there is no committed record at scale {scale} to compare with")
    return notes


def as_html(content: dict[str, Any]) -> str:
    """The report as one file without anything foreign."""
    parts = []
    for chapter in content["chapters"]:
        rows = []
        for claim in chapter["claims"]:
            row = _row(claim)
            if row[0] == "!!":
                row = [Markup(f'<span class="bad">{html.escape(cell)}</span>') for cell in row]
            rows.append(row)
        parts.append(html_table(COLUMNS, rows, _head(chapter)))
        parts += [f'<p class="bad">{html.escape(note)}</p>' for note in _notes(chapter, content["scale"])]
    title = f"Re-run at scale {content['scale']}, base seeds {', '.join(map(str, content['seeds']))}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f'<meta name="viewport" content="width=device-width"></head><body><h1>{title}</h1>'
        f"<p>{html.escape(summary(content))}</p>" + "\n".join(parts) + "</body></html>\n"
    )
