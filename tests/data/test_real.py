"""The real files, where ``$REPGEOM_DATA`` has them."""

import os
from pathlib import Path

import numpy as np
import pytest

from repgeom import data
from repgeom.data import planes, store

pytestmark = pytest.mark.skipif(not os.environ.get("REPGEOM_DATA"), reason="REPGEOM_DATA is not set: no real files")

OWN = ["shapenet_planes", "cifar10", "mnist", "omniglot", "mamem_ssvep"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    monkeypatch.setenv("REPGEOM_OFFLINE", "1")


def need(name):
    if not data.available(name):
        pytest.skip(f"REPGEOM_DATA has no {name}")


@pytest.mark.parametrize("name", OWN)
def test_the_folder_agrees_with_the_pins(name):
    need(name)
    found = store.find(data.CATALOG[name])
    assert found.place == "folder" and found.damage() == ""
    assert store.list_differs(found.root, found.edition.files) == ""


def test_the_list_of_the_folder_covers_every_pin():
    path = Path(os.environ["REPGEOM_DATA"]) / "SHA256SUMS"
    if not path.exists():
        pytest.skip("the folder has no SHA256SUMS")
    listed = {line.split()[1]: f"sha256:{line.split()[0]}" for line in path.read_text().splitlines()}
    pinned = {f.path: f.checksum for name in OWN for e in data.CATALOG[name].editions for f in e.files}
    assert listed.items() <= pinned.items()


def test_planes():
    need("shapenet_planes")
    got = data.load("shapenet_planes")
    assert got.train.shape == (2290, 1024, 3) and got.test.shape == (399, 1024, 3)
    assert got.train.dtype == np.float32 and np.isfinite(got.train).all() and np.isfinite(got.test).all()
    assert abs(np.sqrt((got.train**2).sum(-1).mean()) - 0.204) < 0.001  # root mean square radius
    for part, clouds in (("train", got.train), ("test", got.test)):
        planes._check(part, list(clouds))  # what a derived copy is checked against holds of this one
        with pytest.raises(ValueError, match="is not the cloud"):
            planes._check(part, list(np.roll(clouds, 1, axis=0)))  # an order shifted by one is noticed


def test_cifar10():
    need("cifar10")
    got = data.load("cifar10", per_class=10)
    assert got.train_images.shape == (100, 3, 32, 32) == got.test_images.shape and got.train_images.dtype == np.uint8
    assert np.bincount(got.train_labels).tolist() == [10] * 10 == np.bincount(got.test_labels).tolist()
    assert got.classes[0] == "airplane" and got.classes[9] == "truck"
    if store.find(data.CATALOG["cifar10"]).edition.label == "jpeg":
        assert "lossy JPEG" in got.provenance
    means = data.load("cifar10", per_class=100).train_images.mean(axis=(0, 2, 3)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=0.015)  # the known means of red, green, blue


def test_mnist():
    need("mnist")
    got = data.load("mnist")
    assert got.images.shape == (10000, 28, 28) and got.images.dtype == np.uint8
    assert got.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert abs(got.images.mean() / 255 - 0.1325) < 0.0005


def test_omniglot():
    need("omniglot")
    got = data.load("omniglot")
    assert got.images.shape == (4840, 105, 105) and len(got.characters) == 242 and len(got.alphabet_names) == 8
    assert (np.bincount(got.labels) == 20).all()
    assert set(np.unique(got.images)) == {0, 1} and 0.01 < got.images.mean() < 0.15  # strokes are thin
    assert len({image.tobytes() for image in got.images}) == 4840  # no drawing twice
    assert {name.split("/")[0] for name in got.characters} == set(got.alphabet_names)
    for label, alphabet in zip(got.labels[::500], got.alphabets[::500], strict=True):
        assert got.characters[label].split("/")[0] == got.alphabet_names[alphabet]


def test_mamem():
    need("mamem_ssvep")
    got = data.load("mamem_ssvep", subjects=[11, 2])
    assert got.trials.shape == (2, 500, 8, 125) and got.trials.dtype == np.float64 and got.subjects == (11, 2)
    assert [np.bincount(row).tolist() for row in got.labels] == [[100, 100, 120, 100, 80]] * 2
    assert not np.array_equal(got.trials[0], got.trials[1])
    np.testing.assert_array_equal(got.trials[1], data.load("mamem_ssvep", subjects=[2]).trials[0])
