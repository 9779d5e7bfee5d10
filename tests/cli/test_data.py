"""``repgeom data``: what it prints, where, and its exit statuses."""

import functools
import hashlib
import http.server
import threading

import pytest
from click.testing import CliRunner

from repgeom.cli import main
from repgeom.data import catalog

BODY = b"a small file"


@pytest.fixture
def public(tmp_path):
    """A folder that a local web server shows."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "public"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    folder.joinpath("file").write_bytes(BODY)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/file"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(public, tmp_path, monkeypatch):
    """Run the command in a world of three data sets: ``mnist`` and ``emg`` on the server, ``hands`` in its package."""
    file = catalog.File("toy/file", f"sha256:{hashlib.sha256(BODY).hexdigest()}", len(BODY), (public[1],))
    toy = catalog.CATALOG["mnist"]._replace(editions=(catalog.Edition("toy", (file,), "a toy"),))
    other = toy._replace(
        name="emg", editions=(catalog.Edition("toy", (file._replace(path="toy/other"),), "another toy"),)
    )
    three = {"mnist": toy, "emg": other, "hands": catalog.CATALOG["hands"]}
    monkeypatch.setattr(catalog, "CATALOG", three)
    for name in ("REPGEOM_DATA", "REPGEOM_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REPGEOM_CACHE", str(tmp_path / "cache"))

    def invoke(*arguments, status):
        result = CliRunner().invoke(main, ["data", *arguments])
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output and isinstance(result.exception, SystemExit | None)
        return result

    return invoke


def test_list(run, tmp_path):
    lines = run("list", status=0).stdout.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "WHERE", "LICENCE"] and len(lines) == 4
    assert "not here" in lines[1] and "CC BY-SA 3.0" in lines[1]
    assert "bundled with geomstats" in lines[3]
    run("fetch", "mnist", status=0)
    lines = run("list", status=0).stdout.splitlines()
    assert f"cache {tmp_path / 'cache'}" in lines[1] and "not here" in lines[2]
    columns = {line.index(word) for line, word in zip(lines[1:], ("cache", "not here", "bundled"), strict=True)}
    assert len(columns) == 1  # a table


def test_fetch(run, tmp_path):
    result = run("fetch", "mnist", "hands", status=0)
    assert "mnist: downloaded (cache" in result.stdout
    assert "hands: already here (bundled with geomstats)" in result.stdout
    assert (tmp_path / "cache/toy/file").read_bytes() == BODY
    assert "mnist: already here (cache" in run("fetch", "mnist", status=0).stdout


def test_fetch_all_goes_on_after_a_failure(run, public, tmp_path):
    run("fetch", "mnist", status=0)
    (tmp_path / "cache/toy/file").write_bytes(b"a small f1le")
    (public[0] / "file").write_bytes(BODY[:-1])
    result = run("fetch", "--all", "--quiet", status=1)
    errors = result.stderr.splitlines()
    assert len(errors) == 2  # one line for each failure
    assert errors[0].startswith("Error: data set 'mnist' is not available: file from 127.0.0.1")
    assert "hands: already here" in result.stdout
    assert [p.name for p in (tmp_path / "cache/toy").iterdir()] == ["file"]  # the damaged one, still damaged
    assert "mnist: DAMAGED" in run("verify", status=1).stdout


def test_fetch_replaces_what_is_damaged_in_the_cache(run, tmp_path):
    run("fetch", "mnist", status=0)
    path = tmp_path / "cache/toy/file"
    path.write_bytes(b"a small f1le")
    assert f"mnist: DAMAGED {path}" in run("verify", "mnist", status=1).stdout
    assert "mnist: downloaded" in run("fetch", "mnist", status=0).stdout
    assert path.read_bytes() == BODY
    assert "mnist: whole" in run("verify", "mnist", status=0).stdout


def test_fetch_never_replaces_what_is_in_the_folder(run, tmp_path, monkeypatch):
    path = tmp_path / "folder/toy/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a small f1le")
    monkeypatch.setenv("REPGEOM_DATA", str(tmp_path / "folder"))
    result = run("fetch", "mnist", status=1)
    assert str(path) in result.stderr and "nothing in $REPGEOM_DATA is replaced" in result.stderr
    assert path.read_bytes() == b"a small f1le" and not (tmp_path / "cache").exists()


def test_verify(run, tmp_path, monkeypatch):
    everything = run("verify", status=0).stdout
    assert "mnist: not here" in everything and "hands: whole (bundled with geomstats)" in everything
    run("verify", "mnist", status=1)  # it was asked for by name
    path = tmp_path / "folder/toy/file"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    monkeypatch.setenv("REPGEOM_DATA", str(tmp_path / "folder"))
    assert "mnist: whole (folder" in run("verify", "mnist", status=0).stdout
    sums = tmp_path / "folder/SHA256SUMS"
    sums.write_text(f"{hashlib.sha256(BODY).hexdigest()}  toy/file\n")
    run("verify", "mnist", status=0)
    sums.write_text(f"{'0' * 64}  toy/file\n")
    assert "SHA256SUMS: lists another checksum for toy/file" in run("verify", "mnist", status=1).stdout


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_wrong_name_suggests_the_nearest(run, command):
    result = run(command, "minst", status=2)
    assert result.stderr.startswith("Error: there is no data set 'minst'; did you mean 'mnist'?")
    assert len(result.stderr.splitlines()) == 1


def test_fetch_needs_names_or_all(run):
    assert "--all" in run("fetch", status=2).stderr
    assert "--all" in run("fetch", "--all", "mnist", status=2).stderr


@pytest.mark.parametrize("arguments", [[], ["list"], ["fetch"], ["verify"]])
def test_help_has_an_example_and_the_exit_statuses(run, arguments):
    text = run(*arguments, "--help", status=0).stdout
    assert (
        "Example:\n" in text
        and "repgeom data " in text.split("Example:")[1]
        and "Exit status" in " ".join(text.split())
    )


def test_a_full_disk_is_one_line(run, monkeypatch):
    import errno

    from repgeom.data import fetch

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_stream", full)
    result = run("fetch", "mnist", status=1)
    assert "is full" in result.stderr and len(result.stderr.splitlines()) == 1
