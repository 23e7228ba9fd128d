"""What a rule asks of a call beyond its caller, port, method, path and host: headers, a token, a condition. Pure.

What is not known never permits: an allow rule that asks for it does not match. In a denylist it is the other way round:
a condition that cannot be evaluated matches, and a header that is there twice has each of its values.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ringfence.policy.claims import scopes_of, token_lacks
from ringfence.policy.conditions import LIMIT_ELEMENTS, Condition, ConditionFailedError
from ringfence.policy.facts import Facts, Token, VerifiedToken
from ringfence.policy.model import TokenMatch
from ringfence.policy.paths import other_reading
from ringfence.policy.reasons import DenyReason

_END_OF_TIME: Final = 253_402_300_800  # the year 10,000, which CEL's timestamps do not reach
_OPAQUE: Final[Mapping[str, object]] = {
    "request.method": "",
    "request.path": "",
    "request.host": "",
    "request.headers": {},
    "token": None,
}


class Asked:
    """One call as guards see it; ``path`` as judged, None for a connection of opaque TCP.

    ``known``: what conditions may read of the caller and of the workload. ``failed`` is told the name of each rule
    whose condition could not be evaluated.
    """

    __slots__ = ("facts", "failed", "known", "method", "path", "port")

    def __init__(
        self,
        facts: Facts,
        known: Mapping[str, object],
        failed: Callable[[str], None],
        port: int,
        call: tuple[bytes, bytes] | None,
    ) -> None:
        """``call``: method and judged path."""
        self.facts = facts
        self.known = known
        self.failed = failed
        self.port = port
        self.method = call[0] if call is not None else b""
        self.path = call[1] if call is not None else None

    def readings(self, condition: Condition) -> Iterator[Asked]:
        """The call as it is, then as apps may read it otherwise, as far as ``condition`` reads that: by a path without
        parameters, by the first or the last value of a header that is there more than once."""
        yield self
        if self.path is None:
            return
        paths, facts = [self.path], [self.facts]
        other = other_reading(self.path) if "request.path" in condition.reads else None
        if other is not None:
            paths.append(other)
        if any(len(self.facts.header(name.encode("ascii"))) > 1 for name in condition.headers):
            facts += [_OneValue(self.facts, 0), _OneValue(self.facts, -1)]
        for path, given in itertools.product(paths, facts):
            if path is not self.path or given is not self.facts:
                yield Asked(given, self.known, self.failed, self.port, (self.method, path))

    def values(self, condition: Condition) -> dict[str, object]:
        """Values of the variables that ``condition`` reads, as far as they are known."""
        reads, facts = condition.reads, self.facts
        values = {name: self.known[name] for name in reads if name in self.known}
        if "destination.port" in reads:
            values["destination.port"] = self.port
        if "now" in reads and 0 < facts.now < _END_OF_TIME:
            values["now"] = datetime.datetime.fromtimestamp(facts.now, datetime.UTC)
        if not condition.reads_call:
            return values
        if self.path is None:
            values.update((name, _OPAQUE[name]) for name in reads if name in _OPAQUE)
            return values
        if "request.method" in reads:
            values["request.method"] = self.method.decode("latin-1")
        if "request.path" in reads:
            values["request.path"] = self.path.decode("latin-1")
        if "request.host" in reads:
            values["request.host"] = facts.host.decode("latin-1")
        if "request.headers" in reads:
            _put_headers(values, condition, facts)
        if any(name.startswith("token") for name in reads):
            _put_token(values, condition, facts)
        return values


class _OneValue:
    """Facts of which a header has one value alone, the one at ``at``."""

    __slots__ = ("_at", "_facts")

    def __init__(self, facts: Facts, at: int) -> None:
        self._facts = facts
        self._at = at

    @property
    def now(self) -> float:
        return self._facts.now

    @property
    def host(self) -> bytes:
        return self._facts.host

    def header(self, name: bytes) -> Sequence[bytes]:
        given = self._facts.header(name)
        return (given[self._at],) if len(given) > 1 else given

    def token(self) -> Token:
        return self._facts.token()


def _put_headers(values: dict[str, object], condition: Condition, facts: Facts) -> None:
    found = {name: b",".join(given) for name in condition.headers if (given := facts.header(name.encode("ascii")))}
    try:
        values["request.headers"] = {name: value.decode() for name, value in found.items()}
    except UnicodeDecodeError:
        return  # bytes that are no text are not known as text: an error where they are read


def _put_token(values: dict[str, object], condition: Condition, facts: Facts) -> None:
    token = facts.token()
    if not isinstance(token, VerifiedToken) or facts.now > token.expires:
        values["token"] = None
        return
    claims = dict(token.claims)
    values["token"] = True  # only ever compared with null
    values["token.issuer"] = token.issuer
    subject = claims.get("sub")
    if isinstance(subject, str):
        values["token.subject"] = subject
    scopes = sorted(scopes_of(token))
    # What the cost of a loop was reckoned with when it was loaded.
    if not condition.loops or len(scopes) <= LIMIT_ELEMENTS:
        values["token.scopes"] = scopes
    if not condition.loops or _is_short(claims):
        values["token.claims"] = claims


def _is_short(value: object) -> bool:
    """Whether no list or object in a claim has more elements than a loop may go through."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        return True
    return len(value) <= LIMIT_ELEMENTS and all(map(_is_short, value))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderGuard:
    """A header that a rule speaks of; ``values`` empty: only whether it is there."""

    name: bytes
    values: frozenset[bytes]
    present: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """All that one rule asks of facts but the host; ``name`` is the rule's full name."""

    name: str
    headers: tuple[HeaderGuard, ...] = ()
    token: TokenMatch | None = None
    condition: Condition | None = None
    leeways: Mapping[str, int]

    def lacks(self, asked: Asked) -> DenyReason | None:
        """For an allow rule: the first thing that the call lacks; None if it has all."""
        for header in self.headers:
            given = asked.facts.header(header.name)
            if header.values:
                if len(given) != 1 or given[0] not in header.values:
                    return DenyReason.HEADER_NOT_ALLOWED
            elif bool(given) is not header.present:
                return DenyReason.HEADER_NOT_ALLOWED
        if self.token is not None:
            reason = token_lacks(self.token, asked.facts, self.leeways)
            if reason is not None:
                return reason
        if self.condition is not None and not self._holds(asked, otherwise=False):
            return DenyReason.CONDITION_NOT_MET
        return None

    def speaks(self, asked: Asked) -> bool:
        """For a deny rule: whether it speaks of the call."""
        for header in self.headers:
            given = asked.facts.header(header.name)
            if header.values:
                if header.values.isdisjoint(given):
                    return False
            elif bool(given) is not header.present:
                return False
        if self.condition is None:
            return True
        return any(self._holds(reading, otherwise=True) for reading in asked.readings(self.condition))

    def _holds(self, asked: Asked, *, otherwise: bool) -> bool:
        assert self.condition is not None
        try:
            return self.condition.holds(asked.values(self.condition))
        except ConditionFailedError:
            asked.failed(self.name)
            return otherwise
