"""Why a call was refused or failed in the mesh: one closed set, used as wire words, log fields and metric labels.

The names are stable: they are told to callers, so a name is never reused for something else. What each tells its reader
is ``summary``; ``kind`` says who has to act.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonKind(StrEnum):
    """Whose business a refusal is."""

    POLICY = "policy"  # the allowlists: the author of the policy, or the caller
    IDENTITY = "identity"  # who the two ends are: certificates and their life
    FAILURE = "failure"  # something is broken, slow or full; nothing was judged


class DenyReason(StrEnum):
    """The reasons, each with its kind and one line of meaning."""

    kind: ReasonKind
    summary: str

    def __new__(cls, value: str, kind: ReasonKind, summary: str) -> DenyReason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind = kind
        member.summary = summary
        return member

    # Told by ringfence.policy, in this order of precedence.
    UNAUTHENTICATED = "unauthenticated", ReasonKind.POLICY, "the caller has no verified identity"
    PATH_AMBIGUOUS = "path_ambiguous", ReasonKind.POLICY, "the path could mean another to the app than to the judge"
    DENYLISTED = "denylisted", ReasonKind.POLICY, "a rule of a denylist refuses the call, whatever else permits it"
    CALLER_NOT_ALLOWED = "caller_not_allowed", ReasonKind.POLICY, "no rule of the service names the caller"
    ADDRESS_NOT_ALLOWED = (
        "address_not_allowed",
        ReasonKind.POLICY,
        "the rules that name the caller do not name the address it calls from",
    )
    PORT_NOT_ALLOWED = "port_not_allowed", ReasonKind.POLICY, "no rule lets the caller use the port"
    PATH_NOT_ALLOWED = "path_not_allowed", ReasonKind.POLICY, "no rule lets the caller use the path on that port"
    METHOD_NOT_ALLOWED = "method_not_allowed", ReasonKind.POLICY, "no rule lets the caller use the method on that path"
    NOT_HTTP = "not_http", ReasonKind.POLICY, "what permits the caller speaks of HTTP, and the bytes are not HTTP"
    HOST_NOT_ALLOWED = "host_not_allowed", ReasonKind.POLICY, "no rule lets the caller ask for that host"
    HEADER_NOT_ALLOWED = "header_not_allowed", ReasonKind.POLICY, "the request lacks a header that the rules require"
    TOKEN_MISSING = "token_missing", ReasonKind.POLICY, "the rules require a token, and the request has none"
    TOKEN_INVALID = "token_invalid", ReasonKind.POLICY, "the request's token is not to be believed"
    TOKEN_INSUFFICIENT = (
        "token_insufficient",
        ReasonKind.POLICY,
        "the token lacks a scope or claim that the rules require",
    )
    STEP_UP_REQUIRED = (
        "step_up_required",
        ReasonKind.POLICY,
        "the user must prove who they are more strongly, or again (RFC 9470)",
    )
    CONDITION_NOT_MET = "condition_not_met", ReasonKind.POLICY, "the condition of the rules that come nearest is false"

    # Told by the callee's limits, of what policy permits.
    RATE_LIMITED = (
        "rate_limited",
        ReasonKind.POLICY,
        "the caller uses more of the service than a limit of its route lets it",
    )

    EGRESS_NOT_ALLOWED = "egress_not_allowed", ReasonKind.POLICY, "no egress rule permits the destination"

    # Told by the data path about the two ends and the tunnel.
    NOT_OWN_ADDRESS = "not_own_address", ReasonKind.IDENTITY, "CONNECT names an address or port of another workload"
    PLAINTEXT_REFUSED = "plaintext_refused", ReasonKind.IDENTITY, "bytes without TLS came to a port that requires it"
    PEER_REFUSED = "peer_refused", ReasonKind.IDENTITY, "the TLS peer showed no acceptable SVID"
    REPROOF_REFUSED = (
        "reproof_refused",
        ReasonKind.IDENTITY,
        "the peer's new proof on a living connection was not valid",
    )
    IDENTITY_EXPIRED = "identity_expired", ReasonKind.IDENTITY, "an SVID of the connection ended and was not re-proved"
    NO_IDENTITY = "no_identity", ReasonKind.IDENTITY, "this sidecar holds no SVID yet, or only one that has ended"

    # Told by the data path when a call could not be judged or carried.
    NO_SNAPSHOT = "no_snapshot", ReasonKind.FAILURE, "this sidecar has no policy yet, so nothing is permitted"
    PROTOCOL_ERROR = "protocol_error", ReasonKind.FAILURE, "the bytes break the protocol of the port or of the tunnel"
    UPSTREAM_UNREACHABLE = "upstream_unreachable", ReasonKind.FAILURE, "no endpoint of the upstream took the connection"
    UPSTREAM_TIMEOUT = "upstream_timeout", ReasonKind.FAILURE, "the upstream's sidecar did not answer in time"
    REQUEST_TIMEOUT = (
        "request_timeout",
        ReasonKind.FAILURE,
        "the response did not come, or not end, in the route's time",
    )
    CIRCUIT_OPEN = "circuit_open", ReasonKind.FAILURE, "as much is under way to the upstream as the route lets through"
    APP_UNREACHABLE = "app_unreachable", ReasonKind.FAILURE, "the app behind the sidecar refused the connection"
    APP_TIMEOUT = "app_timeout", ReasonKind.FAILURE, "the app behind the sidecar did not answer in time"
    CALLER_TIMEOUT = "caller_timeout", ReasonKind.FAILURE, "the caller did not send what it began in time"
    OVERLOADED = "overloaded", ReasonKind.FAILURE, "a limit on connections, streams or buffered bytes was reached"
    DRAINING = "draining", ReasonKind.FAILURE, "this sidecar is about to stop and takes nothing new"
    INTERNAL_ERROR = "internal_error", ReasonKind.FAILURE, "a defect of the mesh itself ended the call"
