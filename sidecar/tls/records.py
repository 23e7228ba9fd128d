"""Records of a connection in bulk: ciphertext and plaintext in buffers that all connections of a process share.

Theory of operation. pyOpenSSL hands out each record as bytes of its own, and copies each read of the transport into a
memory BIO: three copies and two allocations of what may be a whole body. Here the transport reads into ``cipher``,
OpenSSL reads it where it stands, through a read-only BIO that lives for one read, and decrypts into ``plain``. Apps are
read into ``clear``, which is encrypted where it stands; what OpenSSL made of it is taken out into ``sealed``. A turn of
the event loop uses the buffers from end to end: nobody keeps a view of one beyond the call that got it. Below
pyOpenSSL's public face for that: its bindings, and ``_ssl``, ``_into_ssl``, ``_from_ssl`` and ``_raise_ssl_error`` of
its ``Connection``; nothing else in the sidecar touches these.
"""

from __future__ import annotations

import mmap
from itertools import repeat
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

CLEAR_OFFSET: Final = 9  # in ``clear``: the header of the frame whose content stands there
CLEAR_BYTES: Final = 256 * 1024  # the most that is encrypted in one go
_RECORD_BYTES: Final = 16_384
_OVERHEAD_BYTES: Final = 22  # of a record: header, content type, tag (RFC 8446, section 5.2)
# One read: exactly what a peer of our kind puts out at once, so that reads of bulk begin and end with frames. Any more,
# and each would end in the midst of a record and of a frame, which are then passed on in two writes.
CIPHER_BYTES: Final = CLEAR_OFFSET + CLEAR_BYTES + _OVERHEAD_BYTES * -(-(CLEAR_OFFSET + CLEAR_BYTES) // _RECORD_BYTES)
_PLAIN_BYTES: Final = CIPHER_BYTES + 2 * _RECORD_BYTES  # one read completes a record that began in the one before
SEALED_BYTES: Final = 320 * 1024  # more than ``clear`` and a few frames make

_ffi: Final[Any] = ffi
_WANT_READ: Final[int] = lib.SSL_ERROR_WANT_READ


def _untouched(size: int) -> mmap.mmap:
    """Memory of which only what was used is resident: most sidecars never see bulk."""
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class RecordBuffers:
    """The buffers of one process, for its single event loop."""

    __slots__ = (
        "cipher",
        "cipher_pointer",
        "clear",
        "clear_pointer",
        "plain",
        "plain_pointer",
        "plain_pointers",
        "sealed",
        "sealed_pointer",
    )

    def __init__(self) -> None:
        cipher, plain, sealed = _untouched(CIPHER_BYTES), _untouched(_PLAIN_BYTES), _untouched(SEALED_BYTES)
        clear = _untouched(CLEAR_OFFSET + CLEAR_BYTES)
        self.cipher = memoryview(cipher)
        self.clear = memoryview(clear)
        self.plain = memoryview(plain)
        self.sealed = memoryview(sealed)
        self.cipher_pointer: Any = _ffi.from_buffer(cipher)
        self.clear_pointer: Any = _ffi.from_buffer(clear)
        self.plain_pointer: Any = _ffi.from_buffer(plain)
        places = range(_RECORD_BYTES, _PLAIN_BYTES - _RECORD_BYTES + 1, _RECORD_BYTES)
        self.plain_pointers: tuple[Any, ...] = tuple(self.plain_pointer + place for place in places)
        """Of the second full record and those behind it."""
        self.sealed_pointer: Any = _ffi.from_buffer(sealed)


class Records:
    """An established connection's way around pyOpenSSL's copies. From its making on, ``bio_write`` is refused."""

    __slots__ = ("_buffers", "_connection", "_from_ssl", "_ssl")

    def __init__(self, connection: SSL.Connection, buffers: RecordBuffers) -> None:
        inner: Any = connection
        self._connection = inner
        self._buffers = buffers
        self._ssl: Any = inner._ssl
        self._from_ssl: Any = inner._from_ssl
        inner._into_ssl = None  # the first ``open`` frees that BIO: a write to it must fail, not touch freed memory

    def open(self, size: int) -> tuple[memoryview, SSL.Error | None]:
        """Decrypt ``size`` bytes of ``cipher``: the plaintext that they complete, and how the connection ended if it
        did. All of it is taken: an incomplete record is kept inside OpenSSL."""
        bio = lib.BIO_new_mem_buf(self._buffers.cipher_pointer, size)
        if bio == _ffi.NULL:
            raise MemoryError("no BIO")
        lib.BIO_set_mem_eof_return(bio, -1)
        lib.SSL_set_bio(self._ssl, bio, self._from_ssl)  # owns it, and frees the one before
        return self.drain()

    def drain(self) -> tuple[memoryview, SSL.Error | None]:
        """Decrypt what OpenSSL has; as ``open``, which calls it. To be called once before the first ``open``."""
        buffers = self._buffers
        ssl, pointer, read = self._ssl, buffers.plain_pointer, lib.SSL_read
        size = 0
        lib.ERR_clear_error()  # whose ever it was: ``SSL_get_error`` would take it for this connection's
        got = read(ssl, pointer, _RECORD_BYTES)
        if got == _RECORD_BYTES:  # bulk, of which all records but the last are full: each goes behind the one before
            for got in map(read, repeat(ssl), buffers.plain_pointers, repeat(_RECORD_BYTES)):
                size += _RECORD_BYTES
                if got != _RECORD_BYTES:
                    break
        while got > 0:
            size += got
            if size > CIPHER_BYTES + _RECORD_BYTES:  # cannot be: plaintext is shorter than its records
                raise RuntimeError("more plaintext than ciphertext")
            got = read(ssl, pointer + size, _RECORD_BYTES)
        error: SSL.Error | None = None
        if lib.SSL_get_error(ssl, got) != _WANT_READ:
            error = self._error(got)
            lib.SSL_set_bio(ssl, lib.BIO_new(lib.BIO_s_mem()), self._from_ssl)  # nothing may read ``cipher`` later
        return buffers.plain[:size], error

    def seal(self, size: int) -> None:
        """Encrypt the first ``size`` bytes of ``clear``; raises SSL.Error."""
        lib.ERR_clear_error()
        result = lib.SSL_write(self._ssl, self._buffers.clear_pointer, size)
        if result != size:
            raise self._error(result)

    def write(self, plaintext: bytes) -> None:
        """Encrypt all of ``plaintext``, which is not empty; raises SSL.Error."""
        lib.ERR_clear_error()
        result = lib.SSL_write(self._ssl, plaintext, len(plaintext))
        if result != len(plaintext):
            raise self._error(result)

    def _error(self, result: int) -> SSL.Error:
        try:
            self._connection._raise_ssl_error(self._ssl, result)
        except SSL.Error as error:
            return error
        return SSL.Error([])

    def sealed(self) -> memoryview:
        """What waits to be sent, as a view of ``sealed``; empty when there is nothing, full when there may be more."""
        buffers = self._buffers
        size = lib.BIO_read(self._from_ssl, buffers.sealed_pointer, SEALED_BYTES)
        return buffers.sealed[: size if size > 0 else 0]
