"""Policy documents: YAML text to checked values with their places. Pure; next stop ``bind``.

A document is read to its end whatever is wrong with it, so that its author sees every error at once. A rule with an
error is left out, never read in part: a rule that lost a bad path would permit every path.

``reading`` has a module a kind, each of which begins with an example; ``written`` says what comes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ringfence.policy.envelope import Envelope, KindReader, read_kinds
from ringfence.policy.problems import Problem
from ringfence.policy.reading.context import Context
from ringfence.policy.reading.egress import read_egress
from ringfence.policy.reading.issuers import read_token_issuer
from ringfence.policy.reading.lists import read_allowlist, read_denylist
from ringfence.policy.reading.postures import read_posture
from ringfence.policy.reading.roles import read_caller_set, read_role, read_role_binding
from ringfence.policy.written import Header, PolicyDocument
from ringfence.policy.yamlnodes import MappingReader

_SpecReader = Callable[[MappingReader, Context], PolicyDocument]


def _kind(read: _SpecReader) -> KindReader[PolicyDocument]:
    """The reader of a kind, for its envelope."""

    def from_envelope(envelope: Envelope, problems: list[Problem]) -> PolicyDocument:
        header = Header(namespace=envelope.namespace, name=envelope.name, place=envelope.name_place)
        return read(envelope.spec, Context(header, problems))

    return from_envelope


KINDS: Final[Mapping[str, KindReader[PolicyDocument]]] = {
    "Allowlist": _kind(read_allowlist),
    "Denylist": _kind(read_denylist),
    "Role": _kind(read_role),
    "CallerSet": _kind(read_caller_set),
    "RoleBinding": _kind(read_role_binding),
    "Posture": _kind(read_posture),
    "TokenIssuer": _kind(read_token_issuer),
    "Egress": _kind(read_egress),
}


def read_documents(text: str | bytes, file: str) -> tuple[list[PolicyDocument], list[Problem]]:
    """The policy documents of one file and all that is wrong with it, in the order of the text.

    When there is any problem the documents are good for nothing but finding more problems (``bind``).
    """
    return read_kinds(text, file, KINDS)
