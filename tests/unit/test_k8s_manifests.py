"""The chart, as it is rendered into the repository: who may do what, what runs as whom, and whom the webhooks see."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from ca.commands import ca
from controlplane.commands import controlplane
from k8s.commands import k8s
from k8s.crds.definition import KINDS, plural
from k8s.inject.settings import read_settings
from k8s.manifests import render
from k8s.objects import names
from k8s.ramp.injected import current_images
from k8s.ramp.snapshot import Cluster

VALUES: Any = yaml.safe_load((render.CHART / "values.yaml").read_text(encoding="utf-8"))
SCHEMA: Any = json.loads((render.CHART / "values.schema.json").read_text(encoding="utf-8"))
OBJECTS: list[Any] = list(yaml.safe_load_all(render.FILE.read_text(encoding="utf-8")))
NEVER = {*names.NEVER_MESHED, names.SYSTEM_NAMESPACE}


def one(kind: str, name: str = "ringfence") -> Any:
    (found,) = (item for item in OBJECTS if (item["kind"], item["metadata"]["name"]) == (kind, name))
    return found


def pods() -> Iterator[Any]:
    for item in OBJECTS:
        if item["kind"] in ("Deployment", "Job"):
            yield item["spec"]["template"]["spec"]


def rules(kind: str, name: str = "ringfence") -> list[tuple[str, ...]]:
    """Each rule as one line: groups, resources, names, verbs."""
    return [
        tuple(" ".join(rule.get(key, ["*"])) for key in ("apiGroups", "resources", "resourceNames", "verbs"))
        for rule in one(kind, name)["rules"]
    ]


# ------------------------------------------------------------------------------------------------------ up to date


def test_the_manifests_are_those_of_the_chart() -> None:
    assert not render.is_stale()
    assert render.main(["--check"]) == 0


def test_a_change_of_the_chart_makes_them_stale(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(render.CHART, tmp_path / "chart")
    monkeypatch.setattr(render, "CHART", tmp_path / "chart")
    assert not render.is_stale()
    with (tmp_path / "chart" / "values.yaml").open("a") as file:
        file.write("# more\n")
    assert render.is_stale()


def test_nothing_of_helm_is_left_in_them() -> None:
    text = render.FILE.read_text(encoding="utf-8")
    assert "helm.sh/" not in text
    assert ": Helm" not in text


# ---------------------------------------------------------------------------------------------------------- values


def test_the_values_are_those_of_their_schema() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert [error.message for error in Draft7Validator(SCHEMA).iter_errors(VALUES)] == []


def leaves(schema: Any, value: Any, way: str = "") -> Iterator[tuple[str, Any, Any]]:
    for key, inner in schema.get("properties", {}).items():
        if key == "global":
            continue
        yield f"{way}{key}", inner, value
        if inner.get("properties"):
            yield from leaves(inner, value[key], f"{way}{key}.")


def test_every_value_of_the_schema_has_its_default_and_its_words() -> None:
    text = (render.CHART / "values.yaml").read_text(encoding="utf-8")
    for way, _, held in leaves(SCHEMA, VALUES):
        assert way.rsplit(".", 1)[-1] in held, way
    # A comment goes before each top-level value, or before its first field.
    assert len(re.findall(r"^ *#", text, re.MULTILINE)) > 40


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 2},
        {"trustDomain": "Shop.Example"},
        {"trustDomain": ""},
        {"replicas": 0},
        {"replicas": "2"},
        {"image": {**VALUES["image"], "pullPolicy": "Sometimes"}},
        {"image": {**VALUES["image"], "digest": "sha256:1"}},
        {"sidecar": {**VALUES["sidecar"], "uid": -1}},
        {"sidecar": {**VALUES["sidecar"], "accessLog": "some"}},
        {"user": {"uid": 0}},
        {"persistence": {**VALUES["persistence"], "type": "nfs"}},
        {"webhooks": {**VALUES["webhooks"], "timeoutSeconds": 31}},
        {"revision": "Canary"},
        {"listen": "127.0.0.1"},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_before_anything_is_installed(wrong: dict[str, Any]) -> None:
    assert list(Draft7Validator(SCHEMA).iter_errors({**VALUES, **wrong}))


# ---------------------------------------------------------------------------------------------------- who may do what


def test_the_control_plane_may_do_this_and_nothing_else() -> None:
    documents = " ".join(sorted(plural(kind.name) for kind in KINDS))
    statuses = " ".join(sorted(f"{plural(kind.name)}/status" for kind in KINDS))
    assert rules("ClusterRole") == [
        ("", "namespaces pods services", "*", "get list watch"),
        ("discovery.k8s.io", "endpointslices", "*", "get list watch"),
        ("ringfence.io", documents, "*", "get list watch"),
        ("ringfence.io", statuses, "*", "get patch update"),
        ("apps", "controllerrevisions", "*", "create delete list watch"),
        ("authentication.k8s.io", "tokenreviews", "*", "create"),
        ("", "configmaps", "*", "create"),
        ("", "configmaps", "ringfence-trust", "get list watch patch update delete"),
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations validatingwebhookconfigurations",
            "ringfence",
            "get list watch patch update",
        ),
        ("", "events", "*", "create patch"),
        ("certificates.k8s.io", "clustertrustbundles", "*", "create"),
        (
            "certificates.k8s.io",
            "clustertrustbundles",
            "ringfence.io:svid:bundle",
            "get list watch patch update delete",
        ),
        ("certificates.k8s.io", "podcertificaterequests", "*", "get list watch"),
        ("certificates.k8s.io", "podcertificaterequests/status", "*", "patch update"),
        ("certificates.k8s.io", "signers", "ringfence.io/svid", "attest sign"),
    ]
    assert rules("Role") == [
        ("", "configmaps", "ringfence-root", "get"),
        ("coordination.k8s.io", "leases", "*", "create"),
        ("coordination.k8s.io", "leases", "ringfence", "get patch update"),
    ]


def test_who_makes_the_passphrase_may_not_read_it() -> None:
    assert rules("Role", "ringfence-passphrase") == [("", "secrets", "*", "create")]


def test_nobody_may_write_everything() -> None:
    for item in OBJECTS:
        for rule in item.get("rules", []) if item["kind"] in ("Role", "ClusterRole") else []:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            assert "secrets" not in rule["resources"] or rule["verbs"] == ["create"]


def test_owners_of_namespaces_write_documents_but_not_what_became_of_them() -> None:
    for name, verb in (("ringfence-policy-edit", "create"), ("ringfence-policy-view", "list")):
        (rule,) = one("ClusterRole", name)["rules"]
        assert verb in rule["verbs"]
        assert not [resource for resource in rule["resources"] if "/" in resource]


# ------------------------------------------------------------------------------------------------------ what runs how


def test_every_container_is_held_to_pod_security_restricted() -> None:
    found = list(pods())
    assert len(found) == 2
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert "hostNetwork" not in pod
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert container["resources"]["limits"]["memory"]


def test_the_passphrase_does_not_lie_with_the_keys() -> None:
    pod = one("Deployment")["spec"]["template"]["spec"]
    places = {volume["name"]: next(key for key in volume if key != "name") for volume in pod["volumes"]}
    assert places == {"data": "persistentVolumeClaim", "passphrase": "secret", "root": "configMap"}
    for container in pod["initContainers"]:
        assert not any(mount["mountPath"].startswith("/var/lib/ringfence/") for mount in container["volumeMounts"])


def test_commands_are_those_that_there_are() -> None:
    words = [container["args"] for pod in pods() for container in [*pod.get("initContainers", []), *pod["containers"]]]
    groups = {"ca": ca, "k8s": k8s}
    assert len(words) == 4
    for group, *rest in words:
        if group == "controlplane":
            continue
        command = groups[group].commands.get(rest[0]) if group == "ca" else k8s.get_command(None, rest[0])  # type: ignore[arg-type]
        assert command is not None, rest
        command.make_context(rest[0], list(rest[1:]))


def test_the_injector_takes_what_the_chart_says() -> None:
    args = one("Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    (option,) = (arg for arg in args if arg.startswith("--platform-option=inject="))
    settings = read_settings(option.removeprefix("--platform-option=inject="))
    assert settings.trust_domain == VALUES["trustDomain"]
    assert settings.host == "ringfence.ringfence-system.svc"
    assert settings.sidecar_uid == 0, "users and groups of sidecars are drawn"
    assert settings.default


def test_services_lead_to_the_ports_that_sidecars_and_the_api_server_dial() -> None:
    service = one("Service")["spec"]
    container = one("Deployment")["spec"]["template"]["spec"]["containers"][0]
    by_name = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {(port["port"], by_name[port["targetPort"]]) for port in service["ports"]} == {
        (names.JOIN_PORT, names.JOIN_PORT),
        (names.CONTROL_PORT, names.CONTROL_PORT),
        (names.WEBHOOK_SERVICE_PORT, names.WEBHOOK_PORT),
    }
    assert service["selector"].items() <= one("Deployment")["spec"]["template"]["metadata"]["labels"].items()


# ------------------------------------------------------------------------------------------------ whom webhooks see


def selected(selector: Any, labels: dict[str, str]) -> bool:
    for expression in selector.get("matchExpressions", []):
        value = labels.get(expression["key"])
        held = {
            "In": value in expression.get("values", []),
            "NotIn": value not in expression.get("values", []),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not held:
            return False
    return True


def seen(namespace: dict[str, str], pod: dict[str, str], hooks: Any = None) -> list[str]:
    return [
        webhook["name"].removesuffix(".ringfence.io")
        for webhook in (hooks or one("MutatingWebhookConfiguration"))["webhooks"]
        if selected(webhook["namespaceSelector"], namespace) and selected(webhook["objectSelector"], pod)
    ]


@pytest.mark.parametrize(
    ("namespace", "pod", "wanted"),
    [
        ({}, {}, []),
        ({names.INJECT: "enabled"}, {}, ["namespace.inject"]),
        ({names.INJECT: "enabled"}, {names.INJECT: "enabled"}, ["namespace.inject"]),
        ({names.INJECT: "enabled"}, {names.INJECT: "disabled"}, []),
        # What is written wrong is for the webhook to refuse.
        ({names.INJECT: "enabled"}, {names.INJECT: "yes"}, ["namespace.inject"]),
        ({names.INJECT: "disabled"}, {}, []),
        ({names.INJECT: "disabled"}, {names.INJECT: "enabled"}, ["pod.inject"]),
        ({}, {names.INJECT: "enabled"}, ["pod.inject"]),
        ({}, {names.INJECT: "yes"}, ["pod.inject"]),
        # Of another revision.
        ({names.INJECT: "enabled", names.REVISION: "canary"}, {}, []),
        ({names.INJECT: "enabled", names.REVISION: "canary"}, {names.REVISION: "canary"}, []),
        # A pod's own revision wins. Of one that is left to another it is told that it is.
        ({names.INJECT: "enabled", names.REVISION: "canary"}, {names.REVISION: ""}, ["namespace.revision"]),
        ({names.REVISION: "canary"}, {names.REVISION: "", names.INJECT: "enabled"}, ["pod.revision"]),
        ({names.REVISION: "canary"}, {names.REVISION: ""}, []),
        ({names.INJECT: "enabled"}, {names.REVISION: "canary"}, ["namespace.inject"]),
    ],
)
def test_each_pod_is_seen_once_or_not_at_all(namespace: dict[str, str], pod: dict[str, str], wanted: list[str]) -> None:
    assert seen({"kubernetes.io/metadata.name": "shop", **namespace}, pod) == wanted


def test_what_no_revision_injects_is_refused_where_it_would_be_injected() -> None:
    policy = one("ValidatingAdmissionPolicy", "ringfence-meshed-pods")["spec"]
    where, which = (policy["matchConstraints"][key] for key in ("namespaceSelector", "objectSelector"))
    shop = {"kubernetes.io/metadata.name": "shop", names.INJECT: "enabled"}
    for namespace in (shop, {**shop, names.REVISION: "nobody"}):
        assert selected(where, namespace)
    for namespace in ({**shop, names.INJECT: "disabled"}, *({**shop, "kubernetes.io/metadata.name": n} for n in NEVER)):
        assert not selected(where, namespace)
    assert selected(which, {names.REVISION: "nobody"})
    assert not selected(which, {names.INJECT: "disabled"})
    assert one("ValidatingAdmissionPolicyBinding", "ringfence-meshed-pods")["spec"]["validationActions"] == ["Deny"]
    (validation,) = policy["validations"]
    assert f"c.name == '{names.SIDECAR_CONTAINER}'" in validation["expression"]


@pytest.mark.parametrize("namespace", sorted(NEVER))
def test_the_cluster_itself_never_waits_for_us(namespace: str) -> None:
    labels = {"kubernetes.io/metadata.name": namespace, names.INJECT: "enabled"}
    assert seen(labels, {names.INJECT: "enabled"}) == []


def test_webhooks_fail_closed_and_bounded() -> None:
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        for webhook in one(kind)["webhooks"]:
            assert webhook["failurePolicy"] == "Fail"
            # The injector tells of refusals by events; both leave a trial run without a trace.
            assert webhook["sideEffects"] == ("NoneOnDryRun" if kind.startswith("Mutating") else "None")
            assert 1 <= webhook["timeoutSeconds"] <= 30
            # It is the control plane's to write; here, each upgrade would take it away.
            assert "caBundle" not in webhook["clientConfig"]
    assert {hook["reinvocationPolicy"] for hook in one("MutatingWebhookConfiguration")["webhooks"]} == {"IfNeeded"}


# ------------------------------------------------------------------------------------------------------------- helm

VARIANTS = {
    "two": {"replicas": "2", "database.existingSecret": "db", "ca.existingSecret": "ca"},
    "canary": {"revision": "canary", "database.existingSecret": "db", "ca.existingSecret": "ca"},
    "all": {
        "networkPolicy.enabled": "true",
        "monitoring.serviceMonitor.enabled": "true",
        "monitoring.rules.enabled": "true",
        "monitoring.dashboard.enabled": "true",
        "persistence.type": "existingClaim",
        "persistence.claim": "mine",
        "cni.enabled": "true",
        "tokenIssuers.hosts[0]": "login.example.org",
        "tokenIssuers.hosts[1]": "*.idp.example",
        "tokenIssuers.privateNetworks[0]": "10.20.0.0/16",
        "tokenIssuers.caConfigMap": "issuers-ca",
    },
    "trial": {"persistence.type": "emptyDir", "crds.install": "false", "admissionPolicies.enabled": "false"},
}


def with_helm(values: dict[str, str]) -> list[dict[str, Any]]:
    try:
        render.helm()
    except render.RenderError as error:
        pytest.skip(str(error))
    return render.template(*(f"--set={key}={value}" for key, value in values.items()))


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_it_renders_the_same_each_time(values: dict[str, str]) -> None:
    first = with_helm(values)
    assert first == render.template(*(f"--set={key}={value}" for key, value in values.items()))
    assert len({(item["kind"], item["metadata"]["name"]) for item in first}) == len(first)


def test_rendered_anew_it_says_the_same() -> None:
    with_helm({})
    assert render.rendered() == render.FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replicas": "2"}, "more than one needs ca.existingSecret and database.existingSecret"),
        ({"revision": "canary"}, "needs the authority and the database of the first"),
        ({"persistence.type": "hostPath"}, "name the folder on the node"),
        ({"persistence.type": "existingClaim"}, "name the claim that is there"),
    ],
)
def test_what_cannot_work_is_refused_with_the_mend(values: dict[str, str], words: str) -> None:
    with pytest.raises(render.RenderError, match=words):
        with_helm(values)


def test_two_control_planes_share_authority_and_database_and_keep_apart() -> None:
    found = with_helm(VARIANTS["two"])
    (deployment,) = (item for item in found if item["kind"] == "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    assert {volume["name"] for volume in pod["volumes"]} == {"data", "passphrase", "root", "authority", "database"}
    assert pod["volumes"][0] == {"name": "data", "emptyDir": {}}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    kinds = {item["kind"] for item in found}
    assert "PodDisruptionBudget" in kinds
    assert "PersistentVolumeClaim" not in kinds


@pytest.mark.parametrize(
    ("values", "volume", "made"),
    [
        ({}, {"persistentVolumeClaim": {"claimName": "ringfence-data"}}, True),
        ({"ca.existingSecret": "ca"}, {"persistentVolumeClaim": {"claimName": "ringfence-data"}}, True),
        ({"database.existingSecret": "db"}, {"persistentVolumeClaim": {"claimName": "ringfence-data"}}, True),
        (
            {"ca.existingSecret": "ca", "persistence.type": "hostPath", "persistence.path": "/data"},
            {"hostPath": {"path": "/data", "type": "Directory"}},
            False,
        ),
        ({"ca.existingSecret": "ca", "persistence.type": "emptyDir"}, {"emptyDir": {}}, False),
        ({"ca.existingSecret": "ca", "database.existingSecret": "db"}, {"emptyDir": {}}, False),
    ],
)
def test_a_volume_is_kept_as_long_as_anything_lies_in_it_alone(
    values: dict[str, str], volume: dict[str, Any], made: bool
) -> None:
    found = with_helm(values)
    (deployment,) = (item for item in found if item["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["volumes"][0] == {"name": "data", **volume}
    assert ("PersistentVolumeClaim" in {item["kind"] for item in found}) == made


def test_the_cni_plugin_is_put_onto_nodes_by_an_account_that_may_only_look_at_pods() -> None:
    found = {(item["kind"], item["metadata"]["name"]): item for item in with_helm(VARIANTS["all"])}
    assert found["ClusterRole", "ringfence-cni"]["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    ]
    daemon = found["DaemonSet", "ringfence-cni"]
    assert daemon["metadata"]["namespace"] == "kube-system"
    (container,) = daemon["spec"]["template"]["spec"]["containers"]
    command = k8s.get_command(None, container["args"][1])  # type: ignore[arg-type]
    assert command is not None
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for option in ("programs", "lists", "roots"):
        assert f"--{option}=/node/{option}" in container["args"]
        assert f"/node/{option}" in mounts
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["privileged"] is False
    args = found["Deployment", "ringfence"]["spec"]["template"]["spec"]["containers"][0]["args"]
    (option,) = (arg for arg in args if arg.startswith("--platform-option=inject="))
    assert read_settings(option.removeprefix("--platform-option=inject=")).cni


def test_token_issuers_are_told_to_the_control_plane_and_let_through_by_its_network_policy() -> None:
    found = {(item["kind"], item["metadata"]["name"]): item for item in with_helm(VARIANTS["all"])}
    pod = found["Deployment", "ringfence"]["spec"]["template"]["spec"]
    args = [arg for arg in pod["containers"][0]["args"] if arg.startswith("--token-issuer-")]
    assert args == [
        "--token-issuer-host=login.example.org",
        "--token-issuer-host=*.idp.example",
        "--token-issuer-network=10.20.0.0/16",
        "--token-issuer-ca-file=/etc/ringfence/token-issuers/ca.pem",
    ]
    known = {option for parameter in controlplane.params for option in parameter.opts}
    assert {arg.partition("=")[0] for arg in args} <= known
    (volume,) = (one for one in pod["volumes"] if one["name"] == "token-issuers")
    assert volume["configMap"] == {"name": "issuers-ca", "items": [{"key": "ca.pem", "path": "ca.pem"}]}
    assert {"name": "token-issuers", "mountPath": "/etc/ringfence/token-issuers", "readOnly": True} in pod[
        "containers"
    ][0]["volumeMounts"]
    assert {"ports": [{"protocol": "TCP", "port": 443}]} in found["NetworkPolicy", "ringfence"]["spec"]["egress"]
    without = {(item["kind"], item["metadata"]["name"]): item for item in with_helm({"networkPolicy.enabled": "true"})}
    assert {"ports": [{"protocol": "TCP", "port": 443}]} not in without["NetworkPolicy", "ringfence"]["spec"]["egress"]


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("hosts", "login.example.org", "https://login.example.org/"),
        ("hosts", "*.example.org", "*"),
        ("hosts", "login", "Login.example.org"),
        ("hosts", "a.b", 'a" --state=/x'),
        ("privateNetworks", "10.0.0.0/8", "10.0.0.1"),
        ("privateNetworks", "fd00::/8", "10.0.0.0/8,10.1.0.0/16"),
    ],
)
def test_the_schema_takes_of_token_issuers_what_the_control_plane_takes(key: str, good: str, bad: str) -> None:
    schema = SCHEMA["properties"]["tokenIssuers"]
    assert Draft7Validator(schema).is_valid({key: [good]})
    assert not Draft7Validator(schema).is_valid({key: [bad]})


def test_day_two_commands_find_the_revision_and_the_sidecars_image() -> None:
    assert current_images(Cluster(items=tuple(OBJECTS))) == {"": "ringfence:0.1.0"}


def test_a_revision_takes_namespaces_of_its_own_and_pods_that_name_it_elsewhere() -> None:
    found = with_helm(VARIANTS["canary"])
    (hooks,) = (item for item in found if item["kind"] == "MutatingWebhookConfiguration")
    shop = {"kubernetes.io/metadata.name": "shop", names.INJECT: "enabled"}
    own, other = {**shop, names.REVISION: "canary"}, {**shop, names.REVISION: "other"}
    assert seen(own, {}, hooks) == ["namespace.inject"]
    assert seen(own, {names.REVISION: "canary"}, hooks) == ["namespace.inject"]
    for namespace in (shop, other):
        assert seen(namespace, {}, hooks) == []
        assert seen(namespace, {names.REVISION: "canary"}, hooks) == ["namespace.revision"]
        assert seen(namespace, {names.REVISION: "canary", names.INJECT: "disabled"}, hooks) == []
        assert seen(namespace, {names.REVISION: "third"}, hooks) == []
    system = {"kubernetes.io/metadata.name": "kube-system", names.INJECT: "enabled"}
    assert seen(system, {names.REVISION: "canary"}, hooks) == []
    assert {item["metadata"]["name"] for item in found if item["kind"] == "Deployment"} == {"ringfence-canary"}
    assert current_images(Cluster(items=tuple(found))) == {"canary": "ringfence:0.1.0"}
    assert not [item for item in found if item["kind"] == "CustomResourceDefinition"]
