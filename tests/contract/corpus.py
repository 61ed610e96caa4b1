"""Writes the collection folder that the contract tests import: the pages of docs/, each as text, one of them as PDF too.

Usage: corpus.py DOCS TARGET
"""

import json
import sys
from pathlib import Path

# The smallest page that readers of PDF take: what matters here is a file that is stored as it is, with ranges.
PDF = b"""%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 72 72]>> endobj
trailer <</Root 1 0 R>>
%%EOF
"""


def main(docs: Path, target: Path) -> None:
    files = target / "files"
    files.mkdir(parents=True)
    collection = {"slug": "docs", "name": "Adit's documentation", "license": "https://opensource.org/license/mit"}
    (target / "collection.json").write_text(json.dumps(collection))
    with (target / "documents.jsonl").open("w") as lines:
        for number, page in enumerate(sorted(docs.rglob("*.md")), start=1):
            text = page.read_text()
            (files / f"{number}.txt").write_text(text)
            (files / f"{number}.pdf").write_bytes(PDF)
            title = text.splitlines()[0].removeprefix("# ")
            document = {
                "ref": f"docs.{number}",
                "metadata": {"title": title, "issued": "2026", "language": "en", "subject": ["documentation"]},
                "files": [{"format": form, "path": f"files/{number}.{form}"} for form in ("txt", "pdf")],
            }
            lines.write(json.dumps(document) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
