"""Aeroplane point clouds from the authors' repository: 2689 text files become one array file.

The host makes the archive of a commit anew whenever it likes, so its checksum is not stable and nothing can be pinned.
What is checked instead: the archive unpacks to its end; it holds 2290 and 399 clouds; each parses to at least 1024
finite points; and at six places, spread over both parts, a point known from the copy this book was made with is in the
cloud it belongs to, so the clouds and their order are the right ones. (The test folder holds a 400th cloud with another
file ending, ``.xyz``; the copy this book was made with leaves it out, and so does this module.)

The 1024 points of a cloud are drawn without replacement by a generator seeded with ``(SEED, part, index of cloud)``.
They are not the points of the copy this book was made with, whose draw was not recorded: same shapes, other samples.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from repgeom.data import store

POINTS = 1024
SEED = 0
FOLDERS = {"points": "train", "points_test": "test"}
COUNTS = {"train": 2290, "test": 399}
WITNESSES: dict[tuple[str, int], tuple[float, float, float]] = {
    ("train", 0): (-0.03238, -0.01068, -0.01455),
    ("train", 1145): (-0.08881, -0.08563, 0.00943),
    ("train", 2289): (0.02892, -0.00401, -0.11694),
    ("test", 0): (0.04956, -0.05481, 0.10541),
    ("test", 18): (0.34351, -0.05136, 0.01772),
    ("test", 398): (0.12769, -0.08862, -0.10712),
}
_ROUNDING = 2e-4  # of the witnesses, which come from half-precision numbers below 1/2


def make(url: str, target: Path, *, download: Callable[[str, Path], None], progress: bool = True) -> None:
    """Download the archive, draw the points, write ``target`` and the note of its checksum; the archive is not kept.

    Raises ``ValueError`` if the archive is not the right one. Nothing is left behind unless all went well.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="tmp") as work:
        archive = Path(work) / "repository.tar.gz"
        download(url, archive)
        clouds = read_archive(archive, progress=progress)
        for part, members in clouds.items():
            _check(part, members)
        whole, note = Path(work) / "whole.npz", Path(work) / "note.json"
        np.savez(whole, train=_draw("train", clouds["train"]), test=_draw("test", clouds["test"]))
        facts = {"sha256": _sha256(whole), "made_from": url, "archive_sha256": _sha256(archive), "seed": SEED}
        note.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        os.replace(note, store.note_path(target))  # the note first: arrays without a fitting note count as damaged
        os.replace(whole, target)


def read_archive(archive: Path, *, progress: bool = True) -> dict[str, list[np.ndarray]]:
    """All clouds, (points, 3) float32 each, by part, sorted by file name; ``ValueError`` if the archive is damaged."""
    from tqdm import tqdm

    named: dict[str, dict[str, np.ndarray]] = {part: {} for part in FOLDERS.values()}
    bar = tqdm(total=sum(COUNTS.values()), desc="reading clouds", unit="file", disable=not progress, leave=False)
    try:
        with bar, gzip.open(archive) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    *_, folder, file = ("", *member.name.split("/"))
                    part = FOLDERS.get(folder)
                    if part and file.endswith(".pts") and (body := tar.extractfile(member)):
                        named[part][file] = _parse(file, body.read())
                        bar.update()
            while stream.read(1 << 20):  # to the end, where gzip compares its checksum
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(f"the archive is cut short or altered ({error})") from error
    return {part: [clouds[name] for name in sorted(clouds)] for part, clouds in named.items()}


def _parse(name: str, text: bytes) -> np.ndarray:
    try:
        points = np.array(text.split(), dtype=np.float32).reshape(-1, 3)
    except ValueError as error:
        raise ValueError(f"{name} in the archive is not three columns of numbers") from error
    if len(points) < POINTS or not np.isfinite(points).all():
        raise ValueError(f"{name} in the archive has fewer than {POINTS} points, or one that is not finite")
    return points


def _check(part: str, clouds: list[np.ndarray]) -> None:
    if len(clouds) != COUNTS[part]:
        raise ValueError(f"the archive has {len(clouds)} {part} clouds instead of {COUNTS[part]}")
    for (where, index), witness in WITNESSES.items():
        if where == part and np.abs(clouds[index] - np.array(witness)).max(axis=1).min() > _ROUNDING:
            raise ValueError(f"{part} cloud {index} of the archive is not the cloud this book was made with")


def _draw(part: str, clouds: list[np.ndarray]) -> np.ndarray:
    drawn = np.empty((len(clouds), POINTS, 3), dtype=np.float16)
    for index, points in enumerate(clouds):
        generator = np.random.default_rng((SEED, list(COUNTS).index(part), index))
        drawn[index] = points[np.argsort(generator.random(len(points)))[:POINTS]]
    return drawn


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
