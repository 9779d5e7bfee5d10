"""One reader per data set: from whole, checked files to named tuples of arrays. Keywords are the options of ``load``.

Heavy packages (scipy, pyarrow, pillow) are imported by the readers that need them.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from repgeom.data import restricted
from repgeom.data.store import Found
from repgeom.data.tables import Cifar10, Cifar100, Connectomes, Emg, Hands, Mnist, Omniglot, Planes, Ssvep

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BONES = (
    *((0, 1), (0, 2), (2, 3), (3, 4), (4, 5)),  # the palm, the thumb
    *((1, 6), (6, 7), (7, 8), (8, 9)),
    *((1, 10), (10, 11), (11, 12), (12, 13)),
    *((1, 14), (14, 15), (15, 16), (16, 17)),
    *((1, 18), (18, 19), (19, 20), (20, 21)),
)


def shapenet_planes(found: Found) -> Planes:
    """Both editions are one npz with the half-precision arrays ``train`` and ``test``."""
    with np.load(found.paths[0], allow_pickle=False) as arrays:
        train, test = (arrays[part].astype(np.float32) for part in ("train", "test"))
    return Planes(train, test, found.edition.provenance)


def cifar10(found: Found, *, per_class: int | None = None, progress: bool = True) -> Cifar10:
    """``per_class``: only the first so many images of each class, in each split (the rest is not decoded)."""
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class: got {per_class!r}; valid is a number from 1 to 5000, or None for all images")
    if found.edition.label == "official":
        train, test, classes = _cifar10_official(found.paths[0], per_class)
    else:
        train, test = (_cifar10_parquet(path, per_class, progress) for path in found.paths)
        classes = CLASSES
    return Cifar10(train[0], train[1], test[0], test[1], classes, found.edition.provenance)


def _first(labels: np.ndarray, per_class: int | None) -> np.ndarray:
    """Indices of the first ``per_class`` entries of each class, ascending."""
    if per_class is None:
        return np.arange(len(labels))
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:per_class] for c in range(int(labels.max()) + 1)]))


def _cifar10_official(path: Path, per_class: int | None) -> tuple[Any, Any, tuple[str, ...]]:
    train = [f"data_batch_{i}" for i in range(1, 6)]
    batches = _pickles(path, (*train, "test_batch", "batches.meta"))

    def split(names: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.concatenate([np.asarray(batches[name][b"labels"], dtype=np.int64) for name in names])
        images = np.concatenate([batches[name][b"data"] for name in names]).reshape(-1, 3, 32, 32)
        keep = _first(labels, per_class)
        return images[keep], labels[keep]

    classes = tuple(name.decode() for name in batches["batches.meta"][b"label_names"])
    return split(train), split(["test_batch"]), classes


def _pickles(path: Path, names: Iterable[str]) -> dict[str, dict[bytes, Any]]:
    """Members of an archive, in its order, through the restricted unpickler; nothing is unpacked to disk."""
    wanted, found = set(names), {}
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            name = member.name.rsplit("/", 1)[-1]
            if name in wanted and (body := tar.extractfile(member)):
                found[name] = restricted.load(body.read())
    return found


def cifar100(found: Found, *, per_class: int | None = None) -> Cifar100:
    """``per_class``: only the first so many images of each of the hundred classes, in each split."""
    if per_class is not None and per_class < 1:
        raise ValueError(f"per_class: got {per_class!r}; valid is a number from 1 to 500, or None for all images")
    parts = _pickles(found.paths[0], ("train", "test", "meta"))

    def split(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fine, coarse = (np.asarray(parts[name][key], dtype=np.int64) for key in (b"fine_labels", b"coarse_labels"))
        keep = _first(fine, per_class)
        return parts[name][b"data"].reshape(-1, 3, 32, 32)[keep], fine[keep], coarse[keep]

    (train, fine, coarse), (test, test_fine, test_coarse) = split("train"), split("test")
    names, groups = (
        tuple(n.decode() for n in parts["meta"][key]) for key in (b"fine_label_names", b"coarse_label_names")
    )
    return Cifar100(train, fine, test, test_fine, coarse, test_coarse, names, groups, found.edition.provenance)


def _cifar10_parquet(path: Path, per_class: int | None, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as parquet
    from PIL import Image
    from tqdm import tqdm

    table = parquet.read_table(path)
    labels = table["label"].to_numpy().astype(np.int64)
    keep = _first(labels, per_class)
    images = np.empty((len(keep), 32, 32, 3), dtype=np.uint8)
    quiet = not progress or len(keep) < 10_000
    contents = tqdm(table["image"].take(keep), f"decoding {path.name}", unit="image", disable=quiet, leave=False)
    for row, content in enumerate(contents):
        images[row] = np.asarray(Image.open(io.BytesIO(content.as_py())))
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels[keep]


def mnist(found: Found) -> Mnist:
    """Two gzipped IDX files."""
    images, labels = (_idx(path) for path in found.paths)
    return Mnist(images, labels.astype(np.int64), found.edition.provenance)


def _idx(path: Path) -> np.ndarray:
    """IDX: two zero bytes, a type code (8: unsigned byte), the number of axes, each as big-endian int32, the bytes."""
    with gzip.open(path) as stream:
        content = stream.read()
    if content[:3] != b"\0\0\x08":
        raise ValueError(f"{path}: not an IDX file of unsigned bytes")
    axes = content[3]
    shape = tuple(np.frombuffer(content, ">i4", axes, 4))
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


def omniglot(found: Found) -> Omniglot:
    """Archives of ``<set>/<alphabet>/<character>/<number>_<drawer>.png``, black on white.

    Both archives hold Greek and Latin, byte for byte: each drawing is kept once, or a split would leak.
    """
    from PIL import Image

    drawings: dict[tuple[str, str, int], np.ndarray] = {}
    for path in found.paths:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".png")):
                _, alphabet, character, file = name.split("/")
                number = int(file.removesuffix(".png").split("_")[1]) - 1
                image = Image.open(io.BytesIO(archive.read(name)))
                drawings.setdefault((alphabet, f"{alphabet}/{character}", number), ~np.asarray(image.convert("1")))
    alphabet_names, alphabets = _codes([alphabet for alphabet, _, _ in drawings])
    characters, labels = _codes([character for _, character, _ in drawings])
    return Omniglot(
        images=np.stack(list(drawings.values())).astype(np.uint8),
        labels=labels,
        alphabets=alphabets,
        drawers=np.array([number for _, _, number in drawings], dtype=np.int64),
        characters=characters,
        alphabet_names=alphabet_names,
        provenance=found.edition.provenance,
    )


def _codes(names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The distinct names in the order of their first appearance, and each name's index among them."""
    distinct = tuple(dict.fromkeys(names))
    index = {name: i for i, name in enumerate(distinct)}
    return distinct, np.array([index[name] for name in names], dtype=np.int64)


def mamem_ssvep(found: Found, *, subjects: Sequence[int] | None = None) -> Ssvep:
    """``subjects``: numbers from 1 to 11, in the order wanted; all by default."""
    from scipy.io import loadmat

    chosen = tuple(range(1, len(found.paths) + 1)) if subjects is None else tuple(subjects)
    if not chosen or not all(1 <= s <= len(found.paths) for s in chosen):
        raise ValueError(f"subjects: got {subjects!r}; valid are numbers from 1 to {len(found.paths)}, at least one")
    files = [loadmat(found.paths[s - 1], variable_names=["x_test", "y_test"]) for s in chosen]
    trials = np.stack([np.asarray(file["x_test"], dtype=np.float64) for file in files])
    labels = np.stack([file["y_test"].ravel().astype(np.int64) for file in files])
    return Ssvep(trials, labels, chosen, found.edition.provenance)


def hands(found: Found) -> Hands:
    """A row of 66 numbers per hand, no header row."""
    rows, labels = (np.loadtxt(path, ndmin=1) for path in found.paths)
    joints = np.atleast_2d(rows).reshape(-1, 22, 3)
    bones = np.array(BONES, dtype=np.int64)
    return Hands(joints, labels.astype(np.int64), bones, ("grab", "expand"), found.edition.provenance)


def emg(found: Found) -> Emg:
    """One csv: time, c0 ... c7, label, exp."""
    from pyarrow import csv

    table = csv.read_csv(found.paths[0])
    signal = np.stack([table[f"c{i}"].to_numpy() for i in range(8)], axis=1).astype(np.float32)
    codes = []
    for column in ("label", "exp"):
        names, index = np.unique(table[column].to_numpy().astype(str), return_inverse=True)
        codes.append((index.astype(np.int64), tuple(str(name) for name in names)))
    (labels, gestures), (recordings, recording_names) = codes
    time = table["time"].to_numpy().astype(np.int64)
    return Emg(signal, time, labels, recordings, gestures, recording_names, found.edition.provenance)


def connectomes(found: Found) -> Connectomes:
    """A csv row per person: number, then the upper triangle row by row; and a csv of numbers and classes."""
    rows, classes = (np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2) for path in found.paths)
    patients, triangle = rows[:, 0].astype(np.int64), rows[:, 1:]
    n = round((1 + (1 + 8 * triangle.shape[1]) ** 0.5) / 2)
    matrices = np.tile(np.eye(n), (len(rows), 1, 1))
    i, j = np.triu_indices(n, k=1)
    matrices[:, i, j] = matrices[:, j, i] = triangle
    by_patient = dict(classes.astype(np.int64).tolist())
    labels = np.array([by_patient[int(p)] for p in patients], dtype=np.int64)
    return Connectomes(matrices, labels, patients, found.edition.provenance)


READERS: dict[str, Callable[..., Any]] = {
    "shapenet_planes": shapenet_planes,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "mnist": mnist,
    "omniglot": omniglot,
    "mamem_ssvep": mamem_ssvep,
    "hands": hands,
    "emg": emg,
    "connectomes": connectomes,
}
