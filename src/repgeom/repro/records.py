"""Where records lie, how they are read and written, and what a run says about itself.

A record is ``book/records/<slug>.<scale>.json``::

    {"format": 1, "slug", "scale", "seed",
     "inputs": digest of the page's code and of every repgeom module that it reaches,
     "outputs": digest of the outputs in the twin (written by ``repgeom run``),
     "claims": [{"id", "says", "source", "paper", "kind", "expect", "low", "high", "value", "samples", "interval",
                 "verdict", "unit", "drift"}],
     "results": {key: {..., "provenance"}},
     "run": {"wall_s", "peak_mib", "device", "versions", "commit", "date", "data": {name: sha256}}}
"""

import datetime
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

FORMAT = 1


def root() -> Path | None:
    """The checkout: ``$REPGEOM_ROOT``, else the folder two above the package; None for an installed wheel."""
    if os.environ.get("REPGEOM_ROOT"):
        return Path(os.environ["REPGEOM_ROOT"])
    folder = Path(__file__).resolve().parents[3]
    return folder if (folder / "book").is_dir() and (folder / "_toc.yml").is_file() else None


def records_dir() -> Path:
    """The folder of the committed records: the checkout's, else the one inside the installed package."""
    checkout = root()
    return checkout / "book" / "records" if checkout else Path(__file__).resolve().parents[1] / "records"


def load(slug: str, scale: str, folder: Path | None = None) -> dict[str, Any] | None:
    """The record of a chapter at a scale, or None where there is none; ValueError for one that cannot be read."""
    path = (folder or records_dir()) / f"{slug}.{scale}.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ValueError(f"format {record['format']}, this version reads {FORMAT}")
        return record
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"record {path.name} cannot be read ({error}); restore it from version control") from error


def save(path: Path, record: dict[str, Any]) -> None:
    """Write a record whole or not at all: into a neighbour first, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def commit() -> str:
    """The commit the numbers come from, with ``+dirty`` where sources differ from it; ``unknown`` outside git."""
    folder = root()
    if folder is None:
        return "unknown"
    try:
        head = _git(folder, "rev-parse", "HEAD")
        return head + ("+dirty" if _git(folder, "status", "--porcelain", "--", "src", "book/*.md") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    import numpy
    import torch

    import repgeom

    return {
        "repgeom": repgeom.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def peak_mib() -> int:
    """Peak resident memory of this process in MiB (macOS counts in bytes, Linux in KiB)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


def data_checksums() -> dict[str, str]:
    """Checksums of the data this process loaded; empty where :mod:`repgeom.data` was never imported."""
    data = sys.modules.get("repgeom.data")
    return dict(data.checksums()) if data is not None and hasattr(data, "checksums") else {}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
