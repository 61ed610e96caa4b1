"""Downloads: goes on where a connection broke, and lets a file appear under its name only when its SHA-256 is right.

What has arrived lies in `{target}.part`, with the entity tag that it belongs to in `{target}.part.etag`, as the program `adit` has it.
Another file that is there already is not replaced, and symbolic links are not followed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
from tqdm.auto import tqdm

from ._checks import check_sha256, check_size
from ._printable import printable
from ._progress import progress_bar
from .errors import AditError, DamagedDownload, TargetExists, Unreachable

# Tries in a row that bring nothing new before a download is given up.
TRIES = 5
# The first wait between two tries where the server names none, in seconds; each further one is twice as long.
FIRST_WAIT = 0.2
CHUNK = 1 << 18
# Longest entity tag that is kept, in characters, and the form of a strong one.
MOST_OF_TAG = 256
_TAG = re.compile(r'"[ !#-~]{0,254}"', re.ASCII)
# The most bytes of a file whose length the server does not tell.
MOST_UNTOLD = 1 << 30

Open = Callable[[dict[str, str]], AbstractContextManager[httpx.Response]]


def download(
    ask: Open,
    target: Path,
    *,
    size: int | None,
    sha256: str | None,
    patience: float,
    progress: bool | None,
    overwrite: bool = False,
) -> Path:
    """Downloads what `ask` opens to `target`. A file that is there already and is the same is left as it is.

    Raises `TargetExists` where another file is there, unless `overwrite` is set; symbolic links are not followed. Raises `AditError`
    when the server refuses or cannot be reached any more; what has arrived is kept for the next call. Raises `DamagedDownload` when
    the bytes are not those that were announced; they are removed.
    """
    size, sha256 = check_size(size), check_sha256(sha256)
    if os.path.lexists(target):
        if sha256 and _is_same(target, sha256):
            return target
        if sha256 and not overwrite:
            raise _taken(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Part(target)
    if size is not None and shutil.disk_usage(target.parent).free < size - part.length():
        raise AditError("There is no room for the download", f"{target.parent} has less than the {size} bytes that are needed")
    with progress_bar(progress, total=size, unit="B", unit_scale=True, desc=printable(target.name)) as bar:
        _receive_all(ask, part, size, f'"{sha256}"' if sha256 else None, bar, patience)
    arrived = part.sha256()
    if sha256 and arrived != sha256:
        part.remove()
        raise DamagedDownload("The download is damaged", f"its SHA-256 is {arrived}, not {sha256}; it was removed, try again")
    if overwrite:
        part.file.replace(target)
    else:
        _put(part.file, target, arrived)
    part.remove()
    return target


def _put(part: Path, target: Path, sha256: str) -> None:
    """Gives a file a name that nothing has yet, in one step."""
    try:
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links: the name is taken first, and the file follows.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            part.replace(target)
    except FileExistsError:
        # It came meanwhile, or its hash was not known before.
        if not _is_same(target, sha256):
            raise _taken(target) from None


def _is_same(target: Path, sha256: str) -> bool:
    return not target.is_symlink() and target.is_file() and sha256_of(target) == sha256


def _taken(target: Path) -> TargetExists:
    return TargetExists("There is another file already", f"{target} is not what is downloaded; move it away, or use overwrite=True")


def _open_plain(file: Path, flags: int) -> int:
    """Opens a file for writing, and no symbolic link."""
    return os.open(file, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


class Part:
    """What has arrived of a file, beside the place where it is to be. The file with the entity tag says that it is ours."""

    def __init__(self, target: Path) -> None:
        self.file = target.with_name(target.name + ".part")
        self._tag = target.with_name(target.name + ".part.etag")
        self._digest: Any = None
        for file in (self.file, self._tag):
            if file.is_symlink() or (file.exists() and not file.is_file()):
                raise TargetExists("There is another file already", f"{file} is no plain file; move it away")
        known = self._known()
        is_ours = known is not None and (known == "" or _TAG.fullmatch(known) is not None)
        if not is_ours and (known is not None or self.length()):
            raise TargetExists("There is another file already", f"{self.file} is not of a download; move it away")

    def length(self) -> int:
        return self.file.stat().st_size if self.file.exists() else 0

    def is_whole(self, size: int | None) -> bool:
        return self.file.exists() and self.length() == size

    def tag(self) -> str | None:
        return self._known() or None

    def _known(self) -> str | None:
        if not self._tag.exists():
            return None
        with self._tag.open(encoding="utf-8", errors="replace") as file:
            return file.read(MOST_OF_TAG + 1)

    def begin(self, tag: str | None) -> None:
        """Begins anew. The old bytes go before the new tag is there, so that they never stand under it."""
        self.remove()
        # If-Range takes strong tags only (RFC 9110, section 13.1.5).
        strong = tag if tag and _TAG.fullmatch(tag) else ""
        with os.fdopen(_open_plain(self._tag, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), "w", encoding="ascii") as file:
            file.write(strong)
        self._digest = hashlib.sha256()

    def append(self, chunks: Any, most: int, bar: tqdm[Any]) -> None:
        """Adds bytes, and takes them into the digest as they pass; none beyond `most` in all."""
        if self._digest is None:
            self._digest = _digest(self.file)
        left = most - self.length()
        with os.fdopen(_open_plain(self.file, os.O_CREAT | os.O_WRONLY | os.O_APPEND), "ab") as file:
            try:
                for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        raise _Unfit
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
        wait = FIRST_WAIT * 2**failures if error.retry_after is None else max(error.retry_after, FIRST_WAIT)
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
            coding = response.headers.get("content-encoding", "identity").lower()
            if coding not in ("", "identity"):
                raise AditError("The download cannot be read", f"it is coded as {coding!r:.200}, which was not asked for")
            goes_on = response.status_code == httpx.codes.PARTIAL_CONTENT
            if goes_on and (_first_byte(response) != offset or (own is None and sent not in (None, tag))):
                raise _Unfit
            if not goes_on:
                part.begin(own or sent)
            bar.n = part.length()
            part.append(response.iter_raw(), MOST_UNTOLD if size is None else size, bar)
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
