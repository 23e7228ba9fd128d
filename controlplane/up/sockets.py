"""Every socket that the mesh will listen on, by the setting that asks for it; and which of them cannot be had.

Checked before anything starts, because a child that dies of it tells so late, and in its own words.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ringfence.kit.addresses import SocketAddress
from ringfence.mesh import Mesh

_FREE_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedSocket:
    """A TCP socket to listen on, and the setting of ``mesh.yaml`` that asks for it."""

    address: SocketAddress
    setting: str
    owner: str


def wanted_sockets(mesh: Mesh) -> Iterator[WantedSocket]:
    """The control plane's, then those of each sidecar, and of each app that ``up`` starts itself."""
    addresses = mesh.control_plane
    for key, address in (("join", addresses.join), ("listen", addresses.listen), ("signals", addresses.signals)):
        yield WantedSocket(address=address, setting=f"controlPlane.{key}", owner="the control plane")
    for service, instance in mesh.workloads:
        owner = f"service {service.name_of(instance)}"
        yield WantedSocket(address=instance.mesh, setting="mesh", owner=owner)
        if instance.signals is not None:
            yield WantedSocket(address=instance.signals, setting="signals", owner=owner)
        if service.forward_proxy is not None:
            yield WantedSocket(address=service.forward_proxy, setting="forwardProxy", owner=owner)
        for upstream, listen in zip(service.upstreams, instance.listens, strict=True):
            if listen is not None:
                setting = f"listen of its upstream {upstream.service}:{upstream.port}"
                yield WantedSocket(address=listen, setting=setting, owner=owner)
        if instance.run is not None:
            for app in dict.fromkeys(instance.apps):
                yield WantedSocket(address=app, setting="app of its port", owner=owner)


def free_addresses(
    count: int, *, but: Collection[int] = (), draw: Callable[[int, int], int] = random.randrange
) -> list[SocketAddress]:
    """``count`` loopback addresses, all different, that nobody has at this moment, none with a port of ``but``.

    They lie below the ports that the system gives to outgoing connections, of which one could be there when a child is
    started again. OSError if there are too few.
    """
    found: list[SocketAddress] = []
    with ExitStack() as held:
        for _ in range(_TRIES + count):
            if len(found) == count:
                return found
            port = draw(_FREE_PORTS.start, _FREE_PORTS.stop)
            if port in but:
                continue
            try:
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(SocketAddress("127.0.0.1", port))
        if len(found) == count:
            return found
    raise OSError(f"no {count} free ports on 127.0.0.1 from {_FREE_PORTS.start} to {_FREE_PORTS.stop - 1}")


def unavailable(wanted: Iterable[WantedSocket]) -> list[str]:
    """One line for each socket that cannot be listened on, with the reason, the setting and the mend."""
    lines = []
    for one in wanted:
        family = socket.AF_INET6 if ":" in one.address.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else the last run's closed connections count
            try:
                probe.bind((one.address.host, one.address.port))
                probe.listen(1)
            except OSError as error:
                lines.append(f"{one.address} {_trouble(one, error)}")
    return lines


def _trouble(wanted: WantedSocket, error: OSError) -> str:
    by = f"setting {wanted.setting!r} of {wanted.owner}"
    if error.errno == errno.EADDRINUSE:
        holder = listening_process(wanted.address.port)
        return f"is already in use{f' by {holder}' if holder else ''}; wanted by {by} (free it, or choose another port)"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"is not an address of this machine; wanted by {by} (choose an address of this machine)"
    if error.errno == errno.EACCES:
        return f"may not be opened by this user; wanted by {by} (choose a port above 1023)"
    return f"cannot be listened on: {error.strerror}; wanted by {by}"


def listening_process(port: int) -> str | None:
    """``process 12 (nginx)`` for a listener on ``port``; None where the system does not tell us (another user's)."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: TCP_LISTEN
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return None
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(descriptor.readlink()) in inodes for descriptor in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return None
