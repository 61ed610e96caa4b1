"""Client of Adit: search a corpus, freeze the result as a docset, take it home as a package.

from adit_tdm import Client

with Client("http://127.0.0.1:8080", key="adit_…") as adit:
    docset = adit.create_docset("my-corpus", "title:mining")
    docset.package(["txt", "meta"]).download("corpus.zip")
"""

from ._version import __version__
from .assets import Asset
from .client import Client
from .docsets import Difference, Docset, Share
from .documents import Document, Hit, Search
from .errors import (
    AditError,
    CursorGone,
    DamagedDownload,
    DamagedFile,
    Forbidden,
    InvalidRequest,
    LimitReached,
    NotFound,
    NotReady,
    OriginGone,
    PackageErased,
    PackageFailed,
    Problem,
    QuotaSpent,
    RightsMissing,
    TargetExists,
    TooManyRequests,
    TooManyWatches,
    Unauthorized,
    Unavailable,
    Unreachable,
    VersionFreed,
    WaitTimeout,
    Withdrawn,
)
from .models import (
    CatalogEntry,
    Collection,
    DiffCounts,
    DiffLine,
    Estimate,
    FacetCount,
    File,
    FormatTotal,
    Highlighting,
    Me,
    Member,
    Origin,
    PackageCheck,
    Sample,
    Snippet,
    Tdm,
    Withdrawal,
)
from .packages import Package
from .watches import Notice, Watch

__all__ = [
    "AditError",
    "Asset",
    "CatalogEntry",
    "Client",
    "Collection",
    "CursorGone",
    "DamagedDownload",
    "DamagedFile",
    "DiffCounts",
    "DiffLine",
    "Difference",
    "Docset",
    "Document",
    "Estimate",
    "FacetCount",
    "File",
    "Forbidden",
    "FormatTotal",
    "Highlighting",
    "Hit",
    "InvalidRequest",
    "LimitReached",
    "Me",
    "Member",
    "NotFound",
    "NotReady",
    "Notice",
    "Origin",
    "OriginGone",
    "Package",
    "PackageCheck",
    "PackageErased",
    "PackageFailed",
    "Problem",
    "QuotaSpent",
    "RightsMissing",
    "Sample",
    "Search",
    "Share",
    "Snippet",
    "TargetExists",
    "Tdm",
    "TooManyRequests",
    "TooManyWatches",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "VersionFreed",
    "WaitTimeout",
    "Watch",
    "Withdrawal",
    "Withdrawn",
    "__version__",
]
