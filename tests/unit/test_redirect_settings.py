"""What a redirect may be, and each refused neighbour."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from sidecar.redirect.errors import RedirectSettingsError
from sidecar.redirect.settings import Inbound, Mark, Network, Outbound, OwnTraffic, RedirectSettings

OWN = OwnTraffic(uid=1337)


def networks(*texts: str) -> frozenset[Network]:
    return frozenset(ip_network(text) for text in texts)


def settings(*, inbound: dict[str, Any] | None = None, outbound: dict[str, Any] | None = None, **words: Any) -> Any:
    return RedirectSettings(
        inbound=Inbound(**(inbound or {})), outbound=Outbound(**{"own": OWN, **(outbound or {})}), **words
    )


def problems(**words: Any) -> tuple[str, ...]:
    with pytest.raises(RedirectSettingsError) as caught:
        settings(**words)
    return caught.value.problems


def test_the_ports_are_the_customary_ones() -> None:
    usual = settings()
    assert (usual.inbound.listener, usual.outbound.listener, usual.mesh_port) == (15006, 15001, 15008)


def test_either_direction_may_be_left_alone_but_not_both() -> None:
    assert RedirectSettings(inbound=Inbound(), outbound=None).outbound is None
    assert RedirectSettings(inbound=None, outbound=Outbound(own=OWN)).inbound is None
    with pytest.raises(RedirectSettingsError, match="neither inbound nor outbound is redirected"):
        RedirectSettings(inbound=None, outbound=None)


@pytest.mark.parametrize(
    "own",
    [
        OwnTraffic(uid=1),
        OwnTraffic(gid=1337),
        OwnTraffic(mark=Mark(value=0x539, mask=0xFFF)),
        OwnTraffic(uid=0, mark=Mark(value=1)),
        OwnTraffic(uid=0, gid=1337),
    ],
)
def test_the_sidecar_is_told_by_user_group_or_mark(own: OwnTraffic) -> None:
    assert settings(outbound={"own": own}).outbound.own is own


def test_a_sidecar_that_nothing_tells_would_call_itself_without_end() -> None:
    assert "come back to it without end" in problems(outbound={"own": OwnTraffic()})[0]


@pytest.mark.parametrize("own", [OwnTraffic(uid=0), OwnTraffic(gid=0), OwnTraffic(uid=0, gid=0)])
def test_root_alone_tells_no_sidecar(own: OwnTraffic) -> None:
    (problem,) = problems(outbound={"own": own})
    assert problem == (
        "the sidecar is told by root alone, and so is every program of root (run it as a user of its own)"
    )


@pytest.mark.parametrize(
    ("mark", "word"),
    [
        (Mark(value=0), "is what unmarked traffic bears"),
        (Mark(value=0, mask=0xFF), "is what unmarked traffic bears"),
        (Mark(value=0x100, mask=0xFF), "can never match"),
        (Mark(value=1, mask=0), "is no mark of 32 bits"),
        (Mark(value=1 << 32), "is no mark of 32 bits"),
        (Mark(value=-1), "is no mark of 32 bits"),
    ],
)
def test_marks_that_mean_everything_or_nothing_are_refused(mark: Mark, word: str) -> None:
    (of_the_sidecar,) = problems(outbound={"own": OwnTraffic(uid=1, mark=mark)})
    (excluded,) = problems(outbound={"exclude_marks": frozenset({mark})})
    assert of_the_sidecar.startswith("the sidecar's mark ") and word in of_the_sidecar
    assert excluded.startswith("excluded mark ") and word in excluded


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_numbers_that_are_no_ports_are_refused_everywhere(port: int) -> None:
    assert len(problems(mesh_port=port)) == 1
    for name in ("listener", "only_ports", "exclude_ports"):
        value = port if name == "listener" else frozenset({port})
        assert problems(inbound={name: value})[0].endswith(f"{port} is no port (1 to 65535)")
    assert len(problems(outbound={"listener": port})) == 1
    assert len(problems(outbound={"exclude_ports": frozenset({port})})) == 1


def test_the_edges_of_the_port_range_are_ports() -> None:
    assert settings(outbound={"exclude_ports": frozenset({1, 65535})})


@pytest.mark.parametrize(
    "words",
    [
        {"inbound": {"listener": 15001}},
        {"inbound": {"listener": 15008}},
        {"outbound": {"listener": 15008}},
        {"mesh_port": 15001},
    ],
)
def test_listeners_and_mesh_port_differ(words: dict[str, Any]) -> None:
    assert all(problem.endswith("(give them different ports)") for problem in problems(**words))


def test_a_listeners_own_port_cannot_be_excluded() -> None:
    assert len(problems(inbound={"exclude_ports": frozenset({15006, 15001, 22})})) == 2


def test_a_port_is_chosen_or_excluded_not_both() -> None:
    assert len(problems(inbound={"only_ports": frozenset({80, 15008}), "exclude_ports": frozenset({80, 81})})) == 2
    assert settings(inbound={"only_ports": frozenset({80}), "exclude_ports": frozenset({81})})


@pytest.mark.parametrize("number", [-1, 0xFFFFFFFF])
def test_numbers_that_are_no_users_are_refused(number: int) -> None:
    assert len(problems(outbound={"own": OwnTraffic(uid=number)})) == 1
    assert len(problems(outbound={"own": OwnTraffic(gid=number)})) == 1
    assert len(problems(outbound={"exclude_uids": frozenset({number}), "exclude_gids": frozenset({number})})) == 2


def test_root_may_be_excluded() -> None:
    assert settings(outbound={"exclude_uids": frozenset({0, 0xFFFFFFFE})})


def test_excluded_networks_are_kept_without_overlaps() -> None:
    outbound = settings(
        outbound={"exclude_networks": networks("10.1.0.0/24", "10.0.0.0/8", "fd00::/9", "fd80::/9", "10.0.0.1/32")}
    ).outbound
    assert outbound.networks_4() == (ip_network("10.0.0.0/8"),)
    assert outbound.networks_6() == (ip_network("fd00::/8"),)


@pytest.mark.parametrize(
    ("texts", "problem"),
    [
        (("0.0.0.0/0",), "the excluded networks are all of IPv4 (exclude less, or leave outbound alone)"),
        (("0.0.0.0/1", "128.0.0.0/1"), "the excluded networks are all of IPv4 (exclude less, or leave outbound alone)"),
        (("::/0",), "the excluded networks are all of IPv6 (exclude less, or leave outbound alone)"),
        (
            ("::ffff:10.0.0.0/104",),
            "excluded network ::ffff:a00:0/104 never meets a packet (write it as an IPv4 network)",
        ),
    ],
)
def test_networks_that_mean_everything_or_nothing_are_refused(texts: tuple[str, ...], problem: str) -> None:
    assert problems(outbound={"exclude_networks": networks(*texts)}) == (problem,)


def test_half_of_all_addresses_may_be_excluded() -> None:
    assert settings(outbound={"exclude_networks": networks("0.0.0.0/1", "::/1")})


def test_ipv6_words_without_ipv6_are_refused() -> None:
    (problem,) = problems(outbound={"exclude_networks": networks("fd00::/8", "10.0.0.0/8")}, ipv6=False)
    assert problem.startswith("excluded network fd00::/8 is of IPv6")


def test_the_same_for_ipv4_alone_drops_ipv6_words() -> None:
    both = settings(outbound={"exclude_networks": networks("fd00::/8", "10.0.0.0/8")})
    alone = both.without_ipv6()
    assert not alone.ipv6
    assert alone.outbound is not None and alone.outbound.exclude_networks == networks("10.0.0.0/8")
    assert replace(both, outbound=None).without_ipv6().outbound is None


@pytest.mark.parametrize("name", ["exclude_ports", "exclude_uids", "exclude_gids", "exclude_networks", "exclude_marks"])
def test_exclusions_are_bounded(name: str) -> None:
    made: dict[str, Any] = {
        "exclude_networks": lambda number: ip_network(f"10.{number >> 8}.{number & 255}.0/24"),
        "exclude_marks": lambda number: Mark(value=number + 1),
    }
    make = made.get(name, lambda number: number + 1)
    assert settings(outbound={name: frozenset(make(number) for number in range(256))})
    (problem,) = problems(outbound={name: frozenset(make(number) for number in range(257))})
    assert problem.startswith("257 ")


def test_all_problems_are_told_at_once() -> None:
    assert len(problems(mesh_port=0, inbound={"listener": -1}, outbound={"own": OwnTraffic(), "listener": -5})) == 4
