"""Progress bars, in terminals and notebooks."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm


def progress_bar(progress: bool | None, **options: Any) -> tqdm[Any]:
    """A bar that is shown if `progress` says so; if it says nothing, where somebody looks: in a terminal or a notebook."""
    if progress is None:
        progress = sys.stderr.isatty() or "ipykernel" in sys.modules
    return tqdm(disable=not progress, **options)
