"""Whatever happens, in whatever order: a revision stands for one content, and nobody is told a lower one again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.push.digests import Digests
from controlplane.push.revisions import Catalog, Ledger, advance, amend, resumed, settled
from controlplane.push.workload_key import WorkloadKey
from ringfence.policy.model import Allowlist
from ringfence.snapshot import Endpoint, Protocol, Snapshot, Upstream, Workload
from ringfence.spiffe import SpiffeId
from tests.pki import TestCa

BUNDLE = TestCa("shop.example").bundle()
WEB, ORDERS = (SpiffeId.parse(f"spiffe://shop.example/ns/shop/sa/{name}") for name in ("web", "orders"))
CALLER, A, B = WorkloadKey(WEB), WorkloadKey(ORDERS, "a"), WorkloadKey(ORDERS, "b")
RESERVED = 3  # so that blocks end now and then


def snapshot(key: WorkloadKey, document: int, ready: tuple[bool, bool]) -> Snapshot:
    """The content for a workload under one of several documents, of which odd ones change it."""
    ends = tuple(
        Endpoint(mesh_host="10.0.0.1", mesh_port=number, address="10.0.0.1", spiffe_id=ORDERS, ready=here)
        for number, here in enumerate(ready, 1)
    )
    upstream = Upstream(
        service="orders",
        namespace="shop",
        port=8080,
        protocol=Protocol.TCP,
        listen_host="",
        listen_port=0,
        endpoints=ends,
    )
    name = key.spiffe_id.service_account or ""
    return Snapshot(
        revision=1,
        workload=Workload(
            service=name,
            namespace="shop",
            spiffe_id=key.spiffe_id,
            mesh_host="10.0.0.1",
            mesh_port=1,
            ports=(),
            instance=key.instance,
        ),
        upstreams=(upstream,) if key == CALLER else (),
        allowlists=(Allowlist(namespace="shop", name="odd", rules=()),) if document % 2 else (),
        bundles=(BUNDLE,),
    )


class ControlPlane:
    """What the control plane does with its ledger, and what is left of it when the process ends."""

    def __init__(self) -> None:
        self.disk = Ledger()
        self.document, self.ready = 0, (True, True)
        self._begin()

    def contents(self) -> dict[WorkloadKey, Snapshot]:
        keys = (CALLER, A) if self.document % 3 == 2 else (CALLER, A, B)
        return {key: snapshot(key, self.document, self.ready) for key in keys}

    def _begin(self) -> None:
        self.ready = (True, True)  # nothing is known
        self.ledger = self.disk
        self._documents(resumed(self.ledger, self.contents()))

    def _documents(self, ledger: Ledger) -> None:
        found, self.catalog = advance(ledger, self.contents())
        if found != self.ledger:
            self.disk = found
        self.ledger = found

    def change(self, document: int) -> None:
        self.document = document
        self._documents(self.ledger)

    def flip(self, ready: tuple[bool, bool]) -> None:
        self.ready = ready
        contents: Mapping[WorkloadKey, Snapshot] = {CALLER: self.contents()[CALLER]}
        found, self.catalog = amend(self.ledger, self.catalog, contents)
        if found.reserved != self.ledger.reserved:
            found = replace(found, reserved=found.revision + RESERVED)
            self.disk = found
        self.ledger = found

    def crash(self) -> None:
        self._begin()

    def stop(self) -> None:
        if self.ledger.reserved:
            self.disk = settled(self.ledger)
        self._begin()


STEPS = st.one_of(
    st.tuples(st.just("change"), st.integers(0, 5)),
    st.tuples(st.just("flip"), st.tuples(st.booleans(), st.booleans())),
    st.tuples(st.sampled_from(["crash", "stop"])),
)


class Sidecars:
    """What each workload was ever told."""

    def __init__(self) -> None:
        self._contents: dict[tuple[WorkloadKey, int], str] = {}
        self._last: dict[WorkloadKey, int] = {}

    def tell(self, catalog: Catalog) -> None:
        for key, told in catalog.snapshots.items():
            digest = Digests().of(told)
            assert self._contents.setdefault((key, told.revision), digest) == digest
            assert told.revision >= self._last.get(key, 0)
            assert told.revision <= catalog.revision
            self._last[key] = told.revision


@settings(max_examples=200)
@given(st.lists(STEPS, max_size=25))
def test_equal_revisions_mean_equal_content_and_revisions_grow_over_crashes_and_stops(
    steps: list[tuple[object, ...]],
) -> None:
    plane, sidecars = ControlPlane(), Sidecars()
    sidecars.tell(plane.catalog)
    for name, *values in steps:
        getattr(plane, str(name))(*values)
        sidecars.tell(plane.catalog)
        [upstream] = plane.catalog.snapshots[CALLER].upstreams
        assert tuple(end.ready for end in upstream.endpoints) == plane.ready
