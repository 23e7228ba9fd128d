"""The instances of a service, read field by field; for a service that lists none, the one that it is itself. Pure.

What an instance leaves out is as its service has it, so that a service whose instances stand on machines of their own
says a port once, and one whose instances share a machine says it for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from controlplane.mesh.drafts import AddressDraft, InstanceDraft, PortDraft, UpstreamDraft
from controlplane.mesh.fields import LOOPBACK, Fields, bounded
from ringfence.mesh import Run
from ringfence.policy.problems import shown
from ringfence.policy.yamlnodes import MappingReader
from ringfence.wire.convert import ENDPOINT_LIMIT

INSTANCE_LIMIT: Final = ENDPOINT_LIMIT
KEY: Final = "instances"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """What a service's instances share; ``intercepted``: its upstreams need no listeners."""

    reader: MappingReader
    namespace: str
    ports: tuple[PortDraft, ...]
    upstreams: tuple[UpstreamDraft, ...]
    intercepted: bool


def read_instances(fields: Fields, parts: ServiceParts) -> tuple[InstanceDraft, ...]:
    """At least one: the listed ones, or the service itself, unnamed."""
    service = parts.reader
    listed = KEY in service
    own = InstanceDraft(
        reader=service,
        name="",
        address=fields.ip(service, "address", default=LOOPBACK),
        mesh_port=None if listed and not _given(service, "mesh") else fields.port(service, "mesh"),
        signals=fields.socket_address(service, "signals"),
        apps=tuple(AddressDraft(reader=port.reader, key="app", address=port.app) for port in parts.ports),
        listens=tuple(AddressDraft(reader=one.reader, key="listen", address=one.listen) for one in parts.upstreams),
        run=read_run(fields, service.mapping("run", default=None), None),
    )
    if not listed:
        return (own,)
    items = fields.clean(lambda: bounded(service, KEY, INSTANCE_LIMIT))
    if items == []:
        service.problem(f"{KEY} is empty", "list at least one, or leave it out", key=KEY)
    return tuple(_instance(fields, item.mapping(), own, parts) for item in items or ()) or (own,)


def _instance(fields: Fields, reader: MappingReader, own: InstanceDraft, parts: ServiceParts) -> InstanceDraft:
    name, _ = fields.label(reader, "name")
    draft = InstanceDraft(
        reader=reader,
        name=name,
        address=fields.ip(reader, "address", default=LOOPBACK) if _given(reader, "address") else own.address,
        mesh_port=own.mesh_port
        if "mesh" in parts.reader and not _given(reader, "mesh")
        else fields.port(reader, "mesh"),
        signals=fields.socket_address(reader, "signals") if _given(reader, "signals") else own.signals,
        apps=_apps(fields, reader, parts.ports),
        listens=_listens(fields, reader, parts),
        run=read_run(fields, reader.mapping("run", default=None), own.run) if _given(reader, "run") else own.run,
    )
    reader.finish()
    return draft


def _given(reader: MappingReader, key: str) -> bool:
    """Whether ``key`` is there; it is a known one in any case."""
    reader.known(key)
    return key in reader


def _apps(fields: Fields, reader: MappingReader, ports: Sequence[PortDraft]) -> tuple[AddressDraft, ...]:
    """For each port where its app listens in this instance: by ``apps``, else as the port itself says."""
    inner = reader.mapping("apps", default=None)
    known = {str(port.port): port for port in ports if port.port is not None}
    given: dict[str, AddressDraft] = {}
    for key in inner:
        address = fields.socket_address(inner, key, required=True, default_host=LOOPBACK)
        given[key] = AddressDraft(reader=inner, key=key, address=address)
        if key not in known:
            mend = f"use one of its ports: {', '.join(known)}" if known else "give the service ports, or remove apps"
            inner.problem(f"the service has no port {shown(key)}", mend, key=key)
    for number, port in known.items():
        if number not in given and "app" not in port.reader and reader.present:
            reader.problem(
                f"{reader.what} lacks the app address of port {number}", f'add apps: {{{number}: "127.0.0.1:9001"}}'
            )
    return tuple(
        given.get(str(port.port)) or AddressDraft(reader=reader, key="apps", address=port.app) for port in ports
    )


def _listens(fields: Fields, reader: MappingReader, parts: ServiceParts) -> tuple[AddressDraft, ...]:
    """For each upstream where this instance's app calls it: by ``listens``, else as the upstream itself says."""
    inner = reader.mapping("listens", default=None)
    own = f"{parts.namespace}/"
    names = [f"{one.service.removeprefix(own)}:{one.port}" for one in parts.upstreams]
    given: dict[str, AddressDraft] = {}
    for key in inner:
        address = fields.socket_address(inner, key, required=True, default_host=LOOPBACK)
        name = key.removeprefix(own)
        if name not in names:
            known = ", ".join(dict.fromkeys(names))
            mend = f"use one of its upstreams: {known}" if known else "give the service upstreams, or remove listens"
            inner.problem(f"the service has no upstream {shown(key)}", mend, key=key)
        elif name in given or names.count(name) > 1:
            inner.problem(f"upstream {shown(name)} is there twice", "keep one of them", key=key)
        given.setdefault(name, AddressDraft(reader=inner, key=key, address=address))
    for name, upstream in zip(names, parts.upstreams, strict=True):
        told = name in given or "listen" in upstream.reader or parts.intercepted
        if not told and upstream.reader.present and reader.present:
            mend = f'add listens: {{"{name}": "127.0.0.1:9102"}}, or intercept: give the service intercept: {{}}'
            reader.problem(f"{reader.what} lacks the local address of upstream {name}", mend)
    return tuple(
        given.get(name) or AddressDraft(reader=reader, key="listens", address=upstream.listen)
        for name, upstream in zip(names, parts.upstreams, strict=True)
    )


def read_run(fields: Fields, reader: MappingReader, base: Run | None) -> Run | None:
    """A ``run``; over ``base`` it may leave out what is the same there, and ``env`` only adds and replaces."""
    if not reader.present:
        return None
    command: tuple[str, ...] | None
    if base is not None and not _given(reader, "command"):
        command = base.command
    else:
        command = fields.clean(lambda: reader.texts("command"))
    if command == () and "command" in reader:
        mend = 'write the program and its arguments, such as ["python", "app.py"]'
        reader.problem("command is empty", mend, key="command")
    environment = reader.text_mapping("env", default=None)
    for name in environment:
        if not name or "=" in name or "\0" in name:
            reader.problem(f"environment variable {shown(name)} has no valid name", "use a name without =", key="env")
    directory = reader.text("directory", default=base.directory if base is not None else "")
    reader.finish()
    place = reader.place()
    return Run(
        command=command or (),
        environment=tuple(sorted({**dict(base.environment if base is not None else ()), **environment}.items())),
        directory=directory,
        place=(place.line, place.column),
    )
