"""A real Prometheus outside the mesh scrapes what it may."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.manifests.render import KUBERNETES
from tests.cluster.callers import answered
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import CHART, SHOP, SYSTEM, Mesh, call, running_pod, state
from tests.cluster.product_image import NAME

SPACE = "monitoring"
APPS = ("web", "orders", "payments", "ledger", "counter")
_COUNTER = """
import prometheus_client, time
prometheus_client.Counter("cups", "Of tea").inc(7)
for port in (9100, 9200):
    prometheus_client.start_http_server(port)
time.sleep(100000)
"""


@pytest.fixture(scope="module")
def monitoring(meshed: Mesh) -> Iterator[Cluster]:
    """Prometheus in a namespace of its own, and an app of the shop with metrics on two ports, of which the annotation
    opens one."""
    if shutil.which("prometheus") is None:
        pytest.fail("no prometheus on the path (install Debian's package)")
    cluster = meshed.cluster
    cluster.kubectl("create", "namespace", SPACE)
    cluster.apply(_counter())
    try:
        _wait(cluster, "shop", "counter")
        cluster.apply(_prometheus(cluster))
        _wait(cluster, SPACE, "prometheus")
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", SPACE, "--wait=false")
        cluster.kubectl("delete", "pod", "counter", "--namespace=shop", "--wait=false")


def _wait(cluster: Cluster, namespace: str, pod: str) -> None:
    ready = cluster.try_kubectl(
        "wait", f"--namespace={namespace}", f"pod/{pod}", "--for=condition=Ready", "--timeout=90s"
    )
    assert ready.returncode == 0, state(cluster, namespace)


def _configuration(cluster: Cluster) -> str:
    """Each pod by its address (Debian's build does not ask the API server itself); JSON, which is YAML."""
    addresses = {app: running_pod(cluster, app)["status"]["podIP"] for app in APPS}
    sidecars = [{"targets": [f"{address}:15020"], "labels": {"app": app}} for app, address in addresses.items()]
    apps = [{"targets": [f"{addresses['counter']}:{port}"], "labels": {"port": port}} for port in ("9100", "9200")]
    jobs = [
        {"job_name": "sidecars", "static_configs": sidecars},
        {"job_name": "apps", "static_configs": apps},
        {"job_name": "control-plane", "static_configs": [{"targets": [_signals(cluster)]}]},
    ]
    intervals = {"scrape_interval": "1s", "scrape_timeout": "900ms", "evaluation_interval": "1s"}
    return json.dumps({"global": intervals, "rule_files": ["/mnt/rules.yml"], "scrape_configs": jobs})


def _signals(cluster: Cluster) -> str:
    """Where the control plane tells its metrics, as the chart's ServiceMonitor finds it."""
    chosen = "--selector=ringfence.io/signals=control-plane"
    [service] = cluster.get("services", f"--namespace={SYSTEM}", chosen)["items"]
    port = next(one["port"] for one in service["spec"]["ports"] if one["name"] == "http-signals")
    address = service["spec"]["clusterIP"]
    if address == "None":
        slices = cluster.get("endpointslices", f"--namespace={SYSTEM}", chosen)["items"]
        address = slices[0]["endpoints"][0]["addresses"][0]
    return f"{address}:{port}"


def _rules(cluster: Cluster) -> Any:
    """The groups of the PrometheusRule that the chart makes."""
    words = (f"--namespace={SYSTEM}", "--set=monitoring.rules.enabled=true", "--show-only=templates/monitoring.yaml")
    ran = cluster.helm("template", "ringfence", str(CHART), f"--kube-version={KUBERNETES}", *words)
    assert ran.returncode == 0, ran.stderr
    [rule] = [one for one in yaml.safe_load_all(ran.stdout) if one and one["kind"] == "PrometheusRule"]
    return {"groups": rule["spec"]["groups"]}


def test_prometheus_scrapes_every_sidecar_and_of_apps_what_is_opened(monitoring: Cluster) -> None:
    def sidecars() -> dict[str, str]:
        return {one["metric"]["app"]: one["value"][1] for one in _asked(monitoring, 'up{job="sidecars"}')}

    wanted = dict.fromkeys(APPS, "1")
    until(lambda: sidecars() == wanted, f"a scrape of every sidecar, not {sidecars()}")
    cups = 'cups_total{port="9100"}'
    until(lambda: [one["value"][1] for one in _asked(monitoring, cups)] == ["7"], "a scrape of the app")
    assert [one["value"][1] for one in _asked(monitoring, 'up{job="apps",port="9200"}')] == ["0"]
    assert _asked(monitoring, 'cups_total{port="9200"}') == []


# Of a mesh in which nothing is amiss: nothing is counted that never happened, and no pod lacks its sidecar.
_SILENT = {"ringfence_kubernetes_pods_not_injected"}


def test_the_charts_alerts_are_rules_that_a_real_prometheus_judges_by_what_a_mesh_tells(
    monitoring: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "rules.yml"
    rules = _rules(monitoring)
    file.write_text(json.dumps(rules))
    checked = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    wanted = {rule["alert"]: rule["expr"] for group in rules["groups"] for rule in group["rules"]}
    assert call(monitoring, "web", "DELETE", "orders:8080/orders/1")[0] == 403

    def judged() -> dict[str, Any]:
        groups = _told(monitoring, "rules").get("groups", [])
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    until(lambda: all(rule["health"] == "ok" for rule in judged().values()) and judged(), "rules that are judged")
    assert {name: rule.get("lastError", "") for name, rule in judged().items()} == dict.fromkeys(wanted, "")
    asked = {name for expression in wanted.values() for name in re.findall(r"\bringfence_[a-z0-9_]+", expression)}
    for metric in sorted(asked - _SILENT):
        until(lambda metric=metric: _asked(monitoring, f"count({metric})"), f"what {metric} tells")
    assert _asked(monitoring, 'ALERTS{alertstate="firing"}') == []


def _asked(cluster: Cluster, query: str) -> list[Any]:
    quoted = query.translate(str.maketrans({"{": "%7B", "}": "%7D", '"': "%22", "=": "%3D", ",": "%2C"}))
    found: list[Any] = _told(cluster, f"query?query={quoted}").get("result", [])
    return found


def _told(cluster: Cluster, question: str) -> dict[str, Any]:
    """What Prometheus answers; nothing while it does not."""
    script = (SHOP / "apps" / "call.py").read_text(encoding="utf-8")
    words = ("exec", f"--namespace={SPACE}", "prometheus", "--", "python3", "-c", script)
    status, answer = answered(cluster.try_kubectl(*words, "GET", f"127.0.0.1:9090/api/v1/{question}").stdout)
    found: dict[str, Any] = json.loads(answer)["data"] if status == 200 else {}
    return found


def _counter() -> dict[str, Any]:
    container = {
        "name": "app",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", _COUNTER],
        "ports": [{"name": "open", "containerPort": 9100}, {"name": "closed", "containerPort": 9200}],
        "securityContext": {"runAsUser": 1000},
    }
    metadata = {
        "name": "counter",
        "namespace": "shop",
        "labels": {"app": "counter"},
        "annotations": {"ringfence.io/exclude-inbound-ports": "9100"},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _prometheus(cluster: Cluster) -> dict[str, Any]:
    """Its program is the node's."""
    program = "exec chroot /host prometheus --config.file=/mnt/prometheus.yml --storage.tsdb.path=/mnt/data"
    files = {"prometheus.yml": _configuration(cluster), "rules.yml": json.dumps(_rules(cluster))}
    begin = "".join(f"cat >/host/mnt/{name} <<'END'\n{text}\nEND\n" for name, text in files.items()) + program
    container = {
        "name": "prometheus",
        "image": NAME,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", begin],
        "securityContext": {"runAsUser": 0},
        "readinessProbe": {"httpGet": {"port": 9090, "path": "/-/ready"}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "host", "mountPath": "/host", "readOnly": True},
            {"name": "data", "mountPath": "/host/mnt"},
        ],
    }
    volumes = [{"name": "host", "hostPath": {"path": "/"}}, {"name": "data", "emptyDir": {}}]
    spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 1}
    metadata = {"name": "prometheus", "namespace": SPACE}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
