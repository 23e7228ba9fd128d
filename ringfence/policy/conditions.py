"""Conditions of rules: CEL (github.com/google/cel-spec), checked when loaded, evaluated on one call's facts. Pure.

A condition reads these variables and no others::

    source       spiffe_id  trust_domain  namespace  service_account  address  authenticated
    destination  service  namespace  port  labels
    request      method  path  host  headers (read by literal names, in lower case)
    token        issuer  subject  scopes  claims; token itself is null where there is none that is to be believed
    now          the time

A caller without identity has empty texts in ``source``, and opaque TCP has them in ``request``. What is not known (the
address, the time, the parts of a token that is not there, a header that is not there) is an error where it is read, and
the rule decides what an error means. The runtime is imported where there is a first condition: it takes 9 MB.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LIMIT_TEXT_BYTES: Final = 4096
LIMIT_ELEMENTS: Final = 256
"""How many elements a list of a token may have where a condition goes through lists; with more it fails."""
VARIABLES: Final[Mapping[str, str]] = {
    "source.spiffe_id": "string",
    "source.trust_domain": "string",
    "source.namespace": "string",
    "source.service_account": "string",
    "source.address": "string",
    "source.authenticated": "bool",
    "destination.service": "string",
    "destination.namespace": "string",
    "destination.port": "int",
    "destination.labels": "map<string, string>",
    "request.method": "string",
    "request.path": "string",
    "request.host": "string",
    "request.headers": "map<string, string>",
    "token": "dyn",
    "token.issuer": "string",
    "token.subject": "string",
    "token.scopes": "list<string>",
    "token.claims": "map<string, dyn>",
    "now": "timestamp",
}
"""What a condition may read, each with its CEL type; the reference page is made from it."""

_CALL: Final = ("request.", "token")
_PLACED: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_CODE: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")


class ConditionError(ValueError):
    """A condition that cannot be enforced; ``line`` and ``column`` count from 1, in its text."""

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"condition {line}:{column}: {message}")
        self.message = message
        self.line = line
        self.column = column


class ConditionFailedError(Exception):
    """A condition could not be evaluated on this call."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A checked condition; ``reads``: the variables, ``headers``: the names of the request's headers."""

    text: str
    reads: frozenset[str]
    headers: tuple[str, ...]
    loops: bool
    program: Any

    @property
    def reads_call(self) -> bool:
        """Whether it reads what only a request has: such an allow rule never permits opaque TCP."""
        return any(name.startswith(_CALL) for name in self.reads)

    def holds(self, values: Mapping[str, object]) -> bool:
        """Evaluate it on values of the variables that it reads; ConditionFailedError where that is not possible."""
        try:
            value = self.program.eval(data=values).value()
        except Exception as error:  # the runtime raises what it likes; none of it may pass for an answer
            raise ConditionFailedError(str(error)) from error
        if value is True or value is False:
            return bool(value)
        raise ConditionFailedError(str(value))


class Conditions:
    """Compiles conditions, each text once."""

    __slots__ = ("_environment", "_known", "_reader")

    def __init__(self) -> None:
        self._known: dict[str, Condition] = {}
        self._environment: Any = None
        self._reader: Any = None

    def compile(self, text: str) -> Condition:
        """The condition that ``text`` is; ConditionError for one that is none, is no truth, or could cost too much."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self._compile(text)
        return found

    def _compile(self, text: str) -> Condition:
        # Not at the top: a sidecar without conditions holds neither the runtime nor the reader of its trees.
        from cel_expr_python import cel

        from ringfence.policy.condition_tree import RefusedTreeError, TreeReader

        if len(text.encode(errors="replace")) > LIMIT_TEXT_BYTES:
            raise ConditionError(f"more than {LIMIT_TEXT_BYTES} bytes of text (split the rule)")
        if not text.isprintable() and not text.replace("\n", " ").replace("\t", " ").isprintable():
            raise ConditionError("a character that cannot be seen (escape it within quotes, as \\u00a0)")
        if self._environment is None:
            kinds = {name: cel.Type(kind) if kind != "dyn" else cel.Type.DYN for name, kind in VARIABLES.items()}
            self._environment = cel.NewEnv(variables=kinds)
            self._reader = TreeReader()
        try:
            program = self._environment.compile(text)
        except Exception as error:  # RuntimeError today; whatever it is, it is not compiled
            raise _explained(str(error)) from error
        kind = program.return_type()
        if kind != cel.Type.BOOL:
            raise ConditionError(
                f"its value is {_name(kind)}, and not surely true or false (compare it with something)"
            )
        try:
            reads = self._reader.read(program.serialize())
        except RefusedTreeError as error:
            raise _at(text, error.offset, error.message) from error
        self._try_patterns(reads.patterns)
        return Condition(text, reads.variables & VARIABLES.keys(), reads.headers, reads.loops, program)

    def _try_patterns(self, patterns: tuple[str, ...]) -> None:
        """RE2 reads a pattern at evaluation only: a bad one is to be found when it is loaded."""
        from cel_expr_python import cel

        for pattern in patterns:
            tried = cel.NewEnv(variables={"p": cel.Type.STRING}).compile("''.matches(p)").eval(data={"p": pattern})
            if tried.value() not in (True, False):
                raise ConditionError(_CODE.sub("", str(tried.value())))


def check_condition(text: str) -> list[str]:
    """What is wrong with a condition: messages, each with its line and column; none for one that can be enforced."""
    try:
        Conditions().compile(text)
    except ConditionError as error:
        return [str(error)]
    return []


def _name(kind: Any) -> str:
    return str(kind.name()).removeprefix("google.protobuf.").lower()


def _at(text: str, offset: int | None, message: str) -> ConditionError:
    if offset is None:
        return ConditionError(message)
    before = text[:offset]
    return ConditionError(message, before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


def _explained(message: str) -> ConditionError:
    placed = _PLACED.search(message)
    if placed is None:
        return ConditionError(_CODE.sub("", message.splitlines()[0] if message else "does not compile"))
    told = placed[3].strip().removesuffix(" (in container '')")
    return ConditionError(_CODE.sub("", told[:1].lower() + told[1:])[:200], int(placed[1]), int(placed[2]))
