"""What was in force of a document is kept, ten versions of it, and comes back when it is asked for."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k8s.client.connection import Connection
from k8s.client.resources import CONTROLLER_REVISIONS
from k8s.commands import k8s
from k8s.controller.documents import RESOURCES
from k8s.controller.history import (
    GONE_KEPT,
    KEPT,
    KEPT_OF_GONE,
    DocumentHistory,
    HeldRevision,
    digest_of,
    too_many,
)
from k8s.controller.offering import JudgedVersions
from k8s.controller.settling import Pace, Settler
from k8s.controller.watching import ClusterCopies
from ringfence.kit.clock import SystemClock
from ringfence.kit.log import Logger
from ringfence.mesh import Mesh
from ringfence.platform import DocumentStanding, Reading
from tests.fake_api_server import FakeApiServer, kubeconfig_of, serving, status_response
from tests.platform_mesh import mesh_of
from tests.waiting import until

_LOG = Logger("test", level="error")
_RANDOM = random.Random(1).random
_ALLOWLIST = next(one for one in RESOURCES if one.kind == "Allowlist")
_NOTHING: Mesh = mesh_of()


class _World:
    """A fake cluster in which one document changes, and what keeps its history."""

    def __init__(self, fake: FakeApiServer, connection: Connection, folder: Path) -> None:
        self.fake = fake
        self.folder = folder
        self.leads: Callable[[], bool] = lambda: True
        self.settler = Settler(SystemClock(), Pace(settle_seconds=0.0, patience_seconds=0.0, apart_seconds=0.0))
        self._judged = JudgedVersions()
        self.copies = ClusterCopies(connection, lambda: None, self._changed, log=_LOG, random=_RANDOM)
        self.history = DocumentHistory(
            connection,
            self.copies,
            self,
            lambda: self.leads(),
            judged=self._judged,
            changed=self.settler.stir,
            log=_LOG,
            random=_RANDOM,
            writes_per_second=10_000.0,
        )

    def standings(self) -> dict[str, DocumentStanding]:
        return {
            one.written.name: DocumentStanding(accepted=b"wrong" not in one.written.content)
            for one in self.copies.documents()
        }

    def _changed(self) -> None:
        documents = tuple(one.written for one in self.copies.documents())
        self._judged.take(Reading(mesh=_NOTHING, documents=documents))
        self.settler.stir()

    def write(self, service: str) -> None:
        self.fake.put(_ALLOWLIST, {"metadata": {"name": "cart", "namespace": "shop"}, "spec": {"service": service}})

    def kept(self) -> dict[int, str]:
        prefix = CONTROLLER_REVISIONS.path("shop")
        held = [body for path, body in self.fake.objects.items() if path.startswith(prefix)]
        return {body["revision"]: body["data"]["spec"]["service"] for body in held}

    def delete(self) -> None:
        self.fake.remove(_ALLOWLIST, "cart", "shop")

    def spec(self) -> Any:
        """Of the document as it stands; None where there is none."""
        return (self.fake.object(_ALLOWLIST, "cart", "shop") or {}).get("spec")

    async def ask(self, *words: str) -> Result:
        argv = [*words, "--kubeconfig", str(kubeconfig_of(self.fake.url, self.folder))]
        return await asyncio.to_thread(CliRunner().invoke, k8s, argv)


@asynccontextmanager
async def _world(folder: Path) -> AsyncIterator[_World]:
    async with serving(folder) as (fake, connection):
        world = _World(fake, connection, folder)
        world.copies.start()
        parts = [asyncio.create_task(work) for work in (world.history.watch(), world.history.run(world.settler))]
        try:
            yield world
        finally:
            for part in parts:
                part.cancel()
                with suppress(asyncio.CancelledError):
                    await part
            await world.copies.close()


async def test_who_leads_no_longer_keeps_no_more_even_in_the_middle(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        made = CONTROLLER_REVISIONS.path("shop")
        world.leads = lambda: not any(request == ("POST", made) for request in world.fake.requests)
        for number in range(20):
            name = f"d{number}"
            body = {"metadata": {"name": name, "namespace": "shop"}, "spec": {"service": name}}
            world.fake.put(_ALLOWLIST, body)
        await until(lambda: not world.leads())
        await until(lambda: len(list(world.copies.documents())) == 20)
        world.settler.stir()
        await asyncio.wait_for(world.history._held.wait_complete(), 5.0)
        assert world.fake.requests.count(("POST", made)) == 1


async def test_each_version_that_was_in_force_is_kept_once_and_no_refused_one(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        world.write("one")
        await until(lambda: world.kept() == {1: "one"})
        world.write("two")
        await until(lambda: world.kept() == {1: "one", 2: "two"})
        world.accepted = False
        world.write("wrong")
        await until(lambda: world.copies.document("Allowlist", "shop", "cart").generation == 3)  # type: ignore[union-attr]
        world.settler.stir()
        world.accepted = True
        world.write("two")
        world.write("three")
        await until(lambda: 5 in world.kept())
        assert world.kept() == {1: "one", 2: "two", 5: "three"}
        revision = next(body for path, body in world.fake.objects.items() if body.get("revision") == 5)
        assert "ownerReferences" not in revision["metadata"], "what is owned goes with its owner"


async def test_only_the_last_versions_are_kept(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for number in range(1, KEPT + 4):
            world.write(f"s{number}")
            await until(lambda number=number: number in world.kept())
        await until(lambda: len(world.kept()) == KEPT)
        assert max(world.kept()) == KEPT + 3


async def test_a_change_is_taken_back_and_is_a_new_version(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for number, service in enumerate(("one", "two", "three"), 1):
            world.write(service)
            await until(lambda number=number: number in world.kept())
        listed = await world.ask("history", "allowlist/cart", "--json")
        assert listed.exit_code == 0, listed.output
        versions = json.loads(listed.output)["versions"]
        assert [(one["revision"], one["current"]) for one in versions] == [(1, False), (2, False), (3, True)]
        done = await world.ask("rollback", "Allowlist/shop/cart")
        assert done.exit_code == 0, done.output
        assert "as in revision 2, now generation 4" in done.output
        document = world.fake.object(_ALLOWLIST, "cart", "shop")
        assert document is not None
        assert document["spec"] == {"service": "two"}
        done = await world.ask("rollback", "allowlists/cart", "--to", "1", "-n", "shop")
        assert done.exit_code == 0, done.output
        assert (world.fake.object(_ALLOWLIST, "cart", "shop") or {})["spec"] == {"service": "one"}
        shown = await world.ask("history", "allowlist/cart")
        assert "current" in shown.output.splitlines()[0]


async def test_a_document_that_was_deleted_comes_back_as_it_was_last_and_goes_on_counting(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for number, service in enumerate(("one", "two"), 1):
            world.write(service)
            await until(lambda number=number: number in world.kept())
        world.delete()
        await until(lambda: world.copies.document("Allowlist", "shop", "cart") is None)
        listed = await world.ask("history", "allowlist/cart", "--json")
        told = json.loads(listed.output)
        assert (told["deleted"], [one["current"] for one in told["versions"]]) == (True, [False, False])
        done = await world.ask("rollback", "allowlist/cart")
        assert done.exit_code == 0, done.output
        assert "made anew as in revision 2, now generation 1" in done.output
        assert world.spec() == {"service": "two"}
        world.write("three")
        await until(lambda: 3 in world.kept())
        assert world.kept() == {1: "one", 2: "two", 3: "three"}
        world.delete()
        done = await world.ask("rollback", "allowlist/cart", "--to", "1", "--json")
        assert json.loads(done.output)["made_anew"] is True
        assert world.spec() == {"service": "one"}


async def test_a_document_of_which_nothing_is_kept_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        world.write("one")
        await until(lambda: 1 in world.kept())
        world.delete()
        before = dict(world.fake.objects)
        ran = await world.ask("rollback", "denylist/cart")
        told = "Denylist/shop/cart: there is no such document, and no version of it is kept: it cannot be brought back"
        assert (ran.exit_code, told in ran.output) == (1, True), ran.output
        ran = await world.ask("rollback", "allowlist/card")
        assert (ran.exit_code, "kept of its kind in shop: cart" in ran.output) == (1, True), ran.output
        assert world.fake.objects == before


async def test_who_made_it_anew_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        world.write("one")
        await until(lambda: 1 in world.kept())
        world.delete()

        def conflict(request: Any) -> Any:
            return status_response(409, "AlreadyExists", "exists") if request.method == "POST" else None

        world.fake.fail = conflict
        ran = await world.ask("rollback", "allowlist/cart")
        assert (ran.exit_code, "somebody changed it meanwhile" in ran.output) == (1, True), ran.output


def _revision(document: str, number: int, *, ns: str = "shop", created: str = "") -> HeldRevision:
    return HeldRevision(
        namespace=ns,
        name=f"{document}-{number}",
        kind="Allowlist",
        document=document,
        number=number,
        version=f"u/{number}",
        digest="",
        created=created,
    )


def test_of_documents_that_are_gone_a_few_versions_are_kept_and_of_a_few_of_each_namespace() -> None:
    def several(ns: str, document: str, count: int, created: str) -> dict[Any, list[HeldRevision]]:
        found = [_revision(document, number, ns=ns, created=created) for number in range(1, count + 1)]
        return {("Allowlist", ns, document): found}

    kept = several("shop", "living", KEPT + 2, "2026-01-01")
    kept |= several("shop", "gone", KEPT_OF_GONE + 1, "2026-03-01")
    living = {("Allowlist", "shop", "living")}
    assert {one.name for one in too_many(kept, living)} == {"living-1", "living-2", "gone-1"}
    for number in range(GONE_KEPT):
        kept |= several("shop", f"g{number}", 1, f"2026-02-{number + 1:02}")
        kept |= several("other", f"g{number}", 1, "2026-01-01")
    assert {one.name for one in too_many(kept, living)} == {"living-1", "living-2", "gone-1", "g0-1"}
    assert {one.namespace for one in too_many(kept, living)} == {"shop"}, "no namespace crowds out another"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("rollback", "allowlist/none"), 1, "no such document"),
        (("rollback", "allowlist/cart"), 1, "no other version"),
        (("rollback", "allowlist/cart", "--to", "9"), 1, "no revision 9 is kept (kept: 1)"),
        (("rollback", "alowlist/cart"), 2, "did you mean allowlist"),
        (("history", "pod/cart"), 2, "no kind of document"),
        (("history", "allowlist"), 2, "names no document"),
        (("history", "allowlist/a/b/c"), 2, "names no document"),
        (("history", "allowlist/cart", "-n", "../x"), 2, "names no document"),
        (("rollback", "allowlist/cart", "--to", "0"), 2, "--to"),
    ],
)
async def test_what_cannot_be_is_told_in_a_line(tmp_path: Path, words: tuple[str, ...], status: int, said: str) -> None:
    async with _world(tmp_path) as world:
        world.write("one")
        await until(lambda: world.kept() == {1: "one"})
        before = dict(world.fake.objects)
        ran = await world.ask(*words)
        assert (ran.exit_code, said in ran.output) == (status, True), ran.output
        assert world.fake.objects == before


async def test_a_version_that_is_refused_today_is_not_written(tmp_path: Path) -> None:
    async with _world(tmp_path) as world:
        for number, service in enumerate(("one", "two"), 1):
            world.write(service)
            await until(lambda number=number: number in world.kept())

        def refuse(request: Any) -> Any:
            return status_response(403, "Forbidden", "denied the request: no") if request.method == "PUT" else None

        world.fake.fail = refuse
        ran = await world.ask("rollback", "allowlist/cart")
        assert (ran.exit_code, "denied the request" in ran.output) == (1, True)


def test_the_order_of_keys_is_no_change() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1}) != digest_of({"a": 1, "b": [2, 1]})
