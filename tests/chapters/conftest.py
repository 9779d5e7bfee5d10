"""For the tests of the figures that readers move: one figure on a bare page, in headless Chromium, without the site."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

STATIC = Path(__file__).resolve().parents[2] / "book" / "_static"
CHROMIUM = os.environ.get("REPGEOM_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set REPGEOM_CHROMIUM to the program's path")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture
def show_figure(browser: Any) -> Iterator[Callable[[str, str, dict[str, Any]], Any]]:
    """show_figure(name, script, data): the figure on a page as wide as a phone; at the end no error in the console."""
    from repgeom.viz.interactive import markup

    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 390, "height": 800})

    def show(name: str, script: str, data: dict[str, Any]) -> Any:
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        scripts = [(STATIC / file).read_text("utf-8") for file in ("interactive.js", script)]
        page.set_content(
            f"<!doctype html><meta name=viewport content='width=device-width'>"
            f"<style>{(STATIC / 'custom.css').read_text('utf-8')}</style>"
            f"<main class='bd-content'>{markup(name, data, Figure(), 'Something.', 'Move it.')}</main>"
            + "".join(f"<script>{code}</script>" for code in scripts)
        )
        return page.locator(f"[data-figure={name}]")

    yield show
    context.close()
    assert complaints == []
