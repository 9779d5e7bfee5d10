"""Downloads from a server that behaves, and from one that does not."""

import errno
import hashlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

import numpy as np
import pytest

from repgeom import data
from repgeom.data import catalog, fetch, store

NAMES = ["mnist/images.gz", "mnist/labels.gz"]


def one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text and "'mnist'" in text
    for word in words:
        assert word in text, text
    return text


def test_a_right_answer_is_kept_and_used_again(toy, server, world, files_below):
    toy("right")
    assert not data.available("mnist")
    first = data.load("mnist", progress=False)
    np.testing.assert_array_equal(first.labels, np.arange(30) % 10)
    assert first.provenance == "a toy of thirty images"
    assert files_below(world) == NAMES and len(server.requests) == 2
    assert data.available("mnist")
    second = data.load("mnist", progress=False)
    np.testing.assert_array_equal(first.images, second.images)
    assert len(server.requests) == 2  # no network the second time


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ("truncated", "broke off before the end"),
        ("short", "does not match the pinned checksum"),
        ("altered", "does not match the pinned checksum"),
        ("page", "does not match the pinned checksum"),
        ("empty", "does not match the pinned checksum"),
        ("error", "answered 500"),
        ("gone", "answered 404"),
        ("hangup", "cannot be reached, or hung up"),
        ("silent", "sent nothing for 0.3 s"),
        ("stall", "sent nothing for 0.3 s"),
    ],
)
def test_a_bad_answer_is_one_line_and_leaves_nothing(toy, server, world, files_below, monkeypatch, behaviour, words):
    monkeypatch.setattr(fetch, "READ_TIMEOUT", 0.3)
    toy(behaviour)
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, words, "images.gz", "127.0.0.1", "$REPGEOM_DATA (not set)", str(world), "repgeom data fetch mnist")
    assert files_below(world) == []
    assert not data.available("mnist")
    toy("right")  # and the way is free for the next attempt
    assert len(data.load("mnist", progress=False).labels) == 30


def test_no_server_at_all(toy, world, files_below):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    toy("right", base=f"http://127.0.0.1:{port}")
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, "cannot be reached")
    assert files_below(world) == []


def test_slow_but_steady_arrives(toy, monkeypatch):
    monkeypatch.setattr(fetch, "READ_TIMEOUT", 2.0)
    toy("drip")
    assert len(data.load("mnist", progress=False).labels) == 30


def test_the_second_address_is_tried(toy, server, world, files_below):
    toy("error", "right")
    assert len(data.load("mnist", progress=False).labels) == 30
    assert server.requests[:2] == ["/error/images.gz", "/right/images.gz"]
    assert files_below(world) == NAMES


def test_a_failure_in_the_second_file_keeps_the_first(toy, server, world, files_below):
    source = toy("right")
    first, second = source.editions[0].files
    broken = second._replace(urls=(f"{server.base}/error/labels.gz",))
    edition = source.editions[0]._replace(files=(first, broken))
    catalog.CATALOG["mnist"] = source._replace(editions=(edition,))
    with pytest.raises(data.DataUnavailable, match=r"labels\.gz.*answered 500"):
        data.load("mnist", progress=False)
    assert files_below(world) == NAMES[:1] and not data.available("mnist")
    toy("right")
    data.load("mnist", progress=False)
    assert server.requests.count("/right/images.gz") == 1


def test_md5_pins_are_compared_too(toy, world):
    toy("altered", algorithm="md5")
    with pytest.raises(data.DataUnavailable, match="pinned checksum"):
        data.load("mnist", progress=False)
    toy("right", algorithm="md5")
    assert len(data.load("mnist", progress=False).labels) == 30


def failing_open(monkeypatch, failure):
    """Half of the first piece reaches the disk, then ``failure`` is raised."""

    class Failing:
        def __init__(self, path, mode):
            self.stream = open(path, mode)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, chunk):
            self.stream.write(chunk[: len(chunk) // 2])
            self.stream.flush()
            raise failure

    monkeypatch.setattr(fetch, "open", Failing, raising=False)


def test_a_full_disk(toy, server, world, files_below, monkeypatch):
    toy("right", "right")
    failing_open(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, "the disk that holds the cache", "is full")
    assert files_below(world) == [] and len(server.requests) == 1  # another address would not help


def test_an_interruption_leaves_nothing(toy, world, files_below, monkeypatch):
    toy("right")
    failing_open(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        data.load("mnist", progress=False)
    assert files_below(world) == [] and not data.available("mnist")


def test_a_killed_process_leaves_nothing_that_looks_whole(toy, server, world):
    source = toy("stall")
    script = f"""
from repgeom.data import catalog, fetch
from repgeom.data.catalog import *
fetch._CHUNK = 1024
fetch.fetch({source!r}, progress=False)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(p.stat().st_size for p in world.rglob("tmp*")):
            time.sleep(0.02)
        assert any(p.stat().st_size for p in world.rglob("tmp*")), "the download never began"
    finally:
        process.kill()
        process.wait()
    assert not (world / NAMES[0]).exists() and not data.available("mnist")
    server.released.set()
    toy("right")
    assert len(data.load("mnist", progress=False).labels) == 30


def test_a_cache_that_cannot_be_written(toy, world, monkeypatch):
    toy("right")
    whole = data.load("mnist", progress=False)
    (world / NAMES[1]).unlink()

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "NamedTemporaryFile", refuse)
        with pytest.raises(data.DataUnavailable) as error:
            data.load("mnist", progress=False)
        one_line(error, "cannot be written", "$REPGEOM_CACHE")
    data.load("mnist", progress=False)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    np.testing.assert_array_equal(data.load("mnist", progress=False).images, whole.images)  # reading needs no writing


def test_a_cache_below_a_file(toy, world, monkeypatch):
    toy("right")
    world.write_text("not a folder")
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, "cannot be written")
    assert world.read_text() == "not a folder"


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:9] + bytes([b[9] ^ 1]) + b[10:], lambda b: b""])
def test_a_damaged_file_in_the_cache_is_found_and_replaced(toy, server, world, damage):
    source = toy("right")
    data.load("mnist", progress=False)
    bad = world / NAMES[1]
    bad.write_bytes(damage(bad.read_bytes()))
    assert not data.available("mnist")
    assert NAMES[1] in store.everywhere(source)[0].damage()
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", download=False)
    one_line(error, str(bad))
    server.requests.clear()
    assert len(data.load("mnist", progress=False).labels) == 30
    assert server.requests == ["/right/labels.gz"]
    assert bad.read_bytes() == toy.bodies["labels.gz"]


def test_a_damaged_file_stays_damaged_when_the_network_fails(toy, world):
    toy("right")
    data.load("mnist", progress=False)
    bad = world / NAMES[0]
    bad.write_bytes(b"x" * bad.stat().st_size)
    toy("error")
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, "answered 500", str(bad))
    assert not data.available("mnist")


def put(folder, bodies):
    (folder / "mnist").mkdir(parents=True)
    for name, body in bodies.items():
        (folder / "mnist" / name).write_bytes(body)
    return folder


def test_the_folder_comes_first(toy, server, world, tmp_path, monkeypatch):
    toy("right")
    monkeypatch.setenv("REPGEOM_DATA", str(put(tmp_path / "folder", toy.bodies)))
    assert data.available("mnist")
    assert len(data.load("mnist").labels) == 30
    assert server.requests == [] and not world.exists()


def test_a_damaged_file_in_the_folder_is_an_error_and_never_replaced(toy, server, world, tmp_path, monkeypatch):
    toy("right")
    data.load("mnist", progress=False)  # a whole copy in the cache must not hide the damage
    server.requests.clear()
    folder = put(tmp_path / "folder", toy.bodies)
    bad = folder / "mnist" / "labels.gz"
    bad.write_bytes(b"y" * bad.stat().st_size)
    monkeypatch.setenv("REPGEOM_DATA", str(folder))
    assert data.available("mnist")
    with pytest.raises(data.DataDamaged) as error:
        data.load("mnist", progress=False)
    one_line(error, str(bad), "$REPGEOM_DATA")
    assert not issubclass(data.DataDamaged, data.DataUnavailable)  # no stand-in hides it
    assert set(bad.read_bytes()) == {ord("y")} and server.requests == []


def test_an_incomplete_or_missing_folder_is_passed_over(toy, tmp_path, monkeypatch):
    toy("right")
    folder = put(tmp_path / "folder", toy.bodies)
    (folder / "mnist" / "labels.gz").unlink()
    monkeypatch.setenv("REPGEOM_DATA", str(folder))
    assert not data.available("mnist")
    assert len(data.load("mnist", progress=False).labels) == 30
    toy("error")
    monkeypatch.setenv("REPGEOM_CACHE", str(tmp_path / "another"))
    monkeypatch.setenv("REPGEOM_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(data.DataUnavailable, match="nowhere, which is not a folder"):
        data.load("mnist", progress=False)


def test_offline_and_download_false_use_no_network(toy, server, monkeypatch):
    toy("right")
    with pytest.raises(data.DataUnavailable, match="no whole copy"):
        data.load("mnist", download=False)
    monkeypatch.setenv("REPGEOM_OFFLINE", "1")
    with pytest.raises(data.DataUnavailable, match=r"\$REPGEOM_OFFLINE forbids"):
        data.load("mnist", progress=False)
    assert server.requests == []
    monkeypatch.setenv("REPGEOM_OFFLINE", "0")
    assert len(data.load("mnist", progress=False).labels) == 30


def test_checksums_name_what_was_loaded(toy, monkeypatch):
    monkeypatch.setattr(data, "_loaded", {})
    toy("right")
    assert data.checksums() == {}
    data.load("mnist", progress=False)
    lines = [f"{hashlib.sha256(toy.bodies[n]).hexdigest()}  mnist/{n}\n" for n in ("images.gz", "labels.gz")]
    assert data.checksums() == {"mnist": hashlib.sha256("".join(lines).encode()).hexdigest()}


def test_the_progress_bar_goes_to_stderr(toy, capfd):
    toy("right")
    data.load("mnist")
    out, err = capfd.readouterr()
    assert out == "" and re.search(r"images\.gz:.*\d+%.*labels\.gz:", err, re.DOTALL)


def test_the_progress_bar_can_be_switched_off(toy, capfd):
    toy("right")
    data.load("mnist", progress=False)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_changes_is_read_again(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a")
    old = time.time() - 1000
    os.utime(path, (old, old))
    before = store.digest(path, "sha256")
    assert before == hashlib.sha256(b"a").hexdigest() == store.digest(path, "sha256")
    path.write_bytes(b"b")
    assert store.digest(path, "sha256") == hashlib.sha256(b"b").hexdigest()


def test_a_fresh_file_that_changes_within_one_tick_of_the_clock_is_read_again(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"a")
    tick = path.stat().st_mtime_ns
    assert store.digest(path, "sha256") == hashlib.sha256(b"a").hexdigest()
    path.write_bytes(b"b")
    os.utime(path, ns=(tick, tick))
    assert store.digest(path, "sha256") == hashlib.sha256(b"b").hexdigest()


def test_a_host_that_does_not_take_the_call_is_given_up(toy, world, files_below, monkeypatch):
    import requests

    asked = []

    def get(url, **kwargs):
        asked.append(kwargs["timeout"])
        raise requests.exceptions.ConnectTimeout("no answer")

    toy("right")
    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(data.DataUnavailable) as error:
        data.load("mnist", progress=False)
    one_line(error, "could not be reached within 10 s")
    assert asked == [(fetch.CONNECT_TIMEOUT, fetch.READ_TIMEOUT)] and files_below(world) == []
