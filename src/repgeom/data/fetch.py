"""Downloads through pooch. A file appears under its name only when it is whole; every failure becomes one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from urllib.parse import urlsplit

from repgeom.data import store
from repgeom.data.catalog import File, Source
from repgeom.data.errors import DataUnavailable

CONNECT_TIMEOUT = 10.0  # seconds until a host that does not take the call is given up
READ_TIMEOUT = 30.0  # seconds of silence until a host that stopped sending is given up
_CHUNK = 1 << 18


class _NotThere(Exception):
    """This address did not give the file; the next one may."""


class _NoPlace(Exception):
    """The cache cannot take the file; another address would not help."""


def fetch(source: Source, *, progress: bool = True) -> store.Found:
    """Download the public edition of a data set into the cache, or what is missing or damaged of it.

    Raises :class:`DataUnavailable` with one line when it cannot be had; then the cache holds no file that looks whole
    and is not.
    """
    edition = source.download
    if edition is None:
        raise unavailable(source, "there is no public address for it")
    if os.environ.get(store.OFFLINE, "") not in ("", "0"):
        raise unavailable(source, f"${store.OFFLINE} forbids downloads")
    root = store.cache()
    found = store.Found(edition, "cache", root)
    try:
        for file in edition.files:
            target = root / file.path
            if not target.is_file() or store.damage(target, file):
                _fetch_file(file, target, progress)
    except (_NotThere, _NoPlace) as error:
        raise unavailable(source, str(error)) from error
    return found


def unavailable(source: Source, reason: str) -> DataUnavailable:
    """The one line: what, why, where it was looked for, how to get it."""
    if any(edition.package for edition in source.editions):
        how = "to get it: pip install geomstats==2.8.0"
    elif source.download is None:
        how = f"to get it: set ${store.FOLDER} to a folder that holds {source.editions[0].files[0].path}"
    else:
        how = f"to get it, with a network: repgeom data fetch {source.name}"
    damages = filter(None, (found.damage() for found in store.everywhere(source)))
    words = " ".join("; ".join([reason, *damages]).split())
    return DataUnavailable(f"data set {source.name!r} is not available: {words}; looked {store.looked(source)}; {how}")


def _fetch_file(file: File, target: Path, progress: bool) -> None:
    failures = []
    for url in file.urls:
        try:
            _fetch_url(url, file, target, progress)
            return
        except _NotThere as error:
            failures.append(str(error))
    raise _NotThere(", and ".join(failures))


def _fetch_url(url: str, file: File, target: Path, progress: bool) -> None:
    import requests

    host = urlsplit(url).netloc
    try:
        if file.checksum:
            _retrieve(url, file.checksum, target, progress)
        else:
            from repgeom.data import planes

            planes.make(url, target, download=lambda u, path: _retrieve(u, None, path, progress), progress=progress)
    except requests.exceptions.RequestException as error:
        raise _NotThere(_network_words(error, host, target.name)) from error
    except ValueError as error:  # from pooch: another checksum; from planes: not the right archive
        mismatch = "what it sent does not match the pinned checksum (cut short or altered)"
        why = mismatch if file.checksum else str(error)
        raise _NotThere(f"{target.name} from {host}: {why}") from error
    except OSError as error:
        raise _NoPlace(_disk_words(error)) from error


def _retrieve(url: str, checksum: str | None, target: Path, progress: bool) -> None:
    """Download to a temporary name, compare, rename: pooch does all three, and cleans up after itself."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # the progress bar says enough
    try:
        pooch.retrieve(
            url,
            known_hash=checksum,
            fname=target.name,
            path=target.parent,
            downloader=lambda address, path, _: _stream(address, path, target.name, progress),
        )
    finally:
        logger.setLevel(level)


def _stream(url: str, path: str, label: str, progress: bool) -> None:
    """One request, written piece by piece. Unlike pooch's own downloader it closes the connection on a failure."""
    import requests
    from tqdm import tqdm

    with requests.get(url, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)) as response:
        response.raise_for_status()
        total = int(response.headers.get("content-length", 0)) or None
        bar = tqdm(total=total, desc=label, unit="B", unit_scale=True, disable=not progress, leave=False)
        with bar, open(path, "wb") as stream:
            for chunk in response.iter_content(_CHUNK):
                stream.write(chunk)
                bar.update(len(chunk))


def _network_words(error: Exception, host: str, name: str) -> str:
    import requests

    response = getattr(error, "response", None)
    if response is not None:
        return f"{name}: {host} answered {response.status_code}"
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return f"{name}: {host} could not be reached within {CONNECT_TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
        return f"{name}: {host} sent nothing for {READ_TIMEOUT:g} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return f"{name}: the connection to {host} broke off before the end of the file"
    if isinstance(error, requests.exceptions.ConnectionError):
        return f"{name}: {host} cannot be reached, or hung up"
    return f"{name}: {host}: {type(error).__name__}"


def _disk_words(error: OSError) -> str:
    place = store.cache()
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds the cache {place} is full"
    refused = (errno.EROFS, errno.ENOTDIR, errno.EEXIST)
    if isinstance(error, PermissionError) or error.errno in refused:  # pooch's own PermissionError has no number
        return f"the cache {place} cannot be written (set ${store.CACHE} to a folder that can)"
    return f"the cache {place} cannot be used: {error.strerror or error}"
