"""``ringfence policy why``: a refused call by the id that its caller was told, asked of real sidecar processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ringfence.wire.gen import control_pb2 as pb
from tests.data_path import HttpClient, http_app
from tests.integration.test_proxy_command import ringfence
from tests.issuing_backends import ORDERS, FakeBackend
from tests.sidecar_process import HTTP_PORT, TCP_PORT, SelfCaller, SidecarProcess
from tests.waiting import until


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    async with http_app() as port:
        made.apps[HTTP_PORT] = port
        yield made
        await made.stop()


def reading(bench: SelfCaller) -> pb.Snapshot:
    """A policy that permits GET alone, with a shadow that permits GET of one path alone."""
    message = bench.snapshot(HTTP_PORT, TCP_PORT)
    message.allowlists[0].rules[0].methods.append("GET")
    shadow = message.shadow.allowlists.add()
    shadow.CopyFrom(message.allowlists[0])
    shadow.rules[0].paths.append("/orders/{id}")
    return message


async def started(bench: SelfCaller, *flags: str) -> SidecarProcess:
    bench.control.push(reading(bench))
    process = await bench.start(*flags)
    await process.ready()
    await until(lambda: bench.control.acks)
    assert bench.control.acks[-1].accepted
    return process


async def why(request_id: str, *words: str) -> tuple[int, Any, str]:
    status, out, err = await ringfence("policy", "why", request_id, *words)
    return status, json.loads(out) if "--json" in words and out else out, err


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
async def test_a_refused_call_is_explained_by_its_id(bench: SelfCaller, flags: tuple[str, ...]) -> None:
    process = await started(bench, *flags)
    where = ("--socket", str(process.admin_socket))
    client = await HttpClient.to(bench.http_listen)
    reply = await client.ask("DELETE", "/orders/1?key=secret")
    assert reply.status == 403
    request_id = reply.json()["request_id"]
    assert "own-http" not in str(reply.headers) + str(reply.body)
    status, told, _ = await why(request_id, *where, "--json")
    assert status == 0
    assert (told["caller"], told["method"], told["path"]) == (str(ORDERS), "DELETE", "/orders/1")
    assert (told["reason"], told["nearest_rule"]["name"]) == (
        "method_not_allowed",
        "shop/orders-callers/own-http",
    )
    assert told["differs"] == "the call's method is DELETE; 'methods' of the rule has GET"
    assert "secret" not in json.dumps(told)
    status, text, _ = await why(request_id, *where)
    assert status == 0
    assert "mend      add the method to 'methods' of the rule" in text
    client.close()


async def test_what_the_shadow_thinks_is_explained_too_and_refuses_nothing(bench: SelfCaller) -> None:
    process = await started(bench)
    where = ("--socket", str(process.admin_socket))
    client = await HttpClient.to(bench.http_listen)
    assert (await client.ask("GET", "/orders/1")).status == 200
    assert process.said("shadow disagrees") == []
    assert (await client.ask("GET", "/admin")).status == 200
    await until(lambda: process.said("shadow disagrees"))
    [line] = process.said("shadow disagrees")
    status, told, _ = await why(line["request_id"], *where, "--json")
    assert status == 0
    assert (told["outcome"], told["permitted"], told["shadow_permits"]) == ("shadow", True, False)
    assert (told["shadow_reason"], told["nearest_rule"]["paths"]) == ("path_not_allowed", ["/orders/{id}"])
    metrics = (await process.page("/metrics")).decode()
    counted = [row for row in metrics.splitlines() if row.startswith("ringfence_shadow_verdicts_total{")]
    assert sorted(row.split('verdict="')[1].split('"')[0] for row in counted) == ["agree", "would_deny"]
    client.close()


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
async def test_the_latest_refusals_are_told_without_an_id(bench: SelfCaller, flags: tuple[str, ...]) -> None:
    process = await started(bench, *flags)
    where = ("--socket", str(process.admin_socket))
    status, _, err = await ringfence("policy", "why", *where)
    assert (status, "refused nothing in 300 s" in err) == (1, True)
    client = await HttpClient.to(bench.http_listen)
    ids = [(await client.ask("DELETE", f"/orders/{number}")).json()["request_id"] for number in range(3)]
    status, out, _ = await ringfence("policy", "why", "--since", "2m", "--json", *where)
    assert status == 0
    told = json.loads(out)["calls"]
    assert [call["request_id"] for call in told] == ids[::-1]
    assert {call["mend"] for call in told} == {"add the method to 'methods' of the rule"}
    status, out, _ = await ringfence("policy", "why", "--limit", "1", *where)
    assert (status, ids[-1] in out, ids[0] in out) == (0, True, False)
    again = [(await client.ask("DELETE", "/orders/2")).json()["request_id"] for _ in range(4)]
    status, out, _ = await ringfence("policy", "why", *where)
    assert (out.count("time  "), again[-1] in out, again[0] in out) == (3, True, False)
    assert "and       4 like it before, since " in out
    client.close()


async def test_a_command_in_the_sidecars_own_surroundings_needs_no_socket(
    bench: SelfCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await started(bench)
    monkeypatch.setenv("RINGFENCE_SIDECAR_ADMIN_SOCKET", str(process.admin_socket))
    assert (await ringfence("proxy", "certs", "--json"))[0] == 0
    assert (await ringfence("policy", "why"))[0] == 1


@pytest.mark.parametrize("words", [("--since", "5"), ("--since", "0s"), ("--since", "-5m"), ("--since", "999999d")])
async def test_a_span_that_is_none_is_bad_input(words: tuple[str, ...]) -> None:
    status, _, err = await ringfence("policy", "why", "--socket", "x", *words)
    assert (status, "is no span" in err) == (2, True)
    status, _, err = await ringfence("policy", "why", "00ff", "--since", "5m")
    assert (status, "give one of them" in err) == (2, True)


async def test_an_unknown_id_is_no_and_a_wrong_one_is_bad_input(bench: SelfCaller, tmp_path: Path) -> None:
    process = await started(bench)
    where = ("--socket", str(process.admin_socket))
    status, _, err = await why("00ff", *where)
    assert (status, "1 of 1 sidecars answered" in err) == (1, True)
    for wrong in ("xyz", "00FF", "a" * 65, "00ff\n"):
        status, _, err = await why(wrong, *where)
        assert (status, "is no request id" in err) == (2, True)
    status, _, err = await why("00ff", "--socket", str(tmp_path / "nowhere.sock"))
    assert (status, "0 of 1 sidecars answered" in err) == (2, True)
    status, _, err = await why("00ff", "--state", str(tmp_path))
    assert (status, err.startswith("--state: no sidecar of")) == (2, True)
    reader, writer = await asyncio.open_unix_connection(str(process.admin_socket))
    writer.write(b"GET /why?id=../x HTTP/1.1\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    for wrong in (b"since=1&limit=0", b"since=1&limit=1001", b"since=x", b"since=12345678", b"since=1&x=1"):
        reader, writer = await asyncio.open_unix_connection(str(process.admin_socket))
        writer.write(b"GET /why?" + wrong + b" HTTP/1.1\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()


async def test_every_sidecar_of_a_state_folder_is_asked(bench: SelfCaller, tmp_path: Path) -> None:
    process = await started(bench)
    client = await HttpClient.to(bench.http_listen)
    request_id = (await client.ask("DELETE", "/")).json()["request_id"]
    for name, target in (("shop.web", tmp_path / "gone.sock"), ("shop.api", process.admin_socket)):
        folder = tmp_path / "m" / "sidecars" / name  # the path of a socket must be short
        folder.mkdir(parents=True)
        (folder / "admin.sock").symlink_to(target)
    status, told, _ = await why(request_id, "--state", str(tmp_path / "m"), "--json")
    assert (status, told["request_id"]) == (0, request_id)
    client.close()
