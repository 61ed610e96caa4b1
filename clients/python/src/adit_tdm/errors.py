"""What can go wrong, as exceptions. Problem details (RFC 9457) become exceptions here and nowhere else."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import httpx

from ._printable import printable

PREFIX = "urn:adit:problem:"
# The longest pause that a server is believed to want, in seconds.
LONGEST_PAUSE = 86_400


class AditError(Exception):
    """Anything that this package raises.

    `type`, `title`, `detail` and `status` are those of the server's problem details; `type` is `about:blank` and `status` None where
    the error did not come from the server. `members` has what the problem tells besides, such as `formats` of an unknown format.
    """

    def __init__(
        self,
        title: str,
        detail: str = "",
        *,
        type: str = "about:blank",
        status: int | None = None,
        members: dict[str, Any] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.type = type
        self.title = title
        self.detail = detail
        self.status = status
        self.members = members or {}
        self.request_id = request_id
        """What to name when you ask the operator."""
        self.retry_after = retry_after
        """Seconds after which the server asks to try again."""
        numbered = f"{title} ({status})" if status else title
        # The message goes to terminals, as it does in a traceback; title and detail are as the server has sent them.
        super().__init__(printable(f"{numbered}: {detail}" if detail else numbered))

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status is not None and (self.status >= 500 or self.status in (408, 429))


class Unreachable(AditError):
    """No answer came: the server cannot be reached, or the connection broke."""

    @property
    def may_pass(self) -> bool:
        """Always."""
        return True


class DamagedDownload(AditError):
    """What arrived is not what the server announced."""


class TargetExists(AditError, FileExistsError):
    """Another file is where a download is to be; `overwrite=True` replaces it."""


class WaitTimeout(AditError, TimeoutError):
    """The package was not finished in the time that was given; it is still being built."""


class Problem(AditError):
    """The server's refusal. The kinds that programs tell apart are classes of their own; `type` tells all of them."""

    kinds: ClassVar[tuple[str, ...]] = ()


class InvalidRequest(Problem):
    """The request cannot be served as it is; `detail` says why."""

    kinds = (
        "invalid-request",
        "malformed-json",
        "invalid-query",
        "unknown-field",
        "unknown-format",
        "invalid-webhook",
        "misdirected-request",
        "invalid-recipe",
        "invalid-cursor",
        "empty-docset",
        "unknown-refs",
        "body-too-large",
    )


class Unauthorized(Problem):
    """There is no key, or it is unknown, revoked or expired; `members["expired"]` says since when it is expired."""

    kinds = ("unauthorized", "key-expired")


class Forbidden(Problem):
    """The key may not do this; `members["scopes"]` names the scopes of which it needs one."""

    kinds = ("forbidden", "invalid-link")


class RightsMissing(Problem):
    """The key may not have the document's files; `members["entitlement"]` is what it needs, None where nobody gets them."""

    kinds = ("rights-missing",)


class Withdrawn(Problem):
    """The document was withdrawn: nobody is given its files any more."""

    kinds = ("withdrawn",)


class VersionFreed(Problem):
    """The version is superseded and in no docset, and its files were freed; `members["ref"]` finds the current one."""

    kinds = ("version-freed",)


class NotFound(Problem):
    """It is not there, or it is somebody else's; or the client's URL is not that of a server."""

    kinds = ("not-found", "no-such-path")


class DamagedFile(Problem):
    """What the service has stored of the file is damaged; `members["document"]` and `members["format"]` name it for the operator."""

    kinds = ("damaged-file",)


class NotReady(Problem):
    """The package is still being built."""

    kinds = ("package-not-ready",)


class PackageFailed(Problem):
    """The package could not be built."""

    kinds = ("package-failed",)


class PackageErased(Problem):
    """The package has expired; asking the docset for it again builds the same bytes."""

    kinds = ("package-erased",)


class OriginGone(Problem):
    """A docset that this one is made of was deleted, so it cannot be made anew."""

    kinds = ("origin-gone",)


class TooManyWatches(Problem):
    """The key has as many watches as it may; delete one."""

    kinds = ("too-many-watches",)


class LimitReached(Problem):
    """The key has as many docsets, or as much of packages, as it may; delete some.

    `members["of"]` tells of what, and `members["limit"]` how much of it there may be.
    """

    kinds = ("limit-reached",)


class CursorGone(Problem):
    """The corpus has moved on since the iteration began; begin it again."""

    kinds = ("cursor-gone",)


class QuotaSpent(Problem):
    """The day's quota of documents is spent, or the minute's of requests.

    `members["violated-policies"]` tells which, and `retry_after` when there is a new one.
    """

    kinds = ("quota-spent",)


class TooManyRequests(Problem):
    """The client has too many searches in line, or without a key has used up its minute.

    `retry_after` tells when to try again.
    """

    kinds = ("too-many-requests",)


class Unavailable(Problem):
    """A part of the service is away, or it took too long."""

    kinds = ("unavailable", "timeout", "too-many-connections", "body-stalled")


# What servers between the client and Adit, which send no problem details, mean by their statuses.
_BY_STATUS = {401: Unauthorized, 403: Forbidden, 404: NotFound, 503: Unavailable}
_CLASSES = {kind: found for found in Problem.__subclasses__() for kind in found.kinds}


def problem(response: httpx.Response, content: bytes) -> AditError:
    """Reads an answer that is no success, and its body."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = {}
    if not isinstance(body, dict):
        body = {}
    kind = str(body.get("type", "about:blank"))
    detail = str(body.get("detail", ""))
    if response.status_code == 401:
        detail += "; put the key into ADIT_API_KEY or Client(key=…)"
    found = _CLASSES.get(kind.removeprefix(PREFIX)) or _BY_STATUS.get(response.status_code, Problem)
    return found(
        str(body.get("title") or response.reason_phrase or "The server refused"),
        detail.removeprefix("; "),
        type=kind,
        status=response.status_code,
        members={name: body[name] for name in body.keys() - {"type", "title", "status", "detail"}},
        request_id=response.headers.get("x-request-id"),
        retry_after=retry_after(response),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of `Retry-After`. Its other form, a date, is sent by no server of this API."""
    try:
        return float(min(max(0, int(response.headers["retry-after"][:20])), LONGEST_PAUSE))
    except (KeyError, ValueError):
        return None
