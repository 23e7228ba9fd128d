"""``ringfence k8s check``: each thing that is found, with its mend, and its absence where the cluster keeps it."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml

from controlplane.intake.judging import services_of
from k8s.objects.pods import read_pod
from k8s.objects.services import read_service
from k8s.ramp.check import check, is_clean
from k8s.ramp.finding import Code, Finding, Weight
from k8s.ramp.snapshot import Cluster
from k8s.translate.cluster import Cluster as Objects
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import read_documents
from ringfence.spiffe import TrustDomain
from tests.ramp_objects import ANNOTATED, API, NAMESPACE, UNDECLARED, WEBHOOK, found, objects, only


def test_a_plain_workload_is_clean() -> None:
    assert found(API) == []


def test_what_is_not_of_the_mesh_is_not_looked_at() -> None:
    assert found(API.replace("namespace: shop", "namespace: other").replace("runAsNonRoot: true, ", "")) == []


# Scrapers, webhooks, entrances: who calls without being a member.

PROMETHEUS = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: prometheus, namespace: NAMESPACE}
spec:
  template:
    metadata: {labels: {app.kubernetes.io/name: prometheus}}
    spec:
      securityContext: {runAsNonRoot: true}
      containers: [{name: prometheus, image: "quay.io/prometheus/prometheus:v3"}]
"""
MONITOR = """
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: api, namespace: monitoring}
spec:
  namespaceSelector: {matchNames: [shop]}
  selector: {matchLabels: {team: a}}
  endpoints: [{port: http, path: /internal/metrics}]
"""
MONITORED = API.replace(
    "metadata: {name: api, namespace: shop}\nspec: {sel",
    "metadata: {name: api, namespace: shop, labels: {team: a}}\nspec: {sel",
)
INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front, namespace: shop}
spec:
  rules:
    - host: shop.example
      http:
        paths: [{path: /v1/, pathType: Prefix, backend: {service: {name: api, port: {name: http}}}}]
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: front, namespace: edge}
spec:
  hostnames: [shop.example]
  rules: [{backendRefs: [{name: api, namespace: shop, port: 80}]}]
"""


def rule_of(finding: Finding) -> dict[str, Any]:
    [document] = finding.documents
    assert read_documents(yaml.safe_dump(dict(document)), "made")[1] == []
    [rule] = document["spec"]["rules"]
    assert isinstance(rule, dict)
    return rule


@pytest.mark.parametrize(
    ("text", "code", "to"),
    [
        (ANNOTATED, Code.SCRAPER, {"ports": [9102], "methods": ["GET"], "paths": ["/metrics"]}),
        (
            MONITORED + MONITOR.replace("\napi", "\n---\napi", 1),
            Code.SCRAPER,
            {"ports": [8080], "methods": ["GET"], "paths": ["/internal/metrics"]},
        ),
        (API + "---" + WEBHOOK, Code.WEBHOOK, {"ports": [8080]}),
        (
            API + "---" + INGRESS,
            Code.ENTRANCE,
            {"ports": [8080], "hosts": ["shop.example"], "paths": ["/v1", "/v1/**"]},
        ),
        (API + "---" + ROUTE, Code.ENTRANCE, {"ports": [8080], "hosts": ["shop.example"]}),
        (API.replace("spec: {selector", "spec: {type: LoadBalancer, selector"), Code.ENTRANCE, {"ports": [8080]}),
        (API.replace("spec: {selector", "spec: {type: NodePort, selector"), Code.ENTRANCE, {"ports": [8080]}),
    ],
)
def test_who_calls_from_outside_gets_the_smallest_rule_and_plaintext(text: str, code: Code, to: dict[str, Any]) -> None:
    finding = only(found(text, code=code))
    rule = rule_of(finding)
    assert rule["from"] == [{"unauthenticated": True}]
    assert rule["to"] == to
    assert finding.commands == ("kubectl annotate --overwrite service -n shop api ringfence.io/mode=permissive",)
    assert finding.weight is Weight.FINDING
    kept = yaml.safe_dump(dict(finding.documents[0]))
    annotated = text.replace(
        "metadata: {name: api, namespace: shop",
        "metadata: {name: api, annotations: {ringfence.io/mode: permissive}, namespace: shop",
        2,
    )
    assert found(annotated, kept, code=code) == []
    assert found(annotated, code=code)[0].commands == ()
    assert found(text, kept, code=code)[0].commands, "the rule alone lets no plaintext in"


def test_a_caller_in_the_mesh_is_let_in_by_its_identity_and_no_plaintext() -> None:
    finding = only(found(ANNOTATED, PROMETHEUS.replace("NAMESPACE", "shop"), code=Code.SCRAPER))
    assert rule_of(finding)["from"] == ["shop/prometheus"]
    assert finding.commands == ()
    outside = only(found(ANNOTATED, PROMETHEUS.replace("NAMESPACE", "monitoring"), code=Code.SCRAPER))
    assert rule_of(outside)["from"] == [{"unauthenticated": True}]
    assert "monitoring/prometheus" in outside.what


def test_a_rule_that_permits_less_or_only_in_shadow_keeps_nothing() -> None:
    finding = only(found(ANNOTATED, code=Code.SCRAPER))
    permissive = NAMESPACE.replace("enabled}", "enabled}, annotations: {ringfence.io/mode: permissive}")
    for change in (
        lambda spec: spec["rules"][0]["to"].update(paths=["/other"]),
        lambda spec: spec["rules"][0]["to"].update(hosts=["only.example"]),
        lambda spec: spec["rules"][0].update(when="false"),
        lambda spec: spec.update(mode="shadow"),
        lambda spec: spec.update(service="other"),
    ):
        document = json.loads(json.dumps(dict(finding.documents[0])))
        change(document["spec"])
        assert found(permissive, ANNOTATED, json.dumps(document), code=Code.SCRAPER)
    wider = json.loads(json.dumps(dict(finding.documents[0])))
    del wider["spec"]["rules"][0]["to"]["paths"]
    assert not check(Cluster(items=objects(permissive, ANNOTATED, json.dumps(wider))))


def test_a_port_that_nothing_tells_of_must_be_declared_first() -> None:
    finding = only(found(UNDECLARED, code=Code.SCRAPER))
    assert "declare the port by a containerPort 9102, or it is none of the mesh" in finding.mend
    words = shlex.split(finding.commands[0])
    assert words[:6] == ["kubectl", "patch", "deployment", "-n", "shop", "api"]
    (container,) = json.loads(words[-1])["spec"]["template"]["spec"]["containers"]
    assert container == {"name": "app", "ports": [{"containerPort": 9102}]}
    kept = yaml.safe_dump(dict(finding.documents[0]))
    permissive = NAMESPACE.replace("enabled}", "enabled}, annotations: {ringfence.io/mode: permissive}")
    assert found(permissive, UNDECLARED, kept, code=Code.SCRAPER), "a rule about no port of the mesh keeps nothing"
    two = UNDECLARED.replace("containers: [", "containers: [{name: other, image: b}, ")
    assert not any("containerPort" in one for one in only(found(two, code=Code.SCRAPER)).commands)


LIVE = """
apiVersion: v1
kind: Pod
metadata:
  name: api-1
  namespace: shop
  uid: u1
  labels: {app: api, ringfence.io/injected: "true"}
  annotations: {prometheus.io/scrape: "true", prometheus.io/port: "9102"}
spec:
  serviceAccountName: api
  securityContext: {runAsNonRoot: true}
  initContainers: [{name: ringfence-sidecar, image: s, restartPolicy: Always}]
  containers:
    - {name: app, image: a, ports: [{name: http, containerPort: 8080}, {name: NAME, containerPort: 9102}]}
status: {phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {type: NodePort, selector: {app: api}, ports: [{name: http, port: 80, targetPort: http}]}
---
"""
OF_METRICS = """
apiVersion: v1
kind: Service
metadata: {name: metrics, namespace: shop}
spec: {selector: {app: api}, ports: [{name: NAME, port: 80, targetPort: 9102}]}
---
"""


@pytest.mark.parametrize("name", ["metrics", "http-metrics", "tcp-metrics", "mqtt", "postgresql"])
@pytest.mark.parametrize("service", ["", OF_METRICS])
def test_what_it_writes_the_mesh_takes(name: str, service: str) -> None:
    """A rule about a port that another Service leads to, or with words of HTTP where bytes are opaque, is an error."""
    texts = [one.replace("NAME", name) for one in (LIVE, service)]
    findings = found(*texts)
    assert {one.code for one in findings} == {Code.SCRAPER, Code.ENTRANCE}
    mesh = Translator(MeshSettings(trust_domain=TrustDomain("shop.example"))).mesh(
        Objects(
            services=[read_service(one) for one in objects(*texts) if one["kind"] == "Service"],
            pods=[read_pod(one) for one in objects(*texts) if one["kind"] == "Pod"],
        )
    )
    written = [one for finding in findings for one in finding.documents]
    documents = [read_documents(yaml.safe_dump(dict(one)), "made")[0][0] for one in written]
    around = Surroundings(services=services_of(mesh), lenient=True, trust_domain=mesh.trust_domain)
    assert bind(documents, around).errors == []
    (scraped,) = (one["spec"] for one in written if one["metadata"]["name"].endswith("scrape-9102"))
    assert scraped["service"] == ("metrics" if service else "api")
    assert ("paths" in scraped["rules"][0]["to"]) is (name in ("metrics", "http-metrics"))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("sessionAffinity: ClientIP", "sessionAffinity ClientIP"),
        ("internalTrafficPolicy: Local", "internalTrafficPolicy Local"),
        ("trafficDistribution: PreferClose", "trafficDistribution PreferClose"),
    ],
)
def test_what_a_service_asks_of_the_network_and_the_mesh_does_not_do_is_a_notice(spec: str, told: str) -> None:
    asking = API.replace("spec: {selector", f"spec: {{{spec}, selector")
    finding = only(found(asking, code=Code.SERVICE_CHOICE))
    assert (finding.subject, finding.weight, told in finding.what) == ("Service shop/api", Weight.NOTICE, True)
    plain = API.replace("spec: {selector", "spec: {sessionAffinity: None, internalTrafficPolicy: Cluster, selector")
    assert found(plain) == []
    assert found(asking.replace("namespace: shop", "namespace: other")) == []


def test_what_goes_past_the_mesh_is_a_notice() -> None:
    both = API.replace("ports: [{name: http", "ports: [{name: dns, port: 53, protocol: UDP}, {name: http")
    finding = only(found(both, code=Code.NOT_CARRIED))
    assert "UDP 53 goes past it" in finding.what
    assert is_clean(found(both))


def test_two_rules_of_a_long_name_are_two_documents() -> None:
    name = "a-service-whose-name-is-as-long-as-the-api-server-takes-it-here"
    assert len(name) == 63
    long = ANNOTATED.replace("namespace: shop}\nspec: {sel", "namespace: shop}\nspec: {type: NodePort, sel")
    long = long.replace("{name: api, namespace: shop}\nspec: {type", f"{{name: {name}, namespace: shop}}\nspec: {{type")
    made = [one for finding in found(long) for one in finding.documents]
    names = [one["metadata"]["name"] for one in made]
    assert len(set(names)) == len(names) == 2
    for one in made:
        assert read_documents(yaml.safe_dump(dict(one)), "made")[1] == []


def test_a_rewritten_path_is_left_open() -> None:
    rewriting = INGRESS.replace("namespace: shop}", "namespace: shop, annotations: {nginx/rewrite-target: /}}")
    assert "paths" not in rule_of(only(found(API, rewriting, code=Code.ENTRANCE)))["to"]


# Outside destinations.


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (
            "kind: Service\nmetadata: {name: db, namespace: shop}\n"
            "spec: {type: ExternalName, externalName: db.example.com, ports: [{port: 5432}]}",
            {"name": "db", "hosts": ["db.example.com"], "ports": [5432]},
        ),
        (
            "kind: Service\nmetadata: {name: old, namespace: shop}\n"
            "spec: {ports: [{port: 80, targetPort: 8000}]}\n---\n"
            "kind: EndpointSlice\nmetadata: {name: x, namespace: shop, labels: {kubernetes.io/service-name: old}}\n"
            "endpoints: [{addresses: [192.0.2.7]}]",
            {"name": "old", "cidrs": ["192.0.2.7/32"], "ports": [80, 8000]},
        ),
        (
            API.replace("image: ", "env: [{name: DB, value: 'postgres://u:p4ss@db.example.com/x'}], image: "),
            {"name": "to-db-example-com", "hosts": ["db.example.com"], "ports": [5432]},
        ),
        (
            API.replace("image: ", "args: ['--sink=https://192.0.2.9:8443/x'], image: "),
            {"name": "to-192-0-2-9", "cidrs": ["192.0.2.9/32"], "ports": [8443]},
        ),
    ],
)
def test_a_destination_outside_gets_an_egress_rule(text: str, rule: dict[str, Any]) -> None:
    finding = only(found(text, code=Code.OUTSIDE))
    assert rule_of(finding) == rule
    assert "p4ss" not in repr(finding)
    assert found(text, yaml.safe_dump(dict(finding.documents[0])), code=Code.OUTSIDE) == []


@pytest.mark.parametrize(
    "url", ["http://api.shop.svc/x", "http://api.shop.svc.cluster.local", "http://127.0.0.1:1/", "http://api"]
)
def test_what_is_in_the_cluster_is_no_destination_outside(url: str) -> None:
    assert found(API.replace("image: ", f"args: ['{url}'], image: "), code=Code.OUTSIDE) == []


def test_the_api_servers_own_service_is_none_of_the_namespaces() -> None:
    own = (
        "kind: Service\nmetadata: {name: kubernetes, namespace: default}\nspec: {ports: [{port: 443}]}\n---\n"
        "kind: Endpoints\nmetadata: {name: kubernetes, namespace: default}\nsubsets: [{addresses: [{ip: 192.0.2.1}]}]"
    )
    assert found(own, namespaces=frozenset({"default"})) == []
    assert found(own.replace("kubernetes", "mine"), namespaces=frozenset({"default"})) != []
