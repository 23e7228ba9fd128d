"""Looking ahead: what a caller's proof seems to stand for, so that nothing is signed for nobody.

What is found here may be past a moment later: what counts are the conditional statements of ``ca.store.record``.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from sqlalchemy import Connection

from ca.errors import RefusalReason
from ca.store.database import Database, unavailable_unless
from ca.store.host_keys import EnrolledHostKey, Provenance, find_host_key, find_line
from ca.store.tokens import find_token


class LookUps:
    """One read transaction for as many look-ups as come; it begins with the first of them.

    StoreUnavailable, from a look-up or at the end, if the database cannot be read.
    """

    def __init__(self, database: Database, now: float) -> None:
        self._database = database
        self._now = now
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, problem, trace)

    def token(self, token_sha256: str, host_key_id: str | None) -> str | RefusalReason:
        """The SPIFFE ID that the token stands for when shown with that host key, or why it does not hold."""
        with unavailable_unless("be read"):
            return find_token(self._connected(), token_sha256, host_key_id, self._now)

    def host_key(self, key_id: str) -> EnrolledHostKey | None:
        """The enrolled host key of that id, revoked or not."""
        with unavailable_unless("be read"):
            return find_host_key(self._connected(), key_id)

    def line(self, serial: str) -> Provenance | None:
        """By which evidence the line of the SVID of that serial began, if by any."""
        with unavailable_unless("be read"):
            return find_line(self._connected(), serial)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.read())
        return self._connection
