"""Whatever happens to server and watches, a copy ends as what the server has, and never lists what it never had."""

from __future__ import annotations

import asyncio
import random
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from k8s.client.copies import Copy, Wanted
from k8s.client.resources import CONFIG_MAPS
from ringfence.kit.backoff import Backoff
from ringfence.kit.log import Logger
from tests.fake_api_server import FakeApiServer, serving, status_response
from tests.waiting import until

_NAMES = st.sampled_from("abcd")
_VALUES = st.sampled_from("123")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _NAMES, _VALUES),
        st.tuples(st.just("remove"), _NAMES, st.just("")),
        st.tuples(st.sampled_from(("cut", "forget", "garbage", "turn")), st.just(""), st.just("")),
        st.tuples(st.just("errors"), st.just(""), st.sampled_from(("404", "410", "429", "500", "503"))),
        st.tuples(st.just("pages"), st.just(""), _VALUES),
    ),
    max_size=25,
)


def _held(fake: FakeApiServer) -> dict[str, str]:
    return {body["metadata"]["name"]: body["data"]["v"] for body in fake.objects.values()}


async def _do(fake: FakeApiServer, step: tuple[str, str, str]) -> None:
    kind, name, value = step
    match kind:
        case "put":
            fake.put(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "shop"}, "data": {"v": value}})
        case "remove":
            if fake.object(CONFIG_MAPS, name, "shop") is not None:
                fake.remove(CONFIG_MAPS, name, "shop")
        case "cut":
            fake.cut()
        case "forget":
            fake.forget()
        case "garbage":
            fake.send({"type": "ADDED", "object": {"metadata": {}}})
        case "pages":
            fake.page_limit = int(value)
        case "errors":
            left = 2

            def fail(request: Any) -> Any:
                nonlocal left
                left -= 1
                return status_response(int(value), "Broken", "not now") if left >= 0 else None

            fake.fail = fail
            fake.cut()
        case "turn":
            for _ in range(5):
                await asyncio.sleep(0)


@given(_STEPS)
@settings(max_examples=60)
def test_a_copy_ends_as_what_the_server_has(steps: list[tuple[str, str, str]]) -> None:
    async def work(folder: Path) -> None:
        async with serving(folder) as (fake, connection):
            had: set[tuple[str, str]] = set()
            shown: set[tuple[str, str]] = set()

            def changed() -> None:
                shown.update((name, value) for (_, name), value in copy.objects.items())

            wanted: Wanted[str] = Wanted(resource=CONFIG_MAPS, read=lambda body: body["data"]["v"])
            copy = Copy(
                connection,
                wanted,
                changed,
                log=Logger("test", level="error"),
                random=random.Random(1).random,
                backoff=Backoff(first_seconds=0.001, cap_seconds=0.002),
            )
            following = asyncio.create_task(copy.run())
            try:
                for step in steps:
                    await _do(fake, step)
                    had |= set(_held(fake).items())
                fake.fail = lambda request: None
                # A page of a list that began before may come from an older state; what counts is where it ends.
                await until(lambda: copy.complete and {n: v for (_, n), v in copy.objects.items()} == _held(fake))
                assert shown <= had
            finally:
                following.cancel()
                with suppress(asyncio.CancelledError):
                    await following

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))
