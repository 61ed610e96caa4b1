"""Packages: waiting for them, downloading them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from ._decode import Bound, decode
from ._download import download
from ._progress import progress_bar
from .errors import PREFIX, PackageFailed, WaitTimeout
from .models import Bytes, Content, Documents, Layout, Status

# Seconds between two looks where the server names none.
LOOK = 1.0


@dataclass
class Package(Bound):
    """One package of a docset: how far it is, and its archive. `wait` and `refresh` bring the object itself up to date."""

    id: int
    docset: int
    status: Status
    terminal: bool
    percent: int
    documents: Documents
    bytes: Bytes
    eta_seconds: int | None
    poll_after: int | None
    formats: list[str]
    layout: Layout
    fingerprint: str
    content: Content
    # The contract's name is that of the method here.
    download_url: str | None = field(metadata={"member": "download"})
    size: int | None
    sha256: str | None
    problem: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None
    expires: datetime | None
    url: str

    def refresh(self) -> Package:
        """Asks where it stands."""
        return self._become(self._api.json("getPackage", id=self.id))

    def wait(self, timeout: float | None = None, *, progress: bool | None = None) -> Package:
        """Waits until it is built, and asks as often as the server wants to be asked.

        Raises `PackageFailed` if it cannot be built or was dismissed, and `WaitTimeout` after `timeout` seconds: it is still being
        built then, and can be waited for again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        options = {"total": self.documents.requested, "unit": "documents", "desc": f"package {self.id}"}
        with progress_bar(progress, **options) as bar:
            while not self.terminal:
                pause = LOOK if self.poll_after is None else self.poll_after
                if deadline is not None:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise WaitTimeout("The package is not finished", f"{self.percent} % after {timeout} s; wait again")
                    pause = min(pause, left)
                time.sleep(pause)
                self.refresh()
                bar.update(self.documents.done - bar.n)
        if self.status != "successful":
            detail = self.problem or f"it is {self.status}; ask the docset for it again"
            raise PackageFailed("The package could not be built", detail, type=f"{PREFIX}package-failed")
        return self

    def delete(self) -> Package:
        """Dismisses it while it is being built; deletes its archive when it is finished."""
        return self._become(self._api.json("deletePackage", id=self.id))

    def download(self, path: str | Path, *, progress: bool | None = None) -> Path:
        """Waits until it is built, and downloads its archive to `path`, checked against its SHA-256.

        Goes on after connections that broke, and where an earlier call has stopped.
        """
        self.wait(progress=progress)
        return download(
            lambda headers: self._api.stream("downloadPackage", headers, id=self.id),
            Path(path),
            size=self.size,
            sha256=self.sha256,
            patience=self._api.patience,
            progress=progress,
        )

    def _become(self, answer: Any) -> Package:
        now = decode(Package, answer, self._api)
        for each in fields(now):
            setattr(self, each.name, getattr(now, each.name))
        return self
