"""One figure style, stable colours, and figures that the reader can move."""

from repgeom.viz.interactive import interactive
from repgeom.viz.style import COLORS, CYCLE, use_style

__all__ = ["COLORS", "CYCLE", "interactive", "use_style"]
