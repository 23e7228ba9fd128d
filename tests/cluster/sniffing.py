"""Prints, as lines of JSON, what crosses every interface of the network namespace that it runs in: sniffing.py MARK…

For each frame that contains one of the marks, or goes to or from the mesh port, one line; the first line says that it
listens. It ends when its standard input does, and what crossed before that was printed.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

_ALL_FRAMES = 0x0003
_IPV4, _TCP = 0x0800, 6
_HEADER = 14
MESH_PORT = 15008
_LAST_SECONDS = 5.0  # to read what crossed before the end, which on a busy network has no end of its own


def ports(frame: bytes) -> tuple[int, int]:
    """Source and destination port of a TCP segment in IPv4; zeros for anything else."""
    if len(frame) < _HEADER + 20 or struct.unpack_from("!H", frame, 12)[0] != _IPV4 or frame[_HEADER + 9] != _TCP:
        return 0, 0
    start = _HEADER + (frame[_HEADER] & 15) * 4
    if len(frame) < start + 4:
        return 0, 0
    source, destination = struct.unpack_from("!HH", frame, start)
    return source, destination


def main(*marks: str) -> None:
    wanted = [mark.encode() for mark in marks]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(_ALL_FRAMES)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        print(json.dumps({"listening": True}), flush=True)
        until = None
        while until is None or time.monotonic() < until:
            if until is None:
                ready, _, _ = select.select([listening, sys.stdin], [], [])
                if sys.stdin in ready:
                    until = time.monotonic() + _LAST_SECONDS
                    listening.setblocking(False)
            try:
                frame, (interface, *_) = listening.recvfrom(1 << 17)
            except BlockingIOError:
                return  # what had crossed before the end is read
            found = [mark.decode() for mark in wanted if mark in frame]
            between = ports(frame)
            if found or MESH_PORT in between:
                print(json.dumps({"interface": interface, "marks": found, "ports": between}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
