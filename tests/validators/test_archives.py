"""Archives are taken by the tools that unpack them, and hold what was imported, byte for byte."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import bagit
import corpus
import pytest
from conftest import BAGS, Ordering, tool, unpack
from expected import FORMATS, files

FLAT = {"layout": "flat"}
FLAT_SHARDS = {"layout": "flat", "shard_bytes": 1 << 20}
ZIPS = [FLAT, FLAT_SHARDS] + [recipe for recipe in BAGS.values() if recipe["layout"] != "tar.zst"]


@pytest.mark.parametrize("recipe", ZIPS, ids=str)
def test_zip_tools_take_every_archive(order: Ordering, recipe: dict) -> None:
    for archive in order(recipe).archives:
        with zipfile.ZipFile(archive.path) as zip:
            assert zip.testzip() is None
            listed = sorted(zip.namelist())
        tool("unzip", "-tqq", archive.path)
        assert sorted(tool("zipinfo", "-1", archive.path).splitlines()) == listed
        tool("7z", "t", archive.path)


@pytest.mark.parametrize("recipe", [FLAT, FLAT_SHARDS], ids=str)
def test_a_flat_archive_is_the_files(order: Ordering, recipe: dict, file_names: dict[str, str]) -> None:
    held: dict[str, bytes] = {}
    for archive in order(recipe).archives:
        with zipfile.ZipFile(archive.path) as zip:
            shard = {name: zip.read(name) for name in zip.namelist()}
        assert not held.keys() & shard.keys()
        held |= shard
    assert held == files(corpus.SECOND, file_names)


@pytest.mark.parametrize("name", ["tar.zst", "tar.zst in shards"])
def test_tar_lists_what_is_in_the_bag(order: Ordering, tmp_path: Path, name: str) -> None:
    package = order(BAGS[name])
    folder = unpack(package, tmp_path)
    listed = [line for archive in package.archives for line in tool("tar", "--zstd", "-tf", archive.path).splitlines()]
    found = [str(path.relative_to(folder.parent)) for path in folder.rglob("*") if path.is_file()]
    assert len(found) == len([line for line in listed if not line.endswith("/")])


@pytest.mark.parametrize("name", [name for name in BAGS if BAGS[name]["layout"] in ("bag", "tar.zst")])
def test_a_bag_holds_the_files(whole_bag: Callable[[str], Path], file_names: dict[str, str], name: str) -> None:
    held = {path.name: path.read_bytes() for path in (whole_bag(name) / "data").iterdir()}
    wanted = BAGS[name].get("formats", FORMATS)
    if "meta" in wanted:
        described = {path for path in held if path.endswith(".json")}
        assert described == {f"{file_names[document.ref]}.json" for document in corpus.SECOND}
        held = {path: content for path, content in held.items() if path not in described}
    assert held == files(corpus.SECOND, file_names, wanted)


@pytest.mark.parametrize("name", ["bag in shards", "bag, dehydrated", "bag, delta"])
def test_every_way_leads_to_the_same_bag(whole_bag: Callable[[str], Path], name: str) -> None:
    def hashes(folder: Path) -> dict[str, str]:
        listed = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in listed}

    found, wanted = hashes(whole_bag(name)), hashes(whole_bag("bag"))
    for left_over in ("fetch.txt", "tombstones.jsonl"):
        found.pop(left_over, None)
    assert found == wanted


def test_bagit_knows_what_a_dehydrated_bag_lacks(order: Ordering, tmp_path: Path) -> None:
    bag = bagit.Bag(str(unpack(order(BAGS["bag, dehydrated"]), tmp_path)))
    to_fetch = {path: int(length) for _, length, path in bag.fetch_entries()}
    assert to_fetch.keys() == set(bag.payload_entries())
    assert f"{sum(to_fetch.values())}.{len(to_fetch)}" == bag.info["Payload-Oxum"]
