"""The shards of tabular packages as Arrow tables. Layouts `jsonl` and `parquet` say the same, and become the same table."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Columns that every table has and that are no texts; `metadata` is an object in JSON and its text in Parquet.
TYPES: dict[str, pa.DataType] = {"id": pa.int64(), "creator": pa.list_(pa.string()), "subject": pa.list_(pa.string())}
# Bytes of lines that are made into one batch: the texts of a column must stay below 2 GB in each.
BATCH = 1 << 26
BUFFER = 1 << 20


def read(shards: Sequence[Path], columns: Sequence[str] | None) -> pa.Table:
    """Reads all shards, or these columns of them, into one table."""
    if all(shard.suffix == ".parquet" for shard in shards):
        tables = [pq.read_table(shard, columns=columns, partitioning=None) for shard in shards]
        return pa.concat_tables(tables)
    batches = [batch for shard in shards for batch in _batches(shard, columns)]
    return pa.Table.from_batches(batches) if batches else pa.table({})


def _batches(shard: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The lines of a shard of layout `jsonl`."""
    rows, size, schema = [], 0, None
    # Decompresses what its name says is compressed.
    with io.BufferedReader(pa.input_stream(shard), BUFFER) as lines:
        for line in lines:
            row = json.loads(line)
            schema = schema or _schema(row, columns)
            rows.append({field.name: _value(row[field.name], field) for field in schema})
            size += len(line)
            if size > BATCH:
                yield pa.RecordBatch.from_pylist(rows, schema)
                rows, size = [], 0
    if schema is not None:
        yield pa.RecordBatch.from_pylist(rows, schema)


def _schema(row: dict[str, Any], columns: Sequence[str] | None) -> pa.Schema:
    """The types of a row's columns, or of these of them. Every row has all columns."""

    def kind(name: str) -> pa.DataType:
        # A text has its original bytes beside it, for where it is no UTF-8; bytes have only their hash beside them.
        is_bytes = f"{name}_sha256" in row and f"{name}_bytes" not in row
        original = name.endswith("_bytes") and f"{name.removesuffix('_bytes')}_sha256" in row
        return pa.binary() if is_bytes or original else TYPES.get(name, pa.string())

    return pa.schema([(name, kind(name)) for name in (columns or row)])


def _value(value: Any, field: pa.Field) -> Any:
    if value is None:
        return None
    if field.type == pa.binary():
        return base64.b64decode(value)
    if field.name == "metadata":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
