"""Settings to the rules of iptables and ip6tables, and the scripts for their ``-restore`` programs. Pure.

Our rules live in chains of our own; the built-in chains get one jump each, at their head, as an earlier rule of
somebody else's could let a connection by. A script is made from what is there (``saved.py``) and what shall be there,
and is one transaction: the same function installs, replaces, removes, and puts back what was there before a failed
attempt. What is matched, and why only what opens a connection: see ``nftables.py``, whose twin this is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from sidecar.redirect.canary import CANARIES
from sidecar.redirect.saved import EMPTY_TABLE, Jump, NatTable, OurRules
from sidecar.redirect.settings import Inbound, Mark, Outbound, OwnTraffic, RedirectSettings

__all__ = ["INBOUND", "OUTPUT", "Family", "fresh_script", "noted", "restore_script", "rules", "with_notes"]

Family = Literal["ipv4", "ipv6"]

INBOUND: Final = "RINGFENCE_INBOUND"
OUTPUT: Final = "RINGFENCE_OUTPUT"

_OPENING: Final = "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN"

# An empty chain of this name, and that of another chain, says that the other was made by our coming.
_MADE_PREFIX: Final = "RINGFENCE_MADE_"


def rules(settings: RedirectSettings, family: Family) -> OurRules:
    """What of ours shall be in the ``nat`` table of that family."""
    chains: dict[str, tuple[str, ...]] = {}
    jumps = []
    if settings.inbound is not None:
        chains[INBOUND] = tuple(_inbound(settings.inbound, settings.mesh_port))
        jumps.append(Jump(chain="PREROUTING", position=1, rule=f"{_OPENING} -j {INBOUND}"))
    if settings.outbound is not None:
        networks = settings.outbound.networks_4() if family == "ipv4" else settings.outbound.networks_6()
        chains[OUTPUT] = tuple(_outbound(settings.outbound, networks, family))
        jumps.append(Jump(chain="OUTPUT", position=1, rule=f"{_OPENING} -j {OUTPUT}"))
    return OurRules(chains=chains, jumps=tuple(jumps))


def with_notes(wanted: OurRules, made: Iterable[str]) -> OurRules:
    """The same rules, noting beside them what did not exist before them: ``TABLE`` and built-in chains."""
    return OurRules(chains={**wanted.chains, **{_MADE_PREFIX + name: () for name in made}}, jumps=wanted.jumps)


def noted(ours: OurRules) -> frozenset[str]:
    """What ``with_notes`` noted."""
    return frozenset(name.removeprefix(_MADE_PREFIX) for name in ours.chains if name.startswith(_MADE_PREFIX))


def restore_script(present: NatTable, wanted: OurRules) -> str:
    """One transaction from what is there to what shall be there, for ``-restore --noflush``; other rules stay.

    Jumps are put at their wanted positions counted as if ``wanted`` were all of ours, so an ``OurRules`` that was taken
    from a table goes back exactly to where it was.
    """
    lines = ["*nat"]
    lines += [f"-D {jump.chain} {jump.rule}" for jump in present.ours.jumps]
    # Naming a chain makes it, or empties it if it is there.
    lines += [f":{name} - [0:0]" for name in wanted.chains]
    lines += [f"-A {name} {rule}" for name, content in wanted.chains.items() for rule in content]
    lines += [f"-I {jump.chain} {jump.position} {jump.rule}" for jump in wanted.jumps]
    gone = [name for name in present.ours.chains if name not in wanted.chains]
    lines += [f"-F {name}" for name in gone]
    lines += [f"-X {name}" for name in gone]
    lines.append("COMMIT")
    return "\n".join(lines) + "\n"


def fresh_script(settings: RedirectSettings) -> str:
    """For people to read: what would be applied where nothing of ours is, family by family."""
    families: tuple[tuple[Family, str], ...] = (("ipv4", "iptables"), ("ipv6", "ip6tables"))
    return "".join(
        f"# {stem}-restore --noflush\n{restore_script(EMPTY_TABLE, rules(settings, family))}"
        for family, stem in families
        if family == "ipv4" or settings.ipv6
    )


def _inbound(inbound: Inbound, mesh_port: int) -> Iterator[str]:
    yield "-i lo -j RETURN"
    yield "-m addrtype ! --dst-type LOCAL -j RETURN"
    for port in sorted(inbound.exclude_ports | {mesh_port}):
        yield f"-p tcp -m tcp --dport {port} -j RETURN"
    for port in sorted(inbound.only_ports):
        yield f"-p tcp -m tcp --dport {port} -j REDIRECT --to-ports {inbound.listener}"
    if not inbound.only_ports:
        yield f"-p tcp -j REDIRECT --to-ports {inbound.listener}"


def _outbound(outbound: Outbound, networks: Iterable[IPv4Network | IPv6Network], family: Family) -> Iterator[str]:
    yield "-o lo -j RETURN"
    canary = CANARIES[0 if family == "ipv4" else 1]
    width = 32 if family == "ipv4" else 128
    yield f"-d {canary.address}/{width} -p tcp -m tcp --dport {canary.port} -j REDIRECT --to-ports {outbound.listener}"
    yield f"{_own(outbound.own)} -j RETURN"
    for uid in sorted(outbound.exclude_uids):
        yield f"-m owner --uid-owner {uid} -j RETURN"
    for gid in sorted(outbound.exclude_gids):
        yield f"-m owner --gid-owner {gid} -j RETURN"
    for mark in sorted(outbound.exclude_marks):
        yield f"{_mark(mark)} -j RETURN"
    for port in sorted(outbound.exclude_ports):
        yield f"-p tcp -m tcp --dport {port} -j RETURN"
    for network in networks:
        yield f"-d {network} -j RETURN"
    yield f"-p tcp -j REDIRECT --to-ports {outbound.listener}"


def _own(own: OwnTraffic) -> str:
    words = []
    if own.uid is not None or own.gid is not None:
        words.append("-m owner")
    if own.uid is not None:
        words.append(f"--uid-owner {own.uid}")
    if own.gid is not None:
        words.append(f"--gid-owner {own.gid}")
    if own.mark is not None:
        words.append(_mark(own.mark))
    return " ".join(words)


def _mark(mark: Mark) -> str:
    return f"-m mark --mark {mark}"
