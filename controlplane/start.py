"""Everything that is checked before anything starts: all problems come out at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ca
from controlplane.control.servers import AddressTakenError, check_free
from controlplane.intake.configuration import Configuration
from controlplane.intake.judging import Judge, policy_folder_named
from controlplane.intake.sources import SourceFiles, Sources
from controlplane.mesh.document import MeshDocument
from controlplane.settings import ControlPlaneSettings
from ringfence.kit.addresses import SocketAddress
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.kit.watch import ContentReader
from ringfence.mesh import ControlPlaneAddresses
from ringfence.policy.yamltree import LIMIT_BYTES


class StartRefusedError(Exception):
    """The control plane cannot start; ``lines`` has one for each problem, with its place and mend where it has them."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """The first reading of the files, judged good, and what reads them from now on."""

    sources: Sources
    judge: Judge
    files: SourceFiles
    configuration: Configuration
    addresses: ControlPlaneAddresses


def read_first(settings: ControlPlaneSettings, clock: Clock) -> Readings:
    """Read and judge the files, and see whether the addresses are free. Raises StartRefusedError."""
    assert settings.mesh_file is not None, "a platform has no files"
    reader = ContentReader(clock=clock, limit_bytes=LIMIT_BYTES)
    sources = Sources(settings.mesh_file, reader, policy_folder_named)
    judge = Judge(clock)
    files = sources.read()
    configuration, problems = judge.judge(files)
    if configuration is None:
        raise StartRefusedError([str(problem) for problem in problems])
    addresses = effective_addresses(settings, configuration.document)
    taken = list(_taken(settings, configuration.document, addresses))
    if taken:
        raise StartRefusedError(taken)
    return Readings(sources=sources, judge=judge, files=files, configuration=configuration, addresses=addresses)


def effective_addresses(settings: ControlPlaneSettings, document: MeshDocument) -> ControlPlaneAddresses:
    """Where to listen: the flags' addresses over the mesh file's."""
    written = document.mesh.control_plane
    return ControlPlaneAddresses(
        join=settings.join or written.join,
        listen=settings.listen or written.listen,
        signals=settings.signals or written.signals,
    )


def _taken(settings: ControlPlaneSettings, document: MeshDocument, addresses: ControlPlaneAddresses) -> Iterator[str]:
    rows: tuple[tuple[str, str, SocketAddress, bool], ...] = (
        ("join", "--join-listen", addresses.join, settings.join is not None),
        ("listen", "--listen", addresses.listen, settings.listen is not None),
        ("signals", "--signals", addresses.signals, settings.signals is not None),
    )
    for key, flag, address, by_flag in rows:
        try:
            check_free(address)
        except AddressTakenError as error:
            if by_flag:
                yield f"{flag}: {address} {error} (free it, or choose another)"
            else:
                mend = f"free it, or choose another controlPlane.{key} or {flag}"
                yield str(document.problem("controlPlane", f"controlPlane.{key} {address} {error}", mend))


def open_authority(settings: ControlPlaneSettings, document: MeshDocument, clock: Clock, log: Logger) -> ca.Authority:
    """The CA of this mesh. Raises StartRefusedError when it is not there, cannot be opened or is another mesh's."""
    mesh = document.mesh
    if not Path(settings.ca_data).is_dir():
        line = (
            f"--ca-data: {settings.ca_data} is not there "
            f"(make it: ringfence ca init --trust-domain {mesh.trust_domain} --data {settings.ca_data})"
        )
        raise StartRefusedError([line])
    try:
        authority = ca.open_authority(
            ca.AuthoritySettings(
                data_dir=settings.ca_data,
                passphrase=settings.passphrase,
                database_url=settings.database_url,
                default_lifetime_seconds=mesh.identities.lifetime_seconds,
                floor_seconds=mesh.identities.floor_seconds,
                ceiling_seconds=mesh.identities.ceiling_seconds,
            ),
            clock,
            log=log.bind("ca"),
        )
    except ca.CaError as error:
        raise StartRefusedError([f"--ca-data: {error}"]) from error
    if authority.trust_domain != mesh.trust_domain:
        message = f"trust domain {mesh.trust_domain} is not that of the CA in {settings.ca_data}"
        mend = f"write {authority.trust_domain}, or give the CA of {mesh.trust_domain} by --ca-data"
        authority.close()
        raise StartRefusedError([str(document.problem("trustDomain", message, mend))])
    return authority
