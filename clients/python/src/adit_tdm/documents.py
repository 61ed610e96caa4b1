"""Documents, and what a search finds of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ._api import MOST
from ._checks import check_asset_name
from ._decode import Bound
from ._download import download
from .errors import AditError, DamagedDownload
from .models import AccessLevel, FacetCount, File, Metadata, Snippet, Tdm, TextWithheld, Withdrawal

# So deep a search can be paged.
DEPTH = 100_000


@dataclass
class Document(Bound):
    """One version of one work. `access` tells who may have its files: everybody, keys with the `entitlement`, or nobody."""

    id: int
    ref: str
    version: int
    current: bool
    collection: str
    license: str | None
    access: AccessLevel
    entitlement: str | None
    tdm: Tdm | None
    withdrawn: Withdrawal | None
    metadata: Metadata
    files: list[File]
    url: str

    def text(self) -> str:
        """The text. Bytes that are no UTF-8 become U+FFFD; `content("txt")` gives them as they are."""
        most = max((file.bytes for file in self.files), default=0) + MOST
        content = self._api.send("getDocumentText", headers={"accept": "text/plain"}, most=most, id=self.id)
        return content.decode("utf-8", errors="replace")

    def content(self, format: str) -> bytes:
        """The file in a format, checked against its SHA-256."""
        file = self.file(format)
        content = self._api.send("getDocumentFile", most=file.bytes, id=self.id, format=format)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DamagedDownload("The file is damaged", f"{format} of document {self.id} is not what its SHA-256 says")
        return content

    def download(self, format: str, path: str | Path, *, progress: bool | None = None, overwrite: bool = False) -> Path:
        """Downloads the file in a format to `path`, or into the folder `path`."""
        file, target = self.file(format), Path(path)
        if target.is_dir():
            target /= check_asset_name(f"{self.id}.{format}")
        return download(
            lambda headers: self._api.stream("getDocumentFile", headers, id=self.id, format=format),
            target,
            size=file.bytes,
            sha256=file.sha256,
            patience=self._api.patience,
            progress=progress,
            overwrite=overwrite,
        )

    def file(self, format: str) -> File:
        """What is known of the file in a format."""
        for file in self.files:
            if file.format == format:
                return file
        known = ", ".join(file.format for file in self.files)
        raise AditError("There is no such format", f"document {self.id} has no {format!r}; there are: {known}")


@dataclass
class Hit(Document):
    """A document that a search has found.

    `snippets`, by field, are there where they were asked for; `text_withheld` tells why there are none of the text.
    """

    score: float | None
    snippets: dict[str, list[Snippet]] | None
    text_withheld: TextWithheld | None


@dataclass
class SearchResponse:
    """A page of hits."""

    documents: list[Hit]
    facets: dict[str, list[FacetCount]]
    hits: int
    corpus_version: int
    next: str | None


class Search:
    """What a search has found. Iterating fetches page after page; all of them show the same state of the corpus."""

    def __init__(self, ask: Callable[[str | None], SearchResponse]) -> None:
        self._ask = ask
        self._first = ask(None)

    @property
    def hits(self) -> int:
        """Exact number of hits."""
        return self._first.hits

    @property
    def facets(self) -> dict[str, list[FacetCount]]:
        """The most frequent values of each wanted facet, over all hits."""
        return self._first.facets

    @property
    def corpus_version(self) -> int:
        """The state of the corpus that was searched."""
        return self._first.corpus_version

    def __len__(self) -> int:
        return self.hits

    def __iter__(self) -> Iterator[Hit]:
        page, seen = self._first, len(self._first.documents)
        yield from page.documents
        while page.next is not None:
            page = self._ask(page.next)
            seen += len(page.documents)
            yield from page.documents
        if DEPTH <= seen < self.hits:
            raise AditError("The search has more hits than can be paged through", f"these were {seen} of {self.hits}; make a docset of it")

    def __repr__(self) -> str:
        return f"<Search: {self.hits} hits>"
