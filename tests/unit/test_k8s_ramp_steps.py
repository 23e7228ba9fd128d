"""``ringfence k8s ramp|who-would-break|uninstall``: in by observing, strict when nobody would break, and out again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from k8s.commands import k8s
from k8s.daytwo.cluster import ClusterError, Place
from k8s.ramp.breaking import from_flows, united
from k8s.ramp.doing import rollout_waits_for
from tests.fake_cluster import Answer, FakeCluster, ran

PLANE = """
kind: Pod
metadata: {name: ringfence-0, namespace: ringfence-system}
spec: {securityContext: {runAsNonRoot: true}, containers: [{name: main, args: [controlplane]}]}
status: {phase: Running}
---
kind: Namespace
metadata: {name: kube-system}
---
kind: MutatingWebhookConfiguration
metadata: {name: ringfence}
---
"""
NAMESPACE = "kind: Namespace\nmetadata: {name: shop}\n---\n"
API = """
kind: Deployment
metadata: {name: api, namespace: shop, generation: 1}
spec: {replicas: 1, template: {spec: {securityContext: {runAsNonRoot: true}, containers: [{name: app, image: a}]}}}
status: {observedGeneration: 1, updatedReplicas: 1, availableReplicas: 1, replicas: 1}
---
"""
POD = """
kind: Pod
metadata:
  name: api-1-x
  namespace: shop
  labels: {pod-template-hash: "1"}
  ownerReferences: [{controller: true, kind: ReplicaSet, name: api-1}]
spec: {securityContext: {runAsNonRoot: true}, containers: [{name: app, image: a}]}
status: {phase: Running}
---
"""
MESHED = POD.replace("labels: {", 'labels: {ringfence.io/injected: "true", ').replace(
    "spec: {", "spec: {initContainers: [{name: ringfence-sidecar, image: s}], "
)
OBSERVED = NAMESPACE.replace(
    "{name: shop}",
    "{name: shop, labels: {ringfence.io/inject: enabled}, annotations: {ringfence.io/mode: permissive}}",
)
POSTURE = """
kind: Posture
metadata: {name: ringfence-ramp, namespace: shop}
spec: {scope: namespace, posture: observe, until: "2999-01-01T00:00:00Z"}
---
"""


class World(FakeCluster):
    """A cluster whose Deployments make their pods anew, with a sidecar where the namespace asks for one, and whose
    sidecars do as the Posture says."""

    def __init__(
        self, *manifests: str, flows: Sequence[dict[str, Any]] = (), noted: Sequence[dict[str, Any]] = ()
    ) -> None:
        super().__init__(PLANE, *manifests)
        self.flows, self.noted = list(flows), list(noted)
        self.deaf = False
        self.answers = self._answer
        self.changed = self._changed

    def _changed(self, one: dict[str, Any]) -> None:
        if one["kind"] != "Deployment":
            return
        space = next(item for item in self.items if item["kind"] == "Namespace" and item["metadata"]["name"] == "shop")
        inject = space["metadata"].get("labels", {}).get("ringfence.io/inject") == "enabled"
        fresh = FakeCluster(MESHED if inject else POD).items
        self.items = [item for item in self.items if item["metadata"]["name"] != "api-1-x"] + fresh

    def _answer(self, place: Place, argv: Sequence[str]) -> Answer:
        match list(argv)[1:3]:
            case ["policy", "flows"]:
                return ran(json.dumps({"flows": self.flows, "truncated": False}))
            case ["policy", "why"]:
                return ran(json.dumps({"calls": self.noted}), status=0 if self.noted else 1)
            case ["proxy", "config"]:
                observed = any(item["kind"] == "Posture" for item in self.items) and not self.deaf
                return ran(json.dumps({"observe_until": 9e9 if observed else None}))
        return ClusterError("unknown question")

    def done(self) -> list[tuple[str, str]]:
        return [(kind, name) for kind, name, _ in self.changes]


def run(world: FakeCluster, *words: str) -> Result:
    return CliRunner().invoke(k8s, list(words), obj=world.opener)


def flow(**said: Any) -> dict[str, Any]:
    known = {
        "caller": None,
        "service": "shop/api",
        "port": 8080,
        "protocol": "http",
        "method": "GET",
        "path": "/",
        "verdict": "would_deny",
        "reason": "no_rule",
        "count": 3,
        "last_seen": "2026-01-01T00:00:00.000Z",
    }
    return known | said


def test_without_apply_nothing_is_done_and_each_step_has_its_command() -> None:
    world = World(NAMESPACE, API, POD)
    result = run(world, "ramp", "shop")
    assert result.exit_code == 0, result.output
    assert world.changes == []
    assert "kubectl label --overwrite namespace shop ringfence.io/inject=enabled" in result.stdout
    assert "kubectl rollout restart -n shop deployment/api" in result.stdout
    steps = json.loads(run(world, "ramp", "shop", "--json").stdout)["steps"]
    assert [one["do"] for one in steps] == ["patch", "apply", "settle", "patch", "patch", "wait", "verify"]


def test_into_observe_lets_through_before_any_pod_gets_a_sidecar() -> None:
    world = World(NAMESPACE, API, POD)
    result = run(world, "ramp", "shop", "--to", "observe", "--apply", "--timeout", "5")
    assert result.exit_code == 0, result.output
    assert world.done() == [
        ("Namespace", "shop"),
        ("Posture", "ringfence-ramp"),
        ("Namespace", "shop"),
        ("Deployment", "api"),
    ]
    assert world.changes[0][2] == {"metadata": {"annotations": {"ringfence.io/mode": "permissive"}}}
    assert world.changes[1][2]["spec"]["posture"] == "observe"
    again = World(OBSERVED, API, MESHED, POSTURE)
    assert run(again, "ramp", "shop", "--to", "observe", "--apply").exit_code == 0
    assert ("Deployment", "api") not in again.done(), "a pod that has its sidecar is not restarted"


@pytest.mark.parametrize(
    "broken",
    [
        API.replace("image: a", "image: a, ports: [{containerPort: 15008}]"),
    ],
)
def test_what_would_break_even_observed_is_refused(broken: str) -> None:
    world = World(NAMESPACE, broken)
    result = run(world, "ramp", "shop", "--apply")
    assert (result.exit_code, world.changes) == (1, [])
    assert "Deployment shop/api" in result.stderr


def test_without_an_injector_nothing_is_begun() -> None:
    world = World(NAMESPACE, API, POD)
    world.items = [one for one in world.items if one["kind"] != "MutatingWebhookConfiguration"]
    result = run(world, "ramp", "shop", "--apply")
    assert (result.exit_code, world.changes) == (1, [])
    assert "install the chart first" in result.stderr


def test_strict_is_refused_while_somebody_would_break() -> None:
    world = World(OBSERVED, API, MESHED, POSTURE, flows=[flow()])
    result = run(world, "ramp", "shop", "--to", "strict", "--apply")
    assert (result.exit_code, world.changes) == (1, [])
    assert "unauthenticated calls shop/api:8080 GET / (3 times): plaintext, no_rule" in result.stderr
    despite = run(world, "ramp", "shop", "--to", "strict", "--apply", "--despite-callers", "--timeout", "5")
    assert despite.exit_code == 0, despite.output
    assert world.done() == [("Namespace", "shop"), ("Posture", "ringfence-ramp")]


@pytest.mark.parametrize("away", ["ringfence-system", "shop"])
def test_strict_is_refused_while_somebody_cannot_be_asked(away: str) -> None:
    world = World(OBSERVED, API, MESHED, POSTURE)
    world.answers = lambda place, argv: ClusterError("away") if place.namespace == away else world._answer(place, argv)
    result = run(world, "ramp", "shop", "--to", "strict", "--apply")
    assert (result.exit_code, world.changes) == (1, [])
    assert "not known: " in result.stderr


@pytest.mark.parametrize(
    "answer",
    [
        ran(status=1, stderr="Traceback: killed"),
        ran(status=137),
        ran("no JSON"),
        ran("[]"),
        ran('{"calls": null}'),
        ran('{"calls": [], "silent": ["no admin socket"]}', status=1),
    ],
)
def test_strict_is_refused_while_a_sidecar_does_not_tell_its_calls(answer: Answer) -> None:
    world = World(OBSERVED, API, MESHED, POSTURE)
    world.answers = lambda place, argv: answer if argv[1:3] == ["policy", "why"] else world._answer(place, argv)
    result = run(world, "ramp", "shop", "--to", "strict", "--apply")
    assert (result.exit_code, world.changes) == (1, [])
    assert "not known: shop/api-1-x: " in result.stderr


@pytest.mark.parametrize("kind", ["namespaces", "pods", "services", "deployments", "postures"])
@pytest.mark.parametrize("words", [("ramp", "shop", "--apply"), ("uninstall", "--apply"), ("check", "-n", "shop")])
def test_nothing_is_done_or_found_clean_by_what_could_not_be_read(kind: str, words: tuple[str, ...]) -> None:
    world = World(OBSERVED, API, MESHED, POSTURE)
    world.forbidden.add(kind)
    result = run(world, *words)
    assert (result.exit_code, world.changes) == (1, [])
    assert result.stderr.startswith(f"{kind} could not be read, and without them nothing can be told: ")
    assert result.stderr.count("\n") == 1


def test_what_else_could_not_be_read_is_told_before_a_namespace_is_changed() -> None:
    world = World(NAMESPACE, API, POD)
    world.forbidden.add("networkpolicies")
    result = run(world, "ramp", "shop", "--to", "observe")
    assert (result.exit_code, "warning: networkpolicies could not be read" in result.stderr) == (0, True)


def test_strict_goes_through_when_nobody_would_break_and_is_verified() -> None:
    permitted = flow(caller="spiffe://x/ns/shop/sa/web", verdict="permit", reason="")
    world = World(OBSERVED, API, MESHED, POSTURE, flows=[permitted, flow(service="other/api")])
    result = run(world, "ramp", "shop", "--apply", "--timeout", "5")
    assert result.exit_code == 0, result.output
    assert world.changes[0][2] == {"metadata": {"annotations": {"ringfence.io/mode": "strict"}}}
    assert world.changes[1][:2] == ("Posture", "ringfence-ramp")


def test_strict_before_observe_is_refused_and_another_posture_too() -> None:
    assert "is not in the mesh yet" in run(World(NAMESPACE, API), "ramp", "shop", "--to", "strict").stderr
    other = POSTURE.replace("ringfence-ramp", "mine")
    result = run(World(OBSERVED, API, MESHED, other), "ramp", "shop", "--to", "strict", "--apply")
    assert (result.exit_code, "Posture shop/mine still observes" in result.stderr) == (1, True)
    of_all = other.replace("namespace: shop", "namespace: ringfence-system").replace("scope: namespace", "scope: mesh")
    result = run(World(OBSERVED, API, MESHED, POSTURE, of_all), "ramp", "shop", "--to", "strict", "--apply")
    assert (result.exit_code, "Posture ringfence-system/mine still observes" in result.stderr) == (1, True)
    of_some = of_all.replace("scope: mesh", "scope: mesh, labels: {tier: edge}")
    assert run(World(OBSERVED, API, MESHED, POSTURE, of_some), "ramp", "shop", "--to", "strict").exit_code == 0


def test_sidecars_that_do_not_follow_end_it_before_any_pod_is_replaced() -> None:
    world = World(OBSERVED, API, MESHED)
    world.deaf = True
    result = run(world, "ramp", "shop", "--to", "out", "--apply", "--timeout", "1")
    assert result.exit_code == 1
    assert "not all sidecars follow within 1 s: 1 of 1 wait, such as api-1-x" in result.stderr
    assert ("Deployment", "api") not in world.done()


def test_a_sidecar_that_still_refuses_plaintext_ends_it_before_any_pod_is_replaced() -> None:
    world = World(OBSERVED, API, MESHED)
    modes = [{"port": 8080, "mode": "permissive"}, {"port": 9090, "mode": "strict"}]
    world.answers = lambda place, argv: (
        ran(json.dumps({"observe_until": 9e9, "ports": modes}))
        if argv[1:3] == ["proxy", "config"]
        else world._answer(place, argv)
    )
    result = run(world, "uninstall", "--apply", "--timeout", "1")
    assert (result.exit_code, "1 of 1 wait, such as api-1-x" in result.stderr) == (1, True)
    assert ("Deployment", "api") not in world.done()
    modes[1]["mode"] = "permissive"
    assert run(world, "uninstall", "--apply", "--timeout", "5").exit_code == 0


STRICT_SERVICE = """
kind: Service
metadata: {name: api, namespace: shop, annotations: {ringfence.io/mode: strict}}
spec: {selector: {pod-template-hash: "1"}, ports: [{port: 80}]}
---
"""
STRICT_POD = MESHED.replace("  namespace: shop", "  namespace: shop\n  annotations: {ringfence.io/mode: strict}", 1)


@pytest.mark.parametrize("words", [("ramp", "shop", "--to", "out"), ("uninstall",)])
@pytest.mark.parametrize(
    ("manifests", "who"),
    [((MESHED, STRICT_SERVICE), "Service shop/api"), ((STRICT_POD,), "Deployment shop/api")],
)
def test_what_would_refuse_plaintext_all_the_same_is_told_before_anything_is_done(
    words: tuple[str, ...], manifests: tuple[str, ...], who: str
) -> None:
    world = World(OBSERVED, API, *manifests)
    result = run(world, *words, "--apply", "--timeout", "1")
    assert (result.exit_code, world.changes) == (1, [])
    assert f"\n{who} refuses plaintext by an annotation of its own (take ringfence.io/mode off" in result.stderr


def test_uninstall_lets_all_through_then_takes_the_sidecars_off_and_tells_the_rest() -> None:
    world = World(OBSERVED, API, MESHED)
    result = run(world, "uninstall", "--apply", "--timeout", "5")
    assert result.exit_code == 0, result.output
    assert world.done() == [
        ("Namespace", "shop"),
        ("Posture", "ringfence-ramp"),
        ("Namespace", "shop"),
        ("Deployment", "api"),
        ("Posture", "ringfence-ramp"),
        ("Namespace", "shop"),
    ]
    assert world.changes[2][2] == {"metadata": {"labels": {"ringfence.io/inject": None}}}
    assert "helm uninstall ringfence -n ringfence-system" in result.stdout
    as_json = run(World(OBSERVED, API, MESHED), "uninstall", "--json")
    assert json.loads(as_json.stdout)["then"][0] == "helm uninstall ringfence -n ringfence-system"
    told = run(World(OBSERVED, API, MESHED), "uninstall")
    assert (told.exit_code, "nothing was done" in told.stdout) == (0, True)
    assert "with their identities" not in told.stderr


def test_uninstall_tells_of_pods_that_keep_their_sidecars_and_what_ends_with_their_identities() -> None:
    alone = MESHED.replace("kind: ReplicaSet", "kind: Job")
    assert alone != MESHED
    told = run(World(OBSERVED, API, alone), "uninstall").stderr
    assert "stays with a sidecar until it is made anew" in told
    assert "what two of them say to each other ends with their identities" in told


PLANES = """
kind: Deployment
metadata: {name: ringfence, namespace: ringfence-system}
spec: {template: {spec: {containers: [{name: ringfence, args: [controlplane], image: "ringfence:0.1.0"}]}}}
---
kind: Deployment
metadata: {name: ringfence-canary, namespace: ringfence-system}
spec:
  template:
    spec:
      containers:
        - name: ringfence
          args: [controlplane, '--platform-option=inject={"revision": "canary", "image": "ringfence:0.2.0"}']
          image: "ringfence@sha256:1"
---
"""
OLD = MESHED.replace("image: s", 'image: "ringfence:0.1.0"')


def test_a_canary_takes_a_namespace_by_its_revision_and_restarts_what_is_another() -> None:
    world = World(OBSERVED, API, OLD, PLANES)
    result = run(world, "upgrade", "shop", "--revision", "canary", "--apply", "--timeout", "5")
    assert result.exit_code == 0, result.output
    assert world.changes[0][2] == {"metadata": {"labels": {"ringfence.io/rev": "canary"}}}
    assert world.done() == [("Namespace", "shop"), ("Deployment", "api")]


@pytest.mark.parametrize(
    ("had", "pod_names", "wanted", "restarted"),
    [
        ("", "", "canary", True),
        ("canary", "", "", True),
        ("canary", "", "canary", False),
        ("", "", "", False),
        ("canary", "canary", "", False),
    ],
)
def test_a_pod_of_another_revision_is_restarted_though_its_image_is_the_same(
    had: str, pod_names: str, wanted: str, restarted: bool
) -> None:
    status = json.dumps({"revision": had, "version": "0.1.0"})
    own = f'"ringfence.io/rev": {pod_names}, ' if pod_names else ""
    meshed = OLD.replace("labels: {", "labels: {" + own).replace(
        "  namespace: shop\n", f"  namespace: shop\n  annotations: {{ringfence.io/status: '{status}'}}\n"
    )
    world = World(OBSERVED, API, meshed, PLANES.replace("ringfence:0.2.0", "ringfence:0.1.0"))
    result = run(world, "upgrade", "shop", "--revision", wanted, "--apply", "--timeout", "5")
    assert result.exit_code == 0, result.output
    assert (("Deployment", "api") in world.done()) is restarted


def test_an_upgrade_restarts_nothing_that_is_current_and_knows_its_revisions() -> None:
    world = World(OBSERVED, API, OLD, PLANES)
    assert run(world, "upgrade", "shop", "--apply", "--timeout", "5").exit_code == 0
    assert world.changes == []
    unknown = run(world, "upgrade", "shop", "--revision", "green", "--apply")
    assert (unknown.exit_code, "there is '', 'canary'" in unknown.stderr) == (1, True)
    outside = run(World(NAMESPACE, API, PLANES), "upgrade", "shop", "--apply")
    assert (outside.exit_code, "is no namespace of the mesh" in outside.stderr) == (1, True)


def test_pods_that_no_rollout_replaces_are_told() -> None:
    bare = MESHED.replace("  ownerReferences: [{controller: true, kind: ReplicaSet, name: api-1}]\n", "")
    world = World(OBSERVED, bare)
    result = run(world, "uninstall", "--apply", "--timeout", "5")
    assert "Pod shop/api-1-x is no Deployment" in result.stderr
    assert result.exit_code == 0, result.output
    assert world.done()[-1] == ("Namespace", "shop")
    assert [one for one in world.items if one["kind"] == "Posture"], "what it calls is let through on"


@pytest.mark.parametrize(
    "command", [("ramp", "shop"), ("uninstall",), ("upgrade", "shop"), ("who-would-break", "shop")]
)
def test_a_namespace_that_would_not_be_heeded_is_bad_input(command: tuple[str, ...]) -> None:
    assert run(World(OBSERVED, API), *command, "-n", "other").exit_code == 2


@pytest.mark.parametrize("words", [("kube-system",), ("ringfence-system",), ("nowhere",), ("shop", "--since", "x")])
def test_what_can_never_be_meshed_is_bad_input(words: tuple[str, ...]) -> None:
    world = World(NAMESPACE, API)
    assert (run(world, "ramp", *words, "--apply").exit_code, world.changes) == (2, [])


def test_who_would_break_is_listed_from_control_planes_and_sidecars() -> None:
    outside = {
        "outcome": "would_deny",
        "caller": "spiffe://x/ns/shop/sa/api",
        "service": "db.example.com",
        "port": 5432,
    }
    world = World(OBSERVED, API, MESHED, flows=[flow()], noted=[{**outside, "reason": "egress_not_allowed"}])
    result = run(world, "who-would-break", "shop", "--json")
    assert result.exit_code == 1
    called = {one["called"]: one["why"] for one in json.loads(result.stdout)["calls"]}
    assert called == {"shop/api:8080": "plaintext, no_rule", "db.example.com:5432": "egress_not_allowed"}
    nobody = World(OBSERVED, API, MESHED)
    assert run(nobody, "who-would-break", "shop").stdout == "nobody would break\n"
    assert run(nobody, "who-would-break", "shop").exit_code == 0


def test_plaintext_that_a_rule_permits_breaks_too_but_where_the_service_stays_open() -> None:
    permitted = flow(verdict="permit", reason="")
    assert [one.why for one in from_flows([permitted], "shop", ())] == ["plaintext"]
    assert list(from_flows([permitted], "shop", {"api"})) == []
    [known] = from_flows([{**permitted, "address": "10.244.0.7"}], "shop", ())
    assert (known.caller, known.why) == ("unauthenticated at 10.244.0.7", "plaintext")
    assert united([*from_flows([permitted, permitted], "shop", ())])[0].calls == 6


@pytest.mark.parametrize(
    ("spec", "status", "waits"),
    [
        ({"replicas": 2}, {"observedGeneration": 1}, "has not seen"),
        ({"replicas": 2}, {"observedGeneration": 2, "updatedReplicas": 1}, "1 of 2 pods are new"),
        ({"replicas": 2}, {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 3}, "1 old pods"),
        ({"replicas": 2}, {"observedGeneration": 2, "updatedReplicas": 2, "replicas": 2}, "0 of 2 pods are available"),
        ({"replicas": 0}, {"observedGeneration": 2}, ""),
        ({}, {"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}, ""),
        ({}, {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3}, "0 of 3 pods are av"),
        ({"updateStrategy": {"type": "OnDelete"}}, {"observedGeneration": 2}, "OnDelete"),
        ({"paused": True, "replicas": 2}, {"observedGeneration": 2}, "paused: resume it"),
    ],
)
def test_a_rollout_is_done_when_only_new_pods_serve(spec: Any, status: Any, waits: str) -> None:
    told = rollout_waits_for({"metadata": {"generation": 2}, "spec": spec, "status": status})
    assert waits in told
    assert bool(told) is bool(waits)
