"""The platform put together, beside a fake API server: it reads, serves its webhook, and keeps the cluster right."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from prometheus_client import CollectorRegistry, generate_latest

from k8s.client.resources import CONFIG_MAPS, EVENTS, LEASES, MUTATING_WEBHOOKS, NAMESPACES, PODS
from k8s.controller.documents import RESOURCES
from k8s.controller.serving import CertificateKeeper, ServingSettings
from k8s.options import OptionError, read_options
from k8s.platform import open_platform
from ringfence.kit.backoff import Backoff
from ringfence.kit.clock import FakeClock, SystemClock
from ringfence.kit.log import Logger
from ringfence.platform import PlatformError, ServerCertificate, Surroundings
from tests.agreeable_host import AgreeableHost, issued
from tests.cluster_objects import namespace, pod
from tests.fake_api_server import kubeconfig_of, serving
from tests.waiting import until

_LOG = Logger("test", level="error")
_ALLOWLIST = next(one for one in RESOURCES if one.kind == "Allowlist")
_INJECT = json.dumps({"trust_domain": "shop.example", "image": "localhost/ringfence:test"})
_OPTIONS = {"trust-domain": "shop.example", "inject": _INJECT}


def _review(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "namespace": "shop",
            "operation": "CREATE",
            "object": {"apiVersion": "v1", "kind": "Pod", **content},
        },
    }


async def test_it_reads_the_cluster_and_keeps_right_what_is_its_own(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    host = AgreeableHost()
    registry = CollectorRegistry()
    async with serving(tmp_path) as (fake, _):
        options = {
            **_OPTIONS,
            "kubeconfig": str(kubeconfig_of(fake.url, tmp_path)),
            "webhook-listen": f"127.0.0.1:{port}",
        }
        fake.put(NAMESPACES, namespace("shop"))
        fake.put(PODS, pod("cart-1", "10.0.0.1"))
        fake.put(_ALLOWLIST, {"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"service": "cart"}})
        service = {"name": "ringfence", "namespace": "ringfence-system"}
        webhooks = [{"name": "inject", "clientConfig": {"service": service}}]
        fake.put(MUTATING_WEBHOOKS, {"metadata": {"name": "ringfence"}, "webhooks": webhooks})
        platform = open_platform(Surroundings(clock=SystemClock(), log=_LOG, metrics=registry, options=options))
        await host.offer(await platform.first_reading())
        assert [one.full_name for one in host.readings[0].mesh.services] == ["shop/cart-1"]
        running = asyncio.create_task(platform.run(host))
        try:
            await until(lambda: fake.object(CONFIG_MAPS, "ringfence-trust", "shop"))
            await until(lambda: (fake.object(_ALLOWLIST, "cart", "shop") or {}).get("status"))

            def known_ca() -> str:
                webhook = (fake.object(MUTATING_WEBHOOKS, "ringfence") or {})["webhooks"][0]
                return base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode()

            await until(known_ca)
            # As the API server does: by the name of the service, and the roots that the configuration has.
            context = ssl.create_default_context(cadata=known_ca())
            bare = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
            taken = {**bare, "spec": {"containers": [{"name": "app", "ports": [{"containerPort": 15001}]}]}}
            async with aiohttp.ClientSession() as session:

                async def ask(content: dict[str, Any]) -> Any:
                    answer = await session.post(
                        f"https://127.0.0.1:{port}/mutate",
                        json=_review(content),
                        ssl=context,
                        server_hostname="ringfence.ringfence-system.svc",
                    )
                    return (await answer.json())["response"]

                async def served() -> bool:
                    with suppress(aiohttp.ClientConnectorError):
                        return bool(await ask(bare))
                    return False

                while not await served():  # noqa: ASYNC110 (seen from outside only)
                    await asyncio.sleep(0.005)
                assert "ringfence-sidecar" in base64.b64decode((await ask(bare))["patch"]).decode()
                assert not (await ask(taken))["allowed"]
            await until(lambda: any(path.startswith(EVENTS.path("shop")) for path in fake.objects))
            fake.put(PODS, pod("cart-2", "10.0.0.2"))
            await until(lambda: len(host.readings[-1].mesh.services) == 2)
            assert b'ringfence_kubernetes_objects{kind="Pod"} 2.0' in generate_latest(registry)
            assert b'ringfence_kubernetes_watch_lost{kind="Allowlist"} 0.0' in generate_latest(registry)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await platform.close()
        lease = fake.object(LEASES, "ringfence", "ringfence-system")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == "", "who ends lets go of the lease"
        assert not [one for one in asyncio.all_tasks() if one.get_name().startswith("watch ")]


async def test_a_certificate_is_replaced_at_half_of_its_life_and_kept_while_there_is_no_new_one() -> None:
    authority = trustme.CA()
    clock = FakeClock(1000.0)
    answers: list[Exception | None] = [OSError("away"), None, OSError("away"), None]
    asked = 0

    class _Issuer:
        async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate:
            nonlocal asked
            asked += 1
            answer = answers.pop(0) if answers else OSError("no more")
            if answer is not None:
                raise answer
            made = issued(authority, dns_names)
            return ServerCertificate(
                chain_pem=made.chain_pem, key_pem=made.key_pem, not_before=clock.now(), not_after=clock.now() + 3600
            )

    keeper = CertificateKeeper(
        _Issuer(),
        ServingSettings(dns_names=("ringfence.ringfence-system.svc",)),
        clock=clock,
        log=_LOG,
        random=lambda: 0.0,
        backoff=Backoff(first_seconds=0.001, cap_seconds=0.001),
    )
    serving_certificate = await keeper.obtain()
    assert asked == 2
    clock.advance(1799.0)
    renewing = asyncio.create_task(keeper.renew(serving_certificate))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == 2
    renewing.cancel()
    clock.advance(1.0)
    renewing = asyncio.create_task(keeper.renew(serving_certificate))
    await until(lambda: asked == 4)
    renewing.cancel()
    with suppress(asyncio.CancelledError):
        await renewing


async def test_a_certificate_that_begins_in_the_past_is_not_asked_for_again_and_again() -> None:
    authority = trustme.CA()
    clock = FakeClock(1000.0)
    asked = 0
    left_seconds = 60.0

    class _Issuer:
        async def server_certificate(self, dns_names: Sequence[str], lifetime_seconds: int) -> ServerCertificate:
            nonlocal asked
            asked += 1
            made = issued(authority, dns_names)
            begin, end = clock.now() - 60, clock.now() + left_seconds
            return ServerCertificate(chain_pem=made.chain_pem, key_pem=made.key_pem, not_before=begin, not_after=end)

    keeper = CertificateKeeper(
        _Issuer(),
        ServingSettings(dns_names=("ringfence.ringfence-system.svc",)),
        clock=clock,
        log=_LOG,
        random=lambda: 0.0,
        backoff=Backoff(first_seconds=3600.0, cap_seconds=3600.0),
    )
    serving_certificate = await keeper.obtain()
    clock.advance(29.0)
    renewing = asyncio.create_task(keeper.renew(serving_certificate))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == 1
    renewing.cancel()
    left_seconds = 0.0  # an authority whose clock is wrong: what it gives has ended
    clock.advance(1.0)
    renewing = asyncio.create_task(keeper.renew(serving_certificate))
    for _ in range(50):
        await asyncio.sleep(0)
    assert asked == 2
    renewing.cancel()
    with suppress(asyncio.CancelledError):
        await renewing


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"inject": ""}, "option inject: missing"),
        ({"trust-domain": ""}, "option trust-domain: missing"),
        ({"trust-domain": "other.example"}, "is not the mesh's"),
        ({"inject": "{"}, "no JSON"),
        ({"webhook-listen": "localhost:9443"}, "localhost"),
        ({"webhook-listen": "0.0.0.0"}, "0.0.0.0"),
        ({"kubeconfg": "x"}, "did you mean kubeconfig"),
        ({"xyz": "x"}, "unknown option"),
    ],
)
def test_an_option_that_is_wrong_is_told_in_a_line_with_the_mend(change: dict[str, str], said: str) -> None:
    with pytest.raises(OptionError, match=said) as caught:
        read_options({**_OPTIONS, **change})
    assert "\n" not in str(caught.value)
    surroundings = Surroundings(
        clock=SystemClock(), log=_LOG, metrics=CollectorRegistry(), options={**_OPTIONS, **change}
    )
    with pytest.raises(PlatformError):
        open_platform(surroundings)


def test_options_have_standards() -> None:
    options = read_options(_OPTIONS)
    assert options.dns_names == ("ringfence.ringfence-system.svc",)
    assert (options.webhook_listen.host, options.webhook_listen.port) == ("0.0.0.0", 9443)
    assert read_options({**_OPTIONS, "webhook-listen": "[::]:9443"}).webhook_listen.host == "::"
