"""``ringfence k8s check``: what shuts the mesh out, who could become the sidecar, who lacks one, and what of the
cluster itself is not fit."""

from __future__ import annotations

import json
import shlex

import pytest

from k8s.ramp.check import check
from k8s.ramp.facts import gates_of
from k8s.ramp.finding import Code, Weight
from k8s.ramp.snapshot import Cluster
from tests.ramp_objects import API, INJECTOR, NAMESPACE, POLICY, WEBHOOK, found, objects, only, pod

# NetworkPolicies.


def test_a_rule_that_lists_ports_shuts_the_mesh_out_and_the_patch_lets_it_in() -> None:
    ports = "{from: [{podSelector: {}}], ports: [{port: http, protocol: TCP}]}"
    finding = only(found(API, POLICY + f"  ingress: [{ports}, {{}}]"))
    assert finding.code is Code.POLICY_BLOCKS_MESH
    assert "rule 1 " in finding.what
    words = shlex.split(finding.commands[0])
    assert words[:7] == ["kubectl", "patch", "networkpolicy", "-n", "shop", "guard", "--type=json"]
    assert json.loads(words[-1])[1] == {
        "op": "add",
        "path": "/spec/ingress/0/ports/-",
        "value": {"port": 15008, "protocol": "TCP"},
    }
    mended = ports.replace("TCP}", "TCP}, {port: 15008}")
    notice = only(found(API, POLICY + f"  ingress: [{mended}]"))
    assert (notice.code, notice.weight) == (Code.POLICY_PORTS, Weight.NOTICE)


@pytest.mark.parametrize(
    "rules",
    [
        "[]",
        "[{}]",
        "[{from: [{podSelector: {}}]}]",
        "[{ports: [{port: 53, protocol: UDP}]}]",
        "[{ports: [{port: 15008}]}]",
        "[{ports: [{port: 15000, endPort: 15010}]}]",
        "[{from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 80}]}]",
    ],
)
def test_a_policy_that_the_mesh_passes_is_not_shut(rules: str) -> None:
    findings = found(API, POLICY + f"  ingress: {rules}")
    assert all(one.code is not Code.POLICY_BLOCKS_MESH for one in findings)


def test_a_policy_over_other_pods_is_not_looked_at() -> None:
    other = POLICY.replace("app: api", "app: other")
    assert found(API, other + "  ingress: [{ports: [{port: 80}]}]") == []
    unknown = POLICY.replace(
        "{matchLabels: {app: api}}", "{matchExpressions: [{key: app, operator: NotIn, values: [api]}]}"
    )
    assert found(API, unknown + "  ingress: [{ports: [{port: 80}]}]") == []


def test_egress_must_lead_to_the_control_plane() -> None:
    egress = "  policyTypes: [Egress]\n  egress: [{ports: [{port: 53, protocol: UDP}]}]"
    finding = only(found(API, POLICY + egress))
    assert finding.code is Code.POLICY_BLOCKS_CONTROL
    [step] = json.loads(shlex.split(finding.commands[0])[-1])
    mended = objects(NAMESPACE, API, POLICY + egress)
    mended[-1]["spec"]["egress"].append(step["value"])
    assert check(Cluster(items=mended)) == []


# Users.


@pytest.mark.parametrize(
    ("pod_security", "container_security", "why"),
    [
        ("{}", "{}", "may run as root"),
        ("{runAsUser: 0}", "{}", "runs as root"),
        ("{runAsUser: 1000}", "{privileged: true}", "privileged"),
        ("{runAsUser: 1000}", "{capabilities: {add: [NET_ADMIN]}}", "NET_ADMIN"),
        ("{runAsUser: 1000}", "{capabilities: {add: [CAP_SETUID], drop: [ALL]}}", "SETUID"),
    ],
)
def test_who_could_become_the_sidecar_is_named(pod_security: str, container_security: str, why: str) -> None:
    text = API.replace("{runAsNonRoot: true, runAsUser: 1000}", pod_security)
    finding = only(found(text.replace("image: ", f"securityContext: {container_security}, image: ")))
    assert finding.code is Code.SIDECAR_USER
    assert why in finding.what


@pytest.mark.parametrize(
    ("pod_security", "container_security"),
    [
        ("{runAsUser: 1000}", "{}"),
        ("{runAsNonRoot: true}", "{}"),
        ("{runAsUser: 0}", "{capabilities: {drop: [ALL]}}"),
        ("{}", "{capabilities: {drop: [SETUID]}}"),
        ("{runAsUser: 0}", "{runAsUser: 7}"),
    ],
)
def test_who_could_not_become_the_sidecar_is_left_alone(pod_security: str, container_security: str) -> None:
    text = API.replace("{runAsNonRoot: true, runAsUser: 1000}", pod_security)
    assert found(text.replace("image: ", f"securityContext: {container_security}, image: ")) == []


def test_an_app_on_a_port_of_the_sidecar_is_named() -> None:
    assert only(found(API.replace("8080", "15001"))).code is Code.OWN_PORT


# Pods that should be in the mesh.


@pytest.mark.parametrize(
    ("metadata", "spec", "why", "weight"),
    [
        ("", "", "before the injector", Weight.FINDING),
        ("labels: {ringfence.io/inject: disabled}", "", "opted out", Weight.NOTICE),
        ("", "hostNetwork: true", "host's network", Weight.NOTICE),
    ],
)
def test_a_pod_without_a_sidecar_is_told_with_the_reason(metadata: str, spec: str, why: str, weight: Weight) -> None:
    finding = only(found(pod(metadata=metadata, spec=spec), INJECTOR, code=Code.NOT_INJECTED))
    assert why in finding.what
    assert finding.weight is weight


def test_a_pod_younger_than_the_injector_was_there_before_the_label() -> None:
    older = INJECTOR.replace("01-03", "01-01")
    assert "before its namespace was labelled" in only(found(pod(), older)).what
    ignoring = older.replace("webhooks: []", "webhooks: [{name: x, failurePolicy: Ignore}]")
    assert "did not answer" in only(found(pod(), ignoring)).what


def test_a_pod_with_a_sidecar_is_not_told() -> None:
    assert found(pod(metadata='labels: {ringfence.io/injected: "true"}'), INJECTOR) == []


def test_a_label_that_means_nothing_is_told() -> None:
    [finding] = check(Cluster(items=objects(NAMESPACE.replace("enabled", "'true'"))))
    assert "means nothing" in finding.what
    assert "=enabled" in finding.commands[0]


def test_pods_that_the_injector_refused_are_told_while_they_lack() -> None:
    event = """
kind: Event
metadata: {name: e, namespace: shop}
reason: FailedCreate
message: 'admission webhook "inject.ringfence.io" denied the request: bad port'
involvedObject: {kind: ReplicaSet, namespace: shop, name: api-1}
"""
    lacking = "kind: ReplicaSet\nmetadata: {name: api-1, namespace: shop}\nspec: {replicas: 2}\nstatus: {replicas: 1}"
    assert "bad port" in only(found(event, lacking)).what
    assert found(event, lacking.replace("replicas: 1", "replicas: 2")) == []
    assert found(event) == []


def test_a_sidecar_of_another_version_is_outdated() -> None:
    status = """annotations: {ringfence.io/status: '{"version": "0.1.0"}'}, labels: {ringfence.io/injected: "true"}"""
    plane = """
kind: Deployment
metadata: {name: ringfence, namespace: ringfence-system}
spec: {template: {spec: {containers: [{name: ringfence, args: [controlplane], image: "example/ringfence:0.2.0"}]}}}
"""
    finding = only(found(pod(metadata=status), plane, code=Code.OUTDATED))
    assert "0.1.0" in finding.what
    assert "0.2.0" in finding.what
    assert found(pod(metadata=status.replace("0.1.0", "0.2.0")), plane) == []
    sidecar = "initContainers: [{name: ringfence-sidecar, image: 'x/ringfence:blue'}]"
    tagged = plane.replace("example/ringfence:0.2.0", "x/ringfence:green")
    assert "x/ringfence:green" in only(found(pod(metadata=status, spec=sidecar), tagged, code=Code.OUTDATED)).what
    same = tagged.replace("green", "blue")
    assert found(pod(metadata=status, spec=sidecar), same, code=Code.OUTDATED) == []
    own = status.replace("annotations: {", "annotations: {ringfence.io/image: mine, ")
    assert found(pod(metadata=own, spec=sidecar), tagged, code=Code.OUTDATED) == []


# The cluster.


@pytest.mark.parametrize(
    ("version", "wrong"),
    [("v1.28.9", True), ("v1.29.0", True), ("v1.30.0", False), ("v1.36.3+k3s1", False), ("x", True)],
)
def test_a_cluster_without_native_sidecars_is_refused(version: str, wrong: bool) -> None:
    assert bool(found(version=version, code=Code.CLUSTER_VERSION)) is wrong


def test_gates_that_are_off_are_told() -> None:
    gates = gates_of('kubernetes_feature_enabled{name="SidecarContainers",stage="BETA"} 0\nother 1\n')
    assert gates == {"SidecarContainers": False}
    assert only(found(version="v1.30.0", gates=gates)).code is Code.FEATURE_GATE
    assert found(version="v1.30.0", gates={"SidecarContainers": True}) == []
    assert only(found(version="v1.36.0", gates={"ClusterTrustBundle": False})).weight is Weight.NOTICE


def test_nodes_that_cannot_hold_a_sidecar_are_told() -> None:
    node = "kind: Node\nmetadata: {name: n}\nstatus: {nodeInfo: {kubeletVersion: v1.27.1, operatingSystem: linux}}"
    assert only(found(node)).weight is Weight.FINDING
    assert found(node.replace("1.27", "1.29")) == []
    assert "Windows" in only(found(node.replace("linux", "windows"))).what


def test_a_webhook_that_could_hold_up_the_system_is_told() -> None:
    own = WEBHOOK.replace(
        "[{apiGroups: [shop.example], resources: [orders]}]", "[{apiGroups: [''], resources: [pods]}]"
    )
    assert only(found(API, own, code=Code.WEBHOOK_HOLDS_SYSTEM)).weight is Weight.FINDING
    elsewhere = own.replace("namespace: shop", "namespace: elsewhere")
    assert only(found(API, elsewhere, code=Code.WEBHOOK_HOLDS_SYSTEM)).weight is Weight.NOTICE
    ignoring = own.replace("rules:", "failurePolicy: Ignore\n    rules:")
    assert found(API, ignoring, code=Code.WEBHOOK_HOLDS_SYSTEM) == []
    scoped = own.replace("rules:", "namespaceSelector: {matchLabels: {x: y}}\n    rules:")
    assert found(API, scoped, code=Code.WEBHOOK_HOLDS_SYSTEM) == []
