"""The element that the site's script upgrades."""

import base64
import json
import re

import pytest
from matplotlib.figure import Figure

from repgeom import viz
from repgeom.viz.interactive import markup


def element(**changes) -> str:
    arguments = {"name": "rotation-loop", "data": {"slope": 0.01}, "alt": "A & B", "caption": "See <this>."} | changes
    name, data = arguments.pop("name"), arguments.pop("data")
    return markup(name, data, Figure(), **arguments)


def test_markup_holds_data_picture_and_caption():
    shown = element(data={"text": "</script>", "numbers": [1 / 3, 2]})
    assert shown.startswith('<figure class="interactive-figure" data-figure="rotation-loop">')
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', shown)[1])
    assert data == {"text": "</script>", "numbers": [0.33333, 2]}
    picture = re.search(r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="A &amp; B">', shown)[1]
    assert b"<svg" in base64.b64decode(picture)
    assert "<figcaption>See &lt;this&gt;.</figcaption>" in shown


def test_notebook_gets_html_and_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    viz.interactive("rotation-loop", {}, fallback=Figure(), alt="A", caption="B.")
    assert shown[0]["text/html"] == element(data={}, alt="A", caption="B.")
    assert shown[0]["text/plain"].endswith("B.")


def test_terminal_gets_one_line(capsys):
    viz.interactive("rotation-loop", {}, fallback=Figure(), alt="A", caption="B.")
    assert capsys.readouterr().out == "Interactive figure 'rotation-loop' (moves on the site, static here): B.\n"


def test_same_call_same_bytes():
    assert element() == element()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Rotation loop"}, "name: got 'Rotation loop'"),
        ({"alt": " "}, "alt: got an empty text"),
        ({"caption": ""}, "caption: got an empty text"),
        ({"data": {"x": float("nan")}}, "data: JSON cannot write it"),
        ({"data": {"x": {1, 2}}}, "data: JSON cannot write it"),
    ],
)
def test_bad_input_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        element(**changes)
