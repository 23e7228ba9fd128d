"""Settings to an nftables ruleset: one table of our own, so that installing and removing touch nothing else. Pure.

Two chains hook into address translation. A rule's ``return`` ends only our chain, so whatever else the machine does at
that hook still happens. Our chains stand ahead of the usual priority, where iptables and container engines are: the
first translation of a connection is the only one, and a connection of the mesh must not be decided elsewhere.

Only a segment that opens a connection is redirected. The kernel judges the first packet of a connection that it sees,
which need not be the opening one: connections may be older than the rules or than the kernel's memory of them, and an
answer of theirs would look like a connection to be redirected, which would cut it: an operator's SSH session, or the
sidecar's own connections to its peers. Nor is that a way around: a stranger who begins with another segment is answered
by a reset, at which the kernel forgets him (tests/netns tries it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sidecar.redirect.canary import CANARIES
from sidecar.redirect.settings import Inbound, Mark, Outbound, OwnTraffic, RedirectSettings

__all__ = ["FAMILIES", "TABLE", "install_script", "remove_script", "ruleset"]

TABLE: Final = "ringfence"

FAMILIES: Final = ("inet", "ip")
"""Where our table may be: ``inet`` is IPv4 and IPv6, ``ip`` is IPv4 alone, for kernels that translate nothing else."""


_OPENING: Final = ("meta l4proto != tcp return", "tcp flags & (fin | syn | rst | ack) != syn return")


def ruleset(settings: RedirectSettings) -> str:
    """The whole table, as ``nft -f`` takes it."""
    family = "inet" if settings.ipv6 else "ip"
    chains = []
    if settings.inbound is not None:
        chains.append(_chain("inbound", "prerouting", _inbound(settings.inbound, settings.mesh_port)))
    if settings.outbound is not None:
        chains.append(_chain("output", "output", _outbound(settings.outbound, ipv6=settings.ipv6)))
    return f"table {family} {TABLE} {{\n" + "\n".join(chains) + "}\n"


def install_script(settings: RedirectSettings, present: Iterable[str]) -> str:
    """One transaction that puts the table in the place of those present (``FAMILIES``), with no moment between."""
    return remove_script(present) + ruleset(settings)


def remove_script(present: Iterable[str]) -> str:
    """One transaction that deletes our tables of these families; empty if there are none."""
    return "".join(f"delete table {family} {TABLE}\n" for family in present)


def _chain(name: str, hook: str, rules: Iterable[str]) -> str:
    # -100 is where destinations are usually translated. The number is spelled out: "dstnat" is not known at "output".
    lines = [f"type nat hook {hook} priority -110; policy accept;", *rules]
    return f"\tchain {name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _inbound(inbound: Inbound, mesh_port: int) -> Iterator[str]:
    yield from _OPENING
    yield 'iifname "lo" return'
    # What only passes through, as on a host that routes for containers, is not addressed to a program here.
    yield "fib daddr type != local return"
    yield f"tcp dport {_set(sorted(inbound.exclude_ports | {mesh_port}))} return"
    if inbound.only_ports:
        yield f"tcp dport {_set(sorted(inbound.only_ports))} redirect to :{inbound.listener}"
    else:
        yield f"meta l4proto tcp redirect to :{inbound.listener}"


def _outbound(outbound: Outbound, *, ipv6: bool) -> Iterator[str]:
    yield from _OPENING
    # Every address of this machine's own is reached through the loopback interface, not only 127.0.0.1.
    yield 'oifname "lo" return'
    for canary in CANARIES[: 2 if ipv6 else 1]:
        match = "ip6" if ":" in canary.address else "ip"
        yield f"{match} daddr {canary.address} tcp dport {canary.port} redirect to :{outbound.listener}"
    yield f"{_own(outbound.own)} return"
    if outbound.exclude_uids:
        yield f"meta skuid {_set(sorted(outbound.exclude_uids))} return"
    if outbound.exclude_gids:
        yield f"meta skgid {_set(sorted(outbound.exclude_gids))} return"
    for mark in sorted(outbound.exclude_marks):
        yield f"{_mark(mark)} return"
    if outbound.exclude_ports:
        yield f"tcp dport {_set(sorted(outbound.exclude_ports))} return"
    if networks := outbound.networks_4():
        yield f"ip daddr {_set(networks)} return"
    if networks_6 := outbound.networks_6():
        yield f"ip6 daddr {_set(networks_6)} return"
    yield f"meta l4proto tcp redirect to :{outbound.listener}"


def _own(own: OwnTraffic) -> str:
    words = []
    if own.uid is not None:
        words.append(f"meta skuid {own.uid}")
    if own.gid is not None:
        words.append(f"meta skgid {own.gid}")
    if own.mark is not None:
        words.append(_mark(own.mark))
    return " ".join(words)


def _mark(mark: Mark) -> str:
    return f"meta mark & {mark.mask:#010x} == {mark.value:#010x}"


def _set(members: Iterable[object]) -> str:
    return "{ " + ", ".join(str(member) for member in members) + " }"
