"""What a TLS client says first, by OpenSSL."""

from __future__ import annotations

import pytest
from OpenSSL import SSL


def client_hello(name: bytes | None, *, alpn: list[bytes] | None = None, version: int = SSL.TLS1_3_VERSION) -> bytes:
    """The first flight of OpenSSL's client."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(version)
    if alpn:
        context.set_alpn_protos(alpn)
    connection = SSL.Connection(context, None)
    connection.set_connect_state()
    if name is not None:
        connection.set_tlsext_host_name(name)
    with pytest.raises(SSL.WantReadError):
        connection.do_handshake()
    return connection.bio_read(1 << 16)
