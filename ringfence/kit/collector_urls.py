"""The URL of a collector of spans: one that no one on the way can listen in on. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

_LIMIT_CHARACTERS = 2048
_MEND = "write it like http://127.0.0.1:4318/v1/traces, or https://collector.example/v1/traces"


class CollectorUrlError(ValueError):
    """``message`` says what is wrong, ``mend`` what to write instead."""

    def __init__(self, message: str, mend: str = _MEND) -> None:
        super().__init__(f"{message} ({mend})")
        self.message = message
        self.mend = mend


def parse_collector_url(text: str) -> str:
    """``text``: https, or http on loopback, path included, without credentials, query and fragment. Raises
    CollectorUrlError."""
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > _LIMIT_CHARACTERS:
        raise CollectorUrlError(f"not a URL: {text[:80]!r}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise CollectorUrlError(f"not a URL: {text[:80]!r}") from error
    if parts.scheme not in ("http", "https") or not host or parts.username is not None or parts.fragment or parts.query:
        raise CollectorUrlError(f"not the URL of a collector: {text[:80]!r}")
    if parts.scheme == "http" and not _is_loopback(host):
        raise CollectorUrlError(
            f"plain http to another machine: {text[:80]!r}", "use https, or a collector on loopback"
        )
    return text


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
