"""No two parts of the mesh may need the same socket of one machine. Pure.

Addresses on loopback are all one machine's; services with equal other addresses share one; listeners of services on
different machines never collide, so ``127.0.0.1:9102`` may be an upstream's listener on each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from controlplane.mesh.direct import DirectServiceDraft
from controlplane.mesh.drafts import InstanceDraft, MeshDraft, ServiceDraft
from ringfence.kit.addresses import SocketAddress
from ringfence.policy.yamlnodes import MappingReader

_THIS_MACHINE: Final = "loopback"
_OTHER_PORT: Final = "choose another port"
_OWN_MACHINES: Final = "give intercepted instances addresses of different machines"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listener:
    """A socket that ``what`` needs; ``reader`` and ``key`` say where the file asks for it; apps may share one."""

    machine: str
    address: SocketAddress
    what: str
    reader: MappingReader
    key: str
    app_of: str = ""
    mend: str = _OTHER_PORT


def check_listeners(mesh: MeshDraft) -> None:
    """Tell each socket that is wanted twice, at the second place."""
    taken: dict[tuple[str, int], list[_Listener]] = {}
    for listener in _listeners(mesh):
        others = taken.setdefault((listener.machine, listener.address.port), [])
        clash = next((other for other in others if _collide(listener, other)), None)
        if clash is None:
            others.append(listener)
            continue
        message = f"{listener.what} {listener.address} is already {clash.what}{_place(listener, clash)}"
        listener.reader.problem(message, listener.mend, key=listener.key)


def _collide(one: _Listener, other: _Listener) -> bool:
    if one.app_of and one.app_of == other.app_of:
        return False  # one app behind two ports of its own service
    return one.address.host == other.address.host or one.address.unspecified or other.address.unspecified


def _place(listener: _Listener, clash: _Listener) -> str:
    line, own = clash.reader.place(clash.key).line, listener.reader.place(listener.key).line
    return f" on line {line}" if clash.reader.present and line != own else ""


def _machine(address: SocketAddress) -> str:
    return _THIS_MACHINE if address.loopback or address.unspecified else address.host


def _listeners(mesh: MeshDraft) -> Iterator[_Listener]:
    """The control plane's first, then each service's, in the order of the file."""
    reader = mesh.control_plane_reader
    addresses = mesh.control_plane
    for key, address in (("join", addresses.join), ("listen", addresses.listen), ("signals", addresses.signals)):
        yield _Listener(machine=_machine(address), address=address, what=f"controlPlane.{key}", reader=reader, key=key)
    for service in mesh.services:
        yield from _of_service(service)
    for direct in mesh.direct_services:
        yield from _of_direct_service(direct)


def _of_direct_service(service: DirectServiceDraft) -> Iterator[_Listener]:
    for number, port in {port.port: port for port in reversed(service.ports)}.items():
        for host in service.addresses:
            if number is not None:
                address = SocketAddress(host, number)
                what = f"the address of {service.full_name}"
                yield _Listener(machine=_machine(address), address=address, what=what, reader=port.reader, key="port")


def _of_service(service: ServiceDraft) -> Iterator[_Listener]:
    for instance in service.instances:
        if instance.address is not None:
            yield from _of_instance(service, instance, instance.address)


def _of_instance(service: ServiceDraft, instance: InstanceDraft, own: str) -> Iterator[_Listener]:
    name = service.name_of(instance)
    mesh = SocketAddress(own, instance.mesh_port or 0)
    machine = _machine(mesh)
    if instance.mesh_port is not None:
        what = f"the mesh port of {name}"
        yield _Listener(machine=machine, address=mesh, what=what, reader=instance.reader, key="mesh")
    if instance.signals is not None:
        what = f"the signals address of {name}"
        yield _Listener(machine=machine, address=instance.signals, what=what, reader=instance.reader, key="signals")
    if service.forward_proxy is not None:
        yield _Listener(
            machine=machine,
            address=service.forward_proxy,
            what=f"the forward proxy of {name}",
            reader=instance.reader if instance.name else service.reader,
            key="address" if instance.name else "forwardProxy",
            mend="give instances with a forwardProxy addresses of different machines" if instance.name else _OTHER_PORT,
        )
    if service.intercept is not None:
        every_address = "::" if ":" in own else "0.0.0.0"
        for key, number in (("inbound", service.intercept.inbound), ("outbound", service.intercept.outbound)):
            if number is not None:
                yield _Listener(
                    machine=machine,
                    address=SocketAddress(every_address, number),
                    what=f"the {key} interception port of {name}",
                    # One setting for all instances: what they must not share is the machine.
                    reader=instance.reader if instance.name else service.intercept.reader,
                    key="address" if instance.name else key,
                    mend=_OWN_MACHINES if instance.name else _OTHER_PORT,
                )
    for app in instance.apps:
        if app.address is not None:
            what = f"the app address of {name}"
            yield _Listener(
                machine=machine, address=app.address, what=what, reader=app.reader, key=app.key, app_of=name
            )
    for listen in instance.listens:
        if listen.address is not None:
            what = f"an upstream listener of {name}"
            yield _Listener(machine=machine, address=listen.address, what=what, reader=listen.reader, key=listen.key)
