"""The site as files: links, pictures, Colab buttons, the ledger, and that a warning stops the build."""

import csv
import importlib
import json
import re
import shutil
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from repgeom.cli import Failure, ledger, site

FOREIGN = re.compile(r"(https?:)?//")
LARGEST_PAGE, LARGEST_FILE, LARGEST_SITE = 3_000_000, 4_000_000, 60_000_000  # bytes


class Elements(HTMLParser):
    """Every element of a page with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


@cache
def parsed(path: Path) -> Elements:
    return Elements(path.read_text(encoding="utf-8"))


def written_pages(html: Path) -> list[Path]:
    return sorted((html / "book").glob("*.html"))


def test_build_left_its_stamp(root, html):
    assert site.is_fresh(root), "the stamp is written after a build without warnings"


def test_a_warning_stops_the_build_every_time(root, tmp_path):
    shutil.copytree(root / "book" / "_ext", tmp_path / "book" / "_ext")
    shutil.copytree(root / "book" / "_static", tmp_path / "book" / "_static")
    shutil.copy(root / "_config.yml", tmp_path)
    (tmp_path / "book" / "references.bib").touch()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/index\n", encoding="utf-8")
    (tmp_path / "book" / "index.md").write_text("# Title\n\n[nowhere](#no-such-label)\n", encoding="utf-8")
    for _ in range(2):  # pages that were read once are not read again unless the build insists
        with pytest.raises(Failure, match="no-such-label"):
            site.render(tmp_path)


def test_internal_links_resolve(html):
    broken = []
    for page in [html / "index.html", *written_pages(html)]:
        for attributes in parsed(page).all("a", "img", "script", "link"):
            url = attributes.get("href") or attributes.get("src") or ""
            if not url or re.match(r"[a-z]+:|//|#$", url):
                continue
            path, _, fragment = unquote(url).partition("#")
            target = (page.parent / path.split("?")[0]).resolve() if path else page
            if not target.is_file():
                broken.append(f"{page.name}: {url}")
            elif fragment and target.suffix == ".html":
                names = {a.get("id") or a.get("name") for _, a in parsed(target).found}
                if fragment not in names:
                    broken.append(f"{page.name}: {url} (no such place)")
    assert not broken


def test_nothing_is_loaded_from_elsewhere(html):
    for page in written_pages(html):
        for tag in ("script", "img", "link", "iframe"):
            for attributes in parsed(page).all(tag):
                if attributes.get("rel") != "canonical":
                    url = attributes.get("src") or attributes.get("href") or ""
                    assert not FOREIGN.match(url), f"{page.name} loads {url}"


def test_formulas_come_with_one_file(html):
    assert [p.name for p in (html / "_static" / "mathjax").iterdir()] == ["tex-svg.js"]
    scripts = [a.get("src") or "" for a in parsed(html / "book" / "notation.html").all("script")]
    assert any("_static/mathjax/tex-svg.js" in src for src in scripts)


def test_every_picture_has_alt_text(html):
    for page in written_pages(html):
        for attributes in parsed(page).all("img"):
            if "logo" not in (attributes.get("class") or ""):
                assert (attributes.get("alt") or "").strip(), f"{page.name}: {str(attributes)[:200]}"


def test_colab_button_on_chapters_only(root, html):
    chapters = {chapter.slug for chapter in site.chapters(root)}
    for page in written_pages(html):
        links = [a["href"] for a in parsed(page).all("a") if "colab.research" in (a.get("href") or "")]
        if page.stem in chapters:
            assert links == [site.address(root).colab(page.stem)]
            assert (html / "colab" / f"{page.stem}.ipynb").is_file()
        else:
            assert links == []


def test_addresses_follow_the_repository(tmp_path, root):
    settings = (root / "_config.yml").read_text(encoding="utf-8")
    url = site.config(root)["repository"]["url"]
    (tmp_path / "_config.yml").write_text(settings.replace(url, "https://github.com/someone/else"), encoding="utf-8")
    moved = site.address(tmp_path)
    assert moved.site == "https://someone.github.io/else/"
    assert moved.colab("x").startswith("https://colab.research.google.com/github/someone/else/blob/")
    owner, repository = url.split("/")[-2:]
    assert settings.count(f"{owner}/{repository}") == 1, "owner and repository stand in one place"


def test_root_leads_to_the_start_page(html):
    assert "book/index.html" in (html / "index.html").read_text(encoding="utf-8")


def test_gallery_shows_every_chapter_with_a_picture(root, html):
    text = (html / "book" / "index.html").read_text(encoding="utf-8")
    cards = re.findall(r'<li class="gallery-card"><img src="([^"]+)" alt="[^"]+">.*?href="(\w+)\.html"', text, re.S)
    assert [slug for _, slug in cards] == [chapter.slug for chapter in site.chapters(root)]
    assert all((html / "book" / picture).resolve().stat().st_size > 1000 for picture, _ in cards)


def test_ledger_page_and_files_agree(root, html):
    rows = ledger.rows(root)
    page = (html / "book" / "ledger.html").read_text(encoding="utf-8")
    body = re.search(r'<table class="ledger">.*?<tbody>(.*?)</tbody>', page, re.S)
    assert (body[1].count("<tr") if body else 0) == len(rows)
    assert json.loads((html / "ledger.json").read_text(encoding="utf-8")) == rows
    with (html / "ledger.csv").open(encoding="utf-8", newline="") as stream:
        assert [line["id"] for line in csv.DictReader(stream)] == [row["id"] for row in rows]


@pytest.mark.parametrize("module", ["manifolds.rotations", "nn.rotations", "nn.blocks", "repro", "viz", "data"])
def test_reference_holds_every_public_name(html, module):
    names = importlib.import_module(f"repgeom.{module}")
    public = getattr(names, "__all__", None) or [
        n for n, o in vars(names).items() if getattr(o, "__module__", "") == names.__name__ and not n.startswith("_")
    ]
    documented = {a.get("id") or "" for _, a in parsed(html / "book" / "api.html").found}
    described = [n for n in public if callable(getattr(names, n))]
    missing = [n for n in described if not any(d.startswith("repgeom.") and d.endswith(f".{n}") for d in documented)]
    assert described and not missing


def test_sizes(html):
    assert all(page.stat().st_size < LARGEST_PAGE for page in written_pages(html))
    sizes = [path.stat().st_size for path in html.rglob("*") if path.is_file()]
    assert max(sizes) < LARGEST_FILE and sum(sizes) < LARGEST_SITE
