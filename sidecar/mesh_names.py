"""The names by which a client of the forward proxy may mean an upstream. Pure.

``orders.shop``, ``orders.shop.svc`` and ``orders.shop.svc.cluster.local``, ``orders`` within the own namespace, and the
addresses at which the service is dialled. Nothing is known here but the upstreams that the workload declares.
"""

from __future__ import annotations

from collections.abc import Iterable

from ringfence.snapshot import Upstream


class MeshNames:
    """One workload's upstreams by name and port."""

    __slots__ = ("_by_name",)

    def __init__(self, upstreams: Iterable[Upstream] = (), own_namespace: str | None = None) -> None:
        self._by_name: dict[str, dict[int, Upstream]] = {}
        for upstream in upstreams:
            full = f"{upstream.service}.{upstream.namespace}"
            names = [full, f"{full}.svc", f"{full}.svc.cluster.local", *upstream.addresses]
            if upstream.namespace == own_namespace:
                names.append(upstream.service)
            for name in names:
                self._by_name.setdefault(name, {}).setdefault(upstream.port, upstream)

    def find(self, host: str, port: int | None) -> Upstream | None:
        """The upstream that ``host`` and ``port`` mean.

        Without a port, as URLs leave out 80, it is the one of port 80, else the only one: a mesh numbers its ports as
        it likes, and there is nothing else that could be meant.
        """
        ports = self._by_name.get(host)
        if ports is None:
            return None
        if port is None:
            return ports.get(80) or (next(iter(ports.values())) if len(ports) == 1 else None)
        return ports.get(port)
