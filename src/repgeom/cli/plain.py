"""MyST Markdown to plain Markdown: directives become block quotes and headings, roles become text or links."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DIRECTIVE = re.compile(
    r"^(?P<indent>[ \t]*)(?P<fence>:{3,}|`{3,}|~{3,})[ \t]*\{(?P<name>[\w:.-]+)\}[ \t]*(?P<title>.*)$"
)
CODE_FENCE = re.compile(r"^[ \t]*(?P<fence>`{3,}|~{3,})")
TARGET = re.compile(r"^\((?P<label>[\w:.-]+)\)=\s*$")
EQUATION = re.compile(r"\$\$(?P<body>(?:(?!\$\$).)+?)\$\$[ \t]*\((?P<label>[\w:.-]+)\)", re.S)
INLINE = re.compile(
    r"\{(?P<role>[\w:+.-]+)\}`(?P<body>[^`]+)`"
    r"|(?P<code>``.+?``|`[^`\n]+`)"
    r"|(?P<bang>!?)\[(?P<text>[^\]\[]*)\]\((?P<url>[^)\s]+)\)"
    r"|\[\^(?P<note>[\w-]+)\](?P<colon>:?)",
    re.S,
)
NUMBERED = {"exercise": "Exercise", "exercise-start": "Exercise", "figure": "Figure"}
PROOFS = ("prf:", "proof:")
SILENT = {"bibliography", "solution-end", "exercise-end", "gallery", "ledger-table", "contents", "tableofcontents"}
VERBATIM = {"code", "code-block", "sourcecode", "raw", "html", "math"}


@dataclass
class Block:
    """A directive taken apart."""

    name: str
    title: str
    options: dict[str, str]
    body: str


@dataclass
class Book:
    """What a page must know about the others: labels, titles, references, the address of the site."""

    site: str
    labels: dict[str, tuple[str, str]] = field(default_factory=dict)  # label -> (slug, text shown for it)
    titles: dict[str, str] = field(default_factory=dict)
    papers: dict[str, Any] = field(default_factory=dict)

    def page_url(self, slug: str, anchor: str = "") -> str:
        """Address of a page on the site."""
        return f"{self.site}book/{slug}.html" + (f"#{anchor}" if anchor else "")


class Page:
    """Converts the Markdown cells of one page, in order."""

    def __init__(self, book: Book, slug: str) -> None:
        self.book, self.slug = book, slug
        self.cited: list[str] = []
        self.counts: dict[str, int] = {}

    def number(self, kind: str) -> int:
        """The next number of a kind: figures, exercises, theorems, equations."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        return self.counts[kind]

    def note_label(self, label: str | None, text: str) -> None:
        """Remember what a reference to ``label`` shows."""
        if label:
            self.book.labels[label] = (self.slug, text)

    def convert(self, text: str) -> str:
        """Plain Markdown for a cell."""
        out: list[str] = []
        plain: list[str] = []
        lines = text.split("\n")

        def flush() -> None:
            if plain:
                out.append(self.inline(self.equations("\n".join(plain))))
                plain.clear()

        k, pending = 0, ""
        while k < len(lines):
            line, directive = lines[k], DIRECTIVE.match(lines[k])
            fence = directive or CODE_FENCE.match(line)
            target = TARGET.match(line)
            if fence:
                flush()
                end = _closing(lines, k, fence["fence"])
                if directive:
                    shown = self.directive(_parse(directive, lines[k + 1 : end]))
                    out.append("\n".join(directive["indent"] + row if row else row for row in shown.split("\n")))
                else:
                    out.append("\n".join(lines[k : end + 1]))
                k = end
            elif target:
                pending = target["label"]
            elif not line.startswith(("% ", "+++")):
                if pending and line.startswith("#"):
                    self.note_label(pending, line.lstrip("# "))
                    pending = ""
                plain.append(line)
            k += 1
        flush()
        return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip("\n")

    def equations(self, text: str) -> str:
        """Number the labelled displays."""

        def tagged(match: re.Match[str]) -> str:
            n = self.number("equation")
            self.note_label(match["label"], f"({n})")
            return f"$${match['body'].rstrip()} \\tag{{{n}}}\n$$"

        return EQUATION.sub(tagged, text)

    def directive(self, block: Block) -> str:
        """Plain form of one directive."""
        name, label = block.name, block.options.get("label") or block.options.get("name")
        if name in SILENT:
            return ""
        if name in VERBATIM:
            return self.verbatim(block, label)
        if name.startswith("solution"):
            return self.solution(block)
        title = self.inline(block.title)
        if name in NUMBERED or name.startswith(PROOFS):
            kind = NUMBERED.get(name, name.split(":")[-1].capitalize())
            head = kind if kind == "Proof" else f"{kind} {self.number(kind)}"
            self.note_label(label, head)
            if kind == "Figure":
                alt, source = block.options.get("alt", ""), f"{self.book.site}_images/{block.title.split('/')[-1]}"
                return f"![{alt}]({source})\n\n*{head}. {self.convert(block.body)}*"
            head += f" ({title})" if title else ""
            body = self.convert(block.body)
            return f"#### {head}\n\n{body}\n" if kind == "Exercise" else _quote(head, body)
        if name == "image":
            return f"![{block.options.get('alt', '')}]({self.book.site}_images/{block.title.split('/')[-1]})"
        if name == "list-table":
            return _list_table(title, [self.convert(cell) for cell in _list_cells(block.body)], block)
        return _quote(title or name.replace("-", " ").capitalize(), self.convert(block.body))

    def verbatim(self, block: Block, label: str | None) -> str:
        """Code, HTML and formulas keep their text."""
        if block.name == "math":
            tag = ""
            if label:
                n = self.number("equation")
                self.note_label(label, f"({n})")
                tag = f" \\tag{{{n}}}"
            return f"$$\n{block.body}{tag}\n$$"
        if block.name in ("raw", "html"):
            return block.body
        return f"```{block.title}\n{block.body}\n```"

    def solution(self, block: Block) -> str:
        """A folded answer; one that holds code cells cannot be folded and gets a heading."""
        exercise = self.book.labels.get(block.title, ("", "the exercise"))[1]
        head = f"Solution to {exercise[0].lower()}{exercise[1:]}"
        if block.name == "solution-start":
            return f"#### {head}\n\n{self.convert(block.body)}"
        return f"<details>\n<summary>{head}</summary>\n\n{self.convert(block.body)}\n\n</details>"

    def inline(self, text: str) -> str:
        """Replace roles, links inside the book and footnote marks; code spans stay."""
        return INLINE.sub(self._inline, text)

    def _inline(self, match: re.Match[str]) -> str:
        if match["code"]:
            return match["code"]
        if match["note"]:
            return f"Note {match['note']}:" if match["colon"] else f"<sup>{match['note']}</sup>"
        if match["role"]:
            return self.role(match["role"], " ".join(match["body"].split()))
        text, url = match["text"], match["url"]
        if re.match(r"[a-z]+:", url) or match["bang"]:
            return match[0]
        path, _, anchor = url.partition("#")
        slug = re.sub(r"\.(ipynb|md)$", "", path.split("/")[-1]) or self.slug
        if not path and anchor in self.book.labels:
            slug = self.book.labels[anchor][0]
            text = text or self.book.labels[anchor][1]
        return f"[{text or self.book.titles.get(slug, slug)}]({self.book.page_url(slug, anchor)})"

    def role(self, name: str, body: str) -> str:
        """Text or link for a role."""
        explicit = re.fullmatch(r"(.*\S)\s*<([^<>]+)>", body)
        text, target = (explicit[1], explicit[2]) if explicit else ("", body)
        if name.startswith("cite"):
            return self.citation(name, [key.strip() for key in body.split(",")])
        if name == "math":
            return f"${body}$"
        if name in ("sub", "sup"):
            return f"<{name}>{body}</{name}>"
        if name == "doc":
            slug = target.strip("/").split("/")[-1]
            return f"[{text or self.book.titles.get(slug, slug)}]({self.book.page_url(slug)})"
        if name in ("ref", "numref", "eq", "prf:ref", "proof:ref"):
            slug, shown = self.book.labels.get(target, (self.slug, target))
            number = shown.split(" ")[-1]
            text = re.sub(r"\{number\}|%s", number, text).replace("{name}", shown) or shown
            return text if slug == self.slug else f"[{text}]({self.book.page_url(slug, target)})"
        if name.split(":")[-1] in ("func", "class", "mod", "meth", "attr", "data", "obj"):
            return f"`{text or target.lstrip('~.')}`"
        return text or body

    def citation(self, name: str, keys: list[str]) -> str:
        """Authors and year, linked to the paper."""
        links = []
        for key in keys:
            if key not in self.cited:
                self.cited.append(key)
            paper = self.book.papers[key]
            year = (
                f"{paper.authors} ({paper.year})" if name in ("cite:t", "cite:ts") else f"{paper.authors}, {paper.year}"
            )
            links.append(f"[{year}]({paper.url})" if paper.url else year)
        return ", ".join(links) if name in ("cite:t", "cite:ts") else "(" + "; ".join(links) + ")"

    def references(self) -> str:
        """A list of the papers cited so far, or nothing."""
        lines = [f"- {self.book.papers[key].entry}" for key in self.cited]
        return "## References\n\n" + "\n".join(lines) if lines else ""


@dataclass(frozen=True)
class Paper:
    """One reference: short authors, year, link, and the full entry."""

    authors: str
    year: str
    url: str
    entry: str


def read_papers(path: Any) -> dict[str, Paper]:
    """Read a BibTeX file."""
    from pybtex.database import parse_file
    from pybtex.richtext import Text

    def clean(latex: str) -> str:
        return str(Text.from_latex(latex))

    papers = {}
    for key, entry in parse_file(str(path), bib_format="bibtex").entries.items():
        people = entry.persons.get("author", [])
        last = [" ".join(str(name) for name in person.rich_last_names) for person in people]
        short = last[0] + " et al." if len(last) > 2 else " and ".join(last)
        fields = entry.fields
        url = f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url", "")
        venue = clean(fields.get("booktitle") or fields.get("journal") or fields.get("publisher") or "")
        names = ", ".join(
            " ".join(str(n) for n in [*p.rich_first_names, *p.rich_middle_names, *p.rich_last_names]) for p in people
        )
        parts = [f"{names} ({fields['year']})", f"*{clean(fields['title'])}*", venue, url]
        papers[key] = Paper(short, fields["year"], url, ". ".join(part for part in parts if part))
    return papers


def _closing(lines: list[str], start: int, fence: str) -> int:
    """Index of the line that closes the fence opened at ``start``; the last line where none does."""
    closes: Callable[[str], bool] = lambda row: set(row) == {fence[0]} and len(row) >= len(fence)  # noqa: E731
    return next((k for k in range(start + 1, len(lines)) if closes(lines[k].strip() or " ")), len(lines) - 1)


def _parse(opening: re.Match[str], inner: list[str]) -> Block:
    """Options and body of a directive; the body loses the indentation of the directive."""
    indent = len(opening["indent"])
    inner = [row[indent:] if row[:indent].isspace() or not indent else row for row in inner]
    options: dict[str, str] = {}
    if inner and inner[0].strip() == "---":
        end = next(k for k in range(1, len(inner)) if inner[k].strip() == "---")
        pairs, inner = inner[1:end], inner[end + 1 :]
    else:
        count = next((k for k, row in enumerate(inner) if not re.match(r"\s*:[\w-]+:", row)), len(inner))
        pairs, inner = [row.strip()[1:] for row in inner[:count]], inner[count:]
    for pair in pairs:
        key, _, value = pair.partition(":")
        options[key.strip()] = value.strip()
    return Block(opening["name"], opening["title"].strip(), options, "\n".join(inner).strip("\n"))


def _quote(head: str, body: str) -> str:
    """A block quote with a bold head; lines that begin in bold become paragraphs, as the site shows them."""
    rows = [f"**{head}**", "", *re.sub(r"(?<=[^\n])\n(?=\*\*\w)", "\n\n", body).split("\n")]
    return "\n".join(f"> {row}".rstrip() for row in rows) + "\n"


def _list_cells(body: str) -> list[str]:
    """Cells of a list-table row by row; a cell that begins a row starts with a star."""
    cells: list[str] = []
    for row in body.split("\n"):
        start = re.match(r"\s*(\*)?\s*-\s+(.*)", row)
        if start:
            cells.append(("\0" if start[1] else "") + start[2])
        elif row.strip() and cells:
            cells[-1] += " " + row.strip()
    return cells


def _list_table(title: str, cells: list[str], block: Block) -> str:
    rows: list[list[str]] = []
    for cell in cells:
        if cell.startswith("\0"):
            rows.append([])
        rows[-1].append(cell.lstrip("\0"))
    if block.options.get("header-rows", "0") == "0":
        rows.insert(0, [""] * len(rows[0]))
    rows.insert(1, ["---"] * len(rows[0]))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"**{title}**\n\n{table}" if title else table
