"""Checks of what a server says, before it becomes a path or an address."""

from __future__ import annotations

import ipaddress
import re

import httpx

from .errors import AditError

# One segment of a path that every file system takes: no dot or dash at the beginning, no dot at the end.
_NAME = re.compile(r"(?=.{1,200}\Z)[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?", re.ASCII)
# Windows gives these names to devices, whatever follows behind a dot.
_DEVICE = re.compile(r"(?i:con|prn|aux|nul|(?:com|lpt)[0-9])(?:\..*)?", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


def check_asset_name(name: object) -> str:
    """Gives a name of a file that a server has sent, if it is one and nothing more."""
    if isinstance(name, str) and _NAME.fullmatch(name) and not _DEVICE.fullmatch(name):
        return name
    raise AditError("The server's answer cannot be used", f"{name!r:.200} is no name of a file")


def check_sha256(digest: object) -> str | None:
    """Gives a SHA-256 that a server has sent, or None where it has sent none."""
    if digest is None or (isinstance(digest, str) and _SHA256.fullmatch(digest)):
        return digest
    raise AditError("The server's answer cannot be used", f"{digest!r:.200} is no SHA-256")


def check_size(size: object) -> int | None:
    """Gives a length in bytes that a server has sent, or None where it has sent none."""
    if size is None or (isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 1 << 63):
        return size
    raise AditError("The server's answer cannot be used", f"{size!r:.200} is no length of a file")


def is_private(url: httpx.URL) -> bool:
    """Whether nobody on the way can read along: by TLS, or because there is no way."""
    if url.scheme == "https" or url.host == "localhost" or url.host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(url.host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or address.is_unspecified


def check_redirect(before: httpx.URL, after: httpx.URL) -> httpx.URL:
    """Gives where a redirect leads, if it may be followed: to http or https, and not from TLS to none."""
    if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme != "https"):
        raise AditError(
            "The download cannot be fetched", f"the server redirects from {before.scheme} to {after.scheme}; that is not followed"
        )
    return after
