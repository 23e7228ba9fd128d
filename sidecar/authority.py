"""The authority of a CONNECT: where in a workload it leads. Pure."""

from __future__ import annotations

from sidecar.tunnel.stream import Headers


def authority_of(address: str, port: int) -> bytes:
    return (f"[{address}]:{port}" if ":" in address else f"{address}:{port}").encode()


def connect_authority(headers: Headers) -> bytes | None:
    """The authority of a well-formed CONNECT (RFC 9113 section 8.5), else None."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b":"):
            if name in found:
                return None
            found[name] = value
    if found.keys() != {b":method", b":authority"} or found[b":method"] != b"CONNECT":
        return None
    return found[b":authority"]
