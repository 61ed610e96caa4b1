"""The collection that the tests import: documents that look like papers, and documents that try what a format may get wrong.

It is imported in two states, so that there is something for a delta: `FIRST`, and `SECOND`, which changes, adds and leaves out.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

COLLECTION = {
    "slug": "awkward",
    "name": 'Papers, "quoted": *starred* | <b>bold</b> & שלום 🦀',
    "description": "What a tool may stumble over:\n\n# no heading\n- no list | no cell\n'single', \"double\", \\ and \u2028 line separators.",
    "license": "https://creativecommons.org/licenses/by/4.0/",
}

MEDIA_TYPES = {"txt": "text/plain; charset=utf-8", "xml": "application/xml", "pdf": "application/pdf"}


@dataclass(frozen=True)
class Document:
    ref: str
    metadata: dict = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def license(self) -> str:
        """The licence that holds for it."""
        return self.metadata.get("license", COLLECTION["license"])


def paper(number: int, **changes: object) -> Document:
    """An ordinary one."""
    metadata = {
        "title": f"On the {number}th of everything",
        "creator": ["Ada Lovelace", "Ḥunayn ibn Isḥāq", "Zoë Müller, Jr."],
        "subject": ["mining", "text"],
        "issued": f"{1990 + number}-02-03",
        "abstract": "Short.\nIn two lines.",
        "language": "en",
        "identifier": f"https://doi.org/10.1234/{number}",
    }
    text = f"Paper {number}.\n" + "The quick brown fox jumps over the lazy dog.\n" * (100 * number)
    # As long as PDF is, and as little compressible, so that there are shards.
    files = {"txt": text.encode(), "pdf": b"%PDF-1.4\n" + random.Random(number).randbytes(500_000) + b"\n%%EOF\n"}
    if number % 3 == 0:
        files["xml"] = f'<?xml version="1.0"?>\n<article><p>Paper {number} &amp; more</p></article>\n'.encode()
    return Document(f"paper.{number:05}", metadata | changes, files)


def text(ref: str, content: bytes, **metadata: object) -> Document:
    return Document(ref, dict(metadata), {"txt": content})


AWKWARD = [
    text("empty", b"", title=""),
    text("no metadata", b"x"),
    text("0042", b"0042", title="0042", creator=["7"], issued="1999", language="0"),
    text("10.1000/182 (a slash, a comma; a space)", b"a,b;c\td\n", title='He said: "no", and left\\'),
    text("עברית/العربية", "שלום, العالم\n".encode(), title="\u202eright to left\u202c", language="he"),
    text("🦀 astral 𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 🏳️‍🌈 e\u0301 \u2028 \u0085 \ufeff\n".encode(), subject=["a,b", 'c"d', ""]),
    text("latin-1", "Müller, naïve café\n".encode("latin-1"), license='Ask, please: "first"'),
    text("cut short", "€uro €".encode()[:-1] + b"\xff\xfe\x00\x80 end", license="https://example.org/own licence"),
    text("controls", bytes(range(1, 32)) + b"\x7f\r\nlast line without its end"),
    text("long", ("0123456789abcdef" * 64 + "\n").encode() * 1200),
    text("long too", ("fedcba9876543210" * 64 + "\n").encode() * 1200),
    text("-dash, =formula", b"=1+1\n@SUM(A1)\n", title="=1+1"),
    Document("only a pdf", {"title": "Only a PDF"}, {"pdf": b"%PDF-1.4\n%%EOF\n"}),
    Document("nothing", {"title": "Nothing but metadata", "extra": {"nested": [1, 2.5, True, {"deep": "er"}]}}),
]

FIRST = [paper(number) for number in range(1, 9)] + AWKWARD
# One changed text, one changed licence, two new documents, one left out, and one with a format less.
SECOND = [
    Document("paper.00001", paper(1).metadata, paper(1).files | {"txt": b"Paper 1, corrected.\n"}),
    paper(2, license="https://creativecommons.org/publicdomain/zero/1.0/"),
    *(paper(number) for number in (3, 4, 5, 6, 8, 9, 10)),
    *(document if document.ref != "only a pdf" else text("only a pdf", b"now a text") for document in AWKWARD),
]


def write(documents: list[Document], folder: Path) -> None:
    """Writes what `adit import` reads."""
    (folder / "files").mkdir(parents=True)
    (folder / "collection.json").write_text(json.dumps(COLLECTION))
    with (folder / "documents.jsonl").open("w", encoding="utf-8") as lines:
        for number, document in enumerate(documents):
            files = []
            for form, content in document.files.items():
                path = f"files/{number}.{form}"
                (folder / path).write_bytes(content)
                files.append({"format": form, "path": path, "media_type": MEDIA_TYPES[form]})
            line = {"ref": document.ref, "metadata": document.metadata, "files": files}
            lines.write(json.dumps(line, ensure_ascii=False) + "\n")
