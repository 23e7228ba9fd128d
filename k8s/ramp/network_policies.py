"""NetworkPolicies over workloads of the mesh: calls of the mesh arrive at port 15008 whatever port the app listens on.

So a rule that lists ports shuts the mesh out unless it lists 15008, and once it does, it no longer tells the app's
ports apart: an allowlist does. Policies add up, so each rule is looked at by itself. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from k8s.objects.lenient import Json, integer, labels, mapping, objects, text, texts
from k8s.objects.names import CONTROL_PORT, JOIN_PORT, MESH_PORT, SYSTEM_NAMESPACE
from k8s.objects.selectors import selects
from k8s.ramp.finding import Code, Finding, Weight, kubectl
from k8s.ramp.snapshot import Cluster, PodView, name_of, namespace_of, subject_of

_DNS: Final = 53
_CONTROL_PORTS: Final = (JOIN_PORT, CONTROL_PORT)
_OTHERS: Final = (_DNS, *_CONTROL_PORTS)


def network_policy_findings(cluster: Cluster) -> Iterator[Finding]:
    for policy in cluster.kind("NetworkPolicy"):
        selector = mapping(policy, "spec", "podSelector")
        namespace = namespace_of(policy)
        selected = [one for one in cluster.members if one.namespace == namespace and selects(selector, one.labels)]
        if not selected:
            continue
        kinds = texts(policy, "spec", "policyTypes")
        if "Ingress" in kinds or not kinds:
            yield from _judged(policy, "ingress", "from")
        if "Egress" in kinds or (not kinds and objects(policy, "spec", "egress")):
            yield from _judged(policy, "egress", "to")
            yield from _control(cluster, policy, selected)


def _judged(policy: Json, direction: str, peers: str) -> Iterator[Finding]:
    rules = objects(policy, "spec", direction)
    shut = [index for index, rule in enumerate(rules) if _concerns(rule, peers) and not _permits(rule, MESH_PORT)]
    if shut:
        yield Finding(
            code=Code.POLICY_BLOCKS_MESH,
            subject=subject_of(policy),
            what=f"{direction} rule {_counted(shut)} lists ports without {MESH_PORT}, where calls of the mesh arrive",
            mend=f"permit TCP {MESH_PORT} in the same rules, and say the ports in an allowlist",
            commands=(_patch(policy, direction, shut),),
        )
    blunt = [index for index, rule in enumerate(rules) if _lists_more(rule) and _permits(rule, MESH_PORT)]
    if blunt:
        yield Finding(
            code=Code.POLICY_PORTS,
            weight=Weight.NOTICE,
            subject=subject_of(policy),
            what=f"{direction} rule {_counted(blunt)} tells ports apart, but whoever reaches {MESH_PORT} reaches "
            "every port of the pod as far as this policy goes",
            mend="say in an allowlist who may call which port",
        )


def _counted(indexes: list[int]) -> str:
    return ", ".join(str(one + 1) for one in indexes)


def _concerns(rule: Json, peers: str) -> bool:
    """Whether calls of the mesh could be meant: it lists TCP ports beside DNS, for pods (or anybody)."""
    ports = objects(rule, "ports")
    tcp = [one for one in ports if text(one, "protocol") in ("", "TCP") and one.get("port") not in _OTHERS]
    listed = objects(rule, peers)
    for_pods = not listed or any(not mapping(one, "ipBlock") for one in listed)
    return bool(tcp) and for_pods


def _permits(rule: Json, port: int) -> bool:
    ports = objects(rule, "ports")
    return not ports or any(_covers(one, port) for one in ports)


def _covers(listed: Json, port: int) -> bool:
    if text(listed, "protocol") not in ("", "TCP"):
        return False
    first = listed.get("port")
    if first is None:
        return True
    last = integer(listed, "endPort")
    return isinstance(first, int) and first <= port <= (first if last is None else last)


def _lists_more(rule: Json) -> bool:
    ports = objects(rule, "ports")
    others = [one for one in ports if one.get("port") not in (MESH_PORT, *_OTHERS)]
    return any(one.get("port") is not None and text(one, "protocol") in ("", "TCP") for one in others)


def _patch(policy: Json, direction: str, rules: list[int]) -> str:
    """A command that changes nothing else of the policy, and fails where the rules are others by now."""
    added = {"port": MESH_PORT, "protocol": "TCP"}
    steps: list[Mapping[str, Any]] = []
    held = objects(policy, "spec", direction)
    for index in rules:
        place = f"/spec/{direction}/{index}/ports"
        steps += [{"op": "test", "path": place, "value": held[index].get("ports")}]
        steps += [{"op": "add", "path": f"{place}/-", "value": added}]
    return _patch_command(policy, steps)


def _patch_command(policy: Json, steps: list[Mapping[str, Any]]) -> str:
    said = json.dumps(steps, separators=(",", ":"))
    return kubectl("patch", "networkpolicy", "-n", namespace_of(policy), name_of(policy), "--type=json", "-p", said)


def _control(cluster: Cluster, policy: Json, selected: list[PodView]) -> Iterator[Finding]:
    """Sidecars reach the control plane under the pod's own egress rules; any policy over the pod may permit it."""
    view = selected[0]
    rules = [
        rule
        for one in cluster.kind("NetworkPolicy")
        if namespace_of(one) == view.namespace and selects(mapping(one, "spec", "podSelector"), view.labels)
        for rule in objects(one, "spec", "egress")
    ]
    held = {"kubernetes.io/metadata.name": SYSTEM_NAMESPACE, **cluster.namespace_labels.get(SYSTEM_NAMESPACE, {})}
    missing = [
        port for port in _CONTROL_PORTS if not any(_permits(rule, port) and _leads(rule, held) for rule in rules)
    ]
    if missing:
        steps: list[Mapping[str, Any]] = [{"op": "add", "path": "/spec/egress/-", "value": _CONTROL_RULE}]
        if not objects(policy, "spec", "egress"):
            steps = [{"op": "add", "path": "/spec/egress", "value": [_CONTROL_RULE]}]
        yield Finding(
            code=Code.POLICY_BLOCKS_CONTROL,
            subject=subject_of(policy),
            what=f"egress to the control plane ({SYSTEM_NAMESPACE}, TCP {', '.join(map(str, missing))}) is shut, "
            "so no sidecar here gets an identity",
            mend="permit it in this policy",
            commands=(_patch_command(policy, steps),),
        )


_CONTROL_RULE: Final[Mapping[str, Any]] = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM_NAMESPACE}}}],
    "ports": [{"port": port, "protocol": "TCP"} for port in _CONTROL_PORTS],
}


def _leads(rule: Json, held: Mapping[str, str]) -> bool:
    """Whether the rule leads to pods of the namespace with these labels; a rule without peers leads everywhere."""
    peers = objects(rule, "to")
    if not peers:
        return True
    for peer in peers:
        if text(peer, "ipBlock", "cidr") in ("0.0.0.0/0", "::/0"):
            return True
        if "namespaceSelector" in peer and selects(mapping(peer, "namespaceSelector"), held):
            pods = mapping(peer, "podSelector")
            if not pods or labels(pods, "matchLabels").get("app.kubernetes.io/name") == "ringfence":
                return True
    return False
