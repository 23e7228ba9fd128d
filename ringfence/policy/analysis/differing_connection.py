"""Differences in who calls, from where, to which port and in which protocol. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ringfence.policy.analysis.calls import Call
from ringfence.policy.analysis.conditions import reads_call
from ringfence.policy.analysis.differing import Difference, Dimension, Mending, listed
from ringfence.policy.analysis.examples import example_address, example_caller
from ringfence.policy.analysis.matching import OPEN
from ringfence.policy.analysis.spelled import spelled_callers, spelled_identity
from ringfence.policy.analysis.world import WorldPort
from ringfence.policy.model import Callers, Named, NarrowedCallers, UnauthenticatedCallers


def differ_callers(mending: Mending) -> None:
    """The caller, or only its address where the rule names it from elsewhere."""
    callers = mending.rule.callers
    # As a connection, so that nothing of the request is looked at.
    connection = replace(mending.call, opaque=True)
    if _takes(mending, callers, connection):
        # Nobody without an identity comes to a strict port, whatever the rule says of them.
        identified = tuple(one for one in callers if not isinstance(_named(one), UnauthenticatedCallers))
        if connection.caller is not None or not identified or any(_possible(mending)):
            return
        callers = identified
    narrowed = [
        one for one in callers if isinstance(one, NarrowedCallers) and _takes(mending, (one.callers,), connection)
    ]
    if narrowed:
        _differ_address(mending, tuple(cidr for one in narrowed for cidr in one.cidrs))
        return
    chosen = min(callers, key=lambda one: _effort(one, mending), default=None)
    wants = listed(spelled_callers(one) for one in callers)
    has = spelled_identity(mending.call.caller)
    difference = Difference(dimension=Dimension.CALLER, has=has, wants=wants)
    if chosen is None:
        mending.differ(difference, None)
        return
    mending.differ(difference, replace(mending.call, caller=example_caller(_named(chosen), mending.matcher.world)))
    connection = replace(mending.call, opaque=True)
    if isinstance(chosen, NarrowedCallers) and not _takes(mending, (chosen,), connection):
        _differ_address(mending, chosen.cidrs)


def differ_port(mending: Mending) -> None:
    """The port, or the protocol on it: the nearest to the call of those that the rule and the service have."""
    call, rule = mending.call, mending.rule
    possible = list(_possible(mending))
    best = min(possible, key=lambda one: (one[0].port != call.port, one[1] != call.opaque, one[0].port), default=None)
    if best is None:
        wants = listed(rule.ports) or ("none that the service has",)
        mending.differ(Difference(dimension=Dimension.PORT, has=str(call.port), wants=wants), None)
        return
    port, opaque = best
    if port.port != call.port:
        wants = listed(sorted({one.port for one, _ in possible}))
        difference = Difference(dimension=Dimension.PORT, has=_spelled_port(mending), wants=wants)
        mending.differ(difference, replace(call, port=port.port, opaque=opaque))
    elif opaque != call.opaque:
        has, wants = ("opaque TCP", ("HTTP",)) if call.opaque else ("HTTP", ("opaque TCP",))
        difference = Difference(dimension=Dimension.PROTOCOL, has=has, wants=wants)
        mending.differ(difference, replace(call, opaque=opaque))


def _possible(mending: Mending) -> Iterator[tuple[WorldPort, bool]]:
    """Each port where the rule could speak of such a call, and whether it would be opaque there."""
    call, rule = mending.call, mending.rule
    for port in mending.matcher.service.ports:
        if (rule.ports and port.port not in rule.ports) or (call.caller is None and not port.permissive):
            continue
        if port.may_be_http:
            yield port, False
        if not port.is_http and not rule.speaks_http and not reads_call(rule.when):
            yield port, True


def _spelled_port(mending: Mending) -> str:
    call = mending.call
    port = mending.matcher.service.port(call.port)
    if port is None:
        return f"{call.port}, which {call.service} does not have"
    if call.caller is None and not port.permissive:
        return f"{call.port}, which requires an identity"
    return f"{call.port}"


def _differ_address(mending: Mending, cidrs: tuple[str, ...]) -> None:
    difference = Difference(dimension=Dimension.ADDRESS, has=mending.call.address or "not known", wants=cidrs)
    mending.differ(difference, replace(mending.call, address=example_address(cidrs[0])))


def _takes(mending: Mending, callers: tuple[Callers, ...], connection: Call) -> bool:
    return bool(callers) and mending.matcher.takes(replace(OPEN, callers=callers), connection)


def _effort(callers: Callers, mending: Mending) -> tuple[bool, bool]:
    """How far a caller is from being one of these: an identity can be had anywhere, a permissive port not."""
    return isinstance(_named(callers), UnauthenticatedCallers), isinstance(callers, NarrowedCallers)


def _named(callers: Callers) -> Named:
    return callers.callers if isinstance(callers, NarrowedCallers) else callers
