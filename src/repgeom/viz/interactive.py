"""Figures that the reader can move: data for the site's script, and a picture for every other place."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import sys
from typing import TYPE_CHECKING, Any

from repgeom.viz.style import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = 5  # significant digits of the numbers sent to the page: more cannot be seen


def interactive(name: str, data: dict[str, Any], *, fallback: Figure, alt: str, caption: str) -> None:
    """Show a figure that the site's script ``interactive.js`` makes movable.

    Where the script does not run (Colab, GitHub, print) the fallback picture shows instead.

    Args:
        name: Kind of figure as registered in ``interactive.js``, lower case with hyphens, for instance
            ``"rotation-loop"``.
        data: What the script needs; lists, numbers and strings. Floats are rounded to 5 significant digits.
        fallback: The static picture; it is closed afterwards, so that it is not shown twice.
        alt: What the picture shows, for readers who cannot see it.
        caption: What to see in it.

    Raises:
        ValueError: ``name`` is not lower case with hyphens, ``alt`` or ``caption`` is empty, or JSON cannot write
            ``data``.

    Example:
        >>> from matplotlib.figure import Figure
        >>> interactive("rotation-loop", {"slope": 0.01}, fallback=Figure(), alt="A loop.", caption="Drag it.")
        Interactive figure 'rotation-loop' (moves on the site, static here): Drag it.
    """
    shown = markup(name, data, fallback, alt, caption)
    text = f"Interactive figure {name!r} (moves on the site, static here): {caption}"
    if "IPython" in sys.modules and sys.modules["IPython"].get_ipython() is not None:
        from IPython.display import display

        display({"text/html": shown, "text/plain": text}, raw=True)
    else:
        print(text)


def markup(name: str, data: dict[str, Any], fallback: Figure, alt: str, caption: str) -> str:
    """The HTML element of :func:`interactive`, for a page that is not a notebook; same arguments, same errors."""
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name: got {name!r}, valid are lower-case words with hyphens; use a name of interactive.js")
    for label, text in (("alt", alt), ("caption", caption)):
        if not text.strip():
            raise ValueError(f"{label}: got an empty text, valid is a sentence; say what the figure shows")
    try:
        content = json.dumps(_rounded(data), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: JSON cannot write it ({error}); pass finite numbers, strings, lists") from None
    content = content.replace("</", "<\\/")  # so that no text in the data can close the script element
    picture = base64.b64encode(_svg(fallback)).decode()
    return (
        f'<figure class="interactive-figure" data-figure="{name}">'
        f'<script type="application/json">{content}</script>'
        f'<img src="data:image/svg+xml;base64,{picture}" alt="{html.escape(alt)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _rounded(data: Any) -> Any:
    """Round every float in nested lists and dictionaries to ``DIGITS`` significant digits."""
    if isinstance(data, float):
        return float(f"{data:.{DIGITS}g}")
    if isinstance(data, dict):
        return {key: _rounded(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_rounded(value) for value in data]
    return data


def _svg(figure: Figure) -> bytes:
    """The picture as SVG without a date, and pyplot's own handle on it closed."""
    import matplotlib.pyplot as plt

    stream = io.BytesIO()
    with plt.rc_context(style()):
        figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return stream.getvalue()
