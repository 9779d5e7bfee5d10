"""Aeroplanes derived from the authors' repository: an archive without a pinned checksum, checked by what is in it."""

import gzip
import io
import json
import tarfile

import numpy as np
import pytest

from repgeom import data
from repgeom.data import catalog, planes, store

COUNTS = {"train": 3, "test": 2}
FOLDER = {"train": "points", "test": "points_test"}
CLOUDS = {part: np.random.default_rng(n).uniform(-0.5, 0.5, (n, 1100, 3)).round(5) for part, n in COUNTS.items()}


def text(points):
    return "".join(f"{x:.5f} {y:.5f} {z:.5f}\n" for x, y, z in points).encode()


def archive(change=None):
    """The repository as the host packs it; ``change`` edits the dictionary of files first."""
    files = {"README.md": b"# code", "shapenet/data/pc_plane/points_test/9.xyz": text(CLOUDS["test"][0] + 1)}
    for part, clouds in CLOUDS.items():
        for i in reversed(range(len(clouds))):  # an archive's order means nothing: the clouds are sorted by name
            files[f"shapenet/data/pc_plane/{FOLDER[part]}/{'abc'[i]}.pts"] = text(clouds[i])
    if change:
        change(files)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(f"RotationContinuity-758b0ce/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return gzip.compress(stream.getvalue(), compresslevel=1, mtime=0)


@pytest.fixture
def toy(server, world, monkeypatch):
    monkeypatch.setattr(planes, "COUNTS", COUNTS)
    monkeypatch.setattr(planes, "WITNESSES", {("train", 2): CLOUDS["train"][2][50], ("test", 1): CLOUDS["test"][1][9]})
    server.content["repository"] = archive()

    def point(behaviour="right"):
        source = catalog.CATALOG["shapenet_planes"]
        npz, derived = source.editions
        file = derived.files[0]._replace(urls=(f"{server.base}/{behaviour}/repository",))
        editions = (npz, derived._replace(files=(file,)))
        monkeypatch.setitem(catalog.CATALOG, "shapenet_planes", source._replace(editions=editions))

    point()
    return point


def rows(array):
    return {tuple(row) for row in np.asarray(array, dtype=np.float16).tolist()}


def test_a_seeded_choice_of_points_of_every_cloud(toy, server, world, files_below):
    got = data.load("shapenet_planes", progress=False)
    assert got.train.shape == (3, 1024, 3) and got.test.shape == (2, 1024, 3)
    for part in ("train", "test"):
        for drawn, cloud in zip(getattr(got, part), CLOUDS[part], strict=True):
            assert rows(drawn) <= rows(cloud) and len(rows(drawn)) > 1000  # its own points, without replacement
    assert "with a fixed seed" in got.provenance and "not the points of this book's own numbers" in got.provenance
    name = "shapenet_planes/planes_1024_derived.npz"
    assert files_below(world) == [name, name + ".json"]  # the archive is not kept
    note = json.loads((world / (name + ".json")).read_text())
    assert note["seed"] == planes.SEED and note["made_from"].endswith("/right/repository")
    again = data.load("shapenet_planes", progress=False)
    assert len(server.requests) == 1
    np.testing.assert_array_equal(got.train, again.train)


def test_another_machine_draws_the_same_points(toy, tmp_path, monkeypatch):
    first = data.load("shapenet_planes", progress=False)
    monkeypatch.setenv("REPGEOM_CACHE", str(tmp_path / "another"))
    second = data.load("shapenet_planes", progress=False)
    np.testing.assert_array_equal(first.train, second.train)
    np.testing.assert_array_equal(first.test, second.test)


def drop(files):
    del files["shapenet/data/pc_plane/points/b.pts"]


def swap(files):
    a, b = (f"shapenet/data/pc_plane/points_test/{name}.pts" for name in "ab")
    files[a], files[b] = files[b], files[a]


def garble(files):
    files["shapenet/data/pc_plane/points/a.pts"] = b"<html>"


def thin(files):
    files["shapenet/data/pc_plane/points/a.pts"] = text(CLOUDS["train"][0][:1000])


def infinite(files):
    files["shapenet/data/pc_plane/points/a.pts"] += b"nan 0 0\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "has 2 train clouds instead of 3"),
        (swap, "test cloud 1 of the archive is not the cloud"),
        (garble, "a.pts in the archive is not three columns"),
        (thin, "a.pts in the archive has fewer than 1024 points"),
        (infinite, "not finite"),
    ],
)
def test_the_wrong_archive_is_refused(toy, server, world, files_below, change, words):
    server.content["repository"] = archive(change)
    with pytest.raises(data.DataUnavailable) as error:
        data.load("shapenet_planes", progress=False)
    assert words in str(error.value) and "\n" not in str(error.value)
    assert files_below(world) == [] and not data.available("shapenet_planes")


@pytest.mark.parametrize("behaviour", ["truncated", "short", "altered", "page", "empty", "error", "hangup"])
def test_a_bad_answer_leaves_nothing(toy, world, files_below, behaviour):
    toy(behaviour)
    with pytest.raises(data.DataUnavailable) as error:
        data.load("shapenet_planes", progress=False)
    assert "\n" not in str(error.value) and "127.0.0.1" in str(error.value)
    assert files_below(world) == [] and not data.available("shapenet_planes")


def test_an_archive_cut_after_the_last_cloud_is_noticed(toy, server):
    server.content["repository"] = server.content["repository"][:-8]  # only the checksum at the end is missing
    with pytest.raises(data.DataUnavailable, match="cut short or altered"):
        data.load("shapenet_planes", progress=False)


def test_damage_of_the_derived_file_is_noticed(toy, world):
    data.load("shapenet_planes", progress=False)
    path = world / "shapenet_planes/planes_1024_derived.npz"
    content = path.read_bytes()
    path.write_bytes(content[:5000] + bytes([content[5000] ^ 1]) + content[5001:])
    assert not data.available("shapenet_planes")
    data.load("shapenet_planes", progress=False)  # made anew
    assert path.read_bytes() == content
    store.note_path(path).unlink()
    assert not data.available("shapenet_planes")
    store.note_path(path).write_text("[]")
    assert not data.available("shapenet_planes")
