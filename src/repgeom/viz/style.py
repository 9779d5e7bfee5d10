"""The figure style of the book."""

from __future__ import annotations

from typing import Any

# Okabe and Ito's palette, which readers with any common colour blindness can tell apart, ordered by use in the book.
CYCLE: tuple[str, ...] = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#B8860B",
    "#56B4E9",
    "#5D3A9B",
    "#8B4513",
    "#555555",
)

#: Colours of things that come back in several figures, so that a name has the same colour everywhere.
COLORS: dict[str, str] = dict(
    zip(
        ("6d", "quaternion", "9d", "euler", "rotvec", "5d", "10d", "axis_angle", "raw9"),
        CYCLE,
        strict=True,
    )
)

INK = "#333333"  # dark text on a transparent ground; the site puts a light plate under it in dark mode


def style() -> dict[Any, Any]:
    """The matplotlib settings of the book.

    Returns:
        A dictionary for ``matplotlib.rcParams``: dark ink on transparent ground, colour-blind-safe cycle, letters drawn
        as paths and a fixed salt for identifiers, so that the same figure is the same SVG file every time.

    Example:
        >>> style()["svg.fonttype"]
        'path'
    """
    from cycler import cycler

    ink = {f"{name}color": INK for name in ("text.", "axes.label", "axes.edge", "axes.title", "xtick.", "ytick.")}
    return {
        **ink,
        "axes.prop_cycle": cycler(color=list(CYCLE)),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#BBBBBB",
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "savefig.transparent": True,
        "figure.figsize": (6.4, 3.6),
        "figure.constrained_layout.use": True,
        "font.size": 10.0,
        "axes.titlesize": 11.0,
        "legend.frameon": False,
        "lines.linewidth": 1.8,
        "svg.fonttype": "path",
        "svg.hashsalt": "repgeom",
    }


def use_style() -> None:
    """Apply the figure style; inside IPython also store figures as inline SVG without a date.

    Outside IPython (a script, a test) only matplotlib's settings change.

    Example:
        >>> use_style()
    """
    import matplotlib

    matplotlib.rcParams.update(style())
    try:
        from IPython import get_ipython
    except ImportError:
        return
    if get_ipython() is not None:
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        set_matplotlib_formats("svg", metadata={"Date": None})
