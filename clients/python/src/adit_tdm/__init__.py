"""Client of Adit: search a corpus, freeze the result as a docset, take it home as a package.

from adit_tdm import Client

with Client("http://127.0.0.1:8080", key="adit_…") as adit:
    docset = adit.create_docset("my-corpus", "title:mining")
    docset.package(["txt", "meta"]).download("corpus.zip")
"""

from ._version import __version__
from .assets import Asset
from .client import Client
from .docsets import Docset
from .documents import Document, Hit, Search
from .errors import (
    AditError,
    CursorGone,
    DamagedDownload,
    Forbidden,
    InvalidRequest,
    NotFound,
    NotReady,
    PackageErased,
    PackageFailed,
    Problem,
    QuotaSpent,
    Unauthorized,
    Unavailable,
    Unreachable,
    WaitTimeout,
)
from .models import CatalogEntry, Collection, Estimate, FacetCount, File, FormatTotal, Me, Member
from .packages import Package

__all__ = [
    "AditError",
    "Asset",
    "CatalogEntry",
    "Client",
    "Collection",
    "CursorGone",
    "DamagedDownload",
    "Docset",
    "Document",
    "Estimate",
    "FacetCount",
    "File",
    "Forbidden",
    "FormatTotal",
    "Hit",
    "InvalidRequest",
    "Me",
    "Member",
    "NotFound",
    "NotReady",
    "Package",
    "PackageErased",
    "PackageFailed",
    "Problem",
    "QuotaSpent",
    "Search",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "WaitTimeout",
    "__version__",
]
