"""The server, two docsets of it, and packages, each ordered once when a test first wants it."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import corpus
import pytest
from expected import FORMATS
from orders import Package, Server, names

# Every form in which a bag comes, by the recipe that orders it.
BAGS = {
    "bag": {"layout": "bag"},
    "bag with metadata": {"layout": "bag", "formats": ["meta", "txt"]},
    "bag in shards": {"layout": "bag", "shard_bytes": 1 << 20},
    "bag, dehydrated": {"layout": "bag", "dehydrated": True},
    "bag, delta": {"layout": "bag", "delta_from": {}},
    "tar.zst": {"layout": "tar.zst"},
    "tar.zst in shards": {"layout": "tar.zst", "shard_bytes": 1 << 20},
    "jsonl": {"layout": "jsonl", "compression": "none"},
    "jsonl.gz": {"layout": "jsonl", "compression": "gzip", "shard_bytes": 1 << 20},
    "jsonl.zst": {"layout": "jsonl"},
    "parquet": {"layout": "parquet"},
    "parquet in shards": {"layout": "parquet", "shard_bytes": 1 << 20},
}
TABLES = [name for name, recipe in BAGS.items() if recipe["layout"] in ("jsonl", "parquet")]

Ordering = Callable[..., Package]


@pytest.fixture(scope="session")
def server() -> Server:
    return Server()


@pytest.fixture(scope="session")
def first(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The docset of the collection's first state."""
    folder = tmp_path_factory.mktemp("first")
    corpus.write(corpus.FIRST, folder)
    server.run("import", folder)
    return server.docset(corpus.FIRST)


@pytest.fixture(scope="session")
def second(server: Server, first: dict, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The docset of its second state, of which the packages are."""
    folder = tmp_path_factory.mktemp("second")
    corpus.write(corpus.SECOND, folder)
    server.run("import", folder)
    return server.docset(corpus.SECOND)


@pytest.fixture(scope="session")
def file_names(server: Server, second: dict) -> dict[str, str]:
    return names(server, second)


@pytest.fixture(scope="session")
def order(server: Server, first: dict, second: dict, tmp_path_factory: pytest.TempPathFactory) -> Ordering:
    """Orders a package of the second docset (or of `docset`), each recipe once."""
    made: dict[str, Package] = {}

    def order(recipe: dict, docset: dict = second) -> Package:
        recipe = {"formats": FORMATS, **recipe}
        if "delta_from" in recipe:
            recipe["delta_from"] = {"docset": first["id"]}
        key = f"{docset['id']} {recipe}"
        if key not in made:
            made[key] = server.order(docset, tmp_path_factory.mktemp("package"), **recipe)
        return made[key]

    return order


@pytest.fixture(scope="session")
def whole_bag(
    server: Server, order: Ordering, first: dict, second: dict, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The folder of a complete bag: what was ordered, unpacked, and filled or applied as its README says."""
    made: dict[str, Path] = {}

    def whole(name: str) -> Path:
        recipe = BAGS[name]
        folder = unpack(order(recipe), tmp_path_factory.mktemp("bag"))
        if "delta_from" in recipe:
            base = unpack(order(BAGS["bag"], first), tmp_path_factory.mktemp("base"))
            server.run("apply", folder, base)
            return base
        if (folder / "fetch.txt").exists():
            server.run("hydrate", folder)
        return folder

    def cached(name: str) -> Path:
        if name not in made:
            made[name] = whole(name)
        return made[name]

    return cached


def unpack(package: Package, into: Path) -> Path:
    """Unpacks all archives of a package into one folder and returns the bag's base directory."""
    for archive in package.archives:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive.path) as zip:
                zip.extractall(into)
        else:
            tool("tar", "--zstd", "-xf", archive.path, "-C", into)
    (base,) = into.iterdir()
    return base


def tool(name: str, *arguments: object) -> str:
    """What a program of the system prints; it must succeed."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    # With another locale, unzip's family writes names by their numbers.
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    result = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, f"{name} {arguments}: {result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(params=BAGS)
def bag(request: pytest.FixtureRequest, whole_bag: Callable[[str], Path]) -> Iterator[Path]:
    """Each form of a bag, complete."""
    yield whole_bag(request.param)
