"""What a notebook calls: claims with verdicts, records, stored results, folded sources.

Importing this package imports numpy and nothing heavier; torch, IPython and pygments enter inside functions.
"""

from repgeom.repro.chapter import Chapter, open_chapter
from repgeom.repro.claims import Claim, Expectation, at_least, at_most, between, equals, holds, student_t_quantile
from repgeom.repro.display import approx, show

__all__ = [
    "Chapter",
    "Claim",
    "Expectation",
    "approx",
    "at_least",
    "at_most",
    "between",
    "equals",
    "holds",
    "open_chapter",
    "show",
    "student_t_quantile",
]
