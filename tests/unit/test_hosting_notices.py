"""What of a reading cannot be told is said to whose it is, once, with the mend; the others go on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.intake import force, notices
from controlplane.intake.notices import CLOSED, LEFT_OUT, notices_of
from controlplane.push.pruning import LeftOut
from controlplane.push.sending import Sendable
from ringfence.mesh import Mesh
from ringfence.platform import Reading, WrittenDocument
from tests.platform_mesh import mesh_of, service_of
from tests.unit.test_hosting_host import Hosting

OPEN = WrittenDocument(
    name="Allowlist/bank/open",
    content=b"apiVersion: ringfence.io/v1alpha1\nkind: Allowlist\nmetadata: {name: open, namespace: bank}\n"
    b"spec: {service: crowd, rules: [{name: all, from: [{authenticated: true}]}]}\n",
)


@pytest.fixture
def hosting(tmp_path: Path) -> Hosting:
    return Hosting(tmp_path)


def _mesh(*, labels: int = 1, pods: int = 1) -> Mesh:
    many = tuple((f"label-{number:03}", "x") for number in range(labels))
    crowd = service_of("bank/crowd", *range(2000, 2000 + 200), host=9)
    (first,) = crowd.instances
    instances = tuple(replace(first, name=f"p{one}", address=f"10.77.{one >> 8}.{one & 255}") for one in range(pods))
    return mesh_of(service_of("shop/web", 80, labels=many), replace(crowd, instances=instances))


async def test_a_workload_that_cannot_be_told_is_told_of_with_why_and_the_mend(hosting: Hosting) -> None:
    await hosting.host.offer(Reading(mesh=_mesh(labels=256)))
    assert not hosting.host.notices()
    await hosting.host.offer(Reading(mesh=_mesh(labels=257)))
    (notice,) = hosting.host.notices()
    assert (notice.service, notice.instance, notice.reason) == ("shop/web", "web-0", CLOSED)
    assert "workload.labels: 257" in notice.message
    assert "it refuses everybody and calls nobody: give it fewer labels" in notice.message
    await hosting.host.offer(Reading(mesh=_mesh(labels=257, pods=2)))
    assert hosting.log.getvalue().count("workloads closed") == 1, "said once and not at each reading"
    await hosting.host.offer(Reading(mesh=_mesh(labels=3)))
    assert not hosting.host.notices()


async def test_a_service_left_out_is_told_of_and_comes_back_by_itself(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 1 << 20
    monkeypatch.setattr(force, "SNAPSHOT_LIMIT_BYTES", limit)
    hosting.force._sendable = Sendable(limit)
    await hosting.host.offer(Reading(mesh=_mesh(pods=2), documents=(OPEN,)))
    assert not hosting.host.notices()
    await hosting.host.offer(Reading(mesh=_mesh(pods=60), documents=(OPEN,)))
    (notice,) = hosting.host.notices()
    assert (notice.service, notice.instance, notice.reason) == ("bank/crowd", "", LEFT_OUT)
    assert "61 workloads that may call bank/crowd are not told of it" in notice.message
    assert "services left out of what callers are told" in hosting.log.getvalue()
    await hosting.host.offer(Reading(mesh=_mesh(pods=2), documents=(OPEN,)))
    assert not hosting.host.notices()


def test_notices_are_bounded() -> None:
    one = LeftOut(ports=1, told_bytes=1, callers=1)
    made = notices_of({f"a/{number}": one for number in range(notices.NOTICE_LIMIT + 1)}, {}, {})
    assert len(made) == notices.NOTICE_LIMIT
