"""What the API answers, as plain data. Fields are named and described as in openapi.yaml; a test holds the two together.

What can ask the server for more stands in `documents`, `docsets` and `packages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal, TypeAlias

Layout: TypeAlias = Literal["flat", "bag", "tar.zst", "jsonl", "parquet"]
Compression: TypeAlias = Literal["none", "gzip", "zstd"]
Sort: TypeAlias = Literal["relevance", "date", "ref"]
Status: TypeAlias = Literal["accepted", "running", "successful", "failed", "dismissed"]
Content: TypeAlias = Literal["none", "available", "erased"]
Role: TypeAlias = Literal["miner", "packager", "operator"]
Metadata: TypeAlias = dict[str, Any]
"""Dublin Core terms."""


@dataclass
class FormatTotal:
    """How many files of one format there are, and their decoded bytes."""

    format: str
    documents: int
    bytes: int


@dataclass
class Collection:
    """A corpus."""

    slug: str
    name: str
    description: str
    license: str | None
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
class Member:
    """A member of a docset."""

    id: int
    ref: str
    url: str


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
class Estimate:
    """What a package would hold and weigh."""

    layout: Layout
    formats: list[str]
    documents: int
    included: int
    bytes: int
    exact: bool
    seconds: int
    cost: int
    quota_after: int | None


@dataclass
class Bytes:
    """Archive bytes written and to be written."""

    done: int
    total: int | None


@dataclass
class Documents:
    """Counts of documents in a package."""

    requested: int
    done: int
    included: int | None
    omitted: int | None


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
class PackageCost:
    """What a package of a docset would cost."""

    docset: int
    cost: int
    quota_after: int | None


@dataclass
class Me:
    """A key, as its holder sees it."""

    id: int
    name: str
    role: Role
    quota: int | None
    remaining: int | None
    allowances: Allowances
    usage: list[DayUsage]
    package: PackageCost | None
