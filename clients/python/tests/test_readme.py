"""The examples in README.md, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .servers import DOCUMENTS, Server

README = Path(__file__).parents[1] / "README.md"


def test_the_examples_run(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ADIT_PUBLIC_URL", server.url)
    monkeypatch.setenv("ADIT_API_KEY", server.key())
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    assert len(examples) >= 3
    names: dict[str, Any] = {}
    for example in examples:
        exec(example, names)
    names["adit"].close()
    assert (tmp_path / "mining.zip").is_file()
    assert f"{DOCUMENTS} documents" in capsys.readouterr().out
