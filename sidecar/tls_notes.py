"""TLS of the app's own, which passes through untouched: what its ClientHello asks for is noted. Pure."""

from __future__ import annotations

from sidecar.client_hello import HANDSHAKE_RECORD, HELLO_LIMIT_BYTES, read_hello
from sidecar.relay import RelayFacts


class TlsNotes:
    """Reads along with a connection's first bytes; whoever has it lets it go when it wants no more."""

    __slots__ = ("_read",)

    def __init__(self) -> None:
        self._read = b""

    def wants_more(self, facts: RelayFacts, data: bytes | memoryview) -> bool:
        """Note in ``facts`` what the bytes so far tell; False: there is nothing to be told, or it has been."""
        self._read += data
        if self._read[0] != HANDSHAKE_RECORD:
            return False
        hello = read_hello(self._read)
        if hello is None:
            return len(self._read) < HELLO_LIMIT_BYTES
        facts.sni, facts.alpn = hello.server_name, hello.alpn
        return False
