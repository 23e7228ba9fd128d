"""A real Prometheus, Debian's, outside of the mesh, and what it scrapes in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.machine import until
from tests.cluster.product_image import NAME

# What a well-behaved app does at SIGTERM: it serves on for a moment, as it is still being called.
_METERED: Final = """
import http.server, signal, threading, time
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/metrics", "/ready") else 404)
        self.end_headers()
        self.wfile.write(b"metered_things_total 7\\n")
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("", 9102), Page)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=lambda: (time.sleep(4), server.shutdown())).start())
server.serve_forever()
"""
_CONFIG: Final = """
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: metered, static_configs: [{targets: ["metered.shop:9102"]}]}]
"""
_SECURITY: Final = {"runAsNonRoot": True, "runAsUser": 1000}
METERED: Final[list[dict[str, Any]]] = [
    {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "metered", "namespace": "shop"},
        "spec": {
            "selector": {"matchLabels": {"app": "metered"}},
            "template": {
                "metadata": {
                    "labels": {"app": "metered"},
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9102"},
                },
                "spec": {
                    "securityContext": _SECURITY,
                    "terminationGracePeriodSeconds": 10,
                    "containers": [
                        {
                            "name": "metered",
                            "image": NAME,
                            "imagePullPolicy": "Never",
                            "command": ["python3", "-c", _METERED],
                            "readinessProbe": {"httpGet": {"port": 9102, "path": "/ready"}, "periodSeconds": 1},
                        }
                    ],
                },
            },
        },
    },
    {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metered", "namespace": "shop"},
        "spec": {"selector": {"app": "metered"}, "ports": [{"name": "http", "port": 9102}]},
    },
]
_PROMETHEUS: Final[list[dict[str, Any]]] = [
    {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}},
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "prometheus", "namespace": "monitoring"},
        "data": {"prometheus.yml": _CONFIG},
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prometheus", "namespace": "monitoring", "labels": {"app": "prometheus"}},
        "spec": {
            "securityContext": _SECURITY,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "prometheus",
                    "image": NAME,
                    "imagePullPolicy": "Never",
                    "command": ["/bin/prometheus", "--config.file=/etc/prometheus/prometheus.yml"],
                    "args": ["--storage.tsdb.path=/data"],
                    "volumeMounts": [
                        {"name": "program", "mountPath": "/bin/prometheus", "readOnly": True},
                        {"name": "config", "mountPath": "/etc/prometheus", "readOnly": True},
                        {"name": "data", "mountPath": "/data"},
                    ],
                    "readinessProbe": {"httpGet": {"port": 9090, "path": "/-/ready"}, "periodSeconds": 1},
                }
            ],
            "volumes": [
                {"name": "program", "hostPath": {"path": "/usr/bin/prometheus", "type": "File"}},
                {"name": "config", "configMap": {"name": "prometheus"}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    },
]
_QUERY: Final = (
    "import sys, urllib.parse, urllib.request as r;"
    "print(r.urlopen('http://127.0.0.1:9090/api/v1/query?query=' + urllib.parse.quote(sys.argv[1])).read().decode())"
)


def start_prometheus(cluster: Cluster) -> None:
    """Skips the test where there is no Prometheus (apt-get install prometheus)."""
    if shutil.which("prometheus", path="/usr/bin") is None or not Path("/usr/bin/prometheus").is_file():
        pytest.skip("there is no /usr/bin/prometheus (apt-get install prometheus)")
    cluster.apply(*_PROMETHEUS)
    wait = ("wait", "--namespace=monitoring", "--for=condition=Ready", "pod/prometheus", "--timeout=120s")
    cluster.kubectl(*wait)


def asked(cluster: Cluster, query: str) -> float | None:
    """The value of a query that gives one, None where it gives none."""
    words = ("exec", "--namespace=monitoring", "prometheus", "--", "python3", "-c", _QUERY, query)
    found = json.loads(cluster.kubectl(*words))["data"]["result"]
    return float(found[0]["value"][1]) if found else None


def scrapes_on(cluster: Cluster) -> None:
    """Ten scrapes more in a row, each of them well."""
    query = 'min_over_time(up{job="metered"}[10s]) * count_over_time(up{job="metered"}[10s])'
    until(lambda: (asked(cluster, query) or 0) >= 9, "ten good scrapes in ten seconds")
    until(lambda: asked(cluster, "metered_things_total") == 7, "what it scrapes")
