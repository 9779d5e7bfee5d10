"""The site in headless Chromium: what a reader sees, without a network."""

import functools
import http.server
import json
import math
import os
import re
import shutil
import threading

import pytest
import torch

from repgeom.cli import ledger
from repgeom.manifolds import rotations
from repgeom.manifolds.spd import affine_invariant, bures_wasserstein, log_euclidean
from repgeom.nn.coding_rate import coding_rate, coding_rate_of_groups

CHROMIUM = os.environ.get("REPGEOM_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: apt-get install chromium, or set REPGEOM_CHROMIUM to the program's path"
)
QUIET = ["background-networking", "component-update", "sync", "default-apps", "extensions"]
FLAGS = ["--no-sandbox", "--disable-gpu", *(f"--disable-{word}" for word in QUIET)]


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(html):
    handler = functools.partial(Handler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visit(browser, address):
    """Open a page; at the end nothing foreign was asked for and the console held no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme="light")
    complaints = []

    def keep_local(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            complaints.append(f"asked for {route.request.url}")
            route.abort()

    context.route("**/*", keep_local)

    def open_page(path):
        page = context.new_page()
        page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.goto(address + path)
        page.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise; }")
        return page

    yield open_page
    context.close()
    assert complaints == []


PICTURES = """() => [...document.querySelectorAll('main img')].map(
    (i) => [i.complete && i.naturalWidth > 0, (i.alt || '').trim().length > 0, i.src.slice(0, 80)])"""
# Light of a colour, 0 to 1, and the contrast of the first paragraph with what lies behind it.
CONTRAST = """() => {
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const parts = (css) => {
    const [r, g, b, a = 1] = css.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => sum + w * linear(rgb[i] / 255), 0);
  const ground = (e) => {  // tints are laid over what lies behind them
    if (!e) return [255, 255, 255];
    const { rgb, a } = parts(getComputedStyle(e).backgroundColor);
    const below = a < 1 ? ground(e.parentElement) : rgb;
    return rgb.map((v, i) => a * v + (1 - a) * below[i]);
  };
  const behind = (e) => light(ground(e));
  const contrast = (e) => {
    const [a, b] = [light(parts(getComputedStyle(e).color).rgb), behind(e)].sort((x, y) => x - y);
    return (b + 0.05) / (a + 0.05);
  };
  const kinds = ['p', 'td', 'figcaption', 'h2', '.verdict', '.takeaway'].map((kind) => `article ${kind}`).join();
  const texts = [...document.querySelectorAll(kinds)].filter((e) => e.offsetParent && e.textContent.trim());
  const pictures = [...document.querySelectorAll('article .cell_output img, article .gallery-card img')];
  return {
    ground: behind(document.querySelector('article p')),
    faint: texts.filter((e) => contrast(e) < 4.5).map((e) => `${contrast(e)}: ${e.textContent.slice(0, 60)}`),
    plates: pictures.map(behind),
  };
}"""


def test_pages(html, visit):
    paths = sorted(path.relative_to(html).as_posix() for path in (html / "book").glob("*.html"))
    assert len(paths) >= 7
    for path in paths:
        page = visit(path)
        math = page.evaluate(
            "() => [...document.querySelectorAll('.math')].filter((e) => !e.querySelector('mjx-container')).length"
        )
        assert math == 0, f"{path}: {math} formulas are not rendered"
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, f"{path}: a formula has an error"
        still = page.locator(".interactive-figure:not(.is-live)").count()
        assert still == 0, f"{path}: {still} interactive figures do not move"
        for loaded, described, source in page.evaluate(PICTURES):
            assert loaded and described, f"{path}: {source}"
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            page.wait_for_function(f"document.documentElement.dataset.theme === '{theme}'")
            seen = page.evaluate(CONTRAST)
            assert (seen["ground"] < 0.1) == (theme == "dark"), f"{path}: ground {seen['ground']:.2f} in {theme} mode"
            assert seen["faint"] == [], f"{path}: hard to read in {theme} mode"
            assert all(plate > 0.8 for plate in seen["plates"]), (
                f"{path}: a figure without its light plate in {theme} mode"
            )
        page.set_viewport_size({"width": 390, "height": 800})
        wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{path}: {wide} px wider than a phone"
        page.close()


def test_search_finds_a_word(visit):
    page = visit("search.html?q=quaternion")
    found = page.locator("#search-results ul.search li a", has_text=re.compile("four numbers", re.I))
    found.first.wait_for(timeout=10_000)  # results appear one by one


@pytest.fixture
def loop(html, visit):
    """A page with the figure of the loop of rotations."""
    chapters = [
        p for p in sorted((html / "book").glob("*.html")) if 'data-figure="rotation-loop"' in p.read_text("utf-8")
    ]
    assert chapters, "no chapter holds the figure"
    return visit(f"book/{chapters[0].name}")


def numbers(page) -> list[float]:
    return [
        float(word)
        for word in re.findall(r"\d+(?:\.\d+)?(?=°)", page.locator(".interactive-figure .numbers").inner_text())
    ]


def expected_errors(page, degrees: float) -> dict[str, float]:
    """The same networks evaluated with the library, at the axis that the figure starts with."""
    data = json.loads(page.locator(".interactive-figure script").first.text_content())
    azimuth, elevation = torch.deg2rad(torch.tensor([30.0, 40.0], dtype=torch.float64))
    axis = torch.stack([elevation.cos() * azimuth.cos(), elevation.cos() * azimuth.sin(), elevation.sin()])
    truth = rotations.from_rotvec(axis * torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)))
    errors = {}
    for code, layers in data["networks"].items():
        x = truth.flatten()
        for depth, layer in enumerate(layers):
            x = torch.tensor(layer["weight"], dtype=torch.float64) @ x + torch.tensor(
                layer["bias"], dtype=torch.float64
            )
            x = torch.where(x > 0, x, data["slope"] * x) if depth < len(layers) - 1 else x
        decoded = getattr(rotations, f"from_{code}")(x)
        errors[code] = float(torch.rad2deg(rotations.geodesic_angle(truth, decoded)))
    return errors


def test_loop_figure_says_what_the_library_computes(loop):
    angle, quaternion, six, worst, *_ = numbers(loop)
    expected = expected_errors(loop, angle)
    assert quaternion == pytest.approx(expected["quaternion"], abs=0.06)
    assert six == pytest.approx(expected["6d"], abs=0.06)
    assert worst > 179, "a quaternion network is wrong by half a turn somewhere on every loop"


def test_loop_figure_follows_the_keyboard(loop):
    figure = loop.locator(".interactive-figure")
    curve = figure.locator(".curve-quaternion")
    before, points = numbers(loop), curve.get_attribute("points")
    figure.get_by_role("slider", name="Loop angle").focus()
    loop.keyboard.press("ArrowRight")
    assert numbers(loop)[0] == before[0] + 1
    assert curve.get_attribute("points") == points, "the curve belongs to the axis, not to the angle"
    figure.get_by_role("slider", name="Axis: azimuth").focus()
    loop.keyboard.press("PageUp")
    assert curve.get_attribute("points") != points


def test_loop_figure_follows_the_pointer(loop):
    ring, sphere = loop.locator(".interactive-figure svg.draggable").all()
    points = loop.locator(".curve-quaternion").get_attribute("points")
    for drawing, (x, y) in ((ring, (0.1, 0.5)), (sphere, (0.5, 0.3))):
        drawing.scroll_into_view_if_needed()
        box = drawing.bounding_box()
        loop.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.5)
        loop.mouse.down()
        loop.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y, steps=4)
        loop.mouse.up()
    assert numbers(loop)[0] == pytest.approx(180, abs=3)
    assert loop.locator(".curve-quaternion").get_attribute("points") != points


def test_loop_figure_prints_its_picture(loop):
    picture, stage = loop.locator(".interactive-figure > img"), loop.locator(".interactive-figure .stage")
    assert stage.is_visible() and not picture.is_visible()
    loop.emulate_media(media="print")
    assert picture.is_visible() and not stage.is_visible()


def test_ledger_filter(root, visit):
    rows = ledger.rows(root)
    page = visit("book/ledger.html")
    shown = page.locator("table.ledger tbody tr:visible")
    assert shown.count() == len(rows) > 0
    verdict = next(row["ci_verdict"] or row["full_verdict"] for row in rows)
    page.get_by_label("Verdict").select_option(verdict)
    assert shown.count() == sum((row["ci_verdict"] or row["full_verdict"]) == verdict for row in rows)
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Words").focus()
    page.keyboard.type("no such words anywhere")
    assert shown.count() == 0 and page.locator(".ledger-filter p").inner_text() == f"0 of {len(rows)} claims"


@pytest.fixture
def cone(html, visit):
    """A page with the figure of the cone of covariances."""
    chapters = [p for p in sorted((html / "book").glob("*.html")) if 'data-figure="spd-cone"' in p.read_text("utf-8")]
    assert chapters, "no chapter holds the figure"
    return visit(f"book/{chapters[0].name}")


def words_of(page) -> str:
    return page.locator("[data-figure=spd-cone] .numbers").inner_text()


def test_cone_figure_says_what_the_library_computes(cone):
    data = json.loads(cone.locator("[data-figure=spd-cone] script").first.text_content())
    A, B = (torch.tensor([[a, b], [b, c]], dtype=torch.float64) for a, b, c in (data["A"], data["B"]))
    said = words_of(cone)
    time = float(re.search(r"t = ([\d.]+)", said)[1])
    for name, metric in {"AIM": affine_invariant, "LEM": log_euclidean, "BW": bures_wasserstein}.items():
        point = metric.geodesic(A, B, time)
        determinant = float(re.search(rf"determinant .*?{name} ([\d.]+)", said)[1])
        distance = float(re.search(rf"distance from A to B .*?{name} ([\d.]+)", said)[1])
        assert determinant == pytest.approx(float(torch.linalg.det(point)), rel=5e-3)
        assert distance == pytest.approx(float(metric.distance(A, B)), rel=5e-3)


def test_cone_figure_follows_keyboard_and_pointer(cone):
    figure = cone.locator("[data-figure=spd-cone]")
    before = words_of(cone)
    figure.get_by_role("slider", name="Time t").focus()
    cone.keyboard.press("ArrowRight")
    moved = words_of(cone)
    assert moved != before and moved.split("distance")[1] == before.split("distance")[1]
    figure.get_by_role("slider", name="A: long axis").focus()
    cone.keyboard.press("PageUp")
    assert words_of(cone).split("distance")[1] != moved.split("distance")[1]
    drawing = figure.locator("svg.draggable").first
    drawing.scroll_into_view_if_needed()
    box, before = drawing.bounding_box(), words_of(cone)
    cone.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.45)
    cone.mouse.down()
    cone.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.3, steps=4)
    cone.mouse.up()
    assert words_of(cone) != before


@pytest.fixture
def shadows(html, visit):
    """The figure of classes as subspaces, on its page."""
    chapters = [p for p in (html / "book").glob("*.html") if 'data-figure="class-subspaces"' in p.read_text("utf-8")]
    assert chapters, "no chapter holds the figure"
    return visit(f"book/{min(chapters).name}").locator("[data-figure=class-subspaces]")


def lengths_said(figure) -> list[float]:
    said = figure.locator(".numbers").inner_text()
    return [float(x) for x in re.findall(r"class \d (\d\.\d+)", said.split("shadows:")[1].split("Overlap")[0])]


def test_shadow_figure_says_what_the_library_computes(shadows):
    data = json.loads(shadows.locator("script").first.text_content())
    azimuth, elevation = (math.radians(data["start"][key]) for key in ("azimuth", "elevation"))
    u = torch.tensor([math.cos(azimuth), math.sin(azimuth), math.tan(elevation)]) * math.cos(elevation)
    for choice, bases in data["bases"].items():
        shadows.get_by_role("combobox").select_option(label=choice)
        lengths = torch.stack([(u @ torch.tensor(S)).norm() for S in bases])
        assert lengths_said(shadows) == pytest.approx(lengths.tolist(), abs=2e-3)
        winner, said = data["names"][int(lengths.argmax())], shadows.locator(".numbers").inner_text()
        probability = float(re.search(rf"{winner} wins with probability (\d\.\d+)", said)[1])
        assert probability == pytest.approx(float((data["scale"] * lengths).softmax(0).max()), abs=0.01)


def test_shadow_figure_gives_opposite_features_one_class_and_follows_the_keyboard(shadows):
    before, said = lengths_said(shadows), shadows.locator(".numbers")
    text = said.inner_text()
    shadows.get_by_role("button").click()
    assert said.inner_text() != text and lengths_said(shadows) == before
    shadows.get_by_role("slider", name="u: azimuth").press("PageUp")
    assert lengths_said(shadows) != before
    overlap = said.inner_text().split("Overlap")[1]
    shadows.get_by_role("slider", name="class 2 towards class 1").press("End")
    assert said.inner_text().split("Overlap")[1] != overlap


def test_cluster_figure_says_what_the_library_computes_and_follows_the_keyboard(html, visit):
    chapters = [p for p in (html / "book").glob("*.html") if 'data-figure="subspace-clusters"' in p.read_text("utf-8")]
    assert chapters, "no chapter holds the figure"
    figure = visit(f"book/{min(chapters).name}").locator("[data-figure=subspace-clusters]")
    said, data = figure.locator(".numbers"), json.loads(figure.locator("script").first.text_content())
    line, t, off = torch.tensor(data["points"], dtype=torch.float64).T
    turn = line * math.radians(data["angle"])
    Z = torch.stack([t * turn.cos() - off * turn.sin(), t * turn.sin() + off * turn.cos()], 1)
    groups = torch.stack([line == 0, line == 1]).double()
    for name, rate in (("R", coding_rate(Z, data["eps"])), ("R_c", coding_rate_of_groups(Z, groups, data["eps"]))):
        found = float(re.search(rf"{name}(?: of the two lines)? = (\d\.\d+)", said.inner_text())[1])
        assert found == pytest.approx(float(rate), abs=0.01)
    for slider in figure.get_by_role("slider").all():
        before = said.inner_text()
        slider.press("ArrowRight")
        assert said.inner_text() != before


def test_collapse_figure_says_what_the_library_computes_and_follows_the_keyboard(html, visit):
    chapters = [p for p in (html / "book").glob("*.html") if 'data-figure="collapse"' in p.read_text("utf-8")]
    assert chapters, "no chapter holds the figure"
    figure = visit(f"book/{min(chapters).name}").locator("[data-figure=collapse]")
    said, data = figure.locator(".numbers"), json.loads(figure.locator("script").first.text_content())
    assert len(data["cases"]) >= 3
    for case in data["cases"]:
        found = figure.page.evaluate("(c) => collapseSolution(c.counts, c.decay, c.depth)", case)
        for name in ("w2", "h2", "logits", "critical"):
            assert found[name] == pytest.approx(case[name], rel=1e-4), name
    start = figure.page.evaluate("(d) => collapseSolution(d.counts, d.decay, d.depth)", data)
    logits = [float(x) for x in re.search(r"Logits ([\d., ]+);", said.inner_text())[1].split(", ")]
    assert logits == pytest.approx(start["logits"], abs=6e-4)
    for slider in figure.get_by_role("slider").all():
        before = said.inner_text()
        slider.press("ArrowRight")
        assert said.inner_text() != before
