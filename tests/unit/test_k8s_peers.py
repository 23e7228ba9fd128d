"""What several replicas enforce is added up: of the same version, of replicas that live, and nothing of what is odd."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from k8s.client.connection import Connection
from k8s.client.resources import LEASES
from k8s.controller.offering import JudgedVersions
from k8s.controller.peers import PREFIX, PeerCounts, Replica, others, read_counts
from k8s.objects.pods import read_pod
from ringfence.kit.log import Logger
from ringfence.platform import DocumentStanding, Reading, WrittenDocument
from tests.cluster_objects import pod
from tests.fake_api_server import FakeApiServer, serving
from tests.platform_mesh import mesh_of

_LOG = Logger("test", level="error")
_NAME = "Allowlist/shop/cart"
_SYSTEM = "ringfence-system"


class _Host:
    def __init__(self, enforcing: int) -> None:
        self.enforcing = enforcing
        self.names = [_NAME]

    def standings(self) -> Mapping[str, DocumentStanding]:
        waiting = tuple(f"pod {number}: its sidecar has not come yet" for number in range(5 - self.enforcing))
        one = DocumentStanding(accepted=True, workloads=5, enforcing=self.enforcing, waiting=waiting)
        return dict.fromkeys(self.names, one)


class _Replicas:
    """Two of them, and how often each was told of a change."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.living = {"a", "b"}
        self.changes = {"a": 0, "b": 0}
        self.hosts = {"a": _Host(2), "b": _Host(3)}
        self.peers = {name: self._peer(connection, name) for name in ("a", "b")}

    def _peer(self, connection: Connection, name: str, version: str = "u/1") -> PeerCounts:
        judged = JudgedVersions()
        document = WrittenDocument(name=_NAME, content=b"", version=version)
        judged.take(Reading(mesh=mesh_of(), documents=(document,)))

        def changed() -> None:
            self.changes[name] += 1

        replica = Replica(pod=name, namespace=_SYSTEM, lease="ringfence")
        living = lambda: frozenset(self.living - {name})  # noqa: E731 (asked again and again)
        return PeerCounts(connection, replica, self.hosts[name], judged, living, changed=changed, log=_LOG)

    def of(self, name: str) -> tuple[int, int]:
        standing = self.peers[name].standings()[_NAME]
        return standing.enforcing, len(standing.waiting)

    def annotations(self) -> dict[str, Any]:
        return (self.fake.object(LEASES, "ringfence", _SYSTEM) or {})["metadata"].get("annotations", {})

    async def turn(self) -> None:
        for _ in range(2):
            for peer in self.peers.values():
                await peer._turn()


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[_Replicas]:
    async with serving(tmp_path) as (fake, connection):
        fake.put(LEASES, {"metadata": {"name": "ringfence", "namespace": _SYSTEM}, "spec": {"holderIdentity": "a_1"}})
        yield _Replicas(fake, connection)


async def test_each_adds_what_the_other_says(replicas: _Replicas) -> None:
    await replicas.turn()
    assert (replicas.of("a"), replicas.of("b")) == ((5, 0), (5, 0))
    assert replicas.changes == {"a": 1, "b": 1}
    replicas.hosts["b"].enforcing = 1
    await replicas.turn()
    assert replicas.of("a") == (3, 2)
    lease = replicas.fake.object(LEASES, "ringfence", _SYSTEM)
    assert lease is not None
    assert lease["spec"] == {"holderIdentity": "a_1"}


async def test_thousands_of_documents_have_room(replicas: _Replicas) -> None:
    for host in replicas.hosts.values():
        host.names = [f"Allowlist/a-namespace-with-a-name-{number:05}/orders-callers" for number in range(4_000)]
    await replicas.turn()
    for name in ("a", "b"):
        assert {one.enforcing for one in replicas.peers[name].standings().values()} == {5}


async def test_what_has_no_room_is_left_out_and_the_rest_is_told(replicas: _Replicas) -> None:
    for host in replicas.hosts.values():
        host.names = [f"Allowlist/shop/{number:05}" for number in range(20_000)]
    await replicas.turn()
    whole = [one for one in replicas.peers["a"].standings().values() if one.enforcing == 5]
    assert 4_000 < len(whole) < 20_000


async def test_a_count_of_another_version_counts_for_nothing(replicas: _Replicas) -> None:
    connection = replicas.peers["b"]._connection
    replicas.peers["b"] = replicas._peer(connection, "b", version="u/2")
    await replicas.turn()
    assert replicas.of("a") == (2, 3)


async def test_a_replica_that_is_gone_counts_for_nothing_and_is_swept_away(replicas: _Replicas) -> None:
    await replicas.turn()
    replicas.living = {"a"}
    assert replicas.of("a") == (2, 3)
    await replicas.peers["a"]._turn()
    assert list(replicas.annotations()) == [replicas.peers["a"]._replica.annotation]


async def test_what_is_odd_is_neither_believed_nor_kept(replicas: _Replicas) -> None:
    lease = replicas.fake.object(LEASES, "ringfence", _SYSTEM) or {}
    odd = {f"{PREFIX}{number}": text for number, text in enumerate(("", "[]", "{", '{"pod": 7}', '{"pod": "b"}'))}
    replicas.fake.put(LEASES, {**lease, "metadata": {**lease["metadata"], "annotations": odd | {"mine": "kept"}}})
    await replicas.peers["a"]._turn()
    assert replicas.of("a") == (2, 3)
    assert set(replicas.annotations()) == {"mine", replicas.peers["a"]._replica.annotation}


@pytest.mark.parametrize(
    "text", ['{"pod":"b","documents":{"x":true}}', '{"pod":"b","documents":{"x":["v",1]}}', '{"documents":{}}']
)
def test_counts_are_read_strictly(text: str) -> None:
    with pytest.raises(ValueError):
        read_counts(text)


def test_nobody_is_counted_below_zero_or_beyond_all() -> None:
    assert read_counts('{"pod":"b","documents":{"x":-7}}') == ("b", {"x": 0})


def test_replicas_are_control_planes_of_every_revision_that_go_on() -> None:
    def made(name: str, **more: Any) -> Any:
        labels = {
            "app.kubernetes.io/name": more.pop("app", "ringfence"),
            "app.kubernetes.io/component": more.pop("component", "control-plane"),
            "app.kubernetes.io/instance": more.pop("instance", "ringfence"),
            "app.kubernetes.io/version": more.pop("version", "1"),
            "pod-template-hash": name,
        }
        owner = ("ReplicaSet", f"ringfence-{name}")
        return read_pod(pod(name, "10.0.0.1", ns=more.pop("ns", _SYSTEM), labels=labels, owner=owner, **more))

    pods = {
        one.name: one
        for one in (
            made("a"),
            made("b"),
            made("c", phase="Failed"),
            made("d", deleting=True),
            made("e", ns="shop"),
            made("f", app="other"),
            made("g", component="cni"),
            made("h", instance="ringfence-canary", version="2"),
        )
    }
    replica = Replica(pod="a", namespace=_SYSTEM, lease="ringfence")
    assert others(replica, lambda _, name: pods.get(name), pods) == {"b", "h"}
    assert others(Replica(pod="", namespace=_SYSTEM, lease="x"), lambda _, name: pods.get(name), pods) == frozenset()
