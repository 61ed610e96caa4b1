"""What packages consist of, and the tables in them."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import httpx
import pytest

from adit_tdm import AditError, Asset, Client, Docset, InvalidRequest, Package

from .servers import DOCUMENTS, scan, text

MIB = 1 << 20


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def by_name(package: Package) -> dict[str, Asset]:
    return {asset.name: asset for asset in package.assets()}


def test_a_package_consists_of_its_archive_and_what_proves_it(docset: Docset, tmp_path: Path) -> None:
    package = docset.package(["txt", "meta"], layout="bag")
    files = package.download_all(tmp_path / "all")
    assets = by_name(package)
    assert {file.name for file in files} == assets.keys() > {"manifest.json", "receipt.jws"}
    assert all((file.stat().st_size, sha256(file.read_bytes())) == (assets[file.name].size, assets[file.name].sha256) for file in files)
    manifest = json.loads((tmp_path / "all" / "manifest.json").read_text())
    assert manifest["documents"] == {"requested": DOCUMENTS, "included": DOCUMENTS, "omitted": 0}
    archive = package.download(tmp_path)
    assert (archive.parent, archive.suffix) == (tmp_path, ".zip")
    assert sha256(archive.read_bytes()) == package.sha256 == assets[archive.name].sha256


def test_a_link_needs_no_key(docset: Docset) -> None:
    package = docset.package("txt").wait()
    for asset in package.assets():
        assert asset.link.endswith(f"/{asset.name}")
        assert sha256(httpx.get(asset.link).raise_for_status().content) == asset.sha256
        assert httpx.get(asset.url).status_code == 401


def test_shards_hold_what_the_archive_would(docset: Docset, tmp_path: Path) -> None:
    package = docset.package(["txt", "pdf"], shard_bytes=4 * MIB)
    shards = [file for file in package.download_all(tmp_path) if file.suffix == ".zip"]
    assert len(shards) > 2
    contents = []
    for shard in shards:
        with zipfile.ZipFile(shard) as opened:
            contents += [opened.read(name) for name in opened.namelist()]
    assert sorted(contents) == sorted([text(n) for n in range(DOCUMENTS)] + [scan(n) for n in range(DOCUMENTS) if n != 1])
    with pytest.raises(AditError, match="download_all"):
        package.download(tmp_path)


def test_a_delta_and_a_dehydrated_bag_are_asked_for(client: Client, docset: Docset) -> None:
    coal, everything = client.create_docset("my-corpus", "subject:coal"), docset
    first = coal.package("txt", layout="bag").wait()
    delta = everything.package("txt", layout="bag", delta_from=coal).wait()
    assert delta.delta_from == {"docset": coal.id}
    assert everything.package("txt", layout="bag", delta_from=first).id == delta.id
    assert everything.estimate("txt", layout="bag", delta_from=coal).documents == DOCUMENTS
    dehydrated = everything.package("txt", layout="bag", dehydrated=True).wait()
    assert (dehydrated.dehydrated, (dehydrated.size or 0) > 0) == (True, True)


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "parquet"},
        {"layout": "parquet", "shard_bytes": 4 * MIB},
        {"layout": "jsonl"},
        {"layout": "jsonl", "compression": "gzip", "shard_bytes": 4 * MIB},
        {"layout": "jsonl", "compression": "none"},
    ],
)
def test_tables_hold_the_documents_value_for_value(docset: Docset, tmp_path: Path, options: dict[str, object]) -> None:
    package = docset.package(["txt", "pdf", "meta"], **options)  # type: ignore[arg-type]
    table = package.to_arrow(folder=tmp_path)
    shards = sorted(tmp_path.glob("data-*"))
    assert (len(shards) > 2) == ("shard_bytes" in options)
    rows = {row["ref"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == DOCUMENTS
    for number in range(DOCUMENTS):
        row, content = rows[f"tunnel.{number:03}"], text(number)
        shown = content.decode("utf-8", errors="replace")
        original = None if content == shown.encode() else content
        assert (row["title"], row["creator"][0]) == (f"Mining tunnel {number}", "Ada")
        assert json.loads(row["metadata"])["subject"] == row["subject"]
        assert (row["text"], row["text_bytes"], row["text_sha256"]) == (shown, original, sha256(content))
        if number == 1:
            assert (row["pdf"], row["pdf_sha256"]) == (None, None)
        else:
            assert (row["pdf"], row["pdf_sha256"]) == (scan(number), sha256(scan(number)))


def test_all_layouts_of_tables_give_the_same_frames(docset: Docset) -> None:
    packages = [docset.package(["txt", "pdf"], layout="parquet"), docset.package(["txt", "pdf"], layout="jsonl")]
    columns = ["ref", "title", "issued", "text", "pdf"]
    left, right = (package.to_pandas(columns) for package in packages)
    assert list(left.columns) == columns
    assert left.equals(right)
    first, second = (package.to_polars() for package in packages)
    assert first.equals(second)
    assert (first.schema, first.height) == (second.schema, DOCUMENTS)


def test_links_load_in_one_line(docset: Docset) -> None:
    import pandas
    import polars

    package = docset.package("txt", layout="parquet").wait()
    (link,) = [asset.link for asset in package.assets() if asset.name.endswith(".parquet")]
    assert len(pandas.read_parquet(link)) == len(polars.read_parquet(link)) == DOCUMENTS


def test_what_has_no_tables_says_so(docset: Docset) -> None:
    with pytest.raises(AditError, match="parquet"):
        docset.package("txt").to_pandas()
    with pytest.raises(InvalidRequest, match="jsonl"):
        docset.package("txt", compression="gzip")
