"""What the API answers, as plain data. Fields are named and described as in openapi.yaml; a test holds the two together.

What can ask the server for more stands in `documents`, `docsets` and `packages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

Layout: TypeAlias = Literal["flat", "bag", "tar.zst", "jsonl", "parquet"]
Compression: TypeAlias = Literal["none", "gzip", "zstd"]
Sort: TypeAlias = Literal["relevance", "date", "ref"]
Status: TypeAlias = Literal["accepted", "running", "successful", "failed", "dismissed"]
Content: TypeAlias = Literal["none", "available", "erased"]
Role: TypeAlias = Literal["miner", "packager", "operator"]
# fmt: off
Scope: TypeAlias = Literal[
    "search", "documents:read", "docsets:read", "docsets:write", "packages:read", "packages:write", "watches", "usage", "build"
]
# fmt: on
AccessLevel: TypeAlias = Literal["open", "restricted", "metadata"]
TextWithheld: TypeAlias = Literal["key", "rights", "quota"]
Change: TypeAlias = Literal["added", "changed", "withdrawn"]
NoticeState: TypeAlias = Literal["silent", "pending", "delivered", "failed"]
# fmt: off
Language: TypeAlias = Literal[
    "ar", "da", "de", "el", "en", "es", "fi", "fr", "hu", "it", "ja", "nl", "no", "pt", "ro", "ru", "sv", "ta", "tr", "zh"
]
# fmt: on
Metadata: TypeAlias = dict[str, Any]
"""Dublin Core terms."""
Query: TypeAlias = str | Mapping[str, Any]
"""What is looked for: a text in the query language, or an object of the Elasticsearch query DSL; see docs/SEARCH.md of Adit."""


@dataclass
class FormatTotal:
    """How many files of one format there are, and their decoded bytes."""

    format: str
    documents: int
    bytes: int


@dataclass
class Tdm:
    """What a rightholder says of text and data mining (TDMRep): whether the rights are reserved (1 or 0), and the URL of the policy."""

    reservation: int
    policy: str | None


@dataclass
class Withdrawal:
    """That a work was withdrawn: its files are given to nobody any more."""

    at: datetime
    reason: str


@dataclass
class Collection:
    """A corpus. `access`, `entitlement` and `tdm` hold for documents that say nothing themselves."""

    slug: str
    name: str
    description: str
    license: str | None
    language: Language | None
    access: AccessLevel
    entitlement: str | None
    tdm: Tdm | None
    documents: int
    formats: list[FormatTotal]
    corpus_version: int
    updated: datetime
    url: str


@dataclass
class CollectionList:
    """All collections."""

    collections: list[Collection]


@dataclass
class File:
    """One rendition of a document."""

    format: str
    media_type: str
    bytes: int
    sha256: str
    url: str


@dataclass
class FacetCount:
    """How many hits have one value in a field."""

    value: str
    count: int


@dataclass
class Highlighting:
    """Of which fields snippets are wanted (None: of all), and how many of one field (1 to 10)."""

    fields: list[str] | None = None
    size: int = 3


@dataclass
class Snippet:
    """A piece of a text: words of the query stand at `text[start:end]` for each `(start, end)` of `marks`."""

    text: str
    marks: list[tuple[int, int]]

    def marked(self, before: str, after: str) -> str:
        """The piece with something put around each of these words. For HTML, escape the parts of `text` yourself."""
        parts, at = [], 0
        for start, end in self.marks:
            parts += [self.text[at:start], before, self.text[start:end], after]
            at = end
        return "".join([*parts, self.text[at:]])


@dataclass
class Sample:
    """A random sample: the same seed draws the same works out of the same works, on every server."""

    size: int
    seed: int


@dataclass
class WatchOrigin:
    """What a watch has found: those hits of its query that came after the corpus version `since`."""

    id: int
    query: str | dict[str, Any]
    since: int


@dataclass
class Origin:
    """How a docset was made: of a query, of so many refs, of other docsets or by a watch, and the sample that was drawn."""

    query: str | dict[str, Any] | None
    refs: int | None
    # The contract's name is a word of Python's.
    combination: dict[str, list[int]] | None = field(metadata={"member": "from"})
    watch: WatchOrigin | None
    sample: Sample | None


@dataclass
class Member:
    """A member of a docset."""

    id: int
    ref: str
    url: str
    withdrawn: Withdrawal | None


@dataclass
class MemberList:
    """A page of members."""

    members: list[Member]
    next: str | None


@dataclass
class CatalogEntry(Member):
    """A member with its metadata."""

    metadata: Metadata


@dataclass
class Catalog:
    """A page of a catalog."""

    documents: list[CatalogEntry]
    next: str | None


@dataclass
class ChangedView(Member):
    """A document that came in the place of another version of its work, `was`."""

    was: int


@dataclass
class DiffCounts:
    """How many documents came, changed and left."""

    added: int
    changed: int
    withdrawn: int


@dataclass
class Diff:
    """A page of a difference."""

    counts: DiffCounts
    added: list[Member]
    changed: list[ChangedView]
    withdrawn: list[Member]
    next: str | None


@dataclass
class DiffLine(Member):
    """What became of a document; where it changed, `was` is the version that left."""

    change: Change
    was: int | None


@dataclass
class Omitted:
    """Members that a package leaves out: they have none of the formats, the key is not entitled to their files, or they were withdrawn."""

    format: int
    rights: int
    withdrawn: int


@dataclass
class Estimate:
    """What a package would hold and weigh."""

    layout: Layout
    formats: list[str]
    documents: int
    included: int
    omitted: Omitted
    bytes: int
    exact: bool
    seconds: int
    cost: int
    quota_after: int | None


@dataclass
class PackageCheck:
    """What a check of a package has found to be right."""

    assets: int
    bytes: int


@dataclass
class Bytes:
    """Archive bytes written and to be written."""

    done: int
    total: int | None


@dataclass
class Documents:
    """Counts of documents in a package. `rights` and `withdrawn` are those of the omitted that were withheld, known from the first."""

    requested: int
    done: int
    included: int | None
    omitted: int | None
    rights: int
    withdrawn: int


@dataclass
class DayUsage:
    """Use on one day (UTC)."""

    date: date
    documents: int


@dataclass
class Allowance:
    """What a key may use in one window of time."""

    limit: int | None
    own: bool
    role_limit: int | None
    used: int | None
    remaining: int | None
    window_seconds: int
    reset: datetime


@dataclass
class Allowances:
    """What a key may use: documents a day, requests a minute."""

    documents: Allowance
    requests: Allowance


@dataclass
class Holding:
    """What a key has, and may have, at one time."""

    limit: int | None
    own: bool
    role_limit: int | None
    used: int


@dataclass
class Holdings:
    """What a key has, and may have, at one time. What is deleted or expires is free again."""

    docsets: Holding
    packages: Holding
    unfinished: Holding
    stored_bytes: Holding


@dataclass
class PackageCost:
    """What a package of a docset would cost."""

    docset: int
    cost: int
    quota_after: int | None


@dataclass
class Me:
    """A key, as its holder sees it.

    It tells what the key may do (`scopes`), until when (`expires`), and the hour in which it was last used, as far as is stored.
    """

    id: int
    name: str
    role: Role
    scopes: list[Scope]
    expires: datetime | None
    last_used: datetime | None
    entitlements: list[str]
    quota: int | None
    remaining: int | None
    allowances: Allowances
    holdings: Holdings
    usage: list[DayUsage]
    package: PackageCost | None
