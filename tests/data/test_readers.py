"""Each reader on tiny files made here in the form of the real ones."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from repgeom.data import catalog, readers, restricted, store

rng = np.random.default_rng(7)


def found(root, *paths, label="toy"):
    files = tuple(catalog.File(path, "", 0) for path in paths)
    return store.Found(catalog.Edition(label, files, "a toy"), "folder", root)


def png(array):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png")
    return stream.getvalue()


def test_planes(tmp_path):
    train, test = rng.normal(size=(3, 8, 3)).astype(np.float16), rng.normal(size=(2, 8, 3)).astype(np.float16)
    np.savez(tmp_path / "p.npz", train=train, test=test)
    got = readers.shapenet_planes(found(tmp_path, "p.npz"))
    assert got.train.dtype == got.test.dtype == np.float32 and got.provenance == "a toy"
    np.testing.assert_array_equal(got.train, train)
    np.testing.assert_array_equal(got.test, test)


def test_planes_admit_no_pickle(tmp_path):
    np.savez(tmp_path / "p.npz", train=np.array([{}], dtype=object), test=np.zeros(1))
    with pytest.raises(ValueError, match="allow_pickle"):
        readers.shapenet_planes(found(tmp_path, "p.npz"))


def cifar_archive(path, monkeypatch, per_batch=20):
    """An archive of the official layout; the batches' pickles are written by the present Python."""
    import pickle

    contents = {"batches.meta": {b"label_names": [b"plane", b"car", b"bird"]}}
    for i, name in enumerate([f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]):
        pixels = np.random.default_rng(i).integers(0, 256, (per_batch, 3072), dtype=np.uint8)
        contents[name] = {b"data": pixels, b"labels": [(j + i) % 3 for j in range(per_batch)]}
    with tarfile.open(path, "w:gz") as tar:
        for name, content in [*contents.items(), ("readme.html", b"<html>")]:
            body = content if isinstance(content, bytes) else pickle.dumps(content, protocol=4)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return contents


def test_cifar10_official(tmp_path, monkeypatch):
    contents = cifar_archive(tmp_path / "c.tar.gz", monkeypatch)
    got = readers.cifar10(found(tmp_path, "c.tar.gz", label="official"))
    assert got.train_images.shape == (100, 3, 32, 32) and got.test_images.shape == (20, 3, 32, 32)
    assert got.classes == ("plane", "car", "bird") and got.train_labels.dtype == np.int64
    row = contents["data_batch_2"][b"data"][3]  # 1024 red, 1024 green, 1024 blue, row by row
    assert got.train_images[23, 1, 5, 7] == row[1024 + 5 * 32 + 7]
    assert got.train_labels[23] == contents["data_batch_2"][b"labels"][3]
    assert got.test_labels.tolist() == contents["test_batch"][b"labels"]


def test_cifar10_per_class(tmp_path, monkeypatch):
    cifar_archive(tmp_path / "c.tar.gz", monkeypatch)
    whole = readers.cifar10(found(tmp_path, "c.tar.gz", label="official"))
    few = readers.cifar10(found(tmp_path, "c.tar.gz", label="official"), per_class=4)
    assert np.bincount(few.train_labels).tolist() == [4, 4, 4] == np.bincount(few.test_labels).tolist()
    first = np.flatnonzero(whole.train_labels == 1)[:4]
    np.testing.assert_array_equal(few.train_images[few.train_labels == 1], whole.train_images[first])
    with pytest.raises(ValueError, match="per_class: got 0"):
        readers.cifar10(found(tmp_path, "c.tar.gz", label="official"), per_class=0)


def test_cifar10_unpickles_through_the_restricted_unpickler(tmp_path, monkeypatch):
    cifar_archive(tmp_path / "c.tar.gz", monkeypatch)
    monkeypatch.setattr(restricted, "_ADMITTED", {})
    with pytest.raises(Exception, match="not admitted"):
        readers.cifar10(found(tmp_path, "c.tar.gz", label="official"))


def test_cifar100(tmp_path):
    import pickle

    meta = {b"fine_label_names": [b"apple", b"bear", b"bed"], b"coarse_label_names": [b"fruit", b"beast"]}
    parts = {"meta": meta}
    for name, count in (("train", 12), ("test", 6)):
        pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        fine = [j % 3 for j in range(count)]
        parts[name] = {b"data": pixels, b"fine_labels": fine, b"coarse_labels": [int(f == 1) for f in fine]}
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as tar:
        for name, content in [*parts.items(), ("file.txt~", None)]:
            body = pickle.dumps(content, protocol=4)
            member = tarfile.TarInfo(f"cifar-100-python/{name}")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    got = readers.cifar100(found(tmp_path, "c.tar.gz", label="official"))
    assert got.train_images.shape == (12, 3, 32, 32) and got.test_images.shape == (6, 3, 32, 32)
    assert got.train_images[4, 2, 1, 3] == parts["train"][b"data"][4][2048 + 32 + 3]
    assert got.train_labels[:4].tolist() == [0, 1, 2, 0] and got.test_superlabels.tolist() == [0, 1, 0, 0, 1, 0]
    assert got.classes == ("apple", "bear", "bed") and got.superclasses == ("fruit", "beast")
    few = readers.cifar100(found(tmp_path, "c.tar.gz", label="official"), per_class=2)
    assert np.bincount(few.train_labels).tolist() == [2, 2, 2] and len(few.train_superlabels) == 6
    with pytest.raises(ValueError, match="per_class: got 0"):
        readers.cifar100(found(tmp_path, "c.tar.gz", label="official"), per_class=0)


def test_cifar10_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12, dtype=np.int8) % 3
    for name in ("train", "test"):  # PNG instead of JPEG: the reader does not care, and the pixels come back exactly
        table = pa.table({"image": pa.array([png(p) for p in pixels], pa.binary()), "label": labels})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    got = readers.cifar10(found(tmp_path, "train.parquet", "test.parquet"), per_class=2)
    assert got.train_images.shape == (6, 3, 32, 32) and got.train_images.flags.c_contiguous
    np.testing.assert_array_equal(got.train_images[4], pixels[4].transpose(2, 0, 1))
    assert got.test_labels.tolist() == [0, 1, 2, 0, 1, 2] and got.classes[3] == "cat"


def test_mnist_is_covered_by_the_downloads_and_refuses_other_files(tmp_path):
    import gzip

    (tmp_path / "i.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01\0\0\0\x01aaaa"))
    with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
        readers.mnist(found(tmp_path, "i.gz", "i.gz"))


def omniglot_zip(path, top, drawings):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{top}/", "")
        for (alphabet, character, drawer), image in drawings.items():
            archive.writestr(f"{top}/{alphabet}/{character}/0001_{drawer:02d}.png", png(image))


def test_omniglot(tmp_path):
    keys = [("Tagalog", c, d) for c in ("character01", "character02") for d in (1, 2)]
    first = {key: rng.integers(0, 2, (105, 105)).astype(bool) for key in keys}
    more = {("Greek", "character01", d): rng.integers(0, 2, (105, 105)).astype(bool) for d in (1, 2)}
    omniglot_zip(tmp_path / "1.zip", "small1", first | more)
    omniglot_zip(tmp_path / "2.zip", "small2", more)  # the archives share alphabets; a drawing must not come twice
    got = readers.omniglot(found(tmp_path, "1.zip", "2.zip"))
    assert got.images.shape == (6, 105, 105) and got.images.dtype == np.uint8
    assert got.alphabet_names == ("Greek", "Tagalog")
    assert got.characters == ("Greek/character01", "Tagalog/character01", "Tagalog/character02")
    assert got.labels.tolist() == [0, 0, 1, 1, 2, 2] and got.alphabets.tolist() == [0, 0, 1, 1, 1, 1]
    assert got.drawers.tolist() == [0, 1, 0, 1, 0, 1]
    np.testing.assert_array_equal(got.images[3], ~first["Tagalog", "character01", 2])  # ink is black, and 1 here


def test_mamem(tmp_path):
    for subject in (1, 2, 3):
        content = {"x_test": np.full((5, 2, 4), subject), "y_test": np.full((5, 1), subject)}
        savemat(tmp_path / f"U{subject}.mat", content)
    paths = [f"U{subject}.mat" for subject in (1, 2, 3)]
    got = readers.mamem_ssvep(found(tmp_path, *paths))
    assert got.trials.shape == (3, 5, 2, 4) and got.trials.dtype == np.float64 and got.subjects == (1, 2, 3)
    assert got.labels.shape == (3, 5) and got.labels.dtype == np.int64
    got = readers.mamem_ssvep(found(tmp_path, *paths), subjects=[3, 1])
    assert got.trials[:, 0, 0, 0].tolist() == [3, 1] and got.labels[:, 0].tolist() == [3, 1]
    for wrong in ([], [0], [4]):
        with pytest.raises(ValueError, match="subjects: got"):
            readers.mamem_ssvep(found(tmp_path, *paths), subjects=wrong)


def test_hands_keep_the_first_row(tmp_path):
    joints = rng.normal(size=(3, 22, 3))
    np.savetxt(tmp_path / "h.txt", joints.reshape(3, 66))
    (tmp_path / "l.txt").write_text("0\n0\n1\n")
    got = readers.hands(found(tmp_path, "h.txt", "l.txt"))
    np.testing.assert_allclose(got.joints, joints, rtol=1e-15)
    assert got.labels.tolist() == [0, 0, 1] and got.labels.dtype == np.int64
    assert sorted(got.bones[:, 1].tolist()) == list(range(1, 22))  # a tree: every joint but the wrist has one parent


def test_emg(tmp_path):
    head = "time,c0,c1,c2,c3,c4,c5,c6,c7,label,exp\n"
    rows = "5,1,2,3,4,5,6,7,8,rock,b\n9,11,12,13,14,15,16,17,18,ok,a\n"
    (tmp_path / "e.csv").write_text(head + rows)
    got = readers.emg(found(tmp_path, "e.csv"))
    assert got.signal.tolist() == [list(range(1, 9)), list(range(11, 19))] and got.signal.dtype == np.float32
    assert got.time.tolist() == [5, 9]
    assert got.gestures == ("ok", "rock") and got.labels.tolist() == [1, 0]
    assert got.recording_names == ("a", "b") and got.recordings.tolist() == [1, 0]


def test_connectomes(tmp_path):
    (tmp_path / "f.csv").write_text("Id,FNC1,FNC2,FNC3\n7,.1,.2,.3\n5,.4,.5,.6\n")
    (tmp_path / "l.csv").write_text("Id,Class\n5,0\n7,1\n")
    got = readers.connectomes(found(tmp_path, "f.csv", "l.csv"))
    assert got.matrices[0].tolist() == [[1, 0.1, 0.2], [0.1, 1, 0.3], [0.2, 0.3, 1]]
    assert got.patients.tolist() == [7, 5] and got.labels.tolist() == [1, 0]  # joined by person, not by row
