"""Objects of a cluster as ``ringfence k8s check`` looks at them, and what it finds in them."""

from __future__ import annotations

from typing import Any

import yaml

from k8s.ramp.check import check
from k8s.ramp.finding import Code, Finding
from k8s.ramp.snapshot import Cluster

NAMESPACE = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {ringfence.io/inject: enabled}}
"""
API = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: shop}
spec:
  template:
    metadata: {labels: {app: api}}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 1000}
      containers: [{name: app, image: "api:1", ports: [{name: http, containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: http}]}
"""
WEBHOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: checks}
webhooks:
  - name: checks.shop
    clientConfig: {service: {namespace: shop, name: api, port: 80}}
    rules: [{apiGroups: [shop.example], resources: [orders]}]
"""
UNDECLARED = API.replace(
    "metadata: {labels: {app: api}}",
    "metadata: {labels: {app: api}, annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9102'}}",
)
ANNOTATED = UNDECLARED.replace("containerPort: 8080}", "containerPort: 8080}, {name: metrics, containerPort: 9102}")
POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
"""
INJECTOR = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: ringfence, creationTimestamp: "2026-01-03T00:00:00Z"}
webhooks: []
"""


def objects(*texts: str) -> tuple[dict[str, Any], ...]:
    return tuple(one for text in texts for one in yaml.safe_load_all(text) if one)


def found(*texts: str, code: Code | None = None, **facts: Any) -> list[Finding]:
    findings = check(Cluster(items=objects(NAMESPACE, *texts), **facts))
    return [one for one in findings if code is None or one.code is code]


def pod(name: str = "api-1", *, metadata: str = "", spec: str = "") -> str:
    return f"""
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z", {metadata}}}
spec: {{securityContext: {{runAsNonRoot: true}}, containers: [{{name: app, image: a}}], {spec}}}
"""


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]
