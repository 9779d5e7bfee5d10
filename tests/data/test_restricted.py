"""The unpickler of CIFAR-10's batches: what Python 2 wrote is read, what runs code is refused."""

import io
import os
import pickle

import numpy as np
import pytest

from repgeom.data import restricted


class Python2Pickler(pickle._Pickler):
    """Writes byte strings as Python 2 did, and NumPy's names as old NumPy did: the form of the official batches."""

    def save_bytes(self, obj):
        self.write(b"T" + len(obj).to_bytes(4, "little") + obj)
        self.memoize(obj)

    dispatch = pickle._Pickler.dispatch | {bytes: save_bytes}


def python2(obj):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(obj)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batch(rows=4, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 3072), dtype=np.uint8)
    return {b"batch_label": b"a batch", b"labels": [i % 10 for i in range(rows)], b"data": pixels}


@pytest.mark.parametrize("write", [python2, lambda obj: pickle.dumps(obj, protocol=4)])
def test_a_batch_is_read(write):
    wanted = batch()
    got = restricted.load(write(wanted))
    assert got[b"labels"] == [0, 1, 2, 3] and got[b"batch_label"] == b"a batch"
    assert got[b"data"].dtype == np.uint8
    np.testing.assert_array_equal(got[b"data"], wanted[b"data"])


def test_the_form_is_the_official_one():
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in python2(batch())


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch MARK",)),
        (eval, ("open('MARK', 'w')",)),
        (getattr, (os, "system")),
        (np.load, ("MARK",)),
        (np.frombuffer, (b"abc", "u1")),
    ],
)
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, function, arguments, protocol):
    monkeypatch.chdir(tmp_path)
    if arguments and arguments[0] is os:  # modules do not pickle; the name alone must be enough for the refusal
        arguments = ("os", "system")
    hidden = batch() | {b"extra": [Runs(function, *arguments)]}
    with pytest.raises(pickle.UnpicklingError, match="not admitted"):
        restricted.load(pickle.dumps(hidden, protocol=protocol))
    assert not (tmp_path / "MARK").exists()


def test_the_trap_is_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Runs(os.system, "touch MARK")))
    assert (tmp_path / "MARK").exists()


@pytest.mark.parametrize(
    "array",
    [np.zeros(3), np.zeros(3, dtype=object), np.zeros(3, dtype="u2"), np.asfortranarray(np.zeros((2, 2), np.uint8))],
)
def test_other_arrays_are_refused(array):
    with pytest.raises(pickle.UnpicklingError, match="not of unsigned bytes in C order"):
        restricted.load(pickle.dumps({b"data": array}, protocol=4))


def test_a_shape_that_does_not_fit_is_refused():
    content = pickle.dumps({b"data": np.zeros((2, 3), np.uint8)}, protocol=4)
    assert content.count(b"K\x02K\x03\x86") == 1
    with pytest.raises(pickle.UnpicklingError, match="does not fit"):
        restricted.load(content.replace(b"K\x02K\x03\x86", b"K\x02K\xff\x86"))


def test_references_to_outside_are_refused():
    with pytest.raises(pickle.UnpicklingError, match="outside"):
        restricted.load(b"\x80\x04\x8c\x04evilQ.")


@pytest.mark.parametrize("content", [b"", b"\x80\x02", b"not a pickle", python2(batch())[:-40], pickle.dumps([1])])
def test_what_is_no_batch_is_refused(content):
    with pytest.raises(pickle.UnpicklingError):
        restricted.load(content)
