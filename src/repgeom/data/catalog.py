"""Which data sets the book uses: files, addresses, checksums, licences. Plain data, no code that reads or downloads."""

from __future__ import annotations

import difflib
from typing import NamedTuple


class File(NamedTuple):
    """One file: its place below a data folder, checksum, size in bytes, public addresses in order of preference.

    ``checksum`` is ``"sha256:<hex>"`` or ``"md5:<hex>"``; empty for a file that is made on the reader's machine, whose
    checksum is then noted beside it.
    """

    path: str
    checksum: str
    size: int
    urls: tuple[str, ...] = ()


class Edition(NamedTuple):
    """One form in which a data set exists; all files are needed. ``package`` names the package that bundles them."""

    label: str
    files: tuple[File, ...]
    provenance: str
    package: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    @property
    def public(self) -> bool:
        """Whether every file has a public address."""
        return all(file.urls for file in self.files)


class Source(NamedTuple):
    """A data set: what it is, its terms, and its editions in order of preference."""

    name: str
    what: str
    shape: str
    licence: str
    citation: str
    editions: tuple[Edition, ...]

    @property
    def download(self) -> Edition | None:
        """The edition that can be downloaded, if there is one."""
        return next((edition for edition in self.editions if edition.public), None)


_RAW = "https://raw.githubusercontent.com"
_GBWBN = f"{_RAW}/jjscc/GBWBN/1ec323214a1f3444afc430c35e2c3b6efd4852c8/GBWBN_SPDNet/experiments/data/MAMEM"
_OMNIGLOT = f"{_RAW}/brendenlake/omniglot/057f034baf2ecb8530bc5710e5a23584d2a519cc/python"
_MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist", f"{_RAW}/fgnt/mnist/master")
_ROTATION_CONTINUITY = "758b0ce551c06372cab7022d4c0bdf331c89c696"

_MAMEM = (
    (2332531, "f0038f1f59698c5fbfd11496b7a2e10e534eabd08e2f086acbd88dec73381bb9"),
    (2357800, "6aa75a5a48d19881687bae17ad296be5c9c8ebe9f44d1cace12999441d0ea6ad"),
    (2334310, "51c3cf3b78a3dd320b3ce1778cf9cda264332fe8f0257c8769594e1748710f8f"),
    (2331400, "31fd1af3ad1ee9deac2a25ab46c4f51528a131b6eb3786517aa3afb2dd052e27"),
    (2333346, "71eda11e276ccdc04289b9bc7cdc8b81d2c6b2067b923d283f74f3c931c39394"),
    (2328573, "26d8d2217ca5a721155b840dc1dd25812577ba3b2f89acdc4f155096ba992f44"),
    (2334311, "4c5ff7152cf8d2109c7fc14cf3db0efd82d8105431a0ca31e95ac9e8556e9d3e"),
    (2336802, "253d61feef3ca70393e05962e6ba40ed68351eb46ab9f73e99ef2535765e76dd"),
    (2330624, "3032972728ab118953577b7124068b01514a58c36845ac772a4f9f83f058d64c"),
    (2329050, "f12b61d9c226e7d9a79e975916840958b99a80fa5f26613316a6946e218797b7"),
    (2329548, "dc9aef4918a7f4c249982df3ff6abec158a80d0c6fd8b35e57da17784d51e33d"),
)


def _bundled(*files: tuple[str, int, str], provenance: str) -> Edition:
    """Files of the package geomstats, with the checksums they have in its release 2.8.0."""
    there = tuple(File(f"datasets/data/{path}", f"sha256:{sha}", size) for path, size, sha in files)
    return Edition("bundled", there, provenance, package="geomstats")


_SOURCES = (
    Source(
        "shapenet_planes",
        what="aeroplane point clouds",
        shape="train (2290, 1024, 3), test (399, 1024, 3), float32",
        licence="ShapeNet terms: non-commercial research",
        citation="Chang et al. 2015, ShapeNet; clouds as released with Zhou et al. 2019, "
        "On the Continuity of Rotation Representations in Neural Networks",
        editions=(
            Edition(
                "npz",
                (
                    File(
                        "shapenet_planes/planes_1024.npz",
                        "sha256:71f7ce628d35f674d0ebe939068a600768650a77b66ef350d094c6d54244dd44",
                        16521720,
                    ),
                ),
                "1024 points of each cloud of Zhou et al. 2019, the selection this book's own numbers were made with",
            ),
            Edition(
                "derived",
                (
                    File(
                        "shapenet_planes/planes_1024_derived.npz",
                        "",
                        16521720,
                        (f"https://codeload.github.com/papagina/RotationContinuity/tar.gz/{_ROTATION_CONTINUITY}",),
                    ),
                ),
                "1024 points of each cloud of Zhou et al. 2019, drawn on this machine with a fixed seed from the "
                "authors' repository: the same clouds in the same order, but not the points of this book's own numbers",
            ),
        ),
    ),
    Source(
        "cifar10",
        what="small colour photographs, ten classes",
        shape="train (50000, 3, 32, 32), test (10000, 3, 32, 32), uint8",
        licence="free for research with citation",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        editions=(
            Edition(
                "official",
                (
                    File(
                        "cifar10/cifar-10-python.tar.gz",
                        "md5:c58f30108f718f92721af3b95e74349a",
                        170498071,
                        ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                    ),
                ),
                "the official archive",
            ),
            Edition(
                "jpeg",
                (
                    File(
                        "cifar10_jpeg/train.parquet",
                        "sha256:81b1fdd80d1b7f7cc5688f3f54eebaeb3b059890878e6cbef204ab21fb5ec1cc",
                        46372117,
                    ),
                    File(
                        "cifar10_jpeg/test.parquet",
                        "sha256:23d3ab3efe306833ac98a7d17c6988333468940d9cd8964380b23e58f3fd3a63",
                        9276589,
                    ),
                ),
                "a lossy JPEG re-encoding of CIFAR-10, not the official pixels",
            ),
        ),
    ),
    Source(
        "cifar100",
        what="small colour photographs, a hundred classes in twenty superclasses",
        shape="train (50000, 3, 32, 32), test (10000, 3, 32, 32), uint8",
        licence="free for research with citation",
        citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        editions=(
            Edition(
                "official",
                (
                    File(
                        "cifar100/cifar-100-python.tar.gz",
                        "md5:eb9058c3a382ffc7106e4002c42a8d85",
                        169001437,
                        ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
                    ),
                ),
                "the official archive",
            ),
        ),
    ),
    Source(
        "mnist",
        what="handwritten digits, the test set",
        shape="(10000, 28, 28) uint8",
        licence="CC BY-SA 3.0",
        citation="LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition",
        editions=(
            Edition(
                "official",
                tuple(
                    File(f"mnist/{name}", f"sha256:{sha}", size, tuple(f"{host}/{name}" for host in _MNIST))
                    for name, size, sha in (
                        (
                            "t10k-images-idx3-ubyte.gz",
                            1648877,
                            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                        ),
                        (
                            "t10k-labels-idx1-ubyte.gz",
                            4542,
                            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                        ),
                    )
                ),
                "the original files",
            ),
        ),
    ),
    Source(
        "omniglot",
        what="handwritten characters of eight alphabets (the two small background sets)",
        shape="(4840, 105, 105) uint8",
        licence="MIT",
        citation="Lake, Salakhutdinov and Tenenbaum 2015, Human-level concept learning through probabilistic "
        "program induction",
        editions=(
            Edition(
                "official",
                tuple(
                    File(f"omniglot/{name}", f"sha256:{sha}", size, (f"{_OMNIGLOT}/{name}",))
                    for name, size, sha in (
                        (
                            "images_background_small1.zip",
                            1319022,
                            "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4",
                        ),
                        (
                            "images_background_small2.zip",
                            1580917,
                            "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f",
                        ),
                    )
                ),
                "the authors' archives",
            ),
        ),
    ),
    Source(
        "mamem_ssvep",
        what="EEG of eleven people who look at flickering boxes",
        shape="(11, 500, 8, 125) float64",
        licence="free for research with citation",
        citation="Oikonomou et al. 2016, Comparative evaluation of state-of-the-art algorithms for SSVEP-based BCIs "
        "(MAMEM EEG SSVEP Dataset II)",
        editions=(
            Edition(
                "GBWBN",
                tuple(
                    File(f"mamem_ssvep/U{i:03d}.mat", f"sha256:{sha}", size, (f"{_GBWBN}/U{i:03d}.mat",))
                    for i, (size, sha) in enumerate(_MAMEM, start=1)
                ),
                "pre-processed files as released with the code of the Bures-Wasserstein batch normalisation (GBWBN)",
            ),
        ),
    ),
    Source(
        "hands",
        what="hand skeletons, two gestures",
        shape="(53, 22, 3) float64, metres",
        licence="not stated by the package (subset of SHREC 2017)",
        citation="De Smedt et al. 2017, SHREC'17 Track: 3D Hand Gesture Recognition Using a Depth and Skeletal Dataset",
        editions=(
            _bundled(
                ("hands/hands.txt", 37659, "e6ed6bb7fe3d7f00e5c3b5c80eb666a0585a862c3d53e2cfcc83da962c6955c8"),
                ("hands/labels.txt", 106, "cb8bcc22963dbc242d75d2f200a2aeb66a66a35768bde2bf4c5c746eab1dadc0"),
                provenance="bundled with geomstats; all 53 rows (its own loader takes the first for a header)",
            ),
        ),
    ),
    Source(
        "emg",
        what="muscle activity of a forearm, five gestures",
        shape="(731682, 8) float32",
        licence="not stated by the package",
        citation="bundled with geomstats (Miolane et al. 2020, Geomstats: a Python package for Riemannian geometry)",
        editions=(
            _bundled(
                ("emg/emg.csv", 36374543, "7f80636be3dc37770da73ca8456ddaad9a0b752ec34b51903f33cf05bdc5ca9a"),
                provenance="bundled with geomstats",
            ),
        ),
    ),
    Source(
        "connectomes",
        what="brain connectivity of patients and controls",
        shape="(86, 28, 28) float64",
        licence="not stated by the package (MLSP 2014 challenge)",
        citation="Silva et al. 2014, The tenth annual MLSP competition: Schizophrenia classification challenge",
        editions=(
            _bundled(
                (
                    "connectomes/train_FNC.csv",
                    278350,
                    "98a002348c9be8bede424606f4dc4f3a53e5d4314b9b0cca70f0b0e34fce55ff",
                ),
                (
                    "connectomes/train_labels.csv",
                    870,
                    "4bec4775433672df04444066e0625c3198db3274a93c40a8d98676cf380276fc",
                ),
                provenance="bundled with geomstats; true correlations (its own loader halves them)",
            ),
        ),
    ),
)

CATALOG: dict[str, Source] = {source.name: source for source in _SOURCES}


def nearest(name: str) -> str:
    """The sentence for a name that is not in the catalogue: the nearest name if one is near, and all names.

    >>> nearest("cifar")
    "there is no data set 'cifar'; did you mean 'cifar10'? The names are: shapenet_planes, cifar10, cifar100, mnist, \
omniglot, mamem_ssvep, hands, emg, connectomes"
    """
    near = difflib.get_close_matches(name, CATALOG, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"there is no data set {name!r}{hint} The names are: {', '.join(CATALOG)}"


def source(name: str) -> Source:
    """The entry of the catalogue called ``name``; ``ValueError`` with the nearest name if there is none."""
    if name not in CATALOG:
        raise ValueError(f"name: {nearest(str(name))}")
    return CATALOG[name]
