"""Tokens in sidecar processes, with workers, too: what is pushed is what each of them verifies by."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.data_path import HttpClient, http_app
from tests.integration.test_policy_processes import WORKERS, acknowledged, ready
from tests.issuing_backends import ORDERS, FakeBackend
from tests.jwts import AUDIENCE, ISSUER, Signer, ec_key, key_set
from tests.sidecar_process import HTTP_PORT, SelfCaller
from tests.waiting import until

BY, NEXT = Signer(key=ec_key()), Signer(key=ec_key("ec-2"))


@pytest.fixture
async def bench(tmp_path: Path, free_port: Callable[[], int]) -> AsyncIterator[SelfCaller]:
    made = SelfCaller(FakeBackend(), tmp_path, free_port)
    await made.backend.start()
    async with http_app() as http:
        made.apps[HTTP_PORT] = http
        made.push(HTTP_PORT)
        yield made
        await made.stop()


async def push(bench: SelfCaller, keys: str) -> None:
    message = bench.snapshot()
    rule = message.allowlists.add(namespace="shop", name="tokens").rules.add(name="read", ports=[HTTP_PORT])
    getattr(rule, "from").add(spiffe_id=str(ORDERS))
    rule.token.scopes.append("read")
    message.token_issuers.add(
        name="shop/login", issuer=ISSUER, audiences=[AUDIENCE], algorithms=["ES256"], keys=keys, header="authorization"
    )
    bench.control.push(message)
    await acknowledged(bench, message.revision)


async def statuses(bench: SelfCaller, signer: Signer, **claims: object) -> set[int]:
    """Of so many connections that each worker has some."""
    token = signer.token(**{"exp": 4_000_000_000, "scope": "read", **claims})
    found = set()
    for _ in range(8):
        client = await HttpClient.to(bench.http_listen)
        found.add((await client.ask("GET", "/a", headers=f"authorization: Bearer {token}\r\n")).status)
        client.close()
    return found


@WORKERS
async def test_each_process_verifies_by_the_keys_that_were_pushed_last(
    bench: SelfCaller, flags: tuple[str, ...]
) -> None:
    process = await ready(bench, *flags)
    await push(bench, key_set(ec_key()))
    assert await statuses(bench, BY) == {200}
    assert await statuses(bench, BY, scope="write") == {403}
    assert await statuses(bench, NEXT) == {401}
    await push(bench, key_set(ec_key("ec-2")))
    assert await statuses(bench, NEXT) == {200}
    assert await statuses(bench, BY) == {401}
    await push(bench, "")
    assert await statuses(bench, NEXT) == {401}
    async with asyncio.timeout(60):
        counted = {"verified": 0.0, "refused": 0.0}
        while min(counted.values()) < 24:  # workers tell what they counted from time to time
            metrics = await process.metrics()
            counted = {name: metrics.get(f'ringfence_tokens_total{{outcome="{name}"}}', 0.0) for name in counted}
    why = "there are no keys of its issuer: it never answered"
    await until(lambda: why in {line["detail"] for line in process.said("token not believed")})


async def test_keys_that_are_none_refuse_the_snapshot_and_the_old_ones_stay(bench: SelfCaller) -> None:
    await ready(bench)
    await push(bench, key_set(ec_key()))
    with pytest.raises(AssertionError, match="no list of keys"):
        await push(bench, json.dumps({"keys": {}}))
    assert await statuses(bench, BY) == {200}
