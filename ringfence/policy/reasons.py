"""Why a call was refused or failed in the mesh: one closed set, used as wire words, log fields and metric labels.

The names are stable: they are told to callers, so a name is never reused for something else. What each tells its reader
is ``summary``; ``kind`` says who has to act, and ``mend`` what they may do. ``docs/reasons.md`` is written from here.
"""

from __future__ import annotations

from enum import StrEnum


class ReasonKind(StrEnum):
    """Whose business a refusal is."""

    POLICY = "policy"  # the allowlists: the author of the policy, or the caller
    IDENTITY = "identity"  # who the two ends are: certificates and their life
    FAILURE = "failure"  # something is broken, slow or full; nothing was judged


class DenyReason(StrEnum):
    """The reasons, each with its kind, one line of meaning, and what its reader may do."""

    kind: ReasonKind
    summary: str
    mend: str

    def __new__(cls, value: str, kind: ReasonKind, summary: str, mend: str) -> DenyReason:
        member = str.__new__(cls, value)
        member._value_ = value
        member.kind = kind
        member.summary = summary
        member.mend = mend
        return member

    # Told by ringfence.policy, in this order of precedence.
    UNAUTHENTICATED = (
        "unauthenticated",
        ReasonKind.POLICY,
        "the caller has no verified identity",
        "call through a sidecar or with an SVID; or let a rule say `from: [{unauthenticated: true}]`",
    )
    PATH_AMBIGUOUS = (
        "path_ambiguous",
        ReasonKind.POLICY,
        "the path could mean another to the app than to the judge",
        "send the plain path: no `..`, `//`, `\\`, `%2f`, no `;` before a slash",
    )
    DENYLISTED = (
        "denylisted",
        ReasonKind.POLICY,
        "a rule of a denylist refuses the call, whatever else permits it",
        "change the denylist rule that the log names, if the call is meant; an allowlist cannot overrule it",
    )
    CALLER_NOT_ALLOWED = (
        "caller_not_allowed",
        ReasonKind.POLICY,
        "no rule of the service names the caller",
        "add the caller to `from` of a rule of the service, if it is meant to call",
    )
    ADDRESS_NOT_ALLOWED = (
        "address_not_allowed",
        ReasonKind.POLICY,
        "the rules that name the caller do not name the address it calls from",
        "widen `cidrs` of the rule that the log names, or call from where it says",
    )
    PORT_NOT_ALLOWED = (
        "port_not_allowed",
        ReasonKind.POLICY,
        "no rule lets the caller use the port",
        "add the port to `ports` of a rule for this caller",
    )
    PATH_NOT_ALLOWED = (
        "path_not_allowed",
        ReasonKind.POLICY,
        "no rule lets the caller use the path on that port",
        "add the path to `paths` of a rule for this caller; a trailing slash is a path of its own",
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        ReasonKind.POLICY,
        "no rule lets the caller use the method on that path",
        "add the method to `methods` of a rule for this path; methods are upper case",
    )
    NOT_HTTP = (
        "not_http",
        ReasonKind.POLICY,
        "what permits the caller speaks of HTTP, and the bytes are not HTTP",
        "send HTTP, or give the caller a rule without HTTP words; on a port declared `http` nothing passes unread",
    )
    HOST_NOT_ALLOWED = (
        "host_not_allowed",
        ReasonKind.POLICY,
        "no rule lets the caller ask for that host",
        "add the host to `hosts` of the rule that the log names, or ask for one that is there",
    )
    HEADER_NOT_ALLOWED = (
        "header_not_allowed",
        ReasonKind.POLICY,
        "the request lacks a header that the rules require",
        "send the header of the rule that the log names, once, with one of its values",
    )
    TOKEN_MISSING = (
        "token_missing",
        ReasonKind.POLICY,
        "the rules require a token, and the request has none",
        "send a token of an issuer that the service knows, where its `TokenIssuer` looks for it",
    )
    TOKEN_INVALID = (
        "token_invalid",
        ReasonKind.POLICY,
        "the request's token is not to be believed",
        "look in the log of the service's sidecar for what is wrong with it; fetch a new one",
    )
    TOKEN_INSUFFICIENT = (
        "token_insufficient",
        ReasonKind.POLICY,
        "the token lacks a scope or claim that the rules require",
        "ask the issuer for the scopes and claims of the rule that the log names",
    )
    STEP_UP_REQUIRED = (
        "step_up_required",
        ReasonKind.POLICY,
        "the user must prove who they are more strongly, or again (RFC 9470)",
        "send the user to the issuer with the `acr_values` and `max_age` of the answer's `www-authenticate`",
    )
    CONDITION_NOT_MET = (
        "condition_not_met",
        ReasonKind.POLICY,
        "the condition of the rules that come nearest is false",
        "see `when` of the rule that the log names; one that cannot be evaluated is not met, and is counted",
    )

    # Told by the callee's limits, of what policy permits.
    RATE_LIMITED = (
        "rate_limited",
        ReasonKind.POLICY,
        "the caller uses more of the service than a limit of its route lets it",
        "wait as long as `retry-after` says, or raise the limit of the service's `Route`",
    )

    # Told by the caller's sidecar of destinations outside the mesh.
    EGRESS_NOT_ALLOWED = (
        "egress_not_allowed",
        ReasonKind.POLICY,
        "no egress rule permits the destination",
        "add an Egress document, or an egress rule in `mesh.yaml`, if the workload is meant to reach the destination",
    )

    # Told by the data path about the two ends and the tunnel.
    NOT_OWN_ADDRESS = (
        "not_own_address",
        ReasonKind.IDENTITY,
        "CONNECT names an address or port of another workload",
        "look for what sends the caller there: an old endpoint, or somebody who tries the mesh port as a relay",
    )
    PLAINTEXT_REFUSED = (
        "plaintext_refused",
        ReasonKind.IDENTITY,
        "bytes without TLS came to a port that requires it",
        "give the caller a sidecar; until then let the port be `permissive`",
    )
    PEER_REFUSED = (
        "peer_refused",
        ReasonKind.IDENTITY,
        "the TLS peer showed no acceptable SVID",
        "see the log for the certificate's defect: its trust domain, its chain, its time, its one URI",
    )
    REPROOF_REFUSED = (
        "reproof_refused",
        ReasonKind.IDENTITY,
        "the peer's new proof on a living connection was not valid",
        "look at the peer's sidecar: its log says how it renewed its SVID",
    )
    IDENTITY_EXPIRED = (
        "identity_expired",
        ReasonKind.IDENTITY,
        "an SVID of the connection ended and was not re-proved",
        "look why the SVID was not renewed: the log of the sidecar whose it was, then the CA's",
    )
    NO_IDENTITY = (
        "no_identity",
        ReasonKind.IDENTITY,
        "this sidecar holds no SVID yet, or only one that has ended",
        "look why the sidecar has no SVID: `ringfence status`, then its log",
    )

    # Told by the data path when a call could not be judged or carried.
    NO_SNAPSHOT = (
        "no_snapshot",
        ReasonKind.FAILURE,
        "this sidecar has no policy yet, so nothing is permitted",
        "wait for the control plane's first snapshot; if none comes, see the sidecar's log for what it waits",
    )
    PROTOCOL_ERROR = (
        "protocol_error",
        ReasonKind.FAILURE,
        "the bytes break the protocol of the port or of the tunnel",
        "see the log for what was wrong, and declare the port's `protocol` as what the app speaks",
    )
    UPSTREAM_UNREACHABLE = (
        "upstream_unreachable",
        ReasonKind.FAILURE,
        "no endpoint of the upstream took the connection",
        "see `ringfence status` for the upstream's instances, and whether its mesh ports can be reached",
    )
    UPSTREAM_TIMEOUT = (
        "upstream_timeout",
        ReasonKind.FAILURE,
        "the upstream's sidecar did not answer in time",
        "look whether the upstream's machine answers, and at `connect` of the route's timeouts",
    )
    REQUEST_TIMEOUT = (
        "request_timeout",
        ReasonKind.FAILURE,
        "the response did not come, or not end, in the route's time",
        "look why the app took so long, or raise the timeouts of its `Route`",
    )
    CIRCUIT_OPEN = (
        "circuit_open",
        ReasonKind.FAILURE,
        "as much is under way to the upstream as the route lets through",
        "look why the upstream is slow, or raise `circuitBreaker` of its `Route`",
    )
    APP_UNREACHABLE = (
        "app_unreachable",
        ReasonKind.FAILURE,
        "the app behind the sidecar refused the connection",
        "start the app, or mend the address and port that `mesh.yaml` says it listens on",
    )
    APP_TIMEOUT = (
        "app_timeout",
        ReasonKind.FAILURE,
        "the app behind the sidecar did not answer in time",
        "look why the app does not answer on its port",
    )
    CALLER_TIMEOUT = (
        "caller_timeout",
        ReasonKind.FAILURE,
        "the caller did not send what it began in time",
        "look at the caller, or at what lies between; a slow sender has its deadline, too",
    )
    OVERLOADED = (
        "overloaded",
        ReasonKind.FAILURE,
        "a limit on connections, streams or buffered bytes was reached",
        "see the metrics of the limits for which one it was; raise it, or add instances",
    )
    DRAINING = (
        "draining",
        ReasonKind.FAILURE,
        "this sidecar is about to stop and takes nothing new",
        "nothing: callers go on to another endpoint, if there is one",
    )
    INTERNAL_ERROR = (
        "internal_error",
        ReasonKind.FAILURE,
        "a defect of the mesh itself ended the call",
        "report it with the line of the log under the request's id",
    )
