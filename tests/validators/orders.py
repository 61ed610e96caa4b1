"""Orders packages of a running server as a miner does, and saves what comes."""

import json
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import requests
from corpus import Document

DEADLINE_SECONDS = 120


@dataclass(frozen=True)
class Asset:
    """One object of a package, saved."""

    name: str
    media_type: str
    link: str
    path: Path


class Server:
    """A server, and the program that it is."""

    def __init__(self) -> None:
        self.url = os.environ["ADIT_VALIDATORS_URL"]
        self.key = os.environ["ADIT_VALIDATORS_KEY"]
        self.command = shlex.split(os.environ["ADIT_VALIDATORS_PROGRAM"])
        self.session = requests.Session()
        self.session.headers["X-Api-Key"] = self.key

    def ask(self, method: str, url: str, **arguments: object) -> requests.Response:
        response = self.session.request(method, url, timeout=DEADLINE_SECONDS, **arguments)
        assert response.ok, f"{method} {url}: {response.status_code} {response.text}"
        return response

    def run(self, *arguments: object) -> None:
        """Runs a verb of the program."""
        command = [*self.command, *map(str, arguments)]
        subprocess.run(command, check=True, env=os.environ | {"ADIT_API_KEY": self.key})

    def docset(self, documents: list[Document]) -> dict:
        refs = [document.ref for document in documents]
        return self.ask("POST", f"{self.url}/api/docsets", json={"collection": "awkward", "refs": refs}).json()

    def order(self, docset: dict, folder: Path, **recipe: object) -> "Package":
        """Asks for a package and waits until it is there."""
        package = self.ask("POST", f"{docset['url']}/packages", json=recipe).json()
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not package["terminal"]:
            assert time.monotonic() < deadline, f"{recipe} is not ready: {package}"
            time.sleep(0.1)
            package = self.ask("GET", package["url"]).json()
        assert package["status"] == "successful", package
        return Package(self, package, folder)


class Package:
    """A finished package."""

    def __init__(self, server: Server, status: dict, folder: Path) -> None:
        self.server, self.status, self.folder = server, status, folder

    @cached_property
    def assets(self) -> dict[str, Asset]:
        """All of its objects but manifest and receipt, by name, saved under their names."""
        self.folder.mkdir(parents=True, exist_ok=True)
        saved = {}
        for asset in self.server.ask("GET", f"{self.status['url']}/assets").json()["assets"]:
            if asset["name"] in ("manifest.json", "receipt.jws"):
                continue
            path = self.folder / asset["name"]
            path.write_bytes(requests.get(asset["link"], timeout=DEADLINE_SECONDS).content)
            assert path.stat().st_size == asset["size"]
            saved[asset["name"]] = Asset(asset["name"], asset["media_type"], asset["link"], path)
        return saved

    @property
    def shards(self) -> list[Asset]:
        """The shards of a table, in their order."""
        return [asset for name, asset in sorted(self.assets.items()) if name.startswith("data-")]

    @property
    def archives(self) -> list[Asset]:
        """The archive, or the shards that are archives."""
        return [asset for name, asset in sorted(self.assets.items()) if not name.startswith("data-")]


def names(server: Server, docset: dict) -> dict[str, str]:
    """The file name (without extension) of every member, by its ref."""
    text = server.ask("GET", f"{docset['url']}/manifest", params={"fmt": "meta"}).text
    # Not `splitlines`, which takes other characters than line feeds for ends of lines too.
    members = [json.loads(line) for line in text.split("\n") if line]
    return {member["ref"]: member["name"] for member in members if "ref" in member}
