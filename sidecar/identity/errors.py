"""Why an identity could not be had, sorted by the one question that matters: is it worth asking again."""

from __future__ import annotations


class IdentityError(Exception):
    """Base of this package's errors; the message is one line for the operator."""


class IdentityUnavailable(IdentityError):
    """The CA could not be asked, or asked for patience: try again later with what was tried."""


class IdentityRefused(IdentityError):
    """The CA said no, or must not be trusted; asking again with the same means changes nothing."""


class WrongRoot(IdentityRefused):
    """Whoever answers at the join address is not the control plane that was pinned. Nothing secret was sent."""


class WrongIdentity(IdentityRefused):
    """The CA issued an identity for another SPIFFE ID than this sidecar is set to be."""


class UnsoundIdentity(IdentityUnavailable):
    """What the CA sent does not hold: own verification failed, so it is not used and what is held stays."""
