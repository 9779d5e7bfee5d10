"""The catalogue, the arguments of ``load``, and what an import costs."""

import doctest
import re
import subprocess
import sys

import numpy as np
import pytest

from repgeom import data
from repgeom.data import catalog, fetch, readers, store, tables

NAMES = ["shapenet_planes", "cifar10", "cifar100", "mnist", "omniglot", "mamem_ssvep", "hands", "emg", "connectomes"]


def test_names():
    assert list(data.CATALOG) == NAMES == list(readers.READERS)
    assert all(source.name == name for name, source in data.CATALOG.items())


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_complete(name):
    source = data.CATALOG[name]
    assert source.what and source.shape and source.licence and source.citation and source.editions
    assert bool(source.download) != bool(source.editions[0].package)  # everything can be had somewhere
    for edition in source.editions:
        assert edition.provenance and edition.files
        for file in edition.files:
            assert file.size > 0 and not file.path.startswith("/") and ".." not in file.path
            assert all(url.startswith("https://") for url in file.urls)
            made_here = edition.label == "derived"
            assert made_here or re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", file.checksum)
            assert not file.urls or made_here or "/master/" not in file.urls[0]


def test_the_published_checksums_of_cifar():
    file = data.CATALOG["cifar10"].download.files[0]
    assert file.checksum == "md5:c58f30108f718f92721af3b95e74349a" and file.size == 170498071
    file = data.CATALOG["cifar100"].download.files[0]
    assert file.checksum == "md5:eb9058c3a382ffc7106e4002c42a8d85" and file.size == 169001437


@pytest.mark.parametrize("call", [data.load, data.available])
def test_a_wrong_name_suggests_the_nearest(call):
    with pytest.raises(ValueError, match=r"no data set 'shapenet_plane'; did you mean 'shapenet_planes'\?"):
        call("shapenet_plane")
    with pytest.raises(
        ValueError, match=r"name: there is no data set 'zzzz'\. The names are: shapenet_planes, cifar10"
    ):
        call("zzzz")


def test_a_wrong_option_is_named_before_anything_is_read(world):
    with pytest.raises(ValueError, match="subject: not an option of the data set 'mamem_ssvep'; valid are: subjects"):
        data.load("mamem_ssvep", subject=[1])
    with pytest.raises(ValueError, match="per_class: not an option of the data set 'mnist'; this data set has no opt"):
        data.load("mnist", per_class=3)


def test_the_import_is_light():
    heavy = ["pooch", "requests", "pyarrow", "scipy", "torch", "geomstats", "PIL", "tqdm", "pandas", "sklearn"]
    script = (
        "import sys, repgeom.data\n"
        f"heavy = [m for m in {heavy} if m in sys.modules]\n"
        "repgeom.data.load('hands')\n"
        "print(heavy, 'geomstats' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_the_default_cache(monkeypatch):
    import pooch

    monkeypatch.delenv("REPGEOM_CACHE", raising=False)
    assert str(store.cache()) == str(pooch.os_cache("repgeom"))


def test_a_bundled_file_that_changed_is_not_used(world, tmp_path, monkeypatch):
    place = tmp_path / "datasets/data/hands"
    place.mkdir(parents=True)
    (place / "hands.txt").write_text("1 2 3\n")
    (place / "labels.txt").write_text("0\n")
    monkeypatch.setattr(store, "package", lambda name: tmp_path)
    assert not data.available("hands")
    with pytest.raises(data.DataUnavailable, match=r"hands\.txt: has 6 bytes instead of 37659.*geomstats==2\.8\.0"):
        data.load("hands")


def test_without_the_package(world, monkeypatch):
    monkeypatch.setattr(store, "package", lambda name: None)
    assert not data.available("emg")
    with pytest.raises(data.DataUnavailable, match=r"'emg' is not available.*geomstats \(not installed\)"):
        data.load("emg")


@pytest.mark.parametrize("module", [data, catalog, fetch, readers, store, tables])
def test_examples(module, monkeypatch):
    monkeypatch.delenv("REPGEOM_DATA", raising=False)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    assert doctest.testmod(data).attempted >= 6


def test_bundled_data_are_what_geomstats_reads():
    """Its own loaders as referees, with their two faults undone: a dropped first hand, halved correlations."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages warn of while they are imported
        from geomstats.datasets import utils
    hands = data.load("hands")
    joints, labels, bones = utils.load_hands()
    assert hands.joints.shape == (53, 22, 3) and np.bincount(hands.labels).tolist() == [26, 27]
    np.testing.assert_array_equal(hands.joints[1:], joints)
    np.testing.assert_array_equal(hands.labels[1:], labels)
    np.testing.assert_array_equal(hands.bones, bones)
    brains = data.load("connectomes")
    halved, patients, classes = utils.load_connectomes()
    np.testing.assert_allclose(brains.matrices, 2 * halved - np.eye(28), atol=1e-15)
    np.testing.assert_array_equal(brains.patients, patients)
    np.testing.assert_array_equal(brains.labels, classes)
    assert np.linalg.eigvalsh(brains.matrices).min() > 1e-3
    assert np.bincount(brains.labels).tolist() == [46, 40]


def test_emg():
    emg = data.load("emg")
    assert emg.signal.shape == (731682, 8) and emg.signal.min() >= 0 and emg.signal.max() <= 255
    assert abs(float(np.median(emg.signal)) - 128) < 2
    assert emg.gestures == ("ok", "paper", "rest", "rock", "scissors")
    assert emg.recording_names == ("mg_s1", "mg_s2", "rr_s1", "rr_s2")
    assert np.bincount(emg.labels * 4 + emg.recordings)[:3].tolist() == [36437, 36612, 36489]
    assert emg.signal[0].tolist() == [127, 123, 128, 134, 125, 128, 130, 124] and emg.time[:2].tolist() == [23, 28]
