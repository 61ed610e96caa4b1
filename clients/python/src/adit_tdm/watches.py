"""Watches: saved queries, and what they find after imports."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ._decode import Bound, decode
from .docsets import Docset
from .models import NoticeState


@dataclass
class Watch(Bound):
    """A saved query. What is new of its hits after an import becomes a docset, and a webhook is told."""

    id: int
    name: str | None
    collection: str
    query: str | dict[str, Any]
    webhook: str | None
    webhook_gone: datetime | None
    corpus_version: int
    created: datetime
    url: str

    def delete(self) -> None:
        """Deletes it. The docsets that it has made stay."""
        self._api.json("deleteWatch", id=self.id)


@dataclass
class MadeWatch(Watch):
    """A watch that was just made. `secret` signs the messages to the webhook, and is shown only now."""

    secret: str | None


@dataclass
class Notice(Bound):
    """What a watch has found once, and how far the message about it is."""

    id: str
    # The contract's name is that of a method here.
    docset_url: str = field(metadata={"member": "docset"})
    documents: int
    corpus_version: int
    created: datetime
    state: NoticeState
    attempts: int
    next_attempt: datetime | None
    delivered: datetime | None
    status: int | None
    problem: str | None

    def docset(self) -> Docset:
        """The docset of what was new."""
        return decode(Docset, self._api.json("getDocset", id=self.docset_url.rpartition("/")[2]), self._api)


@dataclass
class WatchWithNotices(Watch):
    """A watch with the newest of what it has found."""

    notices: list[Notice]


@dataclass
class WatchList:
    """A page of watches, newest first."""

    watches: list[Watch]
    next: str | None
