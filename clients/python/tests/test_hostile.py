"""Servers that mean harm: what they answer is told of, and writes nothing but what was asked for."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from adit_tdm import AditError, Client, TargetExists
from adit_tdm._checks import check_asset_name, is_private

CONTENT = b"0123456789"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
TIME = "2026-11-30T00:00:00Z"
PACKAGE: dict[str, Any] = {
    "id": 7,
    "docset": 1,
    "status": "successful",
    "terminal": True,
    "percent": 100,
    "documents": {"requested": 1, "done": 1, "included": 1, "omitted": 0, "rights": 0, "withdrawn": 0},
    "bytes": {"total": 10, "done": 10},
    "eta_seconds": None,
    "poll_after": None,
    "formats": ["txt"],
    "layout": "flat",
    "compression": None,
    "shard_bytes": None,
    "dehydrated": False,
    "delta_from": None,
    "salt": "0000000000c0ffee",
    "fingerprint": SHA256,
    "content": "available",
    "download": None,
    "assets": None,
    "size": 10,
    "sha256": SHA256,
    "problem": None,
    "created": TIME,
    "started": TIME,
    "finished": TIME,
    "expires": TIME,
    "url": "",
}
ASSET: dict[str, Any] = {
    "name": "a.zip",
    "media_type": "application/zip",
    "size": 10,
    "sha256": SHA256,
    "documents": None,
    "url": "",
    "link": "",
}
LIST = "/api/packages/7/assets"

# Status, headers and body.
Answer = tuple[int, dict[str, str], bytes]


class Hostile:
    """Answers what a test wants, and remembers who showed a key for what."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, bool]] = []
        self.url = ""

    def answer(self, path: str, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.answers[path] = (status, headers or {}, body)

    def client(self, **options: Any) -> Client:
        return Client(self.url, "key", patience=0.3, **options)


@contextmanager
def hostile() -> Iterator[Hostile]:
    made = Hostile()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            made.asked.append((path, "authorization" in self.headers))
            status, headers, body = made.answers.get(path, (404, {}, b"{}"))
            self.send_response(status)
            for name, text in headers.items():
                self.send_header(name, text)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            # Whoever has read enough has gone.
            with suppress(OSError):
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        made.answer("/api/packages/7", PACKAGE)
        made.answer(LIST, {"assets": [ASSET]})
        made.answer(f"{LIST}/a.zip", CONTENT)
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("change", [
    {"name": ".bashrc"}, {"name": "../x"}, {"name": "/tmp/x"}, {"name": "a\\b"}, {"name": "con.zip"}, {"name": "a\n"}, {"name": ""},
    {"name": "x" * 201}, {"name": None}, {"sha256": "../x"}, {"sha256": SHA256.upper()}, {"size": -1}, {"size": "10"}, {"size": 1.5},
    {"size": True}, {"size": 1 << 62}, {"size": float("nan")}, {"size": 9}, {"sha256": "0" * 64}, {"name": "mine"},
])  # fmt: skip
def test_an_asset_that_cannot_be_is_told_of_and_not_written(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    for name in ("mine", ".bashrc"):
        (folder / name).write_bytes(b"precious")
    with hostile() as server, server.client() as client:
        server.answer(LIST, {"assets": [ASSET | change]})
        server.answer(f"{LIST}/mine", CONTENT)
        with pytest.raises(AditError):
            client.package(7).download_all(folder)
    assert files(tmp_path) == {"a/b/mine": b"precious", "a/b/.bashrc": b"precious"}


def test_what_is_there_is_replaced_only_when_it_is_said_so(tmp_path: Path) -> None:
    target = tmp_path / "a.zip"
    with hostile() as server, server.client() as client:
        for name, text in (("a.zip", "mine"), ("a.zip.part", "mine"), ("a.zip.part.etag", "a note")):
            (tmp_path / name).write_text(text)
            with pytest.raises(TargetExists, match="move it away"):
                client.package(7).download(target)
            assert files(tmp_path) == {name: text.encode()}
            (tmp_path / name).unlink()
        server.answer(LIST, {"assets": [ASSET | {"sha256": None}]})
        target.write_text("mine")
        with pytest.raises(TargetExists):
            client.package(7).download_all(tmp_path)
        assert target.read_text() == "mine"
        server.answer(LIST, {"assets": [ASSET]})
        client.package(7).download(target, overwrite=True)
        assert target.read_bytes() == CONTENT
        client.package(7).download(target)


@pytest.mark.parametrize("name", ["a.zip", "a.zip.part", "a.zip.part.etag"])
def test_no_symbolic_link_is_followed(tmp_path: Path, name: str) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "here"
    precious.write_text('""')
    folder.mkdir()
    (folder / name).symlink_to(precious)
    with hostile() as server, server.client() as client, pytest.raises(TargetExists):
        client.package(7).download(folder / "a.zip")
    assert precious.read_text() == '""'


def test_no_more_is_read_than_there_can_be(tmp_path: Path) -> None:
    bomb = gzip.compress(b"[" + b" " * (200 << 20))
    cases: list[tuple[bytes, dict[str, str]]] = [
        (bomb, {"content-encoding": "gzip"}),
        (gzip.compress(gzip.compress(b"{}")), {"content-encoding": "gzip, gzip"}),
        (b"{}", {"content-encoding": "br"}),
        (b"[" * 100_000, {}),
        (b'{"id": NaN}', {}),
    ]
    with hostile() as server, server.client() as client:
        for body, headers in cases:
            server.answer("/api/packages/7", body, headers=headers)
            with pytest.raises(AditError, match="cannot be read"):
                client.package(7)
        server.answer("/api/packages/7", PACKAGE)
        server.answer(f"{LIST}/a.zip", b"0" * (1 << 20))
        with pytest.raises(AditError):
            client.package(7).download(tmp_path / "a.zip")
        server.answer(f"{LIST}/a.zip", gzip.compress(CONTENT), headers={"content-encoding": "gzip"})
        with pytest.raises(AditError):
            client.package(7).download(tmp_path / "a.zip")
    assert sum(len(content) for content in files(tmp_path).values()) <= len(CONTENT)


def test_redirects_end_and_are_followed_without_the_key(tmp_path: Path) -> None:
    place = f"{LIST}/a.zip"
    with hostile() as other, hostile() as server, server.client() as client:
        other.answer("/a", CONTENT)
        server.answer(place, b"", status=302, headers={"location": f"{other.url}/a"})
        client.package(7).download(tmp_path / "a.zip")
        assert other.asked == [("/a", False)]
        server.answer(place, b"", status=302, headers={"location": place})
        with pytest.raises(AditError, match="redirected more than"):
            client.package(7).download(tmp_path / "b.zip")
        assert [key for path, key in server.asked if path == place][-5:] == [False] * 5
        server.answer(place, b"", status=302, headers={"location": "ftp://127.0.0.1/a"})
        with pytest.raises(AditError, match="not followed"):
            client.package(7).download(tmp_path / "c.zip")


@pytest.mark.parametrize("pause", ["1000000000", "9" * 400, "nan", "-5", "inf"])
def test_nobody_waits_for_years_or_not_at_all(pause: str) -> None:
    with hostile() as server, server.client() as client:
        server.answer("/api/packages/7", {}, status=503, headers={"retry-after": pause})
        with pytest.raises(AditError):
            client.package(7)
        assert len(server.asked) <= 2


def test_a_page_that_leads_to_itself_is_told_of() -> None:
    with hostile() as server, server.client() as client:
        server.answer("/api/docsets", {"docsets": [], "next": "same"})
        with pytest.raises(AditError, match="again and again"):
            list(client.docsets())


def test_a_message_steers_no_terminal() -> None:
    with hostile() as server, server.client() as client:
        server.answer("/api/packages/7", {"title": "\x1b]0;owned\x07", "detail": "\u202e\x9b31m"}, status=400)
        with pytest.raises(AditError) as raised:
            client.package(7)
    assert str(raised.value) == "\\x1b]0;owned\\x07 (400): \\u202e\\x9b31m"
    assert raised.value.detail == "\u202e\x9b31m", "programs read it as it is"


def test_a_key_is_shown_without_tls_only_to_this_machine_or_by_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADIT_INSECURE", raising=False)
    monkeypatch.delenv("ADIT_API_KEY", raising=False)
    with pytest.raises(ValueError, match="insecure=True"):
        Client("http://example.org", "key")
    made: list[Callable[[], Client]] = [
        lambda: Client("http://example.org"),
        lambda: Client("https://example.org", "key"),
        lambda: Client("http://example.org", "key", insecure=True),
        lambda: Client("http://[::1]:8080", "key"),
    ]
    for make in made:
        make().close()
    monkeypatch.setenv("ADIT_INSECURE", "1")
    Client("http://example.org", "key").close()
    for url in ("http://10.0.0.1", "http://localhost.example.org", "http://[fe80::1]"):
        assert not is_private(httpx.URL(url))


def test_names_of_assets_are_those_of_the_server() -> None:
    for name in ("bag-0123456789ab.zip", "data-00001-of-00002.jsonl.zst", "manifest.json", "a", "x" * 200):
        assert check_asset_name(name) == name
    wrong: list[object] = ["-rf", "a.", "lpt9.txt", "NUL", "é", "a/b", 7, None]
    for none in wrong:
        with pytest.raises(AditError):
            check_asset_name(none)
