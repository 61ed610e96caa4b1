"""What a package must hold, said by what was imported alone."""

import base64
import hashlib
from typing import Any

from corpus import Document

# The file formats, and the tables' column for each.
COLUMNS = {"pdf": "pdf", "txt": "text", "xml": "xml"}
FORMATS = sorted(COLUMNS)


def files(documents: list[Document], names: dict[str, str], formats: list[str] = FORMATS) -> dict[str, bytes]:
    """Contents by file name."""
    return {
        f"{names[document.ref]}.{form}": document.files[form]
        for document in documents
        for form in formats
        if form in document.files
    }


def licenses(documents: list[Document], names: dict[str, str], formats: list[str] = FORMATS) -> dict[str, str]:
    """Licences by file name."""
    return {
        f"{names[document.ref]}.{form}": document.license
        for document in documents
        for form in formats
        if form in document.files
    }


def rows(documents: list[Document], names: dict[str, str], *, parquet: bool) -> list[dict[str, Any]]:
    """The rows of a table but their ids, by ref."""
    included = [document for document in documents if document.files]
    return sorted(
        (row(document, names[document.ref], parquet=parquet) for document in included), key=lambda row: row["ref"]
    )


def row(document: Document, name: str, *, parquet: bool) -> dict[str, Any]:
    metadata = document.metadata
    cells = {"ref": document.ref, "name": name, "license": document.license, "metadata": metadata}
    cells |= {term: metadata.get(term) for term in ("title", "issued", "abstract", "language")}
    cells |= {term: metadata.get(term, []) for term in ("creator", "subject")}

    def binary(content: bytes | None) -> bytes | str | None:
        return content if parquet or content is None else base64.b64encode(content).decode()

    for form, column in COLUMNS.items():
        content = document.files.get(form)
        cells[f"{column}_sha256"] = None if content is None else hashlib.sha256(content).hexdigest()
        if form == "pdf":
            cells[column] = binary(content)
            continue
        cells[column] = None if content is None else content.decode(errors="replace")
        cells[f"{column}_bytes"] = None if content is None or is_utf8(content) else binary(content)
    return cells


def is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
