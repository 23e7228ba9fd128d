"""How a TLS connection ends, as exceptions of ``TlsEngine``."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from OpenSSL import SSL

from ringfence.spiffe import VerificationError

_ALERT: Final = " alert "


class TlsFault(StrEnum):
    """Why a TLS connection failed: a closed set, for metric labels."""

    PEER_ALERT = "peer_alert"  # the peer refused; all it says is the alert's name
    VERIFICATION = "verification"  # the peer's identity was refused here; ``verification`` says why
    NOT_TLS = "not_tls"  # plaintext, or anything else whose first byte is no TLS handshake
    PROTOCOL_VERSION = "protocol_version"  # no TLS 1.3
    NO_H2 = "no_h2"  # the peer does not speak HTTP/2 by ALPN
    HANDSHAKE_TOO_LARGE = "handshake_too_large"
    PROTOCOL = "protocol"  # any other breach of TLS; ``reason`` is OpenSSL's word for it


class TlsEndedError(Exception):
    """The connection delivers no more; ``plaintext`` is what arrived, authenticated, in the same bytes before the end.

    After either kind, ``TlsEngine.outgoing`` may still hold an alert for the peer.
    """

    def __init__(self, text: str, plaintext: bytes = b"") -> None:
        super().__init__(text)
        self.plaintext = plaintext

    def again(self) -> TlsEndedError:
        """The same end to tell once more: without plaintext, and without the traceback that would keep frames alive."""
        return type(self)(str(self))


class TlsClosed(TlsEndedError):
    """The peer said close_notify: an orderly end."""


class TlsFailed(TlsEndedError):
    """The handshake or the connection failed.

    ``reason``: with fault ``peer_alert`` the alert's name as in RFC 8446 section 6 (``bad_certificate``); with
    ``verification`` the VerifyReason; else a short word with underscores.
    """

    def __init__(
        self,
        fault: TlsFault,
        reason: str,
        *,
        plaintext: bytes = b"",
        verification: VerificationError | None = None,
    ) -> None:
        super().__init__(f"{fault}: {verification or reason}", plaintext)
        self.fault = fault
        self.reason = reason
        self.verification = verification

    def again(self) -> TlsFailed:
        return TlsFailed(self.fault, self.reason, verification=self.verification)

    @property
    def by_peer(self) -> bool:
        """Whether the peer refused: the full reason is then in the peer's log."""
        return self.fault is TlsFault.PEER_ALERT


def failed_from(error: SSL.Error, plaintext: bytes = b"") -> TlsFailed:
    """The failure behind an OpenSSL error, told by the last entry of its error queue."""
    entries = error.args[0] if error.args and isinstance(error.args[0], list) else ()
    words = [str(entry[-1]) for entry in entries]
    text = words[0] if words else "unknown error"
    if _ALERT in text:
        # "tlsv13 alert certificate required", "ssl/tls alert bad certificate"
        return TlsFailed(TlsFault.PEER_ALERT, _underscored(text.partition(_ALERT)[2]), plaintext=plaintext)
    if text in ("unsupported protocol", "wrong ssl version", "wrong version number"):
        return TlsFailed(TlsFault.PROTOCOL_VERSION, _underscored(text), plaintext=plaintext)
    return TlsFailed(TlsFault.PROTOCOL, _underscored(text), plaintext=plaintext)


def _underscored(text: str) -> str:
    return text.strip().replace(" ", "_").lower()
