"""A TCP proxy that makes trouble on the way: it cuts connections, and it answers in the server's place that it is away."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

AWAY = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Proxy:
    """Leads connections to a server. Connection `n` ends after `cuts[n]` bytes of answers; 0 stands for an answer that the server is away.

    Connections beyond the list are led to their ends.
    """

    def __init__(self, url: str, cuts: Sequence[int]) -> None:
        place = urlsplit(url)
        self._server = (place.hostname or "", place.port or 80)
        self.cut(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._cuts: list[int]
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self.url = "http://{}:{}".format(*self._listener.getsockname())
        self.requests: list[bytes] = []
        """What came of requests, in pieces: a head is in one of them."""
        self.connections = 0

    def ranges(self, of: bytes = b"") -> list[int]:
        """Where the ranges began that were asked for, in order, by requests whose head has `of` in it."""
        found = (re.search(rb"(?i)\r\nrange: bytes=(\d+)-", request) for request in self.requests if of in request)
        return [int(match[1]) for match in found if match]

    def cut(self, cuts: Sequence[int]) -> None:
        """Cuts the connections that come next."""
        self._cuts = list(cuts)

    def cuts_left(self) -> int:
        """Connections that are still to be cut."""
        return len(self._cuts)

    def _run(self, job: object, *arguments: object) -> None:
        thread = threading.Thread(target=job, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(inner)
                self._run(self._lead, inner, self._cuts.pop(0) if self._cuts else None)

    def _lead(self, inner: socket.socket, cut: int | None) -> None:
        with suppress(OSError):
            if cut == 0:
                self.requests.append(inner.recv(1 << 16))
                inner.sendall(AWAY)
            else:
                self._lead_to_server(inner, cut)
        with suppress(OSError):
            # Closing alone would not end a connection that another thread reads from.
            inner.shutdown(socket.SHUT_RDWR)
        inner.close()

    def _lead_to_server(self, inner: socket.socket, left: int | None) -> None:
        with socket.create_connection(self._server) as outer:
            self._sockets.append(outer)
            self._run(self._ask, inner, outer)
            while left != 0 and (chunk := outer.recv(1 << 16 if left is None else min(left, 1 << 16))):
                inner.sendall(chunk)
                left = None if left is None else left - len(chunk)

    def _ask(self, inner: socket.socket, outer: socket.socket) -> None:
        with suppress(OSError):
            while chunk := inner.recv(1 << 16):
                self.requests.append(chunk)
                outer.sendall(chunk)
            outer.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Ends all connections."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()


@contextmanager
def proxy(url: str, cuts: Sequence[int]) -> Iterator[Proxy]:
    """A proxy that is there until the end of the block."""
    made = Proxy(url, cuts)
    made._run(made._accept)
    try:
        yield made
    finally:
        made.close()
