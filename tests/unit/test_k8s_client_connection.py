"""A connection asks for what it was told, answers within limits, and turns every failure into a typed error."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from k8s.client import connection as connection_module
from k8s.client.connection import Connection
from k8s.client.errors import (
    ApiError,
    ConfigurationError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    NotFoundError,
    UnreachableError,
    error_of_body,
)
from k8s.client.execution import Command, _exit_code, run_in
from k8s.client.resources import CONFIG_MAPS, ENDPOINT_SLICES, NAMESPACES, PODS
from tests.fake_api_server import FakeApiServer, kubeconfig_of, serving, status_response
from tests.waiting import until

_Ends = tuple[FakeApiServer, Connection]


@pytest.fixture
async def ends(tmp_path: Path) -> AsyncIterator[_Ends]:
    async with serving(tmp_path) as ends:
        yield ends


def _map(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop"}, "data": data}


async def test_an_object_is_made_read_changed_and_removed(ends: _Ends) -> None:
    fake, connection = ends
    await connection.create(CONFIG_MAPS, _map("trust", a="1"), "shop")
    await connection.patch(CONFIG_MAPS, "trust", {"data": {"a": None, "b": "2"}}, "shop")
    assert (await connection.get(CONFIG_MAPS, "trust", "shop"))["data"] == {"b": "2"}
    await connection.apply(CONFIG_MAPS, "trust", _map("trust", c="3"), "shop", manager="ringfence")
    assert fake.patches[-1][1]["kind"] == "ConfigMap"
    await connection.delete(CONFIG_MAPS, "trust", "shop")
    with pytest.raises(NotFoundError):
        await connection.get(CONFIG_MAPS, "trust", "shop")


async def test_an_object_of_another_version_is_not_overwritten(ends: _Ends) -> None:
    fake, connection = ends
    held = fake.put(CONFIG_MAPS, _map("trust", a="1"))
    version = held["metadata"]["resourceVersion"]
    fake.put(CONFIG_MAPS, _map("trust", a="2"))
    stale = {"metadata": {"resourceVersion": version}, "data": {"a": "3"}}
    with pytest.raises(ConflictError):
        await connection.patch(CONFIG_MAPS, "trust", stale, "shop")
    with pytest.raises(ConflictError):
        await connection.replace(CONFIG_MAPS, "trust", {**held, "data": {"a": "3"}}, "shop")
    with pytest.raises(ConflictError):
        await connection.create(CONFIG_MAPS, _map("trust"), "shop")


async def test_a_list_comes_whole_by_pages(ends: _Ends) -> None:
    fake, connection = ends
    for number in range(5):
        fake.put(CONFIG_MAPS, {**_map(f"m{number}"), "metadata": {"name": f"m{number}", "namespace": f"n{number % 2}"}})
    names = [item["metadata"]["name"] async for item in connection.all(CONFIG_MAPS, page_size=2)]
    assert names == ["m0", "m1", "m2", "m3", "m4"]
    assert [item["metadata"]["name"] async for item in connection.all(CONFIG_MAPS, "n1")] == ["m1", "m3"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [(401, ForbiddenError), (403, ForbiddenError), (404, NotFoundError), (409, ConflictError), (410, ExpiredError)],
)
async def test_each_refusal_has_its_type(ends: _Ends, code: int, kind: type[ApiError]) -> None:
    fake, connection = ends
    fake.fail = lambda request: status_response(code, "Word", "a\nmessage")
    with pytest.raises(kind, match="a message") as caught:
        await connection.get(NAMESPACES, "shop")
    assert (caught.value.code, caught.value.reason) == (code, "Word")


async def test_a_busy_server_says_when_to_come_back(ends: _Ends) -> None:
    fake, connection = ends
    fake.fail = lambda request: web.Response(status=429, headers={"Retry-After": "7"}, body=b"<html>busy</html>")
    with pytest.raises(ApiError, match="busy") as caught:
        await connection.get(NAMESPACES, "shop")
    assert caught.value.retry_seconds == 7.0


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b'"text"', b"\xff\xfe"])
async def test_an_answer_that_is_no_object_is_no_answer(ends: _Ends, body: bytes) -> None:
    fake, connection = ends
    fake.fail = lambda request: web.Response(body=body, content_type="application/json")
    with pytest.raises(UnreachableError):
        await connection.get(NAMESPACES, "shop")


async def test_an_answer_beyond_the_limit_is_not_read(ends: _Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, connection = ends
    monkeypatch.setattr(connection_module, "ANSWER_LIMIT_BYTES", 100)
    fake.fail = lambda request: web.Response(body=b" " * 101 + b"{}")
    with pytest.raises(UnreachableError, match="larger than 100 bytes"):
        await connection.get(NAMESPACES, "shop")


async def test_a_line_beyond_the_limit_is_not_read(ends: _Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, connection = ends
    monkeypatch.setattr(connection_module, "LINE_LIMIT_BYTES", 100)
    fake.fail = lambda request: web.Response(body=b"short\n" + b"x" * 101)
    found: list[bytes] = []
    with pytest.raises(UnreachableError, match="line larger than 100 bytes"):
        async with connection.lines("/api/v1/pods", {}, silence_seconds=5.0) as lines:
            async for line in lines:
                found.append(line)
    assert found == [b"short"]


async def test_a_line_that_was_cut_off_is_dropped(ends: _Ends) -> None:
    fake, connection = ends
    fake.fail = lambda request: web.Response(body=b"whole\ncut o")
    async with connection.lines("/api/v1/pods", {}, silence_seconds=5.0) as lines:
        assert [line async for line in lines] == [b"whole"]


async def test_nobody_there_is_unreachable(tmp_path: Path, free_port: Callable[[], int]) -> None:
    connection = Connection.open(str(kubeconfig_of(f"http://127.0.0.1:{free_port()}", tmp_path)))
    with pytest.raises(UnreachableError, match="does not answer"):
        await connection.get(NAMESPACES, "shop")
    with pytest.raises(UnreachableError, match="does not answer"):
        async with connection.lines("/api/v1/pods", {}, silence_seconds=1.0):
            pass
    await connection.close()


async def test_a_command_in_a_pod_says_what_it_wrote_and_how_it_ended(ends: _Ends) -> None:
    fake, connection = ends
    fake.exec_result = (b"out", b"err", 3)
    command = Command(namespace="shop", pod="cart", container="app", arguments=["sh", "-c", "a b&c"])
    outcome = await run_in(connection, command)
    assert (outcome.stdout, outcome.stderr, outcome.exit_code) == (b"out", b"err", 3)
    assert fake.exec_commands == [["sh", "-c", "a b&c"]]
    fake.exec_result = (b"", b"", 0)
    assert (await run_in(connection, command)).exit_code == 0
    fake.fail = lambda request: status_response(404, "NotFound", "pods not found")
    with pytest.raises(NotFoundError):
        await run_in(connection, command)


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"causes": [{"reason": "ExitCode", "message": "3"}]}, 3),
        ({"causes": [{"reason": "Other", "message": "3"}]}, 1),
        ({"causes": [{"reason": "ExitCode", "message": "9" * 5_000}]}, 1),
        ({"causes": [{"reason": "ExitCode", "message": "\u0663"}]}, 1),
        ({"causes": ["ExitCode", {"reason": "ExitCode", "message": 3}]}, 1),
        ({"causes": 7}, 1),
        ([], 1),
        (None, 1),
    ],
)
def test_whatever_stands_in_the_end_of_a_command_it_has_failed(details: Any, code: int) -> None:
    status = {"status": "Failure", "reason": "NonZeroExitCode", "details": details}
    assert _exit_code(json.dumps(status).encode()) == code


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "clusters: 7",
        "clusters: []\ncontexts: []\ncurrent-context: x",
        "clusters: [{name: c, cluster: {server: 7}}]\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x",
        "clusters: [{name: c, cluster: {server: 'http://a:b'}}]\nusers: [{name: u, user: {}}]\n"
        "contexts: [{name: x, context: {cluster: c, user: u}}]\ncurrent-context: x",
        "clusters: [{name: c, cluster: {}}]\ncontexts: [{name: x, context: {cluster: c}}]\ncurrent-context: x",
    ],
)
def test_a_kubeconfig_that_is_none_is_told_in_a_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"name a kubeconfig") as caught:
        Connection.open(str(file))
    assert "\n" not in str(caught.value)


def test_no_kubeconfig_at_all_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        Connection.open(str(tmp_path / "missing"))


@pytest.mark.parametrize("name", ["..", ".", "a/../../secrets/x", "a?watch=true", "a#b", "ä"])
def test_no_name_leads_to_another_path(name: str) -> None:
    if name in ("..", "."):
        with pytest.raises(ValueError):
            PODS.path("shop", name)
        return
    path = PODS.path("shop", name)
    assert path.startswith("/api/v1/namespaces/shop/pods/")
    assert not set("?#") & set(path)
    assert path.count("/") == 6


def test_paths_are_those_of_the_api() -> None:
    assert PODS.path() == "/api/v1/pods"
    assert PODS.path("shop", "cart", "status") == "/api/v1/namespaces/shop/pods/cart/status"
    assert ENDPOINT_SLICES.path("shop") == "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
    assert NAMESPACES.path("", "shop") == "/api/v1/namespaces/shop"
    for wrong in (lambda: NAMESPACES.path("shop", "x"), lambda: PODS.path("", "x"), lambda: PODS.path("a", "", "log")):
        with pytest.raises(ValueError):
            wrong()


def test_a_foreign_error_is_kept_on_one_line_and_short() -> None:
    error = error_of_body(b"\x1b[31mred\r\n" + b"x" * 5000, 502)
    assert "\x1b" not in str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 700
    assert error_of_body(b'{"code": true, "message": 7}', 500).code == 500
    assert isinstance(error_of_body(b'{"message": "Too large resource version: 9"}', 504), ExpiredError)


@dataclass(kw_only=True, slots=True)
class _Silent:
    """A server that takes connections and never shakes hands: how many began to, and how many are closed again."""

    connection: Connection
    begun: int = 0
    ended: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):
            self.begun += 1
        with suppress(OSError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        self.ended += 1


@pytest.fixture
async def silent(tmp_path: Path) -> AsyncIterator[_Silent]:
    server = await asyncio.start_server(lambda *ends: made.serve(*ends), "127.0.0.1", 0)
    async with server:
        file = kubeconfig_of(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", tmp_path)
        config = yaml.safe_load(file.read_text())
        config["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True
        file.write_text(yaml.safe_dump(config))
        made = _Silent(connection=Connection.open(str(file)))
        yield made
        await made.connection.close()
    gc.collect()  # a socket that was lost is told of here, and any warning is an error


async def test_a_server_that_never_shakes_hands_costs_no_socket(silent: _Silent) -> None:
    for _ in range(2):
        with pytest.raises(UnreachableError):
            await silent.connection.within(1.0).get(CONFIG_MAPS, "a", "shop")
    await until(lambda: silent.ended == 2)


async def _question(connection: Connection) -> None:
    await connection.get(CONFIG_MAPS, "a", "shop")


async def _lines(connection: Connection) -> None:
    async with connection.lines("/api/v1/pods", {"watch": "true"}, silence_seconds=None):
        pass


async def _command(connection: Connection) -> None:
    await run_in(connection, Command(namespace="shop", pod="web-0", container="web", arguments=["true"]))


@pytest.mark.parametrize("ask", [_question, _lines, _command])
async def test_who_gives_up_during_a_handshake_leaves_no_socket(
    silent: _Silent, ask: Callable[[Connection], Coroutine[None, None, None]]
) -> None:
    asking = asyncio.create_task(ask(silent.connection))
    await until(lambda: silent.begun == 1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until(lambda: silent.ended == 1)
