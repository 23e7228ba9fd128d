"""A program in a namespace: sends one TCP segment with just ACK set, as no honest host would begin.

python forging.py SOURCE SOURCE_PORT DESTINATION DESTINATION_PORT        (IPv4)
"""

from __future__ import annotations

import socket
import struct
import sys

ACK = 0x10


def checksum(octets: bytes) -> int:
    """RFC 1071."""
    octets += b"\0" * (len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


source, source_port, destination, destination_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
addresses = socket.inet_aton(source) + socket.inet_aton(destination)


def segment(check: int) -> bytes:
    """RFC 9293, section 3.1."""
    return struct.pack("!HHIIBBHHH", source_port, destination_port, 1, 1, 5 << 4, ACK, 65535, check, 0)


pseudo_header = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(segment(0)))
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
    raw.bind((source, 0))
    raw.sendto(segment(checksum(pseudo_header + segment(0))), (destination, 0))
