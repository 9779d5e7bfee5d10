"""What the site needs beyond Jupyter Book: formulas offline, Colab buttons, gallery, ledger table, API pages."""

from __future__ import annotations

import base64
import html
import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
import re
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from repgeom.cli import ledger, site

INLINE_PICTURE = re.compile(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]*)"')


def derive_settings(app: Sphinx, config: Any) -> None:
    """Fill in what follows from the repository in _config.yml, and from which chapters have an executed twin."""
    root = Path(app.srcdir)
    config.html_baseurl = config.ogp_site_url = site.address(root).site
    figures = sorted(path.name for path in (root / "book" / "_static").glob("interactive_*.js"))
    config.html_js_files += [(name, {"defer": "defer"}) for name in figures]  # they register with interactive.js
    config.exclude_patterns += [f"book/{twin.stem}.md" for twin in (root / "book").glob("*.ipynb")]


def copy_mathjax(app: Sphinx) -> None:
    """Copy the one file of MathJax that renders TeX as SVG; it needs no fonts and no network."""
    package = importlib.metadata.distribution("sphinx-mathjax-offline")
    script = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg.js")))
    target = Path(app.outdir) / "_static" / "mathjax"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(script, target / script.name)


def fix_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Drop the unused scripts of thebe (an error in the console) and point the Colab button to the generated copy."""
    scripts, seen = [], set()
    for script in context.get("script_files", []):
        body = (getattr(script, "attributes", None) or {}).get("body") or ""
        name = str(getattr(script, "filename", None) or "")
        if "thebe" not in name + body and (name, body) not in seen:
            seen.add((name, body))
            scripts.append(script)
    context["script_files"] = scripts
    root, slug = Path(app.srcdir), Path(pagename).name
    chapter = pagename in {f"book/{c.slug}" for c in site.chapters(root)}
    for group in list(context.get("header_buttons", [])):
        buttons = group.get("buttons", []) if isinstance(group, dict) else []
        for button in [b for b in buttons if b.get("text") == "Colab"]:
            if chapter:
                button["url"] = site.address(root).colab(slug)
            else:
                buttons.remove(button)
        if isinstance(group, dict) and group.get("label") == "launch-buttons" and not buttons:
            context["header_buttons"].remove(group)


def first_words(notebook: dict[str, Any]) -> tuple[str, str]:
    """Title and first sentence of a chapter, read from its twin."""
    text = next("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    title, _, rest = text.partition("\n")
    paragraph = " ".join(rest.strip().split("\n\n")[0].split())
    return title.lstrip("# "), re.split(r"(?<=[.!?])\s", paragraph)[0].replace("*", "")


def first_picture(notebook: dict[str, Any]) -> tuple[str, bytes, str] | None:
    """Suffix, bytes and alt text of the first picture among the stored outputs."""
    for cell in (c for c in notebook["cells"] if c["cell_type"] == "code"):
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        for data in (o.get("data", {}) for o in cell["outputs"]):
            if "image/svg+xml" in data:
                return "svg", "".join(data["image/svg+xml"]).encode(), alt
            if "image/png" in data:
                return "png", base64.b64decode("".join(data["image/png"])), alt
            inline = INLINE_PICTURE.search("".join(data.get("text/html", "")))
            if inline:
                return "svg", base64.b64decode(inline[1]), html.unescape(inline[2])
    return None


class Gallery(SphinxDirective):
    """The chapters in the order of _toc.yml, each with its part, title, first sentence and first picture."""

    def run(self) -> list[nodes.Node]:
        root, parts = Path(self.env.srcdir), {}
        for chapter in site.chapters(root):
            parts.setdefault(chapter.part, []).append(self.card(root, chapter.slug))
        lines = []
        for part, cards in parts.items():
            lines += [f'<h3 class="gallery-part">{html.escape(part)}</h3>', '<ul class="gallery">', *cards, "</ul>"]
        return [nodes.raw("", "\n".join(lines), format="html")]

    def card(self, root: Path, slug: str) -> str:
        twin = root / "book" / f"{slug}.ipynb"
        self.env.note_dependency(str(twin))
        notebook = json.loads(twin.read_text(encoding="utf-8"))
        title, sentence = first_words(notebook)
        link = self.env.app.builder.get_relative_uri(self.env.docname, f"book/{slug}")
        image, picture = "", first_picture(notebook)
        if picture:
            suffix, content, alt = picture
            folder = Path(self.env.app.outdir) / "_static" / "gallery"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{slug}.{suffix}").write_bytes(content)
            alt = html.escape(alt or f"First figure of {title}")
            image = f'<img src="../_static/gallery/{slug}.{suffix}" alt="{alt}">'
        head = f'<a class="gallery-title" href="{link}">{html.escape(title)}</a>'
        return f'<li class="gallery-card">{image}<div>{head}<p>{html.escape(sentence)}</p></div></li>'


class LedgerTable(SphinxDirective):
    """All claims of all chapters; ledger.js adds the filter, without it the plain table stays."""

    columns = ("chapter", "claim", "paper", "CI scale", "full scale", "verdict")

    def run(self) -> list[nodes.Node]:
        rows = ledger.rows(Path(self.env.srcdir))
        head = "".join(f'<th scope="col">{c}</th>' for c in self.columns)
        body = "\n".join(self.row(row) for row in rows)
        table = f'<table class="ledger"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>'
        box = f'<div class="wide-box" role="region" aria-label="Claims of all chapters" tabindex="0">{table}</div>'
        return [nodes.raw("", box if rows else "<p>No claims are recorded yet.</p>", format="html")]

    def row(self, row: dict[str, Any]) -> str:
        text = {key: html.escape(str(row[key] or "–")) for key in ("title", "says", "source", "paper", "link", "id")}
        verdict = row["ci_verdict"] or row["full_verdict"]
        values = [ledger.value_text(row[f"{s}_value"], row[f"{s}_interval"], row["unit"]) for s in ("ci", "full")]
        cells = [
            text["title"],
            f'<a href="{text["link"]}">{text["says"]}</a><br><span class="ledger-source">{text["source"]}</span>',
            text["paper"],
            *(html.escape(value) or "–" for value in values),
            f'<span class="verdict verdict-{verdict.replace(" ", "-")}">{verdict}</span>',
        ]
        return f'<tr id="{text["id"]}">' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


class ApiRoom(SphinxDirective):
    """Documentation of the public modules of one room of the package, from the docstrings.

    A package that re-exports its public names (``__all__``) is documented as a whole; others, module by module.
    Further modules of such a package can be named after the room.
    """

    required_arguments = 1
    optional_arguments = 9

    def run(self) -> list[nodes.Node]:
        room, *further = self.arguments
        names = [*public_modules(f"repgeom.{room}"), *(f"repgeom.{room}.{name}" for name in further)]
        lines = []
        for name in names:
            module = importlib.import_module(name)
            elsewhere = {other for other in names if other != name}
            twice = [
                m for m in getattr(module, "__all__", ()) if getattr(getattr(module, m), "__module__", "") in elsewhere
            ]
            lines += [
                "",
                f".. rubric:: {name}",
                "   :class: module-name",
                "",
                f".. automodule:: {name}",
                "   :members:",
                f"   :exclude-members: {', '.join(twice)}",
            ]
        return self.parse_text_to_nodes("\n".join(["```{eval-rst}", *lines, "```"]))


def public_modules(name: str) -> list[str]:
    """Modules to document for the module or package ``name``; none where it does not exist yet."""
    if importlib.util.find_spec(name) is None:
        return []
    module = importlib.import_module(name)
    if hasattr(module, "__all__") or not hasattr(module, "__path__"):
        return [name]
    inside = [m for m in pkgutil.iter_modules(module.__path__) if not m.name.startswith("_")]
    inside.sort(key=lambda m: (not m.ispkg, m.name))
    return [found for inner in inside for found in public_modules(f"{name}.{inner.name}")]


def quote_stars_and_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code in backticks: there |y| and v* are formulas, not markup."""
    for i, line in enumerate(lines):
        pieces = re.split(r"(``.*?``|:\w+:`.*?`)", line)
        if not line.lstrip().startswith((">>>", "...", "* ")):
            lines[i] = "".join(re.sub(r"(?<!\\)([*|])", r"\\\1", p) if k % 2 == 0 else p for k, p in enumerate(pieces))


def find_reexported(app: Sphinx, env: Any, node: Any, contnode: Any) -> Any:
    """Resolve a reference to the module where something is defined to the place where it is documented."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    while node.get("refdomain") == "py" and module.count("."):
        module = module.rpartition(".")[0]
        entry = env.domains["py"].objects.get(f"{module}.{name}")
        if entry:
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, contnode)
    return None


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("repgeom_copies_branch", "gh-pages", "html")
    app.add_directive("gallery", Gallery)
    app.add_directive("ledger-table", LedgerTable)
    app.add_directive("api-room", ApiRoom)
    app.connect("config-inited", derive_settings)
    app.connect("builder-inited", copy_mathjax)
    app.connect("autodoc-process-docstring", quote_stars_and_bars, priority=400)  # before napoleon
    app.connect("missing-reference", find_reexported)
    app.connect("html-page-context", fix_page, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
