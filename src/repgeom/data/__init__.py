"""Real data: found in a folder or the cache, or downloaded, and checked before it is used.

>>> from repgeom import data
>>> hands = data.load("hands")
>>> hands.joints.shape, hands.gestures
((53, 22, 3), ('grab', 'expand'))

The order is: the folder that ``$REPGEOM_DATA`` names; the packages that bundle a data set; the user's cache
(``$REPGEOM_CACHE``, or the operating system's place for caches); the public address, with a pinned checksum.
``$REPGEOM_OFFLINE=1`` forbids downloads. Nothing is imported or read before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from repgeom.data.catalog import CATALOG, Edition, File, Source
from repgeom.data.catalog import source as _source
from repgeom.data.errors import DataDamaged, DataUnavailable
from repgeom.data.tables import Cifar10, Cifar100, Connectomes, Emg, Hands, Mnist, Omniglot, Planes, Ssvep

__all__ = [
    "CATALOG",
    "Cifar10",
    "Cifar100",
    "Connectomes",
    "DataDamaged",
    "DataUnavailable",
    "Edition",
    "Emg",
    "File",
    "Hands",
    "Mnist",
    "Omniglot",
    "Planes",
    "Source",
    "Ssvep",
    "available",
    "checksums",
    "load",
]

_loaded: dict[str, str] = {}  # what this process loaded, for the record of a run


@overload
def load(name: Literal["shapenet_planes"], *, download: bool = ..., progress: bool = ...) -> Planes: ...
@overload
def load(
    name: Literal["cifar10"], *, download: bool = ..., progress: bool = ..., per_class: int | None = ...
) -> Cifar10: ...
@overload
def load(
    name: Literal["cifar100"], *, download: bool = ..., progress: bool = ..., per_class: int | None = ...
) -> Cifar100: ...
@overload
def load(name: Literal["mnist"], *, download: bool = ..., progress: bool = ...) -> Mnist: ...
@overload
def load(name: Literal["omniglot"], *, download: bool = ..., progress: bool = ...) -> Omniglot: ...
@overload
def load(
    name: Literal["mamem_ssvep"], *, download: bool = ..., progress: bool = ..., subjects: Sequence[int] | None = ...
) -> Ssvep: ...
@overload
def load(name: Literal["hands"], *, download: bool = ..., progress: bool = ...) -> Hands: ...
@overload
def load(name: Literal["emg"], *, download: bool = ..., progress: bool = ...) -> Emg: ...
@overload
def load(name: Literal["connectomes"], *, download: bool = ..., progress: bool = ...) -> Connectomes: ...
@overload
def load(name: str, *, download: bool = ..., progress: bool = ..., **options: Any) -> Any: ...


def load(name: str, *, download: bool = True, progress: bool = True, **options: Any) -> Any:
    """Load a data set into memory, after comparing its files with the pinned checksums.

    Args:
        name: a name of :data:`CATALOG`.
        download: whether the public address may be used when no copy is here.
        progress: whether what takes longer than a few seconds shows a progress bar (on standard error).
        options: ``per_class`` for ``cifar10`` and ``cifar100`` (the first so many images of each class), ``subjects``
            for ``mamem_ssvep`` (numbers from 1 to 11).

    Returns:
        A named tuple of NumPy arrays; shapes, types and units stand in :mod:`repgeom.data.tables`. Its field
        ``provenance`` says in words which copy of the data it is.

    Raises:
        ValueError: a name or an option that does not exist.
        DataUnavailable: no copy can be had here; one line says where it was looked for and how to get it.
        DataDamaged: a file of ``$REPGEOM_DATA`` is not the one this book was checked with. It is left as it is.

    >>> matrices = load("connectomes").matrices
    >>> matrices.shape, float(matrices[0].diagonal().min())
    ((86, 28, 28), 1.0)
    """
    source = _source(name)
    from repgeom.data import fetch, readers, store

    reader = readers.READERS[name]
    _check_options(name, reader, options)
    found = store.find(source)
    if found is None:
        if not download:
            raise fetch.unavailable(source, "no whole copy is on this machine")
        found = fetch.fetch(source, progress=progress)
    elif found.place == "folder" and (words := found.damage()):
        raise DataDamaged(f"data set {name!r}: {words}; nothing was changed: replace the file or unset ${store.FOLDER}")
    if name == "cifar10":  # the one reader that takes more than a few seconds
        options["progress"] = progress
    result = reader(found, **options)
    _loaded[name] = found.sha256()
    return result


def available(name: str) -> bool:
    """Whether ``load(name)`` would find the data on this machine, without a network.

    Files in the cache and in packages count only if they are whole. A damaged file in ``$REPGEOM_DATA`` counts as
    found, so that ``load`` says what is wrong with it instead of a stand-in hiding it.

    >>> available("hands")
    True
    """
    from repgeom.data import store

    return store.find(_source(name)) is not None


def checksums() -> dict[str, str]:
    """SHA-256 of each data set that this process loaded.

    Of one file, its checksum; of several, the checksum of the lines ``<sha256>  <path>``, sorted by path.

    >>> _ = load("hands")
    >>> checksums()["hands"][:12]
    'ad9d2dc52162'
    """
    return dict(sorted(_loaded.items()))


def _check_options(name: str, reader: Callable[..., Any], options: dict[str, Any]) -> None:
    import inspect

    parameters = inspect.signature(reader).parameters.values()
    valid = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "progress"]
    for option in options:
        if option not in valid:
            known = f"valid are: {', '.join(valid)}" if valid else "this data set has no options"
            raise ValueError(f"{option}: not an option of the data set {name!r}; {known}")
