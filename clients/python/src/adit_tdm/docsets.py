"""Docsets: frozen selections of documents, and packages of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._decode import Bound, decode
from ._pages import pages
from .models import Catalog, CatalogEntry, Compression, Estimate, FormatTotal, Layout, Member, MemberList
from .packages import AskedPackage, Package


@dataclass
class Docset(Bound):
    """A frozen selection of document versions. `len(docset)` is the number of its members."""

    id: int
    name: str | None
    collection: str
    corpus_version: int
    query: str | None
    size: int
    formats: list[FormatTotal]
    bytes: int
    fingerprint: str
    created: datetime
    url: str

    def __len__(self) -> int:
        return self.size

    def members(self) -> Iterator[Member]:
        """All members, in the order of ids."""
        for page in pages(self._api, "listMembers", MemberList, id=self.id):
            yield from page.members

    def catalog(self) -> Iterator[CatalogEntry]:
        """All members with their metadata, in the order of ids."""
        for page in pages(self._api, "listCatalog", Catalog, id=self.id):
            yield from page.documents

    def rename(self, name: str | None) -> Docset:
        """Gives it another name, or with None takes it away. Nothing else of a docset can change."""
        self.name = decode(Docset, self._api.json("renameDocset", id=self.id, body={"name": name}), self._api).name
        return self

    def delete(self) -> None:
        """Deletes it and its packages."""
        self._api.json("deleteDocset", id=self.id)

    def estimate(
        self,
        formats: Iterable[str] | None = None,
        *,
        layout: Layout | None = None,
        compression: Compression | None = None,
        shard_bytes: int | None = None,
        dehydrated: bool | None = None,
        delta_from: Docset | None = None,
    ) -> Estimate:
        """Tells what a package would hold and weigh, before anything is built. What can be chosen is told by `package`."""
        wish = _wish(formats, layout=layout, compression=compression, shard_bytes=shard_bytes, dehydrated=dehydrated)
        if "formats" in wish:
            wish["fmts"] = ",".join(wish.pop("formats"))
        if delta_from is not None:
            wish["delta_from"] = delta_from.id
        return decode(Estimate, self._api.json("estimatePackage", id=self.id, query=wish), self._api)

    def package(
        self,
        formats: Iterable[str] | None = None,
        *,
        layout: Layout | None = None,
        compression: Compression | None = None,
        shard_bytes: int | None = None,
        dehydrated: bool | None = None,
        delta_from: Docset | Package | None = None,
        reuse: bool | None = None,
    ) -> AskedPackage:
        """Asks for a package; `Package.wait` waits until it is built.

        `compression` is that of the shards of layout `jsonl`; `shard_bytes` divides the package into shards of about so many bytes;
        `dehydrated` leaves the documents' files out of a bag, and `delta_from` those that an earlier docset or package had. With
        `reuse=False` it is built although an equal package is there. What is not given is the server's choice: the format `txt` and
        layout `flat`.
        """
        options: dict[str, Any] = {"compression": compression, "shard_bytes": shard_bytes, "dehydrated": dehydrated, "reuse": reuse}
        if delta_from is not None:
            options["delta_from"] = {"docset" if isinstance(delta_from, Docset) else "package": delta_from.id}
        return decode(AskedPackage, self._api.json("createPackage", id=self.id, body=_wish(formats, layout=layout, **options)), self._api)


@dataclass
class DocsetList:
    """A page of docsets, newest first."""

    docsets: list[Docset]
    next: str | None


def _wish(formats: Iterable[str] | None, **options: Any) -> dict[str, Any]:
    """What was asked for, without what was left out."""
    if isinstance(formats, str):
        formats = [formats]
    wish = {"formats": None if formats is None else list(formats), **options}
    return {name: value for name, value in wish.items() if value is not None}
