"""The certificate of the webhook's server: replaced while connections live, its key never a file of a disk."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager


class CertificateError(ValueError):
    """A chain and key that do not go together; what was there stays."""


class ServingCertificate:
    """``context`` serves the certificate that was given last: to new connections, while old ones keep theirs."""

    def __init__(self, chain_pem: bytes, key_pem: bytes) -> None:
        """Raises CertificateError."""
        self.context = _context()
        self.replace(chain_pem, key_pem)

    def replace(self, chain_pem: bytes, key_pem: bytes) -> None:
        """Serve this one from now on. Raises CertificateError; then nothing has changed."""
        with _file(chain_pem) as chain, _file(key_pem) as key:
            try:
                # A context that fails half-way is left with half of it, so try it on another.
                _context().load_cert_chain(chain, key, password=_no_password)
                self.context.load_cert_chain(chain, key, password=_no_password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise CertificateError(f"the webhook's certificate cannot be used: {error}") from error


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """Asked for where a key is encrypted; else OpenSSL would ask at the terminal."""
    raise ValueError("its key is encrypted")


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path that holds ``content``, in memory: ssl reads paths alone."""
    descriptor = os.memfd_create("ringfence")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
