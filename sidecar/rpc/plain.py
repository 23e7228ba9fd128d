"""gRPC without TLS: what stands in the TLS engine's place. Sans-IO. For an app of the same pod only."""

from __future__ import annotations


class PlainEngine:
    """Gives bytes as it gets them."""

    established = True
    failure = None

    def __init__(self) -> None:
        self._out: list[bytes] = []

    def start(self) -> bytes:
        """Nothing comes first."""
        return b""

    def receive(self, data: bytes) -> bytes:
        return data

    def send(self, data: bytes) -> None:
        self._out.append(data)

    def outgoing(self) -> bytes:
        """All that is to be written now."""
        out, self._out = self._out, []
        return b"".join(out)

    def close_notify(self) -> None:
        """No word for it but the transport's end."""
