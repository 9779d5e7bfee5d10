"""``repgeom ledger``: all claims of all chapters."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import click


@click.command(short_help="All claims of all chapters.")
@click.option("--format", "form", type=click.Choice(["text", "json", "csv"]), default="text", show_default=True)
def ledger(form: str) -> None:
    """List the claims of all chapters with the paper's number, ours, and the verdict.

    \b
    Example:
      repgeom ledger --format csv > claims.csv

    Exit statuses: 0 listed, 1 a record cannot be read or contradicts itself.
    """
    from repgeom.cli.pages import find_root

    content = rows(find_root())
    click.echo({"text": as_text, "json": as_json, "csv": as_csv}[form](content), nl=False)


def rows(root: Path) -> list[dict[str, Any]]:
    """One dict a claim, in the order of the book.

    Keys: part, chapter (slug), title, id, says, source, paper, expect, unit, kind, ci_value, ci_interval, ci_samples,
    ci_verdict, full_value, full_interval, full_samples, full_verdict, link (``slug.html#claim-id``, relative to the
    folder of the pages). Values are as in the record; None where a record at that scale does not have the claim.
    """
    from repgeom.cli.compare import load_consistent
    from repgeom.cli.pages import all_pages, part_of

    captions, found = part_of(root), []
    for page in all_pages(root):
        by_scale = {scale: load_consistent(page, scale) for scale in ("ci", "full")}
        claims = {scale: {c["id"]: c for c in (by_scale[scale] or {}).get("claims", [])} for scale in by_scale}
        for name in [*claims["ci"], *(n for n in claims["full"] if n not in claims["ci"])]:
            first = claims["ci"].get(name) or claims["full"][name]
            row = {"part": captions.get(page.slug, ""), "chapter": page.slug, "title": title_of(page.md), "id": name}
            row |= {key: first[key] for key in ("says", "source", "paper", "expect", "unit", "kind")}
            for scale in ("ci", "full"):
                claim = claims[scale].get(name)
                for key in ("value", "interval", "verdict"):
                    row[f"{scale}_{key}"] = claim[key] if claim else None
                row[f"{scale}_samples"] = len(claim["samples"]) if claim else None
            found.append({**row, "link": f"{page.slug}.html#claim-{name}"})
    return found


def title_of(md: Path) -> str:
    """The first heading of a page."""
    for line in md.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return md.stem


def value_text(value: float | bool | None, interval: list[float] | None, unit: str = "") -> str:
    """A recorded value for people: rounded, with its interval."""
    from repgeom.repro.display import number

    if value is None:
        return ""
    inside = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return number(value) + inside + (f" {unit}" if unit else "")


def as_text(content: list[dict[str, Any]]) -> str:
    """For a terminal, one table a chapter."""
    from repgeom.repro.display import plain_table

    columns = ["claim", "paper", "CI", "verdict", "full scale", "verdict"]
    blocks = []
    for chapter in dict.fromkeys(row["chapter"] for row in content):
        mine = [row for row in content if row["chapter"] == chapter]
        cells = [
            [
                row["id"],
                row["paper"] or "–",
                value_text(row["ci_value"], row["ci_interval"], row["unit"]) or "–",
                row["ci_verdict"] or "–",
                value_text(row["full_value"], row["full_interval"], row["unit"]) or "–",
                row["full_verdict"] or "–",
            ]
            for row in mine
        ]
        where = f"{mine[0]['part']}: " if mine[0]["part"] else ""
        blocks.append(plain_table(columns, cells, f"{where}{mine[0]['title']} ({chapter})"))
    return "\n\n".join(blocks) + "\n" if blocks else "no records yet: run the chapters with repgeom run\n"


def as_json(content: list[dict[str, Any]]) -> str:
    """The rows as they are."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def as_csv(content: list[dict[str, Any]]) -> str:
    """The rows with the two ends of each interval in columns of their own."""
    flat = []
    for row in content:
        line: dict[str, Any] = {}
        for key, value in row.items():
            if key.endswith("_interval"):
                line[key.replace("interval", "low")], line[key.replace("interval", "high")] = value or (None, None)
            else:
                line[key] = value
        flat.append(line)
    if not flat:
        return ""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()
