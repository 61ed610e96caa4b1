"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar

from ._api import Api
from ._decode import decode
from .errors import AditError

# The most entries that a page can have: lists are read to their end as a rule.
LIMIT = 1000


class Page(Protocol):
    """A page that knows where the next one begins."""

    next: str | None


P = TypeVar("P", bound=Page)


def pages(api: Api, operation: str, kind: type[P], *, query: Mapping[str, Any] | None = None, **places: Any) -> Iterator[P]:
    """Asks for page after page."""
    asked = {**(query or {}), "limit": LIMIT}
    while True:
        page = decode(kind, api.json(operation, query=asked, **places), api)
        yield page
        if page.next is None:
            return
        if asked.get("cursor") == page.next:
            raise AditError("The server's answer cannot be used", "it gives the same page again and again")
        asked["cursor"] = page.next
