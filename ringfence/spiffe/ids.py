"""SPIFFE IDs and trust domains: parsed strictly, held canonically, cheap as dict keys.

Source: SPIFFE-ID standard, sections 2 to 4. What is accepted: the scheme and the trust domain in any case of ASCII
letters (they compare case-insensitively, so they are held in lower case), the path case-sensitively. Everything that
the standard gives no place is refused: query, fragment, user information, port, percent-encoding, empty and dot
segments, a trailing slash, any character beyond the listed ones. Matching is by whole strings of ASCII only, so that
no Unicode look-alike (the Kelvin sign lower-cases to ``k``) and no trailing line break slips through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

TRUST_DOMAIN_LIMIT_BYTES: Final = 255
SPIFFE_ID_LIMIT_BYTES: Final = 2048
RESERVED_NAMESPACE: Final = "ringfence-system"

_SCHEME: Final = "spiffe://"
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]+")
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9._-]+")


class SpiffeIdError(ValueError):
    """Text that is no SPIFFE ID or no trust domain; the message names it and says what is wrong."""


def _shown(text: str) -> str:
    """``text`` quoted, on one line and bounded, for an error message."""
    return ascii(text if len(text) <= 128 else text[:128] + "...")


@dataclass(frozen=True, slots=True, eq=False)
class TrustDomain:
    """A trust domain by its canonical name: ``[a-z0-9.-_]``, 1 to 255 bytes, lower case.

    Raises SpiffeIdError for any other name, upper case included: only ``parse`` reads what others wrote.
    """

    name: str
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        name = self.name
        if not name:
            raise SpiffeIdError("trust domain is empty (give a name such as shop.example)")
        if len(name) > TRUST_DOMAIN_LIMIT_BYTES:
            raise SpiffeIdError(f"trust domain {_shown(name)} is longer than {TRUST_DOMAIN_LIMIT_BYTES} bytes")
        if _TRUST_DOMAIN.fullmatch(name) is None:
            raise SpiffeIdError(f"trust domain {_shown(name)} has a character outside a-z, 0-9, '.', '-', '_'")
        object.__setattr__(self, "_hash", hash(("trust domain", name)))

    @classmethod
    def parse(cls, text: str) -> TrustDomain:
        """Read ``shop.example`` or ``spiffe://shop.example``; raises SpiffeIdError for a path or anything else."""
        rest = text[len(_SCHEME) :] if _has_scheme(text) else text
        return cls(_lower_ascii(rest))

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self.name == other.name if isinstance(other, TrustDomain) else NotImplemented

    def __reduce__(self) -> tuple[type[TrustDomain], tuple[str]]:
        return TrustDomain, (self.name,)  # never the hash: it differs from process to process


@dataclass(frozen=True, slots=True, eq=False)
class SpiffeId:
    """A SPIFFE ID; ``path`` is empty (the trust domain's own ID) or starts with ``/``.

    Raises SpiffeIdError when the path or the length of the whole is not allowed. Equal when the canonical URIs are.
    """

    trust_domain: TrustDomain
    path: str
    _uri: str = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        path = self.path
        if path:
            if path[0] != "/":
                raise SpiffeIdError(f"path {_shown(path)} does not start with '/'")
            for segment in path[1:].split("/"):
                _check_segment(segment, path)
        uri = f"{_SCHEME}{self.trust_domain.name}{path}"
        if len(uri) > SPIFFE_ID_LIMIT_BYTES:
            raise SpiffeIdError(f"SPIFFE ID {_shown(uri)} is longer than {SPIFFE_ID_LIMIT_BYTES} bytes")
        object.__setattr__(self, "_uri", uri)
        object.__setattr__(self, "_hash", hash(uri))

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """Read a SPIFFE ID as a URI; raises SpiffeIdError."""
        if not _has_scheme(text):
            raise SpiffeIdError(f"SPIFFE ID {_shown(text)} does not start with spiffe://")
        if len(text) > SPIFFE_ID_LIMIT_BYTES:
            raise SpiffeIdError(f"SPIFFE ID {_shown(text)} is longer than {SPIFFE_ID_LIMIT_BYTES} bytes")
        name, slash, rest = text[len(_SCHEME) :].partition("/")
        return cls(TrustDomain(_lower_ascii(name)), slash + rest)

    @classmethod
    def workload(cls, trust_domain: TrustDomain, namespace: str, service_account: str) -> SpiffeId:
        """The ID of a workload, ``/ns/<namespace>/sa/<service account>``; raises SpiffeIdError."""
        for name in (namespace, service_account):
            _check_segment(name, name)
        return cls(trust_domain, f"/ns/{namespace}/sa/{service_account}")

    @property
    def segments(self) -> tuple[str, ...]:
        """The path's segments, none for the trust domain's own ID."""
        return tuple(self.path[1:].split("/")) if self.path else ()

    @property
    def namespace(self) -> str | None:
        """``X`` when the path is exactly ``/ns/X/sa/Y``, else None."""
        names = self._workload_names()
        return names[0] if names else None

    @property
    def service_account(self) -> str | None:
        """``Y`` when the path is exactly ``/ns/X/sa/Y``, else None."""
        names = self._workload_names()
        return names[1] if names else None

    def _workload_names(self) -> tuple[str, str] | None:
        segments = self.segments
        if len(segments) == 4 and segments[0] == "ns" and segments[2] == "sa":
            return segments[1], segments[3]
        return None

    def __str__(self) -> str:
        return self._uri

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return self._uri == other._uri if isinstance(other, SpiffeId) else NotImplemented

    def __reduce__(self) -> tuple[type[SpiffeId], tuple[TrustDomain, str]]:
        return SpiffeId, (self.trust_domain, self.path)


def control_plane_id(trust_domain: TrustDomain) -> SpiffeId:
    """The control plane's own identity; no workload is ever issued it."""
    return SpiffeId.workload(trust_domain, RESERVED_NAMESPACE, "controlplane")


def control_plane_dns_name(trust_domain: TrustDomain) -> str:
    """The DNS name in the control plane's certificate, which gRPC clients check; no workload is ever issued it."""
    return f"controlplane.ringfence.{trust_domain.name}"


def _has_scheme(text: str) -> bool:
    head = text[: len(_SCHEME)]
    return head.isascii() and head.lower() == _SCHEME


def _lower_ascii(text: str) -> str:
    """``text`` in lower case where it is ASCII; anything else unchanged, so that the check that follows refuses it."""
    return text.lower() if text.isascii() else text


def _check_segment(segment: str, path: str) -> None:
    if not segment:
        raise SpiffeIdError(f"path {_shown(path)} has an empty segment or a trailing '/'")
    if segment in (".", ".."):
        raise SpiffeIdError(f"path {_shown(path)} has a dot segment")
    if _SEGMENT.fullmatch(segment) is None:
        raise SpiffeIdError(f"path {_shown(path)} has a character outside a-z, A-Z, 0-9, '.', '-', '_'")
