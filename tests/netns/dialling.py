"""A program in a namespace: dials, and prints the line it is greeted with, or the error's name.

    python dialling.py '{"host": ..., "port": ..., "uid": ..., "gid": ..., "mark": ..., "from_port": ..., "hold": ...}'

Only host and port are needed. With ``hold`` it waits for lines on its standard input, sends each, and prints the echo.
Runs without the project, so that it starts quickly and knows nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys

wish = json.loads(sys.argv[1])
family = socket.AF_INET6 if ":" in wish["host"] else socket.AF_INET
# Before privileges are given up: the interpreter's own files may be closed to others.
address = socket.getaddrinfo(wish["host"], wish["port"], family, socket.SOCK_STREAM)[0][4]
# The kernel notes the owner when the socket is made; a mark may be set only before privileges are given up.
if wish.get("gid") is not None:
    os.setgroups([])
    os.setresgid(wish["gid"], wish["gid"], wish["gid"])
if wish.get("mark") is None and wish.get("uid") is not None:
    os.setresuid(wish["uid"], wish["uid"], wish["uid"])
elif wish.get("uid") is not None:
    os.seteuid(wish["uid"])
sock = socket.socket(family, socket.SOCK_STREAM)
sock.settimeout(10)
if wish.get("mark") is not None:
    os.seteuid(0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, wish["mark"])
if wish.get("from_port") is not None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("", wish["from_port"]))
try:
    sock.connect(address)
    with sock.makefile("rwb") as stream:
        print(stream.readline().decode().strip(), flush=True)
        if wish.get("hold"):
            for line in sys.stdin.buffer:
                stream.write(line)
                stream.flush()
                print(stream.readline().decode().strip(), flush=True)
except OSError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
