"""Endpoints that stop and start under load: callers that keep their connections see nothing of it."""

from __future__ import annotations

import asyncio

from ringfence.routing.model import Route
from tests.data_path import HttpClient, until
from tests.fleet import Fleet, named_apps

CLIENTS = 12


class Load:
    """Clients that keep a connection each and ask one thing after the other, by a method that must not be repeated."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.answered = 0
        self.failures: list[str] = []
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        self._tasks = [asyncio.ensure_future(self._ask()) for _ in range(CLIENTS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _ask(self) -> None:
        client = await HttpClient.to(self._fleet.http_listen)
        while not self._stop:
            try:
                reply = await client.ask("POST", "/x", b"order")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                self.failures.append(repr(error))
            else:
                self.answered += 1
                if reply.status == 200:
                    continue
                self.failures.append(f"{reply.status} {reply.body.decode()}")
            client.close()
            client = await HttpClient.to(self._fleet.http_listen)
        client.close()

    async def goes_on(self, count: int = 100) -> None:
        """Some more were answered."""
        before = self.answered
        await until(lambda: self.answered >= before + count)


async def test_every_endpoint_may_be_restarted_in_turn_and_no_request_fails() -> None:
    async with named_apps(3) as (apps, ports), Fleet(ports) as fleet:
        async with Load(fleet) as load:
            await load.goes_on()
            for replica in fleet.replicas:
                await replica.stop(10.0)
                await load.goes_on()
                await replica.start()
                await load.goes_on()
        assert load.failures == []
        assert load.answered == sum(len(app.seen) for app in apps)  # each once


async def test_the_only_endpoints_link_may_age_under_load_and_no_request_fails() -> None:
    async with named_apps(1) as (apps, ports), Fleet(ports, route=Route(name="r", max_age_seconds=1.0)) as fleet:
        async with Load(fleet) as load:
            first = frozenset(fleet.web.links)
            await until(lambda: bool(fleet.web.links) and not first & fleet.web.links)
            await load.goes_on()
        assert load.failures == []
        assert load.answered == len(apps[0].seen)


async def test_an_endpoint_that_is_cut_off_costs_only_what_it_had_in_hand() -> None:
    async with named_apps(3) as (_, ports), Fleet(ports) as fleet:
        async with Load(fleet) as load:
            await load.goes_on()
            in_hand = fleet.member(0).outstanding + fleet.member(0).connections
            for link in list(fleet.replicas[0].side.inbound.links):
                link.close(None, "cut")
            await fleet.replicas[0].stop()
            await load.goes_on(300)
        assert len(load.failures) <= in_hand
