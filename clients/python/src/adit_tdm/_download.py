"""Downloads: goes on where a connection broke, and lets a file appear under its name only when its SHA-256 is right.

What has arrived lies in `{target}.part`, with the entity tag that it belongs to in `{target}.part.etag`, as the program `adit` has it.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
from tqdm.auto import tqdm

from ._progress import progress_bar
from .errors import AditError, DamagedDownload, Unreachable

# Tries in a row that bring nothing new before a download is given up.
TRIES = 5
# The first wait between two tries where the server names none, in seconds; each further one is twice as long.
FIRST_WAIT = 0.2
CHUNK = 1 << 18

Open = Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]


def download(ask: Open, target: Path, *, size: int | None, sha256: str | None, patience: float, progress: bool | None) -> Path:
    """Downloads what `ask` opens to `target`. A file that is there already and is the same is left as it is.

    Raises `AditError` when the server refuses or cannot be reached any more; what has arrived is kept for the next call. Raises
    `DamagedDownload` when the bytes are not those that were announced; they are removed.
    """
    if sha256 and target.is_file() and (size is None or target.stat().st_size == size) and sha256_of(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Part(target)
    with progress_bar(progress, total=size, unit="B", unit_scale=True, desc=target.name) as bar:
        _receive_all(ask, part, size, f'"{sha256}"' if sha256 else None, bar, patience)
    arrived = part.sha256()
    if sha256 and arrived != sha256:
        part.remove()
        raise DamagedDownload("The download is damaged", f"its SHA-256 is {arrived}, not {sha256}; it was removed, try again")
    part.file.replace(target)
    part.remove()
    return target


class Part:
    """What has arrived of a file, beside the place where it is to be."""

    def __init__(self, target: Path) -> None:
        self.file = target.with_name(target.name + ".part")
        self._tag = target.with_name(target.name + ".part.etag")
        self._digest: Any = None

    def length(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def is_whole(self, size: int | None) -> bool:
        return self.file.exists() and self.length() == size

    def tag(self) -> str | None:
        return self._tag.read_text("ascii") if self._tag.exists() else None

    def begin(self, tag: str | None) -> None:
        """Begins anew. The old bytes go before the new tag is there, so that they never stand under it."""
        self.remove()
        # If-Range takes strong tags only (RFC 9110, section 13.1.5).
        if tag and tag.startswith('"'):
            self._tag.write_text(tag, "ascii")
        self._digest = hashlib.sha256()

    def append(self, chunks: Any, bar: tqdm[Any]) -> None:
        """Adds bytes, and takes them into the digest as they pass."""
        if self._digest is None:
            self._digest = _digest(self.file)
        with self.file.open("ab") as file:
            try:
                for chunk in chunks:
                    file.write(chunk)
                    self._digest.update(chunk)
                    bar.update(len(chunk))
            finally:
                file.flush()
                os.fsync(file.fileno())

    def sha256(self) -> str:
        if self._digest is None:
            self._digest = _digest(self.file)
        return str(self._digest.hexdigest())

    def remove(self) -> None:
        self._digest = None
        self.file.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)


class _Unfit(Exception):
    """The answer cannot be joined to the part."""


def _receive_all(ask: Open, part: Part, size: int | None, own: str | None, bar: tqdm[Any], patience: float) -> None:
    """Asks until all of the file is in its part. `own` is the entity tag that the API gives it, its SHA-256."""
    failures, furthest, anew = 0, part.length(), False
    while not part.is_whole(size):
        try:
            _receive(ask, part, size, own, bar)
            if size is None or part.is_whole(size):
                return
            error: AditError = Unreachable("The download was cut off", f"it has {part.length()} of {size} bytes")
        except _Unfit as unfit:
            part.remove()
            if anew:
                raise DamagedDownload("The download is damaged", "the server sends other bytes than it announces") from unfit
            anew = True
            continue
        except AditError as trouble:
            error = trouble
        # A file without ranges begins anew each time: only what goes beyond all tries before it is progress.
        failures = 0 if part.length() > furthest else failures + 1
        furthest = max(furthest, part.length())
        wait = FIRST_WAIT * 2**failures if error.retry_after is None else error.retry_after
        if not error.may_pass:
            raise error
        if failures >= TRIES or wait > patience:
            raise Unreachable("The download stopped", f"at {part.length()} bytes; run it again to go on ({error})") from error
        time.sleep(wait)


def _receive(ask: Open, part: Part, size: int | None, own: str | None, bar: tqdm[Any]) -> None:
    """Asks for what the part lacks, and adds it. Object stores have entity tags of their own, which say nothing here."""
    offset = part.length()
    if size is not None and offset > size:
        raise _Unfit
    tag = part.tag() if offset else None
    # Ranges are of the bytes as they are, not of what a server might compress on the way.
    headers = {"accept-encoding": "identity"}
    if tag:
        headers |= {"range": f"bytes={offset}-", "if-range": tag}
    try:
        with ask(headers) as response:
            sent = response.headers.get("etag")
            goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
            if goes_on and (_first_byte(response) != offset or (own is None and sent not in (None, tag))):
                raise _Unfit
            if not goes_on:
                part.begin(own or sent)
            bar.n = part.length()
            part.append(response.iter_raw(), bar)
    except AditError as error:
        if tag and error.status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise _Unfit from error
        raise


def _first_byte(response: httpx.Response) -> int | None:
    """Where the sent range begins (RFC 9110, section 14.4)."""
    found = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return str(_digest(file).hexdigest())


def _digest(file: Path) -> Any:
    digest = hashlib.sha256()
    if file.exists():
        with file.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                digest.update(chunk)
    return digest
