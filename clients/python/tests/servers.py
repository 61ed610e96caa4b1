"""A real server of Adit on a folder of its own, and the documents in it."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adit_tdm import Client

ADIT = os.environ.get("ADIT_BIN", "adit")
DOCUMENTS = 75
# Texts that are easily spoilt: none at all, right to left, beyond the basic plane, line ends, and bytes that are no UTF-8.
TEXTS = [b"", "שלום עולם".encode(), "𐍈 and 🜚".encode(), b"one\r\ntwo\rthree\n", b"caf\xe9"]


def text(number: int) -> bytes:
    """The text of a document."""
    return TEXTS[number] if number < len(TEXTS) else f"Tunnel {number} under the hill.\n".encode() * number


def scan(number: int) -> bytes:
    """What stands for the PDF of a document: bytes that no compression makes fewer."""
    return b"%PDF-1.4\n" + random.Random(number).randbytes(150_000)


def write_corpus(folder: Path) -> Path:
    """Writes the collection folder `my-corpus`. Documents 0 and 1 have other files than the rest."""
    files = folder / "files"
    files.mkdir(parents=True)
    about = {"slug": "my-corpus", "name": "Tunnels", "description": "Of mines", "license": "https://opensource.org/license/mit"}
    (folder / "collection.json").write_text(json.dumps(about))
    with (folder / "documents.jsonl").open("w") as lines:
        for number in range(DOCUMENTS):
            contents = {"txt": text(number), "pdf": scan(number)}
            if number == 1:
                del contents["pdf"]
            for form, content in contents.items():
                (files / f"{number}.{form}").write_bytes(content)
            metadata = {
                "title": f"Mining tunnel {number}",
                "creator": ["Ada", "Bo"] if number % 2 else "Ada",
                "issued": f"{1990 + number % 30}-05-01",
                "subject": ["mining", "rock" if number % 3 else "coal"],
            }
            entries = [{"format": form, "path": f"files/{number}.{form}"} for form in contents]
            lines.write(json.dumps({"ref": f"tunnel.{number:03}", "metadata": metadata, "files": entries}) + "\n")
    return folder


@dataclass
class Server:
    """A running `adit up`."""

    url: str
    data: Path
    environment: Mapping[str, str]

    def key(self, *arguments: str) -> str:
        """Makes a key of a miner."""
        return self.run("keys", "create", "tests", *arguments).splitlines()[-1]

    def run(self, *arguments: str) -> str:
        """Runs a verb of the operator's."""
        return _adit(self.environment, "--data", str(self.data), *arguments)

    def client(self, *, url: str | None = None, key: str | None = None, patience: float = 20) -> Client:
        """A client of it with a key of its own."""
        return Client(url or self.url, key or self.key(), patience=patience)


def _adit(environment: Mapping[str, str], *arguments: str) -> str:
    return subprocess.run([ADIT, *arguments], env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Server]:
    """Imports the documents and serves them at a free port, until the end of the block."""
    # The developer's own settings must not decide what a test sees.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ADIT_")} | settings
    data = folder / "data"
    _adit(environment, "--data", str(data), "import", str(write_corpus(folder / "corpus")))
    command = [ADIT, "--data", str(data), "--listen", "127.0.0.1:0", "up"]
    with (folder / "adit.log").open("wb") as log, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log) as process:
        try:
            url = next((line.split()[1] for line in process.stdout or () if line.strip().startswith(b"API")), None)
            assert url, (folder / "adit.log").read_text()
            yield Server(url.decode().removesuffix("/api"), data, environment)
        finally:
            process.terminate()
