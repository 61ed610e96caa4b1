"""The client: where everything begins."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from types import TracebackType
from typing import Any

import httpx

from ._api import Api
from ._checks import is_private
from ._decode import decode
from ._pages import pages
from ._version import __version__
from .docsets import Docset, DocsetList
from .documents import Document, Search, SearchResponse
from .models import Collection, CollectionList, Highlighting, Me, Query, Sample, Sort
from .packages import Package
from .watches import MadeWatch, Watch, WatchList, WatchWithNotices

DEFAULT_URL = "http://127.0.0.1:8080"


class Client:
    """A server of Adit, and the key to show it.

    `url` and `key` default to the variables ADIT_PUBLIC_URL and ADIT_API_KEY, as those of the program `adit` do. `timeout` is how long the
    server may be silent, and `patience` how long one call goes on asking a server that is busy or away, both in seconds. A key is shown
    without TLS only to a server on this machine, or with `insecure` (default: whether ADIT_INSECURE is 1).
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 60,
        patience: float = 300,
        insecure: bool | None = None,
    ) -> None:
        url = url or os.environ.get("ADIT_PUBLIC_URL") or DEFAULT_URL
        if httpx.URL(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no URL of a server; it begins with http:// or https://")
        key = key or os.environ.get("ADIT_API_KEY")
        if insecure is None:
            insecure = os.environ.get("ADIT_INSECURE") == "1"
        if key and not insecure and not is_private(httpx.URL(url)):
            raise ValueError(f"{url!r} has no TLS, and anybody on the way could read the key; use https, or allow it by insecure=True")
        self._api = Api(url, key, timeout=timeout, patience=patience, user_agent=f"adit-tdm/{__version__}")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self._api.url}>"

    def close(self) -> None:
        """Closes all connections."""
        self._api.close()

    def collections(self) -> list[Collection]:
        """All collections, by slug."""
        return decode(CollectionList, self._api.json("listCollections"), self._api).collections

    def collection(self, slug: str) -> Collection:
        """One collection."""
        return decode(Collection, self._api.json("getCollection", slug=slug), self._api)

    def schema(self, slug: str) -> dict[str, Any]:
        """The JSON Schema of a collection's metadata."""
        schema: dict[str, Any] = self._api.json("getCollectionSchema", slug=slug)
        return schema

    def search(
        self,
        slug: str,
        query: Query,
        *,
        sort: Sort | None = None,
        facets: Iterable[str] = (),
        highlight: bool | Highlighting = False,
        page_size: int = 100,
    ) -> Search:
        """Searches a collection: `hits` counts, iterating gives the documents.

        The query is a text, or an object of the Elasticsearch query DSL; both are in docs/SEARCH.md of Adit. With `highlight`, hits have
        `snippets` in which words of the query stand. Those of the text need a key, and cost a document each, once a day.
        """
        body: dict[str, Any] = {"query": query, "facets": list(facets), "limit": page_size}
        body["highlight"] = asdict(highlight) if isinstance(highlight, Highlighting) else highlight
        if sort is not None:
            body["sort"] = sort

        def ask(cursor: str | None) -> SearchResponse:
            return decode(SearchResponse, self._api.json("search", slug=slug, body={**body, "cursor": cursor}), self._api)

        return Search(ask)

    def document(self, id: int) -> Document:
        """One version of one work."""
        return decode(Document, self._api.json("getDocument", id=id), self._api)

    def docsets(self) -> Iterator[Docset]:
        """The caller's docsets, newest first."""
        for page in pages(self._api, "listDocsets", DocsetList):
            yield from page.docsets

    def docset(self, id: int) -> Docset:
        """One docset."""
        return decode(Docset, self._api.json("getDocset", id=id), self._api)

    def create_docset(
        self,
        collection: str,
        query: Query | None = None,
        *,
        refs: Iterable[str] | None = None,
        union: Iterable[Docset | int] | None = None,
        intersection: Iterable[Docset | int] | None = None,
        difference: Iterable[Docset | int] | None = None,
        sample: Sample | None = None,
        name: str | None = None,
    ) -> Docset:
        """Freezes a selection of documents, or with `sample` so many of them, drawn at random.

        It is made of exactly one of these: all hits of a query; the current versions of the works that `refs` names, up to a million; what
        is in any (`union`) or in all (`intersection`) of these docsets, or in the first of them and in none of the others (`difference`).
        """
        combinations = {"union": union, "intersection": intersection, "difference": difference}
        of = {
            kind: [each if isinstance(each, int) else each.id for each in sets] for kind, sets in combinations.items() if sets is not None
        }
        if refs is not None and query is None and not of:
            # As lines: a body of JSON may not be so long.
            told = {"collection": collection, "name": name, "sample_size": sample and sample.size, "sample_seed": sample and sample.seed}
            given = {member: value for member, value in told.items() if value is not None}
            lines = "".join(f"{json.dumps(ref)}\n" for ref in refs).encode()
            return decode(Docset, self._api.json("createDocset", query=given, body=lines), self._api)
        body = {
            "collection": collection,
            "query": query,
            "refs": None if refs is None else list(refs),
            "from": of or None,
            "sample": sample and asdict(sample),
            "name": name,
        }
        return decode(Docset, self._api.json("createDocset", body=body), self._api)

    def follow_share(self, link: str) -> Docset:
        """Follows a link to somebody else's docset, which this key can read from now on, until the link expires or is revoked."""
        # The key goes to this server whatever the link says.
        token = httpx.URL(link).path.rpartition("/")[2]
        return decode(Docset, self._api.json("followShare", token=token), self._api)

    def create_watch(self, slug: str, query: Query, *, webhook: str | None = None, name: str | None = None) -> MadeWatch:
        """Saves a query: what is new of its hits after each import becomes a docset, and the URL `webhook` is told of it."""
        body = {"query": query, "webhook": webhook, "name": name}
        return decode(MadeWatch, self._api.json("createWatch", slug=slug, body=body), self._api)

    def watches(self) -> Iterator[Watch]:
        """The caller's watches, newest first."""
        for page in pages(self._api, "listWatches", WatchList):
            yield from page.watches

    def watch(self, id: int) -> WatchWithNotices:
        """One watch, with what it has found."""
        return decode(WatchWithNotices, self._api.json("getWatch", id=id), self._api)

    def package(self, id: int) -> Package:
        """One package."""
        return decode(Package, self._api.json("getPackage", id=id), self._api)

    def me(self, *, docset: int | None = None) -> Me:
        """The key, its quotas and its use; with the number of a docset also what a package of it would cost."""
        query = {} if docset is None else {"docset": docset}
        return decode(Me, self._api.json("getMe", query=query), self._api)
