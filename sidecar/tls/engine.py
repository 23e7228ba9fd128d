"""One mutual TLS connection, sans-IO: ciphertext in, plaintext out, and back. This is the hot path.

Theory of operation. pyOpenSSL works on two memory BIOs. ``receive`` writes what the transport read into one and takes
plaintext out record by record; ``send`` encrypts into the other, and ``outgoing`` takes all of it at once for a single
write to the transport. OpenSSL tells that it has nothing more to give by an exception that costs as much as decrypting
a small record; so ``receive`` counts, from the lengths in the record headers, how many complete records it holds, and
asks no more often than that. The count never decides what is read, only when to stop asking: OpenSSL sees the same
lengths in the same bytes.

The caller: calls ``start`` once and sends what it returns; after each ``receive`` during the handshake, after each
``send`` and when ``receive`` raised, sends ``outgoing()``. On an established connection ``receive`` leaves nothing
that must leave at once. Deadlines are the caller's.
"""

from __future__ import annotations

from typing import Final

from OpenSSL import SSL

from ringfence.spiffe import VerificationError, VerifiedPeer, VerifyReason
from sidecar.tls.errors import TlsClosed, TlsEndedError, TlsFailed, TlsFault, failed_from
from sidecar.tls.peer_check import PeerCheck
from sidecar.tls.records import RecordBuffers, Records

HANDSHAKE_LIMIT_BYTES: Final = 65_536
ALPN_H2: Final = b"h2"

_RECORD_BYTES: Final = 16_384  # the most plaintext in one record (RFC 8446, section 5.1)
_HEADER_BYTES: Final = 5
_OUTGOING_BYTES: Final = 1 << 20  # one bio_read takes all that a turn of the event loop produces
_HANDSHAKE_RECORD: Final = 0x16
_ALERT_RECORD: Final = 0x15


class NoH2Error(Exception):
    """The client offers none of the protocols spoken here (between sidecars: h2); raised from the ALPN callback,
    through the handshake."""


class TlsEngine:
    """One connection; made by ``TlsIdentity``. ``peer`` is set once ``established``, and only by verification."""

    __slots__ = (
        "_bio_read",
        "_bio_write",
        "_check",
        "_connection",
        "_end",
        "_h2_only",
        "_handshake_bytes",
        "_head",
        "_open",
        "_records",
        "_recv",
        "_remaining",
        "_send",
        "established",
        "is_client",
        "peer",
    )

    def __init__(self, context: SSL.Context, check: PeerCheck, *, is_client: bool, h2_only: bool = True) -> None:
        connection = SSL.Connection(context, None)
        connection.set_app_data(check)
        if is_client:
            connection.set_connect_state()
        else:
            connection.set_accept_state()
        self._connection = connection
        self._h2_only = h2_only
        self._bio_read = connection.bio_read
        self._bio_write = connection.bio_write
        self._recv = connection.recv
        self._send = connection.send
        self._check = check
        self._end: TlsEndedError | None = None
        self._handshake_bytes = 0
        self._open = False  # established and not ended
        self._head = b""  # the part of a record's header that ended the last bytes
        self._remaining = 0  # bytes still to come of the record that ended the last bytes
        self._records: Records | None = None  # once ``use`` was called
        self.is_client = is_client
        self.established = False
        self.peer: VerifiedPeer | None = None

    @property
    def failure(self) -> VerificationError | None:
        """Why this side refused the peer's identity, or None."""
        return self._check.failure

    @property
    def cipher(self) -> str:
        """Name of the cipher suite once established, such as ``TLS_AES_128_GCM_SHA256``."""
        return self._connection.get_cipher_name() or ""

    def start(self) -> bytes:
        """Begin the handshake; the bytes to send: a client's first flight, nothing for a server."""
        if self.is_client:
            self._shake()
        return self.outgoing()

    def receive(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take ciphertext; return the plaintext that it completes, ``b""`` if none.

        Raises TlsClosed and TlsFailed, each with the plaintext before the end, and again on every later call.
        """
        size = len(data)
        if not self._open:
            return self._receive_handshake(data)
        if (
            not self._remaining
            and size > _HEADER_BYTES
            and (data[3] << 8 | data[4]) == size - _HEADER_BYTES
            and not self._head
        ):
            records = 1
        elif size:
            records = self._count_records(data, size)
        else:
            return b""
        self._bio_write(data)
        return self._read(records)

    def use(self, buffers: RecordBuffers) -> memoryview:
        """From here on, after the handshake, ciphertext comes and goes by ``buffers``: ``receive_into_place`` instead
        of ``receive`` and, where bytes in place do, ``outgoing_in_place`` instead of ``outgoing``.

        Gives the plaintext that the handshake's last bytes left; raises as ``receive`` does.
        """
        if not self._open or self._records is not None:
            raise RuntimeError("buffers are for an established connection, and once")
        self._bio_write = _refuse
        self._records = Records(self._connection, buffers)
        plaintext, error = self._records.drain()
        if error is not None:
            raise self._ended(error, bytes(plaintext)) from error
        return plaintext

    def receive_in_place(self, size: int) -> memoryview:
        """Take ``size`` bytes of the buffers' ``cipher``; gives plaintext in their ``plain``, gone with the next call.

        Raises TlsClosed and TlsFailed, each with the plaintext before the end, and again on every later call.
        """
        if self._end is not None:
            raise self._end.again()
        assert self._records is not None
        plaintext, error = self._records.open(size)
        if error is not None:
            raise self._ended(error, bytes(plaintext)) from error
        return plaintext

    def outgoing_in_place(self) -> memoryview:
        """Ciphertext that waits to be sent, in the buffers' ``sealed``; to be asked again until it is empty."""
        assert self._records is not None
        return self._records.sealed()

    def send_in_place(self, size: int) -> None:
        """As ``send`` for the first ``size`` bytes of the buffers' ``clear``."""
        assert self._records is not None
        try:
            self._records.seal(size)
        except SSL.Error as error:
            raise self._fail(failed_from(error)) from error

    def send(self, plaintext: bytes | bytearray | memoryview) -> None:
        """Encrypt ``plaintext`` of any size into ``outgoing``; raises TlsFailed.

        Only after the handshake: before it, this side has proved nothing about who would read it.
        """
        if not self.established:
            raise RuntimeError("send before the TLS handshake is done")
        if not plaintext:
            return
        try:  # whole: the contexts have partial writes off, and a memory BIO takes all
            if self._records is not None and type(plaintext) is bytes:
                self._records.write(plaintext)
            else:
                self._send(plaintext)
        except SSL.Error as error:
            raise self._fail(failed_from(error)) from error

    def outgoing(self) -> bytes:
        """All ciphertext that waits to be sent, ``b""`` if none."""
        try:
            data = self._bio_read(_OUTGOING_BYTES)
        except SSL.WantReadError:
            return b""
        if len(data) < _OUTGOING_BYTES:
            return data
        pieces = [data]
        try:
            while True:
                pieces.append(self._bio_read(_OUTGOING_BYTES))
        except SSL.WantReadError:
            return b"".join(pieces)

    def close_notify(self) -> None:
        """Put the orderly end into ``outgoing``; harmless at any time."""
        if self.established:
            try:
                self._connection.shutdown()
            except SSL.Error:  # already failed: there is nothing more to say to the peer
                return

    def exporter(self, label: bytes, context: bytes, length: int) -> bytes:
        """Keying material that only the two ends of this connection can compute (RFC 8446, section 7.5)."""
        if not self.established:
            raise RuntimeError("exporter before the TLS handshake is done")
        return self._connection.export_keying_material(label, length, context)

    def _read(self, records: int) -> bytes:
        """Plaintext of at most ``records`` records."""
        recv = self._recv
        if records == 1:
            try:
                return recv(_RECORD_BYTES)
            except SSL.WantReadError:
                return b""
            except SSL.Error as error:
                raise self._ended(error, b"") from error
        pieces: list[bytes] = []
        try:
            for _ in range(records):
                pieces.append(recv(_RECORD_BYTES))
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            raise self._ended(error, b"".join(pieces)) from error
        return b"".join(pieces)

    def _count_records(self, data: bytes | bytearray | memoryview, size: int) -> int:
        """How many records ``data`` completes, given where the bytes before it ended."""
        records = 0
        position = self._remaining
        if self._head:
            head = self._head + bytes(data[: _HEADER_BYTES - len(self._head)])
            if len(head) < _HEADER_BYTES:
                self._head = head
                return 0
            position = _HEADER_BYTES - len(self._head) + (head[3] << 8 | head[4])
            self._head = b""
            records = position <= size
        elif position:
            records = position <= size
        while position + _HEADER_BYTES <= size:
            position += _HEADER_BYTES + (data[position + 3] << 8 | data[position + 4])
            records += position <= size
        if position < size:
            self._head = bytes(data[position:])
            self._remaining = 0
        else:
            self._remaining = position - size
        return records

    def _receive_handshake(self, data: bytes | bytearray | memoryview) -> bytes:
        if self._end is not None:
            raise self._end.again()
        if not data:
            return b""
        if (
            not self._handshake_bytes
            and data[0] != _HANDSHAKE_RECORD
            and not (self.is_client and data[0] == _ALERT_RECORD)
        ):
            raise self._fail(TlsFailed(TlsFault.NOT_TLS, "not_tls"))
        size = len(data)
        self._handshake_bytes += size
        records = self._count_records(data, size)
        self._bio_write(data)
        self._shake()
        if not self.established:
            if self._handshake_bytes > HANDSHAKE_LIMIT_BYTES:
                raise self._fail(TlsFailed(TlsFault.HANDSHAKE_TOO_LARGE, "handshake_too_large"))
            return b""
        return self._read(records + 1)  # what the peer sent right behind its last flight

    def _shake(self) -> None:
        """One step of the handshake; at its end, the verified peer and h2 are required."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return
        except NoH2Error as error:
            raise self._fail(TlsFailed(TlsFault.NO_H2, "no_application_protocol")) from error
        except SSL.Error as error:
            raise self._fail(self._handshake_failure(error)) from error
        peer = self._check.peer
        if peer is None:
            self._connection.shutdown()
            raise self._fail(
                self._refused(VerificationError(VerifyReason.NO_CERTIFICATE, "no certificate was verified"))
            )
        if self._h2_only and self._connection.get_alpn_proto_negotiated() != ALPN_H2:
            self._connection.shutdown()
            raise self._fail(TlsFailed(TlsFault.NO_H2, "no_application_protocol"))
        self._connection.set_app_data(None)
        self.peer = peer
        self.established = self._open = True

    @property
    def alpn(self) -> bytes:
        """The protocol negotiated by ALPN; empty if there is none."""
        return self._connection.get_alpn_proto_negotiated()

    def _handshake_failure(self, error: SSL.Error) -> TlsFailed:
        if self._check.failure is not None:
            return self._refused(self._check.failure)
        if isinstance(error, SSL.ZeroReturnError):
            return TlsFailed(TlsFault.PROTOCOL, "closed_during_handshake")
        failed = failed_from(error)
        if failed.reason == "peer_did_not_return_a_certificate":
            return self._refused(VerificationError(VerifyReason.NO_CERTIFICATE, "peer showed no certificate"))
        return failed

    def _refused(self, error: VerificationError) -> TlsFailed:
        self._check.failure = error
        return TlsFailed(TlsFault.VERIFICATION, error.reason.value, verification=error)

    def _ended(self, error: SSL.Error, plaintext: bytes) -> TlsEndedError:
        if isinstance(error, SSL.ZeroReturnError):
            closed = TlsClosed("peer closed the TLS connection", plaintext)
            self._open = False
            self._end = closed.again()
            return closed
        return self._fail(failed_from(error, plaintext))

    def _fail(self, failed: TlsFailed) -> TlsFailed:
        self._open = False
        self._end = failed.again()
        return failed


def _refuse(buf: bytes | bytearray | memoryview) -> int:
    raise RuntimeError("receive on a connection that uses buffers")
