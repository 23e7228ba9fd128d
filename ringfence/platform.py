"""What a platform that runs workloads (Kubernetes) is to a control plane, and what the control plane is to it. Pure.

The control plane finds a platform by the entry point group ``ringfence.platforms`` and knows it by these words alone;
the platform knows the control plane by ``Host`` alone. So neither imports the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from ringfence.attestation import Attestation, Attestor, RegistrationEntry
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.mesh import Mesh
from ringfence.policy.problems import Problem
from ringfence.spiffe import SpiffeId, TrustBundle

ENTRY_POINTS: Final = "ringfence.platforms"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenDocument:
    """A document as the platform keeps it. ``name``: what people are told it is, ``<kind>/<namespace>/<name>``;
    ``content``: YAML or JSON with apiVersion, kind, metadata and spec; ``version``: of this very content."""

    name: str
    content: bytes
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that a platform says at one moment; equal readings say the same."""

    mesh: Mesh
    documents: tuple[WrittenDocument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentStanding:
    """What became of one document. ``accepted``: it is in force, or an older version of it is where ``stands_in`` says
    so; ``problems``: why not, and what is surely not meant. ``workloads``: how many it concerns, of which ``enforcing``
    said that they enforce it; ``waiting``: why others do not, at most ten."""

    accepted: bool
    problems: tuple[Problem, ...] = ()
    stands_in: str = ""
    workloads: int = 0
    enforcing: int = 0
    waiting: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarStanding:
    """What a control plane knows of the sidecar beside one workload. ``connected``: here, and not to another replica.
    Of what it was told last, ``refused`` says why it cannot enforce it, in its own words, and ``overdue`` that it has
    not said in time whether it does; ``unready``: why its workload cannot serve, empty where it can."""

    connected: bool
    refused: str = ""
    overdue: bool = False
    unready: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What the owner of a service should know, with the mend. ``service``: its full name; ``instance``: of one of its
    workloads, empty where it is about all of them; ``reason``: a word, such as ``LeftOut``; ``message``: one line."""

    service: str
    instance: str = ""
    reason: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCertificate:
    """A certificate of the mesh's own authority for a server of the platform: chain (leaf first) and key, PEM."""

    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateWish:
    """A certificate that a workload asks its platform for, which found that it may have it. ``public_key``:
    SubjectPublicKeyInfo, DER, shown to be the workload's; ``least_seconds`` and ``most_seconds``: from its beginning to
    its end."""

    spiffe_id: SpiffeId
    public_key: bytes
    least_seconds: int
    most_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantedCertificate:
    """An SVID: the chain, leaf first and without the root, PEM; its beginning and end, in whole Unix seconds."""

    chain_pem: bytes
    not_before: int
    not_after: int


class Host(Protocol):
    """What a control plane does for its platform."""

    @property
    def trust_bundle(self) -> TrustBundle:
        """By which workloads know this mesh now."""

    @property
    def settled(self) -> bool:
        """Whether a reading is in force, so that workloads can be served."""

    async def offer(self, reading: Reading) -> bool:
        """Judge a reading and put it in force: a document that is wrong is left out, or stands as it stood before, and
        costs no other document anything. False to be offered it again later, because the disk and not it was at
        fault."""

    async def check(self, documents: Sequence[WrittenDocument]) -> list[Problem]:
        """What would be wrong if ``documents`` were written now, in the place of those of the same names; problems of
        others are not told. Blocks nothing."""

    def standings(self) -> Mapping[str, DocumentStanding]:
        """By name, of every document of the last reading."""

    def sidecars(self) -> Mapping[tuple[SpiffeId, str], SidecarStanding]:
        """By identity and instance, of every workload of the reading in force."""

    def notices(self) -> Sequence[Notice]:
        """What owners of services should be told now, of what is in force."""

    def watch_standings(self, changed: Callable[[], None]) -> None:
        """Have ``changed`` called, in the loop, whenever a standing or a notice may be another."""

    async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate:
        """One of the mesh's authority, chaining to ``trust_bundle``. Raises OSError where it cannot be issued now."""

    async def certify(self, wish: CertificateWish) -> GrantedCertificate:
        """An SVID for a workload that asked its platform for one. It is not renewed by the authority: the platform asks
        again. Raises ValueError for what is never issued, with the mend, and OSError where it cannot be issued now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a platform is opened with. ``metrics``: a prometheus_client registry; ``options``: those of the command
    line, unread."""

    clock: Clock
    log: Logger
    metrics: object
    options: Mapping[str, str]


class Platform(Protocol):
    """A platform as the control plane sees it."""

    @property
    def attestor(self) -> Attestor:
        """By whom workloads of the platform are known at their first contact."""

    @property
    def replicated(self) -> bool:
        """Whether other replicas of this control plane live now: a workload that is not connected here may be there."""

    def entries(self, attestation: Attestation) -> Sequence[RegistrationEntry]:
        """The registration entries that may concern who was attested."""

    async def first_reading(self) -> Reading:
        """All that there is, once every watch has seen it. Raises PlatformError."""

    async def run(self, host: Host) -> None:
        """Serve until cancelled: offer readings, answer admission, write standings back, keep trust bundles where
        workloads find them."""

    async def close(self) -> None:
        """After ``run`` was cancelled."""


class PlatformError(Exception):
    """The platform cannot be had; the text is one line with the mend."""


OpenPlatform = Callable[[Surroundings], Platform]
"""What an entry point of the group names."""


def identity_of(namespace: str, service_account: str, trust_domain: str) -> SpiffeId:
    """``spiffe://<trust domain>/ns/<namespace>/sa/<service account>``."""
    return SpiffeId.parse(f"spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
