"""The PROXY protocol's header, read back by the letter of its specification."""

from __future__ import annotations

import ipaddress

import pytest

from sidecar.proxy_v2 import IDENTITY_TLV, header

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
WEB = "spiffe://shop.example/ns/shop/sa/web"


def read(data: bytes) -> tuple[int, list[str], dict[int, bytes]]:
    """Family byte, [source, source port, destination, destination port], TLVs; every byte accounted for."""
    assert data[:12] == SIGNATURE
    assert data[12] == 0x21  # version 2, command PROXY
    family, size, body = data[13], int.from_bytes(data[14:16], "big"), data[16:]
    assert len(body) == size
    width = {0x00: 0, 0x11: 4, 0x21: 16}[family]
    told: list[str] = []
    if width:
        near, far = (str(ipaddress.ip_address(body[at : at + width])) for at in (0, width))
        ports = [str(int.from_bytes(body[2 * width + at : 2 * width + at + 2], "big")) for at in (0, 2)]
        told = [near, ports[0], far, ports[1]]
        body = body[2 * width + 4 :]
    tlvs = {}
    while body:
        length = int.from_bytes(body[1:3], "big")
        assert len(body) >= 3 + length
        tlvs[body[0]] = body[3 : 3 + length]
        body = body[3 + length :]
    return family, told, tlvs


@pytest.mark.parametrize(
    ("source", "destination", "family"),
    [
        (("10.1.2.3", 54321), ("10.9.8.7", 5432), 0x11),
        (("fd77::1", 1), ("fd77::2", 65535), 0x21),
    ],
)
def test_addresses_and_identity(source: tuple[str, int], destination: tuple[str, int], family: int) -> None:
    told = [source[0], str(source[1]), destination[0], str(destination[1])]
    assert read(header(source, destination, WEB)) == (family, told, {IDENTITY_TLV: WEB.encode()})


def test_a_caller_without_identity_has_no_identity_field() -> None:
    assert read(header(("10.1.2.3", 1), ("10.9.8.7", 2), ""))[2] == {}


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        (("10.1.2.3", 1), ("fd77::2", 2)),
        (("fd77::1", 1), ("10.9.8.7", 2)),
        (("", 0), ("10.9.8.7", 2)),
        (("10.1.2.3", 1), ("orders.shop", 2)),
    ],
)
def test_addresses_that_are_no_pair_are_unspecified_and_the_identity_stays(
    source: tuple[str, int], destination: tuple[str, int]
) -> None:
    assert read(header(source, destination, WEB)) == (0x00, [], {IDENTITY_TLV: WEB.encode()})


def test_the_longest_spiffe_id_fits() -> None:
    longest = "spiffe://shop.example/".ljust(2048, "a")
    assert read(header(("fd77::1", 1), ("fd77::2", 2), longest))[2] == {IDENTITY_TLV: longest.encode()}
