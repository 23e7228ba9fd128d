"""``ringfence k8s check``: each thing that is found, with its mend, and its absence where the cluster keeps it."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from controlplane.intake.judging import services_of
from k8s.commands import k8s
from k8s.objects.pods import read_pod
from k8s.objects.services import read_service
from k8s.ramp.check import check, is_clean, report_lines
from k8s.ramp.facts import gates_of
from k8s.ramp.finding import Code, Finding, Weight
from k8s.ramp.snapshot import Cluster
from k8s.translate.cluster import Cluster as Objects
from k8s.translate.meshing import MeshSettings, Translator
from ringfence.policy.bind import Surroundings, bind
from ringfence.policy.documents import read_documents
from ringfence.spiffe import TrustDomain
from tests.fake_cluster import FakeCluster

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


def test_a_plain_workload_is_clean() -> None:
    assert found(API) == []


def test_what_is_not_of_the_mesh_is_not_looked_at() -> None:
    assert found(API.replace("namespace: shop", "namespace: other").replace("runAsNonRoot: true, ", "")) == []


# Scrapers, webhooks, entrances: who calls without being a member.

UNDECLARED = API.replace(
    "metadata: {labels: {app: api}}",
    "metadata: {labels: {app: api}, annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9102'}}",
)
ANNOTATED = UNDECLARED.replace("containerPort: 8080}", "containerPort: 8080}, {name: metrics, containerPort: 9102}")
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
WEBHOOK = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: checks}
webhooks:
  - name: checks.shop
    clientConfig: {service: {namespace: shop, name: api, port: 80}}
    rules: [{apiGroups: [shop.example], resources: [orders]}]
"""
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


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


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


# NetworkPolicies.

POLICY = """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: guard, namespace: shop}
spec:
  podSelector: {matchLabels: {app: api}}
"""


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

INJECTOR = """
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: ringfence, creationTimestamp: "2026-01-03T00:00:00Z"}
webhooks: []
"""


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


# The command.


def run(text: str, *args: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(k8s, ["check", "-f", "-", *args], input=text)
    return result.exit_code, result.stdout, result.stderr


def test_a_cluster_is_read_and_what_may_not_be_read_is_told() -> None:
    live = FakeCluster(NAMESPACE + "---" + ANNOTATED, gitversion="v1.28.3")
    live.forbidden.add("nodes")
    result = CliRunner().invoke(k8s, ["check", "--json"], obj=live.opener)
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert {one["code"] for one in told["findings"]} == {"cluster_version", "scraper"}
    assert any("nodes could not be read" in one for one in told["unread"])
    assert "feature gates could not be read" in result.stderr
    unknown = CliRunner().invoke(k8s, ["check", "-n", "shop,nowhere"], obj=live.opener)
    assert (unknown.exit_code, "'nowhere'" in unknown.stderr) == (2, True)


def test_secrets_are_never_asked_for() -> None:
    from k8s.ramp import reading

    assert not {"secrets", "configmaps"} & {one.plural for one in reading._READ}


def test_what_is_printed_can_be_applied() -> None:
    status, out, _ = run(NAMESPACE + "---" + ANNOTATED)
    assert status == 1
    [document] = [one for one in yaml.safe_load_all(out) if one]
    assert document["kind"] == "Allowlist"
    assert "# finding: Deployment shop/api" in out


def test_a_clean_cluster_ends_with_0_and_json_is_one_object() -> None:
    assert run(NAMESPACE + "---" + API)[0] == 0
    status, out, _ = run(NAMESPACE + "---" + ANNOTATED, "--json")
    assert status == 1
    assert json.loads(out)["findings"][0]["code"] == "scraper"
    assert json.loads(out)["namespaces"] == ["shop"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "standard input:2:1"),
        ("just text", "no object with a kind"),
        ("kind: Namespace\nmetadata: {name: x}", "there is nothing in 'shop'"),
        ("\x00", "standard input"),
    ],
)
def test_bad_input_ends_with_2_and_one_line(text: str, told: str) -> None:
    status, out, err = run(text, "--namespace", "shop")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


def test_names_that_speak_to_the_terminal_or_the_shell_are_escaped() -> None:
    evil = pod("'x\\e[31m; rm -rf /'").replace("'x\\e[31m", '"x\\e[31m').replace("/'", '/"')
    lines = list(report_lines(found(evil, INJECTOR)))
    assert "\x1b" not in "".join(lines)
    policy = POLICY.replace("name: guard", "name: 'guard; reboot'") + "  ingress: [{ports: [{port: 80}]}]"
    assert shlex.split(only(found(API, policy)).commands[0])[5] == "guard; reboot"


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], {"a": 1}])
@pytest.mark.parametrize(
    "kind", ["Pod", "Service", "Ingress", "NetworkPolicy", "Event", "Deployment", "Node", "Allowlist"]
)
def test_objects_of_any_shape_are_read_as_far_as_they_go(kind: str, value: Any) -> None:
    whole = {"kind": kind, "metadata": value, "spec": value, "status": value, "webhooks": value}
    parts = {
        "kind": kind,
        "metadata": {"name": "x", "namespace": "shop", "labels": value},
        "spec": {"containers": value, "ports": value, "rules": value, "ingress": value},
    }
    assert isinstance(is_clean(check(Cluster(items=(*objects(NAMESPACE, API), whole, parts)))), bool)
