"""Attesting pods: by the API server, by the cluster's keys while it is away, and never against its word."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from k8s.attest.attestor import KubernetesAttestor
from k8s.attest.entries import entries_of
from k8s.attest.keys import GOOD_FOR_SECONDS, ApiUnavailableError, KeyKeeper
from k8s.attest.often import AT_ONCE, OftenAsked
from ringfence.attestation import (
    Attestation,
    EvidenceFault,
    EvidenceRefusedError,
    EvidenceUnavailableError,
    entry_for,
)
from ringfence.kit.clock import FakeClock
from ringfence.kit.log import Logger
from tests.jwts import NOW, Signer, ec_key, rsa_key
from tests.pod_tokens import CLUSTER, UID, FakeApiServer, claims_of, pod_document, pod_token, review_answer

SUBJECT = f"shop/web-7d4b9/{UID}"
STRANGER = Signer(key=rsa_key("another-cluster"), algorithm="RS256")


class World:
    """An attestor over a fake API server that runs one pod."""

    def __init__(self, key_file: Path | None = None) -> None:
        self.api = FakeApiServer()
        self.api.run(pod_document())
        self.clock = FakeClock(NOW)
        self.lines = io.StringIO()
        log = Logger("attest", stream=self.lines, clock=self.clock)
        self.keys = KeyKeeper(self.api, key_file, clock=self.clock, log=log, random=lambda: 0.5)
        self.attestor = KubernetesAttestor(self.api, self.keys, clock=self.clock, log=log, answer_seconds=0.05)

    async def fault(self, evidence: bytes | None = None) -> EvidenceFault:
        shown = pod_token() if evidence is None else evidence
        with pytest.raises(EvidenceRefusedError) as refused:
            await self.attestor.attest(shown)
        assert shown.decode() not in str(refused.value) + self.lines.getvalue()
        return refused.value.reason


@pytest.fixture
def world() -> World:
    return World()


async def test_a_pod_is_attested_with_all_that_is_true_of_it(world: World) -> None:
    text = pod_token()
    found = await world.attestor.attest(text)
    assert found == Attestation(
        kind="kubernetes",
        subject=SUBJECT,
        selectors=frozenset(
            {
                "k8s:ns:shop",
                "k8s:sa:web",
                f"k8s:pod-uid:{UID}",
                "k8s:node:node-a",
                "k8s:pod-label:app:web",
                "k8s:pod-label:ringfence.io/injected:true",
            }
        ),
        not_after=NOW + 3607,
        credential=text.rpartition(b".")[0],
    )
    entry = entry_for(found, entries_of(found, "shop.example"))
    assert entry is not None
    assert str(entry.spiffe_id) == "spiffe://shop.example/ns/shop/sa/web"
    assert world.api.asked == ["review", "pod"]


async def test_what_the_api_server_does_not_know_is_refused_and_its_words_stay_here(world: World) -> None:
    world.api.says_no = True
    assert await world.fault() is EvidenceFault.REJECTED
    assert world.api.asked == ["review"]


async def test_a_no_of_the_api_server_counts_whatever_the_keys_say(world: World) -> None:
    await world.keys.fetch()
    world.api.says_no = True
    assert await world.fault() is EvidenceFault.REJECTED


async def test_what_cannot_be_ours_costs_the_api_server_nothing(world: World) -> None:
    await world.keys.fetch()
    world.api.asked.clear()
    other_cluster = pod_token(STRANGER, iss="https://kubernetes.other.example")
    assert await world.fault(other_cluster) is EvidenceFault.FOREIGN
    assert await world.fault(pod_token(aud=["vault"])) is EvidenceFault.AUDIENCE
    assert await world.fault(pod_token(exp=int(NOW) - 1)) is EvidenceFault.EXPIRED
    assert await world.fault(b"rubbish") is EvidenceFault.MALFORMED
    made_up = Signer(key=rsa_key("another"), algorithm="RS256")
    assert await world.fault(pod_token(made_up, {"kid": "cluster-1"})) is EvidenceFault.FOREIGN
    assert world.api.asked == []


async def test_keys_that_strangers_make_up_are_asked_for_once_in_ten_seconds(world: World) -> None:
    await world.keys.fetch()
    world.api.asked.clear()
    for number in range(20):
        assert await world.fault(pod_token(header={"kid": f"made-up-{number}"})) is EvidenceFault.FOREIGN
    assert world.api.asked == ["configuration", "keys"]
    world.clock.advance(10.0)
    await world.fault(pod_token(header={"kid": "made-up"}))
    assert len(world.api.asked) == 4


async def test_a_new_key_of_the_cluster_is_believed_at_once(world: World) -> None:
    await world.keys.fetch()
    world.api.keys = [*world.api.keys, STRANGER.key]
    assert (await world.attestor.attest(pod_token(STRANGER))).subject == SUBJECT


async def test_a_key_that_cannot_be_asked_for_is_left_to_the_api_server(world: World) -> None:
    await world.keys.fetch()
    world.api.issuer = ""
    assert (await world.attestor.attest(pod_token(STRANGER))).subject == SUBJECT


def answer_with(**changes: Any) -> dict[str, Any]:
    """What the API server says of the pod's token; ``changes`` of status, user or extra, left out by None."""
    answer = review_answer(pod_token().decode())
    status, user = answer["status"], answer["status"]["user"]
    for name, value in changes.items():
        place = user["extra"] if "/" in name else status if name in status else user
        place[name] = value
        if value is None:
            del place[name]
    return answer


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({}, EvidenceFault.REJECTED),
        ({"status": None}, EvidenceFault.REJECTED),
        ({"status": []}, EvidenceFault.REJECTED),
        (answer_with(authenticated="true"), EvidenceFault.REJECTED),
        (answer_with(authenticated=None), EvidenceFault.REJECTED),
        (answer_with(audiences=None), EvidenceFault.AUDIENCE),
        (answer_with(audiences=[]), EvidenceFault.AUDIENCE),
        (answer_with(audiences=["https://kubernetes.default.svc"]), EvidenceFault.AUDIENCE),
        (answer_with(audiences="ringfence"), EvidenceFault.AUDIENCE),
        (answer_with(username="system:serviceaccount:shop:admin"), EvidenceFault.MISMATCH),
        (answer_with(username="alice"), EvidenceFault.MISMATCH),
        (answer_with(username=None), EvidenceFault.MISMATCH),
        (answer_with(user=None), EvidenceFault.MISMATCH),
        (answer_with(**{"authentication.kubernetes.io/pod-uid": None}), EvidenceFault.UNBOUND),
        (answer_with(**{"authentication.kubernetes.io/pod-uid": ["another"]}), EvidenceFault.UNBOUND),
        (answer_with(**{"authentication.kubernetes.io/pod-name": [["web-7d4b9"]]}), EvidenceFault.UNBOUND),
        (answer_with(**{"authentication.kubernetes.io/node-name": ["node-b"]}), EvidenceFault.MISMATCH),
    ],
)
async def test_an_answer_that_is_no_whole_yes_is_a_no(
    world: World, answer: dict[str, Any], fault: EvidenceFault
) -> None:
    world.api.answer = answer
    assert await world.fault() is fault
    assert world.api.asked == ["review"]


async def test_an_api_server_that_names_no_node_is_believed(world: World) -> None:
    world.api.answer = answer_with(**{"authentication.kubernetes.io/node-name": None})
    assert (await world.attestor.attest(pod_token())).subject == SUBJECT


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"uid": "another-uid"}, EvidenceFault.GONE),
        ({"deleting": True}, EvidenceFault.GONE),
        ({"phase": "Succeeded"}, EvidenceFault.GONE),
        ({"phase": "Failed"}, EvidenceFault.GONE),
        ({"account": "admin"}, EvidenceFault.MISMATCH),
        ({"node": "node-b"}, EvidenceFault.MISMATCH),
        ({"meshed": False}, EvidenceFault.UNMESHED),
    ],
)
async def test_the_pod_must_be_the_one_and_go_on_and_be_in_the_mesh(
    world: World, changes: dict[str, Any], fault: EvidenceFault
) -> None:
    world.api.run(pod_document(**changes))
    assert await world.fault() is fault
    await world.keys.fetch()
    world.api.away = True  # and the same by what is known without it
    assert await world.fault() is fault


async def test_what_came_of_it_is_noted_and_a_refusal_only_where_the_token_is_surely_the_pods(world: World) -> None:
    notes = world.attestor.notes
    world.api.says_no = True
    await world.fault()
    assert not notes.knows(UID), "without the cluster's keys anybody can write a token that names the pod"
    await world.keys.fetch()
    made_up = Signer(key=rsa_key("another"), algorithm="RS256")
    await world.fault(pod_token(made_up, {"kid": "cluster-1"}))
    assert not notes.knows(UID)
    await world.fault()
    assert notes.refusal(UID) is EvidenceFault.REJECTED
    world.api.says_no = False
    await world.attestor.attest(pod_token())
    assert notes.knows(UID)
    assert notes.refusal(UID) is None
    world.api.away = True
    other = KubernetesAttestor(world.api, world.keys, clock=world.clock, log=Logger("attest"), answer_seconds=0.05)
    await other.attest(pod_token())
    assert other.notes.knows(UID)


async def test_a_pod_that_is_gone_is_refused_though_the_watch_still_has_it(world: World) -> None:
    world.api.pods.clear()
    assert await world.fault() is EvidenceFault.GONE


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_while_the_api_server_is_away_the_keys_and_the_watch_vouch(world: World, how: str) -> None:
    await world.keys.fetch()
    setattr(world.api, how, True)
    assert (await world.attestor.attest(pod_token())).subject == SUBJECT
    assert "pod attested without the API server" in world.lines.getvalue()


async def test_without_the_api_server_another_key_is_another_cluster(world: World) -> None:
    await world.keys.fetch()
    world.api.away = True
    forged = Signer(key=rsa_key("another"), algorithm="RS256")
    named = Signer(key=ec_key("cluster-1"))
    for signer in (STRANGER, forged, named):
        assert await world.fault(pod_token(signer)) is EvidenceFault.FOREIGN
    assert await world.fault(pod_token(nbf=int(NOW) + 61)) is EvidenceFault.FOREIGN
    head, _, signature = pod_token().rpartition(b".")
    changed = head + b"." + signature[:20] + (b"A" if signature[20:21] != b"A" else b"B") + signature[21:]
    assert await world.fault(changed) is EvidenceFault.FOREIGN


async def test_without_the_api_server_a_pod_that_was_not_heard_of_waits(world: World) -> None:
    await world.keys.fetch()
    world.api.held.clear()
    world.api.away = True
    with pytest.raises(EvidenceUnavailableError, match="not heard of before"):
        await world.attestor.attest(pod_token())


async def test_one_pod_is_not_asked_about_without_end_and_costs_no_other_a_question(world: World) -> None:
    await world.keys.fetch()
    world.api.run(pod_document(name="other", uid="other-uid", account="other"))
    pod = {"name": "other", "uid": "other-uid"}
    account = {"name": "other", "uid": "x"}
    bound = {"namespace": "shop", "serviceaccount": account, "pod": pod}
    other = pod_token(sub="system:serviceaccount:shop:other", **{"kubernetes.io": bound})
    for _ in range(AT_ONCE):
        assert (await world.attestor.attest(pod_token())).subject == SUBJECT
    asked = len(world.api.asked)
    for _ in range(20):
        with pytest.raises(EvidenceUnavailableError, match="too often"):
            await world.attestor.attest(pod_token())
    assert len(world.api.asked) == asked
    assert (await world.attestor.attest(other)).subject == "shop/other/other-uid"
    world.clock.advance(2.0)
    assert (await world.attestor.attest(pod_token())).subject == SUBJECT
    with pytest.raises(EvidenceUnavailableError, match="too often"):
        await world.attestor.attest(pod_token())


async def test_a_stranger_takes_no_pods_questions(world: World) -> None:
    await world.keys.fetch()
    for _ in range(3 * AT_ONCE):
        assert await world.fault(pod_token(STRANGER)) is EvidenceFault.FOREIGN
    assert (await world.attestor.attest(pod_token())).subject == SUBJECT


def test_what_was_asked_long_ago_is_forgotten_and_of_too_many_the_first() -> None:
    often = OftenAsked()
    assert all(often.asks(f"shop/{number}/u", 10.0) for number in range(9_000))
    assert often.remembered == 4_096
    assert often.asks("shop/last/u", 100.0) and often.remembered == 1


async def test_keys_that_were_confirmed_in_the_future_are_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "cluster-keys.json"
    first = World(file)
    await first.keys.fetch()
    second = World(file)
    second.clock.advance(-3 * GOOD_FOR_SECONDS)
    second.keys.load()
    second.api.away = True
    with pytest.raises(EvidenceUnavailableError, match="not at hand"):
        await second.attestor.attest(pod_token())


async def test_without_keys_it_waits_and_with_old_ones_too(world: World) -> None:
    world.api.away = True
    with pytest.raises(EvidenceUnavailableError, match="not at hand"):
        await world.attestor.attest(pod_token())
    world.api.away = False
    await world.keys.fetch()
    world.api.away = True
    world.clock.advance(GOOD_FOR_SECONDS + 1)
    with pytest.raises(EvidenceUnavailableError, match="not at hand"):
        await world.attestor.attest(pod_token(exp=int(NOW + 2 * GOOD_FOR_SECONDS)))


async def test_an_api_server_that_refuses_us_is_no_api_server_that_is_away(world: World) -> None:
    await world.keys.fetch()
    world.api.refuses = True
    with pytest.raises(EvidenceUnavailableError, match="403"):
        await world.attestor.attest(pod_token())
    assert "the API server answers no token review" in world.lines.getvalue()


async def test_keys_outlive_the_process_and_damage_costs_only_them(tmp_path: Path) -> None:
    file = tmp_path / "cluster-keys.json"
    first = World(file)
    await first.keys.fetch()
    assert file.stat().st_mode & 0o777 == 0o600
    second = World(file)
    second.keys.load()
    second.api.away = True
    assert second.keys.issuer == CLUSTER
    assert (await second.attestor.attest(pod_token())).subject == SUBJECT
    for damaged in (
        b"",
        b"{}",
        b"[]",
        b"x" * 600_000,
        json.dumps({"issuer": "x", "keys": "{}", "confirmedAt": 1}).encode(),
    ):
        file.write_bytes(damaged)
        third = World(file)
        third.keys.load()
        assert third.keys.issuer == ""
        assert "kept keys of the cluster are not used" in third.lines.getvalue()


async def test_a_cluster_that_names_no_issuer_or_no_keys_changes_nothing(world: World) -> None:
    await world.keys.fetch()
    world.api.issuer = ""
    with pytest.raises(ApiUnavailableError):
        await world.keys.fetch()
    world.api.issuer, world.api.keys = CLUSTER, []
    with pytest.raises(ValueError, match="no key that verifies"):
        await world.keys.fetch()
    world.api.away = True
    assert (await world.attestor.attest(pod_token())).subject == SUBJECT


async def test_new_keys_of_the_cluster_take_the_place_of_the_old(world: World) -> None:
    await world.keys.fetch()
    world.api.keys = [STRANGER.key]
    await world.keys.fetch()
    world.api.away = True
    assert await world.fault() is EvidenceFault.FOREIGN
    assert (await world.attestor.attest(pod_token(STRANGER))).subject == SUBJECT


async def test_a_pod_lives_until_the_api_server_says_that_it_is_gone(world: World) -> None:
    assert await world.attestor.lives(SUBJECT)
    assert world.api.asked == []
    world.api.held.clear()  # the watch has not begun
    assert await world.attestor.lives(SUBJECT)
    world.api.run(pod_document(deleting=True))
    assert await world.attestor.lives(SUBJECT)  # its sidecar drains
    world.api.run(pod_document(phase="Succeeded"))
    assert not await world.attestor.lives(SUBJECT)
    world.api.run(pod_document(uid="another-uid"))
    assert not await world.attestor.lives(SUBJECT)
    world.api.pods.clear()
    world.api.held.clear()
    assert not await world.attestor.lives(SUBJECT)
    for rubbish in ("", "shop/web", "shop/web/uid/more"):
        assert not await world.attestor.lives(rubbish)


@pytest.mark.parametrize("how", ["away", "hangs", "refuses"])
async def test_nobody_is_gone_while_nobody_can_say(world: World, how: str) -> None:
    setattr(world.api, how, True)
    assert await world.attestor.lives(SUBJECT)
    world.api.held.clear()
    with pytest.raises(EvidenceUnavailableError):
        await world.attestor.lives(SUBJECT)


@pytest.mark.parametrize("namespace", ["ringfence-system", "kube-system", "kube-public", "kube-node-lease", "mesh"])
def test_where_no_workload_may_be_there_is_no_entry(namespace: str) -> None:
    found = attested(f"k8s:ns:{namespace}", "k8s:sa:web")
    assert entries_of(found, "shop.example", system_namespace="mesh") == ()


@pytest.mark.parametrize(
    "selectors", [(), ("k8s:ns:shop",), ("k8s:ns:shop", "k8s:ns:other", "k8s:sa:web"), ("k8s:ns:shop", "k8s:sa:a b")]
)
def test_without_one_namespace_and_one_account_there_is_no_entry(selectors: tuple[str, ...]) -> None:
    assert entries_of(attested(*selectors), "shop.example") == ()


def attested(*selectors: str) -> Attestation:
    return Attestation(kind="kubernetes", subject=SUBJECT, selectors=frozenset(selectors), not_after=NOW + 60)


def test_a_label_is_no_namespace(world: World) -> None:
    document = pod_document()
    document["metadata"]["labels"] = {"ns": "kube-system"}
    assert claims_of()["kubernetes.io"]["namespace"] == "shop"
    found = attested("k8s:ns:shop", "k8s:sa:web", "k8s:pod-label:k8s:ns:other")
    (entry,) = entries_of(found, "shop.example")
    assert str(entry.spiffe_id) == "spiffe://shop.example/ns/shop/sa/web"
