"""The ports of a service of the mesh, and what each pod has behind them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from k8s.objects import names
from k8s.objects.pods import Pod
from k8s.objects.services import Service, ServicePort
from k8s.translate.protocols import protocol_of
from ringfence.mesh import ServicePort as MeshPort
from ringfence.snapshot import PortMode, Protocol

_TCP = "TCP"


def target_of(port: ServicePort, pod: Pod) -> int:
    """The pod's port behind one of a Service's; 0: none."""
    if not port.target_name:
        return port.target or port.port
    return next((one.port for one in pod.ports() if one.name == port.target_name and one.protocol == _TCP), 0)


def targets_of(service: Service, pod: Pod) -> frozenset[int]:
    """All that a Service leads to in a pod."""
    return frozenset(target_of(port, pod) for port in service.ports if port.protocol == _TCP)


def declared(pod: Pod) -> dict[int, Protocol]:
    """The ports that a pod says it listens on."""
    return {
        one.port: protocol_of(one.port, one.name)
        for one in pod.ports()
        if one.protocol == _TCP and one.port not in names.OWN_PORTS
    }


class Ports:
    """Of one service of the mesh: those of the Service, then those that its pods declare and no Service leads to, such
    as one for metrics, under their own number."""

    def __init__(self, written: Iterable[ServicePort], extras: Mapping[str, Mapping[int, Protocol]]) -> None:
        """``extras``: by pod name."""
        self._written = tuple(
            {one.port: one for one in written if one.protocol == _TCP and one.port not in names.OWN_PORTS}.values()
        )
        taken = {one.port for one in self._written}
        self._extras = extras
        added: dict[int, Protocol] = {}
        for found in extras.values():
            for number, protocol in found.items():
                if number not in taken:
                    held = added.setdefault(number, protocol)
                    added[number] = held if held is protocol else Protocol.AUTO
        self._added = dict(sorted(added.items()))

    def mesh_ports(self, mode: PortMode) -> tuple[MeshPort, ...]:
        """As the mesh has them; policies name them by what the pods listen on."""
        found = [
            MeshPort(
                port=one.port,
                protocol=protocol_of(one.port, one.name, one.app_protocol),
                target=one.target if one.target != one.port else 0,
                mode=mode,
            )
            for one in self._written
        ]
        found += [MeshPort(port=number, protocol=protocol, mode=mode) for number, protocol in self._added.items()]
        return tuple(found)

    def targets(self, pod: Pod) -> tuple[int, ...]:
        """What a pod has behind each, in their order."""
        own = self._extras.get(pod.name, {})
        found = [target_of(one, pod) for one in self._written]
        found = [number if number not in names.OWN_PORTS else 0 for number in found]
        return (*found, *(number if number in own else 0 for number in self._added))


def mode_of(pods: Sequence[Pod], service: Mapping[str, str], namespace: Mapping[str, str]) -> PortMode:
    """Of all ports of a service: permissive only where each pod is, by its own annotation, the Service's or the
    namespace's."""
    standard = service.get(names.MODE) or namespace.get(names.MODE) or PortMode.STRICT
    said = {pod.annotations.get(names.MODE) or standard for pod in pods} or {standard}
    return PortMode.PERMISSIVE if said == {PortMode.PERMISSIVE.value} else PortMode.STRICT
