"""Injected pods of every odd kind at a real API server: it takes them, and hands them back as we know them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k8s.inject.injection import Injected, inject
from k8s.inject.patching import difference
from k8s.inject.settings import InjectSettings
from tests.cluster.cluster import Cluster
from tests.cluster.conforming import conform, write_schemas
from tests.golden_pods import CNI, GOLDEN, SERVED_OTHERWISE, SETTINGS, WORD

_NAMES = sorted(GOLDEN.keys() - SERVED_OTHERWISE)


def made(name: str, namespace: str, settings: InjectSettings) -> dict[str, Any]:
    golden = GOLDEN[name]
    outcome = inject(golden.pod, golden.namespace, settings, WORD)
    assert isinstance(outcome, Injected)
    pod = outcome.pod
    metadata = {**pod["metadata"], "name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Pod", **pod, "metadata": metadata}


def tried(cluster: Cluster, *pods: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """What the API server would have made of the pods, and what it complains of."""
    ran = cluster.try_kubectl(
        "create",
        "--dry-run=server",
        "--filename=-",
        "--output=json",
        given=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}),
    )
    served, text, decoder = [], ran.stdout.strip(), json.JSONDecoder()
    while text:  # one object behind the other
        found, end = decoder.raw_decode(text)
        served.append(found)
        text = text[end:].lstrip()
    return served, ran.stderr


def test_the_api_server_takes_every_golden_pod_and_it_needs_no_further_patch(cluster: Cluster, namespace: str) -> None:
    for settings in (SETTINGS, CNI):
        _all_are_taken(cluster, namespace, settings)


def _all_are_taken(cluster: Cluster, namespace: str, settings: InjectSettings) -> None:
    served, complaints = tried(cluster, *(made(name, namespace, settings) for name in _NAMES))
    assert [pod["metadata"]["name"] for pod in served] == _NAMES, complaints
    assert len(_NAMES) >= 40
    for pod in served:
        golden = GOLDEN[pod["metadata"]["name"]]
        again = inject(pod, golden.namespace, settings, WORD)
        assert isinstance(again, Injected)
        assert difference(pod, again.pod) == [], f"{pod['metadata']['name']} would be patched for ever"


def test_every_golden_pod_has_only_fields_of_the_served_schema(cluster: Cluster, tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    assert write_schemas(cluster, schemas) > 100
    pods = [made(name, "shop", settings) for settings in (SETTINGS, CNI) for name in _NAMES]
    (tmp_path / "pods.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    told = conform(cluster, schemas, tmp_path / "pods.json")
    assert told["resources"] == []
    assert (told["summary"]["valid"], told["summary"]["skipped"]) == (len(pods), 0)
    misspelt = {**pods[0], "spec": {**pods[0]["spec"], "restartPolicies": "Always"}}
    (tmp_path / "misspelt.json").write_text(json.dumps(misspelt))
    [wrong] = conform(cluster, schemas, tmp_path / "misspelt.json")["resources"]
    assert "restartPolicies" in wrong["msg"]


def test_a_restricted_namespace_takes_a_pod_only_where_the_plugin_redirects(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    served, complaints = tried(cluster, made("restricted", namespace, CNI))
    assert len(served) == 1 and not complaints
    _, complaints = tried(cluster, made("restricted", namespace, SETTINGS))
    assert "violates PodSecurity" in complaints and "NET_ADMIN" in complaints
