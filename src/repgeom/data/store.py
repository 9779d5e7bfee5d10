"""Where the files of a data set lie on this machine, and whether they are whole. Reads only, and without a network."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from repgeom.data.catalog import Edition, File, Source

FOLDER = "REPGEOM_DATA"
CACHE = "REPGEOM_CACHE"
OFFLINE = "REPGEOM_OFFLINE"


class Found(NamedTuple):
    """A complete set of files: the edition, the place (``"folder"``, ``"cache"`` or ``"package"``) and its root."""

    edition: Edition
    place: str
    root: Path

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in the order of the catalogue."""
        return tuple(self.root / file.path for file in self.edition.files)

    def damage(self) -> str:
        """What is wrong with the first file that is not whole, in words; empty if all are."""
        for file in self.edition.files:
            if words := damage(self.root / file.path, file):
                return words
        return ""

    def sha256(self) -> str:
        """The checksum of the file; of several, the checksum of the lines ``<sha256>  <path>``, sorted by path."""
        sums = {file.path: digest(self.root / file.path, "sha256") for file in self.edition.files}
        if len(sums) == 1:
            return next(iter(sums.values()))
        lines = "".join(f"{sums[path]}  {path}\n" for path in sorted(sums))
        return hashlib.sha256(lines.encode()).hexdigest()


def folder() -> Path | None:
    """The folder that ``$REPGEOM_DATA`` names, if it is set."""
    value = os.environ.get(FOLDER, "")
    return Path(value).expanduser() if value else None


def cache() -> Path:
    """``$REPGEOM_CACHE``, or the user's cache folder of this operating system."""
    value = os.environ.get(CACHE, "")
    if value:
        return Path(value).expanduser()
    import pooch

    return Path(pooch.os_cache("repgeom"))


def checkpoints(key: str) -> Path:
    """The folder in the user's cache where an interrupted long run finds what it had finished."""
    return cache() / "runs" / key


def package(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    import importlib.util

    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or []) if spec else []
    return Path(places[0]) if places else None


def everywhere(source: Source) -> list[Found]:
    """All complete sets of files on this machine, whole or damaged: folder first, then packages, then the cache."""
    roots: list[tuple[str, Path, tuple[Edition, ...]]] = []
    own = tuple(edition for edition in source.editions if not edition.package)
    if here := folder():
        roots.append(("folder", here, own))
    for edition in source.editions:
        if edition.package and (here := package(edition.package)):
            roots.append(("package", here, (edition,)))
    if own:
        roots.append(("cache", cache(), own))
    return [
        Found(edition, place, root)
        for place, root, editions in roots
        for edition in editions
        if all((root / file.path).is_file() for file in edition.files)
    ]


def find(source: Source) -> Found | None:
    """The set of files that ``load`` would read without a network.

    Files in the folder are taken as they are, damaged or not: a folder is never passed over in silence. Elsewhere only
    whole files count.
    """
    for found in everywhere(source):
        if found.place == "folder" or not found.damage():
            return found
    return None


def looked(source: Source) -> str:
    """Where the files were looked for, in words, for the message that they are not there."""
    packages = [edition.package for edition in source.editions if edition.package]
    if packages:
        missing = [name for name in packages if package(name) is None]
        return f"in the package {packages[0]}" + (" (not installed)" if missing else "")
    here = folder()
    if here is None:
        first = f"in ${FOLDER} (not set)"
    else:
        first = f"in ${FOLDER} ({here}{'' if here.is_dir() else ', which is not a folder'})"
    return f"{first} and in the cache ({cache()})"


def damage(path: Path, file: File) -> str:
    """What is wrong with ``path`` as a copy of ``file``, in words; empty if nothing is.

    The size is compared first, then the pinned checksum. A file that was made on this machine has no pin: its checksum
    was noted beside it.
    """
    try:
        algorithm, _, pin = (file.checksum or _noted(path)).partition(":")
        if not pin:
            return f"{path}: no checksum was noted beside it, so it may be incomplete"
        size = path.stat().st_size
        if file.checksum and size != file.size:
            return f"{path}: has {size} bytes instead of {file.size}"
        if digest(path, algorithm) != pin:
            return f"{path}: its {algorithm} is not the pinned {pin[:12]}…"
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror or error})"
    return ""


def note_path(path: Path) -> Path:
    """Where the checksum of a file made on this machine is noted."""
    return path.with_name(path.name + ".json")


def _noted(path: Path) -> str:
    try:
        return f"sha256:{json.loads(note_path(path).read_text(encoding='utf-8'))['sha256']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def digest(path: Path, algorithm: str) -> str:
    """The checksum of a file, as hexadecimal digits. A file is read again only after it changed."""
    status = path.stat()
    known = (str(path.absolute()), algorithm, status.st_size, status.st_mtime_ns, status.st_ino)
    settled = time.time() - status.st_mtime > 2  # clocks of file systems are coarse: a fresh file may change unseen
    return _digest(*known) if settled else _digest.__wrapped__(*known)


@lru_cache(maxsize=256)
def _digest(path: str, algorithm: str, size: int, mtime: int, inode: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def list_differs(root: Path, files: tuple[File, ...]) -> str:
    """Whether the folder's own ``SHA256SUMS`` contradicts the pinned sums, in words; empty if it does not."""
    listed: dict[str, str] = {}
    try:
        for line in (root / "SHA256SUMS").read_text(encoding="utf-8").splitlines():
            value, _, path = line.partition(" ")
            listed[path.strip().lstrip("*")] = value.lower()
    except (OSError, ValueError):
        return ""
    for file in files:
        pin = file.checksum.removeprefix("sha256:")
        if file.checksum.startswith("sha256:") and listed.get(file.path, pin) != pin:
            return f"{root / 'SHA256SUMS'}: lists another checksum for {file.path} than the pinned {pin[:12]}…"
    return ""
