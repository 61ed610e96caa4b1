"""Docsets: frozen selections of documents, and packages of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ._decode import Bound, decode
from ._pages import pages
from .models import Catalog, CatalogEntry, Estimate, FormatTotal, Layout, Member, MemberList
from .packages import Package


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

    def estimate(self, formats: Iterable[str] | None = None, *, layout: Layout | None = None) -> Estimate:
        """Tells what a package would hold and weigh, before anything is built."""
        wish = _wish(formats, layout=layout)
        if "formats" in wish:
            wish["fmts"] = ",".join(wish.pop("formats"))
        return decode(Estimate, self._api.json("estimatePackage", id=self.id, query=wish), self._api)

    def package(self, formats: Iterable[str] | None = None, *, layout: Layout | None = None, reuse: bool | None = None) -> Package:
        """Asks for a package; `Package.wait` waits until it is built.

        What is left out is the server's choice: the format `txt`, layout `flat`, and an equal package that is there already.
        """
        wish = _wish(formats, layout=layout, reuse=reuse)
        return decode(Package, self._api.json("createPackage", id=self.id, body=wish), self._api)


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
