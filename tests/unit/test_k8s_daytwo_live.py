"""The port of an operator's commands on an API server: what is asked over HTTP, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from k8s.client.connection import Connection
from k8s.client.resources import DEPLOYMENTS, NAMESPACES, PODS, SECRETS, Resource
from k8s.daytwo.cluster import ClusterError, Place, UnusableError
from k8s.daytwo.live import LiveCluster, open_cluster
from tests.fake_api_server import FakeApiServer, kubeconfig_of, serving

PLACE = Place(namespace="shop", pod="api-1", container="ringfence-sidecar")
POSTURES = Resource(group="ringfence.io", version="v1alpha1", plural="postures", kind="Posture")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[FakeApiServer, LiveCluster]]:
    async with serving(tmp_path) as (fake, connection):
        yield fake, LiveCluster(connection)


Served = tuple[FakeApiServer, LiveCluster]


async def test_all_of_a_kind_come_by_pages_with_their_kind(served: Served) -> None:
    fake, cluster = served
    fake.page_limit = 2
    for number in range(5):
        fake.put(PODS, {"metadata": {"name": f"api-{number}", "namespace": "shop"}})
    found = await cluster.objects(PODS, "shop")
    assert [one["metadata"]["name"] for one in found] == [f"api-{number}" for number in range(5)]
    assert {(one["kind"], one["apiVersion"]) for one in found} == {("Pod", "v1")}
    assert cluster.namespace == "shop"


async def test_of_a_kind_that_is_not_served_there_are_none(served: Served) -> None:
    fake, cluster = served
    fake.fail = lambda request: web.json_response({"code": 404, "reason": "NotFound", "message": "no"}, status=404)
    assert await cluster.objects(POSTURES) == []


async def test_what_may_not_be_read_is_told_in_one_line(served: Served) -> None:
    fake, cluster = served
    fake.fail = lambda request: web.json_response({"code": 403, "reason": "Forbidden", "message": "a\nb"}, status=403)
    for asking in (
        cluster.objects(SECRETS),
        cluster.get(PODS, "x", "shop"),
        cluster.patch(NAMESPACES, "shop", {}),
        cluster.apply(POSTURES, "x", {}, "shop"),
        cluster.delete(POSTURES, "x", "shop"),
        cluster.text("/metrics", {}, 100),
        cluster.version(),
        cluster.run(PLACE, ["x"]),
    ):
        with pytest.raises(ClusterError) as told:
            await asking
        assert str(told.value).isprintable()
        assert not told.value.absent


async def test_changes_reach_the_objects_and_absence_is_told(served: Served) -> None:
    fake, cluster = served
    fake.put(NAMESPACES, {"metadata": {"name": "shop", "labels": {"a": "1", "b": "2"}}})
    await cluster.patch(NAMESPACES, "shop", {"metadata": {"labels": {"a": None, "c": "3"}}})
    held = fake.object(NAMESPACES, "shop")
    assert held is not None
    assert held["metadata"]["labels"] == {"b": "2", "c": "3"}
    await cluster.apply(POSTURES, "ramp", {"spec": {"posture": "observe"}}, "shop")
    made = fake.object(POSTURES, "ramp", "shop")
    assert made is not None
    assert made["metadata"]["name"] == "ramp"
    assert made["spec"] == {"posture": "observe"}
    await cluster.delete(POSTURES, "not-there", "shop")
    with pytest.raises(ClusterError) as told:
        await cluster.get(DEPLOYMENTS, "api", "shop")
    assert told.value.absent


async def test_a_name_that_leads_elsewhere_is_refused_before_it_is_sent(served: Served) -> None:
    fake, cluster = served
    with pytest.raises(ClusterError):
        await cluster.get(PODS, "..", "shop")
    assert fake.requests == []


async def test_a_command_is_run_and_its_end_told(served: Served) -> None:
    fake, cluster = served
    fake.exec_result = (b'{"level": "info"}', b"oh\xff", 1)
    ran = await cluster.run(PLACE, ["ringfence", "proxy", "loglevel"])
    assert (ran.stdout, ran.stderr, ran.status) == ('{"level": "info"}', "oh\ufffd", 1)
    assert fake.exec_commands == [["ringfence", "proxy", "loglevel"]]


async def test_the_lines_of_a_command_come_whole_and_its_failure_by_its_last_word(served: Served) -> None:
    fake, cluster = served
    fake.exec_result = (b"one\ntwo\nhalf", b"first\nlast words\n", 2)
    lines = []
    with pytest.raises(ClusterError, match="shop/api-1: last words"):
        async for line in cluster.stream(PLACE, ["ringfence", "tap"]):
            lines.append(line)
    assert lines == ["one", "two"]
    fake.exec_result = (b"one\n", b"", 0)
    assert [line async for line in cluster.stream(PLACE, ["ringfence", "tap"])] == ["one"]


async def test_texts_are_cut_and_logs_followed(served: Served) -> None:
    fake, cluster = served
    fake.fail = lambda request: web.Response(text="line 1\nline 2\nline 3\n")
    assert await cluster.text("/api/v1/namespaces/shop/pods/api-1/log", {}, 10) == "line 1\nlin"
    assert await cluster.text("/metrics", {}, 1_000) == "line 1\nline 2\nline 3\n"
    assert [line async for line in cluster.lines("/x", {})] == ["line 1", "line 2", "line 3"]


async def test_a_version_that_is_none_is_unknown(served: Served) -> None:
    fake, cluster = served
    fake.fail = lambda request: web.json_response({"gitVersion": "v1.36.3"})
    assert await cluster.version() == "v1.36.3"
    fake.fail = lambda request: web.json_response({"gitVersion": 7})
    assert await cluster.version() == "unknown"


async def test_a_configuration_is_found_by_the_usual_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kubeconfig_of("http://127.0.0.1:9", tmp_path)
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{file}")
    async with open_cluster("", "") as cluster:
        assert cluster.namespace == "shop"
    monkeypatch.setenv("KUBECONFIG", str(file))
    async with open_cluster("", "fake") as cluster:
        with pytest.raises(ClusterError, match="does not answer"):
            await cluster.version()
    with pytest.raises(UnusableError):
        async with open_cluster(str(tmp_path / "absent"), ""):
            pass
    with pytest.raises(UnusableError):
        async with open_cluster(str(file), "no-such-context"):
            pass


async def test_a_connection_is_closed_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    close = Connection.close

    async def noted(self: Connection) -> None:
        closed.append(self)
        await close(self)

    monkeypatch.setattr(Connection, "close", noted)
    async with open_cluster(str(kubeconfig_of("http://127.0.0.1:9", tmp_path)), ""):
        assert closed == []
    assert len(closed) == 1
