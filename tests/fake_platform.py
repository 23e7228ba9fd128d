"""A platform for tests that is a folder: a mesh file, documents, and what became of them.

mesh.yaml                    the mesh; each of its services is a workload
documents/Allowlist_shop_a   a document, named as the platform names it, with _ for /
standings.json               what the host said of each, written whenever it says so
checked.json, certificate.pem   what it answered to the documents in ask/, and the certificate that it gave
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from controlplane.mesh.document import read_mesh
from ringfence.attestation import Attestation, EvidenceFault, EvidenceRefusedError, RegistrationEntry
from ringfence.platform import Host, Platform, PlatformError, Reading, Surroundings, WrittenDocument
from ringfence.spiffe import SpiffeId
from tests.mesh_files import replace_text

_LOOK_SECONDS = 0.02


class FolderAttestor:
    """Believes whoever shows its own SPIFFE ID, and is nobody's example."""

    kind = "folder"

    async def attest(self, evidence: bytes) -> Attestation:
        text = evidence.decode("utf-8", "replace")
        if not text.startswith("spiffe://"):
            raise EvidenceRefusedError(EvidenceFault.MALFORMED)
        return Attestation(kind=self.kind, subject=text, selectors=frozenset((f"folder:{text}",)), not_after=4e9)

    async def lives(self, subject: str) -> bool:
        return bool(subject)


class FolderPlatform:
    """``ringfence.platform.Platform``."""

    def __init__(self, surroundings: Surroundings) -> None:
        folder = surroundings.options.get("folder")
        if folder is None:
            raise PlatformError("option folder is missing (give --platform-option folder=DIR)")
        assert surroundings.options["trust-domain"] == "shop.example"
        self._folder = Path(folder)
        self._last: Reading | None = None

    @property
    def attestor(self) -> FolderAttestor:
        return FolderAttestor()

    def entries(self, attestation: Attestation) -> Sequence[RegistrationEntry]:
        return [
            RegistrationEntry(selectors=attestation.selectors, spiffe_id=SpiffeId.parse(attestation.subject)),
        ]

    @property
    def replicated(self) -> bool:
        return False

    async def first_reading(self) -> Reading:
        self._last = self._read()
        return self._last

    async def run(self, host: Host) -> None:
        host.watch_standings(lambda: self._tell(host))
        self._tell(host)
        certificate = await host.server_certificate(["hook.shop.example"], 3600)
        replace_text(self._folder / "certificate.pem", (certificate.chain_pem + certificate.key_pem).decode("ascii"))
        while True:
            reading = self._read()
            if reading != self._last and await host.offer(reading):
                self._last = reading
            asked = self._folder / "ask"
            # A folder that is still empty is one that the test is just filling.
            if asked.is_dir() and (documents := _documents(asked)):
                problems = await host.check(documents)
                replace_text(self._folder / "checked.json", json.dumps([str(one) for one in problems]))
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        (self._folder / "closed").touch()

    def _read(self) -> Reading:
        document, problems = read_mesh((self._folder / "mesh.yaml").read_bytes(), "mesh.yaml")
        if document is None:
            raise PlatformError(f"{problems[0]}")
        return Reading(mesh=document.mesh, documents=_documents(self._folder / "documents"))

    def _tell(self, host: Host) -> None:
        document = {
            name: {
                "accepted": one.accepted,
                "problems": [str(problem) for problem in one.problems],
                "stands_in": one.stands_in,
                "workloads": one.workloads,
                "enforcing": one.enforcing,
                "waiting": list(one.waiting),
            }
            for name, one in host.standings().items()
        }
        replace_text(self._folder / "standings.json", json.dumps(document))


def _documents(folder: Path) -> tuple[WrittenDocument, ...]:
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return tuple(
        WrittenDocument(name=path.name.replace("_", "/"), content=(text := path.read_bytes()), version=str(len(text)))
        for path in files
    )


def open_folder(surroundings: Surroundings) -> Platform:
    """The entry point."""
    return FolderPlatform(surroundings)


def install(folder: Path) -> Path:
    """Make ``folder`` a place from which the entry point is found, by PYTHONPATH."""
    metadata = folder / "fake_platform-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-platform\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "[ringfence.platforms]\nfolder = tests.fake_platform:open_folder\nbroken = tests.no_such_module:open\n"
    )
    return folder
