"""The roots are where pods find them, whoever changes, removes or freezes them there."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from k8s.client.connection import Connection
from k8s.client.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS
from k8s.trust.bundles import bundle_text
from k8s.trust.keeping import TrustKeeper
from ringfence.kit.backoff import Backoff
from ringfence.kit.log import Logger
from ringfence.spiffe import TrustBundle, TrustDomain
from tests.fake_api_server import FakeApiServer, serving, status_response
from tests.pki import TestCa
from tests.waiting import until

SHOP = TrustDomain("shop.example")
NAME, KEY = "ringfence-trust", "bundle.pem"


class _Kept:
    """A keeper at work, and what it keeps."""

    def __init__(self, fake: FakeApiServer, connection: Connection) -> None:
        self.fake = fake
        self.namespaces = {"shop", "pay"}
        self.bundle = TestCa(SHOP).bundle()
        self.lines = io.StringIO()
        self.keeper = TrustKeeper(
            connection,
            namespaces=lambda: self.namespaces,
            bundle=lambda: self.bundle,
            log=Logger("trust", stream=self.lines),
            random=lambda: 0.0,
            backoff=Backoff(first_seconds=0.001, cap_seconds=0.01),
        )
        self.task = asyncio.create_task(self.keeper.run())

    @property
    def text(self) -> str:
        return bundle_text(self.bundle)

    def said(self, namespace: str) -> str | None:
        found = self.fake.object(CONFIG_MAPS, NAME, namespace)
        return None if found is None else found.get("data", {}).get(KEY)

    def cluster_said(self) -> str | None:
        found = self.fake.objects.get(f"{CLUSTER_TRUST_BUNDLES.path()}/ringfence.io:svid:bundle")
        return None if found is None else found["spec"]["trustBundle"]

    async def right(self, *namespaces: str) -> None:
        await until(lambda: all(self.said(one) == self.text for one in namespaces or self.namespaces))


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[_Kept]:
    async with serving(tmp_path) as (fake, connection):
        made = _Kept(fake, connection)
        await made.right()
        yield made
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task


def edited(namespace: str, **changes: Any) -> dict[str, Any]:
    return {"metadata": {"name": NAME, "namespace": namespace}, **changes}


async def test_each_meshed_namespace_has_the_roots_and_no_other(kept: _Kept) -> None:
    kept.fake.put(CONFIG_MAPS, {"metadata": {"name": "other", "namespace": "web"}, "data": {KEY: "x"}})
    kept.namespaces.add("new")
    kept.keeper.stir()
    await kept.right("new")
    held = [path for path in kept.fake.objects if path.endswith(NAME)]
    assert sorted(held) == [f"/api/v1/namespaces/{one}/configmaps/{NAME}" for one in ("new", "pay", "shop")]


async def test_what_somebody_edits_or_removes_is_put_right(kept: _Kept) -> None:
    foreign = bundle_text(TestCa(SHOP).bundle())
    kept.fake.put(CONFIG_MAPS, edited("shop", data={KEY: foreign}))
    await kept.right()
    kept.fake.put(CONFIG_MAPS, edited("shop", data={KEY: kept.text + foreign}))
    await kept.right()
    kept.fake.put(CONFIG_MAPS, edited("shop"))
    await kept.right()
    kept.fake.remove(CONFIG_MAPS, NAME, "pay")
    await kept.right()


async def test_what_somebody_froze_is_made_anew(kept: _Kept) -> None:
    kept.fake.put(CONFIG_MAPS, edited("shop", data={KEY: "frozen"}, immutable=True))
    await kept.right()
    found = kept.fake.object(CONFIG_MAPS, NAME, "shop")
    assert found is not None
    assert "immutable" not in found


async def test_what_was_frozen_behind_the_watch_is_made_anew(kept: _Kept) -> None:
    refused: list[str] = []

    def fail(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH" and "shop" in request.path and not refused:
            refused.append(request.path)
            return status_response(422, "Invalid", "data: field is immutable when `immutable` is set")
        return None

    kept.fake.fail = fail
    kept.fake.put(CONFIG_MAPS, edited("shop", data={KEY: "frozen"}))
    await kept.right()
    assert ("DELETE", refused[0]) in kept.fake.requests


async def test_new_roots_are_everywhere(kept: _Kept) -> None:
    await until(lambda: kept.cluster_said() == kept.text)
    kept.bundle = TrustBundle(SHOP, (*kept.bundle.roots, TestCa(SHOP).root.der))
    kept.keeper.stir()
    await kept.right()
    await until(lambda: kept.cluster_said() == kept.text)


async def test_what_is_right_is_not_written_again(kept: _Kept) -> None:
    await until(lambda: kept.cluster_said() == kept.text)
    written = len(kept.fake.patches)
    kept.fake.put(CONFIG_MAPS, edited("elsewhere", data={KEY: "not meshed"}))
    kept.bundle = TrustBundle(SHOP, kept.bundle.roots[::-1])
    kept.keeper.stir()
    kept.namespaces.add("new")
    kept.keeper.stir()
    await kept.right("new")
    assert len(kept.fake.patches) == written + 1
    assert kept.said("elsewhere") == "not meshed"


async def test_a_namespace_that_refuses_costs_no_other_and_is_tried_again(kept: _Kept) -> None:
    forbidden = True

    def fail(request: web.Request) -> web.StreamResponse | None:
        if forbidden and request.method == "PATCH" and "/ending/" in request.path:
            return status_response(403, "Forbidden", "namespace ending is being terminated")
        return None

    kept.fake.fail = fail
    kept.namespaces |= {"ending", "fine"}
    kept.keeper.stir()
    await kept.right("fine")
    await until(lambda: "being terminated" in kept.keeper.missing.get("ending", ""))
    assert kept.lines.getvalue().count("trust bundle not written") == 1
    forbidden = False
    await kept.right()
    await until(lambda: not kept.keeper.missing)


async def test_a_namespace_that_leaves_the_mesh_keeps_what_its_pods_need(kept: _Kept) -> None:
    kept.namespaces.discard("pay")
    kept.keeper.stir()
    kept.namespaces.add("new")
    kept.keeper.stir()
    await kept.right("new")
    assert kept.said("pay") == kept.text


async def test_no_roots_are_never_written(kept: _Kept) -> None:
    held, kept.bundle = kept.text, TrustBundle(SHOP, ())
    kept.keeper.stir()
    await until(lambda: "trust bundles are left as they are" in kept.lines.getvalue())
    assert kept.said("shop") == held


async def test_a_cluster_without_cluster_trust_bundles_is_left_in_peace(tmp_path: Path) -> None:
    async with serving(tmp_path) as (fake, connection):

        def fail(request: web.Request) -> web.StreamResponse | None:
            if "certificates.k8s.io" in request.path:
                return status_response(404, "NotFound", "the server could not find the requested resource")
            return None

        fake.fail = fail
        made = _Kept(fake, connection)
        await made.right()
        await until(lambda: any("clustertrustbundles" in path for method, path in fake.requests if method == "PATCH"))
        assert "cluster trust bundle not written" not in made.lines.getvalue()
        made.task.cancel()
        with suppress(asyncio.CancelledError):
            await made.task
