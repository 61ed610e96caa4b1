"""The examples of the documentation, as they stand there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from .servers import DOCUMENTS, Server

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def place(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where and as whom the examples run."""
    monkeypatch.setenv("ADIT_PUBLIC_URL", server.url)
    monkeypatch.setenv("ADIT_API_KEY", server.key())
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", ["README.md", "docs/API.md", "clients/python/README.md"])
def test_the_examples_run(page: str, tmp_path: Path) -> None:
    examples = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    names["adit"].close()
    assert (tmp_path / "mining.zip").is_file()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="curl and jq are not installed")
def test_the_main_job_with_curl_runs(tmp_path: Path) -> None:
    found = re.search(r"<!-- command: curl -->\n```sh\n(.*?)^```$", (ROOT / "docs" / "API.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", found[1]], stdout=subprocess.PIPE, text=True, check=True)
    hits, size, verdict = done.stdout.splitlines()
    assert (int(hits), verdict) == (DOCUMENTS, "mining.zip: OK")
    assert int(size) >= (tmp_path / "mining.zip").stat().st_size
