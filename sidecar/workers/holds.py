"""The ports that workers share, held by their parent, so that none falls to somebody else while no worker lives.
Adapter."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from ringfence.snapshot import Snapshot
from sidecar.listening import hold
from sidecar.serving import CannotEnforceError, mesh_port_words, proxy_of, proxy_words

Place = tuple[str, int]


def places_of(snapshot: Snapshot, pod_addresses: tuple[str, ...] = ()) -> dict[Place, str]:
    """Where the workers of this snapshot listen, each with what an error calls it; in a pod on all of its addresses."""
    workload = snapshot.workload
    others = pod_addresses if workload.mesh_host in pod_addresses else ()
    found = {(host, workload.mesh_port): mesh_port_words(workload) for host in (workload.mesh_host, *others)}
    for upstream in snapshot.upstreams:
        if upstream.has_listener:
            where = (upstream.listen_host, upstream.listen_port)
            found[where] = f"upstream {upstream.namespace}/{upstream.service}, listen {where[0]}:{where[1]}"
    proxy = proxy_of(workload)
    if proxy is not None:
        found[proxy] = proxy_words(workload)
    if workload.intercept is not None:
        for host in ("0.0.0.0", "::"):
            found[host, workload.intercept.inbound_port] = f"intercept, inbound port {workload.intercept.inbound_port}"
        for host in ("127.0.0.1", "::1"):
            port = workload.intercept.outbound_port
            found[host, port] = f"intercept, outbound port {host}:{port}"
    return found


class PortHolds:
    """The sockets that hold them."""

    def __init__(self) -> None:
        self._held: dict[Place, socket.socket] = {}

    def take(self, places: Mapping[Place, str]) -> None:
        """Hold these, too; CannotEnforceError if one is taken, and nothing more is held then than before."""
        fresh: dict[Place, socket.socket] = {}
        for place, words in places.items():
            if place in self._held:
                continue
            try:
                held = hold(*place)
            except OSError as error:
                if ":" in place[0] and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # a worker says what that means: interception does without IPv6, a listener does not
                for one in fresh.values():
                    one.close()
                told = "already in use" if error.errno == errno.EADDRINUSE else error.strerror
                raise CannotEnforceError(f"{words}: {told}") from error
            if held is not None:
                fresh[place] = held
        self._held.update(fresh)

    def keep(self, places: Mapping[Place, str]) -> None:
        """Let go of all but these."""
        for place in self._held.keys() - places.keys():
            self._held.pop(place).close()
