"""What denies by labels holds at each pod that has them, whatever its neighbours have; what opens, where all have."""

from __future__ import annotations

import json
from typing import Any

from controlplane.hosting.judging import Judged, ReadingJudge
from controlplane.hosting.plain_reading import plain_reading, reading_of
from controlplane.hosting.standings import Enforcement, standings_of
from controlplane.intake.judging import services_of
from controlplane.intake.world import world_of
from controlplane.push.snapshots import Built, Inputs, build
from ringfence.mesh import Mesh
from ringfence.platform import Reading, WrittenDocument
from ringfence.policy.analysis.explain import explain
from ringfence.policy.analysis.naming import CallWords, call_of
from ringfence.policy.model import SpiffeIdPattern
from ringfence.snapshot import Snapshot
from tests.cluster_objects import pod, service
from tests.property.test_pruning_properties import BUNDLE
from tests.unit.test_hosting_judging import NOW, texts, written
from tests.unit.test_k8s_translate import mesh_of

PII = {"data": "pii"}
ANYONE = "rules: [{name: d, from: [{anyone: true}]}]"
DENY = written("Denylist", "no-pii", f"{{labels: {{data: pii}}, {ANYONE}}}")
DENY_IN_MESH = written(
    "Denylist", "no-pii", f"{{scope: mesh, labels: {{data: pii}}, {ANYONE}}}", namespace="ringfence-system"
)
ALLOW = written("Allowlist", "pii", "{labels: {data: pii}, rules: [{name: a, from: [{authenticated: true}]}]}")


def cluster(*pods: dict[str, Any]) -> Mesh:
    return mesh_of(service("cart", 80), service("web", 80), *pods)


def old_and_new() -> Mesh:
    """In the middle of a rollout by which the pods of ``cart`` get the label."""
    return cluster(
        pod("old", "10.0.0.1", app="cart", account="cart"),
        pod("new", "10.0.0.2", app="cart", account="cart", labels=PII),
        pod("web", "10.0.0.3", app="web", account="web"),
    )


def judged_of(mesh: Mesh, *documents: WrittenDocument) -> Judged:
    return ReadingJudge(source="cluster").judge(Reading(mesh=mesh, documents=documents), None, NOW)


def told(mesh: Mesh, *documents: WrittenDocument, judged: Judged | None = None) -> dict[str, Snapshot]:
    """By pod."""
    configuration = (judged or judged_of(mesh, *documents)).configuration
    inputs = Inputs(
        mesh=mesh, policies=configuration.policies, bundles=(BUNDLE,), routes=configuration.routes, pruned=True
    )
    return {key.instance: one for key, one in build(inputs, Built()).contents.items()}


def denied(snapshots: dict[str, Snapshot]) -> dict[str, list[str]]:
    return {pod: [one.full_name for one in held.denylists] for pod, held in snapshots.items() if held.denylists}


def test_a_denylist_holds_at_the_labelled_pod_though_another_of_its_service_has_no_label() -> None:
    assert denied(told(old_and_new(), DENY)) == {"new": ["shop/no-pii"]}
    assert denied(told(old_and_new(), DENY_IN_MESH)) == {"new": ["ringfence-system/no-pii"]}


def test_a_denylist_that_names_the_service_holds_at_all_of_its_pods() -> None:
    named = written("Denylist", "no-pii", f"{{service: cart, {ANYONE}}}")
    assert denied(told(old_and_new(), named)) == {"old": ["shop/no-pii"], "new": ["shop/no-pii"]}


def test_once_all_pods_have_the_label_it_holds_at_each_and_nothing_is_said() -> None:
    mesh = cluster(pod("a", "10.0.0.1", app="cart", labels=PII), pod("b", "10.0.0.2", app="cart", labels=PII))
    judged = judged_of(mesh, DENY)
    assert denied(told(mesh, judged=judged)) == {"a": ["shop/no-pii"], "b": ["shop/no-pii"]}
    assert not texts(judged, "Denylist/shop/no-pii")


def test_all_labels_that_are_asked_for_must_be_there_the_services_own_among_them() -> None:
    both = written("Denylist", "no-pii", f"{{labels: {{data: pii, team: red}}, {ANYONE}}}")
    pods = [
        pod("one", "10.0.0.1", app="cart", labels=PII),
        pod("other", "10.0.0.2", app="cart", labels={"data": "public"}),
    ]
    assert denied(told(mesh_of(service("cart", 80, labels={"team": "red"}), *pods), both)) == {"one": ["shop/no-pii"]}
    assert not denied(told(mesh_of(service("cart", 80, labels={"team": "blue"}), *pods), both))


def test_pods_of_no_service_are_told_apart_as_well() -> None:
    owner = ("ReplicaSet", "batch")
    mesh = mesh_of(
        pod("old", "10.0.0.1", owner=owner, ports={"web": 80}),
        pod("new", "10.0.0.2", owner=owner, ports={"web": 80}, labels=PII),
    )
    assert denied(told(mesh, DENY)) == {"new": ["shop/no-pii"]}


def test_pods_with_the_same_labels_share_what_denies_at_them() -> None:
    pods = [pod(f"new-{number}", f"10.0.0.{number}", app="cart", labels=PII) for number in (1, 2)]
    more = written("Denylist", "a-team", f"{{labels: {{team: red}}, {ANYONE}}}")
    both = pod("both", "10.0.0.3", app="cart", labels={**PII, "team": "red"})
    snapshots = told(cluster(*pods, both, pod("old", "10.0.0.4", app="cart")), DENY, more)
    first, second = snapshots["new-1"], snapshots["new-2"]
    assert first.denylists is second.denylists
    assert denied(snapshots) == {
        "new-1": ["shop/no-pii"],
        "new-2": ["shop/no-pii"],
        "both": ["shop/a-team", "shop/no-pii"],
    }


def test_what_opens_by_labels_opens_nothing_until_all_pods_have_them_and_says_so() -> None:
    judged = judged_of(old_and_new(), ALLOW)
    assert not any(one.allowlists for one in told(old_and_new(), judged=judged).values())
    (text,) = texts(judged, "Allowlist/shop/pii")
    assert "only some workloads of shop/cart have these labels: until all have them, this allowlist holds at" in text
    labelled = cluster(pod("a", "10.0.0.1", app="cart", labels=PII))
    assert [one.full_name for one in told(labelled, ALLOW)["a"].allowlists] == ["shop/pii"]


def test_in_shadow_it_is_judged_at_the_labelled_pod_and_in_force_at_none() -> None:
    shadow = written("Denylist", "no-pii", f"{{mode: shadow, labels: {{data: pii}}, {ANYONE}}}")
    snapshots = told(old_and_new(), shadow)
    assert not denied(snapshots)
    assert {pod: one.shadow is not None for pod, one in snapshots.items()} == {"old": False, "new": True, "web": False}
    found = snapshots["new"].shadow
    assert found is not None
    assert [one.full_name for one in found.denylists] == ["shop/no-pii"]


def test_its_status_counts_the_pods_that_have_the_labels_and_says_that_others_have_not() -> None:
    mesh = old_and_new()
    judged = judged_of(mesh, DENY)
    enforcement = Enforcement(
        workloads={
            one.full_name: tuple((one.identity_of(held), held.labels) for held in one.instances)  # type: ignore[misc]
            for one in mesh.services
        },
        waiting={},
    )
    standing = standings_of(judged, enforcement)["Denylist/shop/no-pii"]
    assert standing.accepted
    assert standing.workloads == 1
    (text,) = texts(judged, "Denylist/shop/no-pii")
    assert "only some workloads of shop/cart have these labels: this denylist holds at those alone" in text


def test_a_caller_is_denied_by_labels_that_its_pod_has_and_permitted_by_those_that_all_have() -> None:
    def callers(kind: str) -> list[tuple[str, ...]]:
        spec = "{service: web, rules: [{name: r, from: [{serviceLabels: {data: pii}}]}]}"
        mesh = cluster(
            pod("old", "10.0.0.1", app="cart", account="old"),
            pod("new", "10.0.0.2", app="cart", account="new", labels=PII),
            pod("web", "10.0.0.3", app="web", account="web"),
        )
        held = told(mesh, written(kind, "r", spec))["web"]
        lists = held.denylists if kind == "Denylist" else held.allowlists
        return [
            one.segments
            for listed in lists
            for rule in listed.rules
            for one in rule.callers
            if isinstance(one, SpiffeIdPattern)
        ]

    assert callers("Denylist") == [("ns", "shop", "sa", "new")]
    assert callers("Allowlist") == []


def test_conditions_read_the_labels_of_the_pod_itself() -> None:
    labels = {pod: dict(one.workload.labels) for pod, one in told(old_and_new()).items()}
    assert labels["new"] == {"app": "cart", "data": "pii"}
    assert labels["old"] == {"app": "cart"}


def test_a_pod_with_many_labels_loses_none_by_which_it_is_denied() -> None:
    many = {f"a{number}": "x" for number in range(100)}
    mesh = cluster(
        pod("plain", "10.0.0.1", app="cart", labels=many), pod("new", "10.0.0.2", app="cart", labels={**many, **PII})
    )
    assert denied(told(mesh, DENY)) == {"new": ["shop/no-pii"]}


def test_tools_that_ask_what_could_pass_count_on_no_denial_that_some_pods_lack() -> None:
    world = world_of(judged_of(old_and_new(), DENY).configuration)
    (cart,) = (one for one in world.services if one.name == "cart")
    assert not cart.policy.denylists


def test_who_asks_of_a_call_is_told_of_the_pods_that_refuse_it() -> None:
    allow = written("Allowlist", "web", "{service: cart, rules: [{name: a, from: [{service: web}]}]}")

    def notes(mesh: Mesh, deny: WrittenDocument) -> tuple[bool, list[str]]:
        world = world_of(judged_of(mesh, allow, deny).configuration)
        found = explain(world, call_of(CallWords(caller="web", service="shop/cart", time=NOW, namespace="shop"), world))
        return found.decision.permitted, [one for one in found.notes if "denylist" in one]

    permitted, told_of = notes(old_and_new(), DENY)
    assert permitted
    assert told_of == [
        "not at each of its workloads: those with the labels {data: pii} refuse it by rule d of denylist shop/no-pii"
    ]
    others = written("Denylist", "no-pii", "{labels: {data: pii}, rules: [{name: d, from: [{namespace: bank}]}]}")
    assert notes(old_and_new(), others) == (True, [])
    shadow = written("Denylist", "no-pii", f"{{mode: shadow, labels: {{data: pii}}, {ANYONE}}}")
    assert notes(old_and_new(), shadow) == (True, [])


def test_a_reading_told_as_json_keeps_the_pods_apart() -> None:
    reading = Reading(mesh=old_and_new(), documents=(DENY,))
    again = reading_of(json.loads(json.dumps(plain_reading("cluster", reading))))
    (first, second) = (services_of(one.mesh)["shop/cart"] for one in (reading, again))
    assert second.apart == first.apart
    assert first.apart
    assert second.identities == first.identities
