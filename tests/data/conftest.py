"""A small web server that answers as it is told, and a world in which only it and an empty cache exist."""

import gzip
import hashlib
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from repgeom.data import catalog


class Handler(BaseHTTPRequestHandler):
    """``/<behaviour>/<name>``: the behaviour is a method below."""

    def do_GET(self):
        behaviour, name = self.path.strip("/").split("/", 1)
        self.server.requests.append(self.path)
        getattr(self, behaviour)(self.server.content[name])

    def log_message(self, *args):
        pass

    def send(self, body, length=None, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def right(self, body):
        self.send(body)

    def truncated(self, body):
        self.send(body[: len(body) // 2], length=len(body))

    def short(self, body):
        self.send(body[: len(body) // 2])

    def altered(self, body):
        middle = len(body) // 2
        self.send(body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :])

    def page(self, body):
        self.send(b"<html>Please log in to this network</html>")

    def empty(self, body):
        self.send(b"")

    def error(self, body):
        self.send(b"", status=500)

    def gone(self, body):
        self.send(b"", status=404)

    def hangup(self, body):
        self.close_connection = True

    def silent(self, body):
        self.server.released.wait(20)

    def stall(self, body):
        self.send(body[: len(body) // 2], length=len(body))
        self.server.released.wait(20)

    def drip(self, body):
        self.send(b"", length=len(body))
        for start in range(0, len(body), 1 + len(body) // 5):
            self.wfile.write(body[start : start + 1 + len(body) // 5])
            self.wfile.flush()
            time.sleep(0.1)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients of this server hang up early


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.content, server.requests, server.released = {}, [], threading.Event()
    server.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """An empty cache, no data folder, no proxy; gives the path of the cache."""
    for name in ("REPGEOM_DATA", "REPGEOM_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("REPGEOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.tobytes(), mtime=0)


IMAGES = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
LABELS = np.arange(30) % 10


@pytest.fixture
def toy(server, world, monkeypatch):
    """``toy(behaviour, ...)``: from now on ``mnist`` is a toy of two files, at these addresses of the server."""
    bodies = {"images.gz": idx(IMAGES), "labels.gz": idx(LABELS)}
    server.content.update(bodies)

    def point(*behaviours, algorithm="sha256", base=None):
        files = tuple(
            catalog.File(
                f"mnist/{name}",
                f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}",
                len(body),
                tuple(f"{base or server.base}/{behaviour}/{name}" for behaviour in behaviours),
            )
            for name, body in bodies.items()
        )
        edition = catalog.Edition("toy", files, "a toy of thirty images")
        source = catalog.CATALOG["mnist"]._replace(editions=(edition,))
        monkeypatch.setitem(catalog.CATALOG, "mnist", source)
        return source

    point.bodies = bodies
    return point


@pytest.fixture
def files_below():
    """What lies below a folder, as relative paths."""
    return lambda root: sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
