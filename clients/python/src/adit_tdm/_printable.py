"""Foreign text on terminals."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """A text of a server as it can be shown: what steers a terminal, or hides and reorders text, becomes visible escapes."""
    return "".join(_escape(c) if _steers(c) else c for c in text)


def _steers(c: str) -> bool:
    # Joiners are needed in some scripts; line ends and tabs do no harm in a message.
    return unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs") and c not in "\n\t\u200c\u200d"


def _escape(c: str) -> str:
    return c.encode("unicode_escape", "surrogatepass").decode("ascii")
