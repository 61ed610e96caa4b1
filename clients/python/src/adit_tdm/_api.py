"""Requests to one server with one key: retries, redirects, problems. Nothing here knows what the answers mean."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from ._checks import check_redirect
from ._operations import OPERATIONS
from .errors import AditError, Unreachable, problem

# Redirects that a download follows.
HOPS = 5
# Tries of a request that got no answer.
TRIES = 3
# The first wait before another try where the server names none, in seconds; each further one is twice as long.
FIRST_WAIT = 0.5
# The most bytes of an answer that are read, and of a problem.
MOST = 64 << 20
MOST_OF_PROBLEM = 64 << 10


class Api:
    """A server, and the key to show it."""

    def __init__(self, url: str, key: str | None, *, timeout: float, patience: float, user_agent: str) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        self._key = key
        # No header of this client has the key: only requests to the server itself get it.
        headers = {"user-agent": user_agent, "accept-encoding": "gzip"}
        self._http = httpx.Client(headers=headers, timeout=timeout)

    def close(self) -> None:
        """Closes all connections."""
        self._http.close()

    def json(self, operation: str, *, query: Mapping[str, Any] | None = None, body: Any = None, **places: Any) -> Any:
        """Calls an operation whose answer is JSON, or empty. A body of bytes is NDJSON."""
        headers = {"content-type": "application/x-ndjson"} if isinstance(body, bytes) else None
        content = self.send(operation, query=query, body=body, headers=headers, **places)
        try:
            return json.loads(content, parse_constant=_no_number) if content else None
        except (ValueError, RecursionError) as error:
            detail = f"{self.url} sent no JSON; is the URL that of a server?"
            raise AditError("The server's answer cannot be read", detail) from error

    def send(
        self,
        operation: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        most: int = MOST,
        **places: Any,
    ) -> bytes:
        """Calls an operation and reads its answer, of at most so many bytes.

        While the server is busy or away it is asked again, for as long as there is patience.
        """
        request = self._request(operation, query, body, headers, places)
        deadline, wait, tries = time.monotonic() + self.patience, FIRST_WAIT, 0
        while True:
            try:
                with self._answer(request) as response:
                    return _read(response, most)
            except AditError as error:
                tries += 1
                # Even a server that does not mind is not asked without any pause.
                pause = wait if error.retry_after is None else max(error.retry_after, FIRST_WAIT)
                if not self._again(request, error, tries) or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause)
            wait *= 2

    @contextmanager
    def stream(self, operation: str, headers: Mapping[str, str], **places: Any) -> Iterator[httpx.Response]:
        """Calls an operation once, without reading its answer. Redirects are followed without the key, and without `If-Range`.

        The server has compared the entity tag; object stores have others.
        """
        request = self._request(operation, None, None, headers, places)
        for _ in range(HOPS + 1):
            with self._answer(request, redirect=True) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                there = {name: value for name, value in headers.items() if name != "if-range"}
                try:
                    place = check_redirect(response.url, response.url.join(response.headers["location"]))
                except httpx.InvalidURL as error:
                    raise AditError("The download cannot be found", "it was redirected to no URL") from error
                request = self._http.build_request("GET", place, headers=there)
        raise AditError("The download cannot be found", f"it was redirected more than {HOPS} times")

    def _request(
        self,
        operation: str,
        query: Mapping[str, Any] | None,
        body: Any,
        headers: Mapping[str, str] | None,
        places: Mapping[str, Any],
    ) -> httpx.Request:
        method, path = OPERATIONS[operation]
        path = path.format(**{name: quote(str(value), safe="") for name, value in places.items()})
        request = self._http.build_request(method, self.url + path, params=query, headers=headers, **_content(body))
        if self._key:
            request.headers["authorization"] = f"Bearer {self._key}"
        return request

    @contextmanager
    def _answer(self, request: httpx.Request, *, redirect: bool = False) -> Iterator[httpx.Response]:
        """Sends a request; whatever is no success is raised."""
        try:
            response = self._http.send(request, stream=True)
            try:
                if redirect and response.has_redirect_location:
                    yield response
                elif response.has_redirect_location:
                    detail = f"it is at {response.headers['location'][:2000]}; give Client that URL"
                    raise AditError("The server has moved", detail, status=response.status_code)
                elif response.is_success:
                    yield response
                else:
                    raise problem(response, _read(response, MOST_OF_PROBLEM, cut=True))
            finally:
                response.close()
        except (httpx.TransportError, httpx.DecodingError) as error:
            # Of the URL only the host is told: one that is signed is as good as a key for a while.
            detail = f"{request.url.host}: {error or type(error).__name__}"
            unreachable = Unreachable("The server cannot be reached", detail)
            raise unreachable from error

    def _again(self, request: httpx.Request, error: AditError, tries: int) -> bool:
        """Whether a request may be sent once more: it was refused for now, or it never arrived, or it changes nothing."""
        if error.status is not None:
            return error.status in (429, 503)
        unsent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
        return isinstance(error, Unreachable) and tries < TRIES and (unsent or request.method in ("GET", "HEAD"))


def _content(body: Any) -> dict[str, Any]:
    """A body: JSON, or lines of it that are written already."""
    return {"content": body} if isinstance(body, bytes) else {"json": body}


def _read(response: httpx.Response, most: int, *, cut: bool = False) -> bytes:
    """Reads a body, decoded, of `most` bytes; what is longer is an error, or is cut."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity", "gzip"):
        # Codings may stand upon each other, and each makes a thousand times as many bytes.
        raise AditError("The server's answer cannot be read", f"it is coded as {coding!r:.200}, which was not asked for")
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > most:
            if cut:
                break
            raise AditError("The server's answer cannot be read", f"it has more than {most} bytes")
    return bytes(content[:most])


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")
