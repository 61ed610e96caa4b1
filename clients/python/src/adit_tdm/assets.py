"""What a package consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ._checks import check_asset_name
from ._decode import Bound
from ._download import download


class OfPackage(Bound):
    """Something of a package, which is known by its id."""

    _package: int


@dataclass
class Asset(OfPackage):
    """One object of a package: its archive, or a shard, or what describes them.

    `link` needs no key for a day, so that `pandas.read_parquet(asset.link)`, polars, DuckDB and `datasets` can read it.
    """

    name: str
    media_type: str
    size: int | None
    sha256: str | None
    documents: int | None
    url: str
    link: str

    def download(self, path: str | Path, *, progress: bool | None = None, overwrite: bool = False) -> Path:
        """Downloads it to `path`, or into the folder `path`, checked against its SHA-256; see `Package.download`."""
        target = Path(path)
        if target.is_dir():
            target /= check_asset_name(self.name)
        return download(
            lambda headers: self._api.stream("downloadAsset", headers, id=self._package, name=self.name),
            target,
            size=self.size,
            sha256=self.sha256,
            patience=self._api.patience,
            progress=progress,
            overwrite=overwrite,
        )


@dataclass
class AssetList:
    """All objects that a package consists of."""

    assets: list[Asset]
