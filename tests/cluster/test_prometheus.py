"""A real Prometheus outside the mesh scrapes what it may."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.callers import answered
from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.mesh import SHOP, Mesh, running_pod, state
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


@pytest.fixture
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
        cluster.apply(_prometheus(_configuration(cluster)))
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
    jobs = [{"job_name": "sidecars", "static_configs": sidecars}, {"job_name": "apps", "static_configs": apps}]
    return json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "900ms"}, "scrape_configs": jobs})


def test_prometheus_scrapes_every_sidecar_and_of_apps_what_is_opened(monitoring: Cluster) -> None:
    def sidecars() -> dict[str, str]:
        return {one["metric"]["app"]: one["value"][1] for one in _asked(monitoring, 'up{job="sidecars"}')}

    wanted = dict.fromkeys(APPS, "1")
    until(lambda: sidecars() == wanted, f"a scrape of every sidecar, not {sidecars()}")
    until(lambda: _asked(monitoring, 'cups_total{port="9100"}'), "a scrape of the app")
    assert [one["value"][1] for one in _asked(monitoring, 'cups_total{port="9100"}')] == ["7"]
    assert [one["value"][1] for one in _asked(monitoring, 'up{job="apps",port="9200"}')] == ["0"]
    assert _asked(monitoring, 'cups_total{port="9200"}') == []


def _asked(cluster: Cluster, query: str) -> list[Any]:
    script = (SHOP / "apps" / "call.py").read_text(encoding="utf-8")
    words = ("exec", f"--namespace={SPACE}", "prometheus", "--", "python3", "-c", script)
    quoted = query.translate(str.maketrans({"{": "%7B", "}": "%7D", '"': "%22", "=": "%3D", ",": "%2C"}))
    status, answer = answered(cluster.try_kubectl(*words, "GET", f"127.0.0.1:9090/api/v1/query?query={quoted}").stdout)
    found: list[Any] = json.loads(answer)["data"]["result"] if status == 200 else []
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


def _prometheus(configuration: str) -> dict[str, Any]:
    """Its program is the node's."""
    program = "exec chroot /host prometheus --config.file=/mnt/prometheus.yml --storage.tsdb.path=/mnt/data"
    begin = f"cat >/host/mnt/prometheus.yml <<'END'\n{configuration}\nEND\n{program}"
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
