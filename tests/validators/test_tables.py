"""Tables load in one line, from a folder and by link, with every value as it was imported."""

import json
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

import corpus
import datasets
import duckdb
import expected
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import BAGS, TABLES, Ordering

JSONL = [name for name in TABLES if BAGS[name]["layout"] == "jsonl"]
PARQUET = [name for name in TABLES if BAGS[name]["layout"] == "parquet"]


def plain(value: Any) -> Any:
    """A value as Python has it, whatever a tool makes of missing ones; members that a tool adds to fill a schema are left out."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {name: item for name, item in ((name, plain(item)) for name, item in value.items()) if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value


def assert_rows(rows: list[dict[str, Any]], file_names: dict[str, str], name: str) -> None:
    """All documents are there, in the order of their ids, and each of their values is what was imported."""
    parquet = name in PARQUET
    assert [row["id"] for row in rows] == sorted({row["id"] for row in rows})
    found = sorted(
        ({column: plain(value) for column, value in row.items()} for row in rows), key=lambda row: row["ref"]
    )
    for row in found:
        del row["id"]
        if parquet:
            row["metadata"] = json.loads(row["metadata"])
    wanted = expected.rows(corpus.SECOND, file_names, parquet=parquet)
    assert [row["ref"] for row in found] == [row["ref"] for row in wanted]
    for row, right in zip(found, wanted, strict=True):
        assert row.keys() == right.keys()
        for column, value in right.items():
            assert row[column] == value, (row["ref"], column)


def all_rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of what any of the tools loads."""
    if isinstance(frame, duckdb.DuckDBPyRelation):
        return [dict(zip(frame.columns, row, strict=True)) for row in frame.fetchall()]
    if isinstance(frame, pd.DataFrame):
        return frame.to_dict("records")
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    return (frame["train"] if isinstance(frame, datasets.DatasetDict) else frame).to_list()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `datasets` keeps is kept for one test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets"))


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("with_", ["pandas", "polars", "DuckDB", "datasets"])
def test_the_lines_of_the_readme_load_the_table(
    whole_bag: Callable[[str], Path], file_names: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, with_: str
) -> None:
    bag = whole_bag(name)
    lines = [line.split("|") for line in (bag / "README.md").read_text(encoding="utf-8").splitlines()]
    (line,) = [cells[2].strip(" `") for cells in lines if len(cells) == 4 and cells[1].strip() == with_]
    monkeypatch.chdir(bag)
    known = {"pd": pd, "pl": pl, "duckdb": duckdb, "glob": glob}
    known |= {"load_dataset": datasets.load_dataset, "Dataset": datasets.Dataset}
    assert_rows(all_rows(eval(line, known)), file_names, name)


@pytest.mark.parametrize("name", PARQUET)
def test_parquet_files_tell_their_types(order: Ordering, name: str) -> None:
    shards = order(BAGS[name]).shards
    assert len(shards) > 1 or "shards" not in name
    schemas = [pq.read_schema(shard.path) for shard in shards]
    assert all(schema.equals(schemas[0]) for schema in schemas)
    types = {field.name: str(field.type) for field in schemas[0]}
    assert types["id"] == "int64"
    assert types["text"] == "string" and types["text_bytes"] == types["pdf"] == "binary"
    assert (
        pa.types.is_list(schemas[0].field("creator").type)
        and schemas[0].field("creator").type.value_type == pa.string()
    )
    metadata = pq.ParquetFile(shards[0].path).metadata
    assert {metadata.row_group(0).column(i).compression for i in range(metadata.num_columns)} == {"ZSTD"}


@pytest.mark.parametrize("name", TABLES)
def test_pandas_loads_by_link(order: Ordering, file_names: dict[str, str], name: str) -> None:
    links = [shard.link for shard in order(BAGS[name]).shards]
    if name in PARQUET:
        frames = [pd.read_parquet(link) for link in links]
    else:
        frames = [pd.read_json(link, lines=True, dtype=False) for link in links]
    assert_rows(all_rows(pd.concat(frames)), file_names, name)


def with_polars(order: Ordering, name: str) -> pl.DataFrame:
    links = [shard.link for shard in order(BAGS[name]).shards]
    if name in PARQUET:
        return pl.read_parquet(links)
    return pl.concat((pl.read_ndjson(link, infer_schema_length=None) for link in links), how="diagonal_relaxed")


@pytest.mark.parametrize("name", TABLES)
def test_polars_loads_by_link(order: Ordering, file_names: dict[str, str], name: str) -> None:
    assert_rows(all_rows(with_polars(order, name)), file_names, name)


@pytest.mark.parametrize("name", TABLES)
def test_datasets_loads_by_link(order: Ordering, file_names: dict[str, str], name: str) -> None:
    if name in PARQUET:
        links = [shard.link for shard in order(BAGS[name]).shards]
        found = datasets.load_dataset("parquet", data_files=links)
    else:
        # Its own reader of JSON takes texts such as 2018-08-30 for times, and cannot be told otherwise.
        found = datasets.Dataset.from_polars(with_polars(order, name))
    assert_rows(all_rows(found), file_names, name)


@pytest.fixture(scope="session")
def httpfs() -> None:
    """DuckDB's extension for URLs, which it gets from its own site."""
    try:
        duckdb.execute("install httpfs; load httpfs")
    except duckdb.Error as error:
        pytest.skip(f"DuckDB's extension httpfs cannot be installed: {str(error).splitlines()[0]}")


@pytest.mark.usefixtures("httpfs")
@pytest.mark.parametrize("name", TABLES)
def test_duckdb_loads_by_link(order: Ordering, file_names: dict[str, str], name: str) -> None:
    links = [shard.link for shard in order(BAGS[name]).shards]
    rows = [row for link in links for row in all_rows(duckdb.sql(f"from '{link}'"))]
    assert_rows(rows, file_names, name)
