"""The figure style and the colours."""

import io
import subprocess
import sys

import matplotlib
import pytest
from matplotlib.figure import Figure

from repgeom import viz


@pytest.fixture(autouse=True)
def restored_settings():
    with matplotlib.rc_context():
        yield


def drawing() -> bytes:
    figure = Figure()
    figure.subplots().plot([0, 1], [1, 0], label="$x^2$")
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def test_same_figure_same_bytes():
    viz.use_style()
    first = drawing()
    assert first == drawing()
    assert b"<dc:date>" not in first


def test_every_code_has_its_own_colour():
    assert set(viz.COLORS) == {"6d", "5d", "9d", "10d", "raw9", "quaternion", "rotvec", "axis_angle", "euler"}
    assert len(set(viz.COLORS.values())) == 9


def luminance(colour: str) -> float:
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colour", viz.CYCLE)
def test_colours_stand_out_on_white(colour):
    assert 1.05 / (luminance(colour) + 0.05) > 2.3, "a line in this colour is too pale on a white page"


def test_import_is_light():
    code = "import sys, repgeom.viz; print([m for m in ('matplotlib', 'IPython', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
