"""Packages: waiting for them, downloading them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ._checks import check_asset_name
from ._decode import Bound, decode
from ._pages import pages
from ._progress import progress_bar
from .assets import Asset, AssetList
from .errors import PREFIX, AditError, PackageFailed, WaitTimeout
from .models import Bytes, Compression, Content, Documents, Layout, Member, MemberList, PackageCheck, Status

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

MANIFEST = "manifest.json"
# Seconds between two looks where the server names none.
LOOK = 1.0
# The most seconds, whatever the server asks for.
LONGEST_LOOK = 60.0


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
    compression: Compression | None
    shard_bytes: int | None
    dehydrated: bool
    delta_from: dict[str, int] | None
    salt: str | None
    fingerprint: str
    content: Content
    # The contract's names are those of methods here.
    download_url: str | None = field(metadata={"member": "download"})
    assets_url: str | None = field(metadata={"member": "assets"})
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
        with progress_bar(False if self.terminal else progress, **options) as bar:
            while not self.terminal:
                pause = LOOK if self.poll_after is None else min(max(self.poll_after, LOOK), LONGEST_LOOK)
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

    def check(self) -> PackageCheck:
        """Lets the service compare all that it consists of with its SHA-256, after a `DamagedDownload`.

        Raises `PackageErased` where it is damaged: it is erased then, and costs nothing when the docset is asked for it again.
        """
        return decode(PackageCheck, self._api.json("checkPackage", id=self.id), self._api)

    def withdrawals(self) -> Iterator[Member]:
        """The documents of which it has files and which were withdrawn since it was asked for: delete your copies of these."""
        for page in pages(self._api, "listWithdrawals", MemberList, id=self.id):
            yield from page.members

    def assets(self) -> list[Asset]:
        """What it consists of: its archive, or the shards in its place, then what describes and proves them."""
        assets = decode(AssetList, self._api.json("listAssets", id=self.id), self._api).assets
        for asset in assets:
            check_asset_name(asset.name)
            asset._package = self.id
        if len({asset.name.lower() for asset in assets}) < len(assets):
            raise AditError("The server's answer cannot be used", "two of the package's assets have one name")
        return assets

    def download(self, path: str | Path, *, progress: bool | None = None, overwrite: bool = False) -> Path:
        """Waits until it is built, and downloads its archive to `path`, or into the folder `path`.

        The file is checked against its SHA-256. Another file that is there is replaced only with `overwrite`. Goes on after connections
        that broke, and where an earlier call has stopped. Of layouts `jsonl` and `parquet` the archive only describes the shards, and
        packages with `shard_bytes` have none: `download_all` gets everything.
        """
        self.wait(progress=progress)
        for asset in self.assets():
            # What stands for a package that is divided is its manifest.
            if asset.sha256 == self.sha256 and asset.name != MANIFEST:
                return asset.download(path, progress=progress, overwrite=overwrite)
        raise AditError("The package has no archive", "it is divided into shards; use download_all")

    def download_all(self, folder: str | Path, *, progress: bool | None = None, overwrite: bool = False) -> list[Path]:
        """Waits until it is built, and downloads all that it consists of into a folder."""
        return self._fetch(Path(folder), "", progress, overwrite)

    def to_arrow(
        self, columns: Sequence[str] | None = None, *, folder: str | Path | None = None, progress: bool | None = None
    ) -> pyarrow.Table:
        """All rows of a package of layout `jsonl` or `parquet` as an Arrow table, or these columns of them: one row a document.

        With `folder` the shards are kept there, and are not fetched again.
        """
        _need("pyarrow")
        if self.layout not in ("jsonl", "parquet"):
            raise AditError("The package has no tables", f'its layout is {self.layout}; ask for one of "parquet" or "jsonl"')
        from . import _tables

        if folder is not None:
            return _tables.read(self._fetch(Path(folder), "data-", progress), columns)
        with tempfile.TemporaryDirectory() as temporary:
            return _tables.read(self._fetch(Path(temporary), "data-", progress), columns)

    def to_pandas(
        self, columns: Sequence[str] | None = None, *, folder: str | Path | None = None, progress: bool | None = None
    ) -> pandas.DataFrame:
        """The same as a data frame of pandas; needs `adit-tdm[pandas]`."""
        _need("pandas")
        frame: pandas.DataFrame = self.to_arrow(columns, folder=folder, progress=progress).to_pandas()
        return frame

    def to_polars(
        self, columns: Sequence[str] | None = None, *, folder: str | Path | None = None, progress: bool | None = None
    ) -> polars.DataFrame:
        """The same as a data frame of polars; needs `adit-tdm[polars]`."""
        _need("polars")
        import polars

        return cast("polars.DataFrame", polars.from_arrow(self.to_arrow(columns, folder=folder, progress=progress)))

    def _fetch(self, folder: Path, prefix: str, progress: bool | None, overwrite: bool = False) -> list[Path]:
        """Downloads those assets whose names begin so."""
        self.wait(progress=progress)
        wanted = [asset for asset in self.assets() if asset.name.startswith(prefix)]
        return [asset.download(folder / asset.name, progress=progress, overwrite=overwrite) for asset in wanted]

    def _become(self, answer: Any) -> Package:
        now = decode(Package, answer, self._api)
        for each in fields(now):
            setattr(self, each.name, getattr(now, each.name))
        return self


@dataclass
class AskedPackage(Package):
    """A package, and what asking for it has cost: documents, of the quota of the day."""

    cost: int
    quota_after: int | None


def _need(module: str) -> None:
    """Tells what to install before anything is downloaded."""
    if find_spec(module) is None:
        raise ImportError(f"{module} is not installed; `pip install 'adit-tdm[pandas]'` or `'adit-tdm[polars]'` brings it")
