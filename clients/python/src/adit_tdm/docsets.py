"""Docsets: frozen selections of documents, and packages of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._decode import Bound, decode
from ._pages import pages
from .models import (
    Catalog,
    CatalogEntry,
    Compression,
    Diff,
    DiffCounts,
    DiffLine,
    Estimate,
    FormatTotal,
    Layout,
    Member,
    MemberList,
    Origin,
)
from .packages import AskedPackage, Package


@dataclass
class Docset(Bound):
    """A frozen selection of document versions. `len(docset)` is the number of its members.

    `withdrawn` counts those that were withdrawn since; it is None where that was not counted: in lists.
    """

    id: int
    name: str | None
    collection: str
    corpus_version: int
    query: str | dict[str, Any] | None
    origin: Origin
    size: int
    withdrawn: int | None
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

    def refresh(self) -> Docset:
        """Makes it once more, of the newest state of the corpus; where nothing has changed, it is this docset again."""
        return decode(Docset, self._api.json("refreshDocset", id=self.id), self._api)

    def diff(self, since: Docset | int) -> Difference:
        """What came, changed and left since another docset of the collection."""
        query = {"since": since if isinstance(since, int) else since.id}
        return Difference(lambda more: pages(self._api, "diffDocset", Diff, query={**query, **more}, id=self.id))

    def share(self, *, days: int | None = None) -> Share:
        """Makes a link that opens it to those who have the link and a key of their own; good for 30 days if nothing is said."""
        share = decode(Share, self._api.json("shareDocset", id=self.id, body={} if days is None else {"days": days}), self._api)
        share._docset = self.id
        return share

    def shares(self) -> Iterator[Share]:
        """Its links, expired ones too."""
        for page in pages(self._api, "listShares", ShareList, id=self.id):
            for share in page.shares:
                share._docset = self.id
                yield share

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


class Difference:
    """What came, changed and left: `counts` counts, iterating gives the documents, in the order of these three."""

    def __init__(self, ask: Callable[[Mapping[str, str]], Iterator[Diff]]) -> None:
        self._ask = ask
        self._first = next(ask({}))

    @property
    def counts(self) -> DiffCounts:
        """How many there are of each."""
        return self._first.counts

    def __iter__(self) -> Iterator[DiffLine]:
        yield from _lines(self._first)
        if self._first.next is not None:
            for page in self._ask({"cursor": self._first.next}):
                yield from _lines(page)

    def __repr__(self) -> str:
        return f"<Difference: {self.counts}>"


def _lines(page: Diff) -> Iterator[DiffLine]:
    for added in page.added:
        yield DiffLine(**vars(added), change="added", was=None)
    for changed in page.changed:
        yield DiffLine(**vars(changed), change="changed")
    for withdrawn in page.withdrawn:
        yield DiffLine(**vars(withdrawn), change="withdrawn", was=None)


class OfDocset(Bound):
    """Something of a docset, which is known by its id."""

    _docset: int


@dataclass
class Share(OfDocset):
    """A link that opens a docset; `Client.follow_share` follows it. `guests` counts the keys that have."""

    id: int
    link: str
    created: datetime
    expires: datetime
    guests: int
    url: str

    def revoke(self) -> None:
        """Ends it, and what it has opened. Packages stay with those who have asked for them."""
        self._api.json("revokeShare", id=self._docset, share=self.id)


@dataclass
class ShareList:
    """A page of a docset's links."""

    shares: list[Share]
    next: str | None


def _wish(formats: Iterable[str] | None, **options: Any) -> dict[str, Any]:
    """What was asked for, without what was left out."""
    if isinstance(formats, str):
        formats = [formats]
    wish = {"formats": None if formats is None else list(formats), **options}
    return {name: value for name, value in wish.items() if value is not None}
