"""What comes out of an injection, whatever pod goes in."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from k8s.inject.injection import Injected, Outcome, Refused, Untouched, inject
from k8s.inject.patching import difference
from k8s.inject.settings import InjectSettings
from k8s.objects import names
from k8s.objects.namespaces import Namespace
from sidecar.settings import load
from sidecar.settings_sources import given_by_environment
from tests.golden_pods import (
    CNI,
    FIXED,
    GOLDEN,
    RUNS_AS_FIXED,
    SETTINGS,
    SHOP,
    WORD,
    WRONG,
    Golden,
    Wrong,
    annotated,
    container,
    labelled,
    pod,
)
from tests.json_patches import patched


def injected(made: dict[str, Any], namespace: Namespace = SHOP, settings: InjectSettings = SETTINGS) -> dict[str, Any]:
    outcome = inject(made, namespace, settings, WORD)
    assert isinstance(outcome, Injected), outcome
    return outcome.pod


def variables(made: dict[str, Any]) -> dict[str, Any]:
    sidecar = next(one for one in made["spec"]["initContainers"] if one["name"] == names.SIDECAR_CONTAINER)
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in sidecar["env"]}


def answers(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(variables(made)["RINGFENCE_SIDECAR_PROBES"])
    return found


def account(made: dict[str, Any]) -> tuple[int, int]:
    """User and group of the sidecar."""
    sidecar = next(one for one in made["spec"]["initContainers"] if one["name"] == names.SIDECAR_CONTAINER)
    return sidecar["securityContext"]["runAsUser"], sidecar["securityContext"]["runAsGroup"]


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
@pytest.mark.parametrize("settings", [SETTINGS, CNI], ids=["init", "cni"])
def test_every_pod_comes_out_as_it_must(golden: Golden, settings: InjectSettings) -> None:
    before = copy.deepcopy(golden.pod)
    outcome = inject(golden.pod, golden.namespace, settings, WORD)
    assert isinstance(outcome, Injected), outcome
    assert golden.pod == before, "the pod that was given has changed"
    assert any(golden.warned in told for told in outcome.warnings) or not (golden.warned or outcome.warnings)

    spec = outcome.pod["spec"]
    first = [] if settings.cni else [names.REDIRECT_CONTAINER]
    own = [one["name"] for one in before["spec"].get("initContainers", [])]
    assert [one["name"] for one in spec["initContainers"]] == [*first, names.SIDECAR_CONTAINER, *own]
    assert [one["name"] for one in spec["containers"]] == [one["name"] for one in before["spec"]["containers"]]
    sidecar = spec["initContainers"][len(first)]
    assert len({one["name"] for one in sidecar["env"]}) == len(sidecar["env"]), "a variable stands twice"
    assert sidecar["restartPolicy"] == "Always" and sidecar["startupProbe"]["httpGet"]["port"] == 15020
    assert sidecar["securityContext"]["runAsNonRoot"]
    assert all(20_000 <= one < 60_000 for one in account(outcome.pod))
    assert sidecar["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert outcome.pod["metadata"]["labels"][names.INJECTED] == "true"
    assert json.loads(outcome.pod["metadata"]["annotations"][names.STATUS])["version"] == "1.2.3"

    # What the kubelet asks from outside goes to the sidecar, and the sidecar knows what to ask for each.
    known = answers(outcome.pod)
    asked = [probe for one in (*spec["containers"], *spec["initContainers"]) for probe in _asked(one)]
    assert sorted(path for port, path in asked if port == 15020 and path != "/readyz") == sorted(
        f"/app-health/{name}" + (f"/{WORD}" if name.endswith(("poststart", "prestop")) else "") for name in known
    )
    # Nothing else of the app's containers is another than before.
    for now, then in zip(spec["containers"], before["spec"]["containers"], strict=True):
        assert {key: value for key, value in now.items() if key not in _TURNED} == {
            key: value for key, value in then.items() if key not in _TURNED
        }
    for key in {*spec, *before["spec"]} - {"initContainers", "containers", "volumes"}:
        assert spec[key] == before["spec"][key]

    # Again: the same, byte for byte.
    again = inject(outcome.pod, golden.namespace, settings, WORD)
    assert isinstance(again, Injected)
    assert difference(outcome.pod, again.pod) == []
    # The patch says exactly this, also by way of JSON.
    patch = json.loads(json.dumps(difference(before, outcome.pod)))
    assert patched(before, patch) == outcome.pod


_TURNED = {"startupProbe", "livenessProbe", "readinessProbe", "lifecycle"}


def _asked(one: dict[str, Any]) -> list[tuple[Any, str]]:
    found = [one[key] for key in _TURNED if key != "lifecycle" and key in one]
    found += one.get("lifecycle", {}).values()
    for each in found:
        assert "tcpSocket" not in each and "grpc" not in each
    return [(each["httpGet"]["port"], each["httpGet"]["path"]) for each in found if "httpGet" in each]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_cannot_be_in_the_mesh_is_refused_by_one_line_with_the_mend(wrong: Wrong) -> None:
    outcome = inject(wrong.pod, wrong.namespace, SETTINGS, WORD)
    assert isinstance(outcome, Refused), outcome
    for part in wrong.told:
        assert part in outcome.message
    assert outcome.message.isprintable() and len(outcome.message) < 400
    assert outcome.message.endswith(")"), "no mend"


@pytest.mark.parametrize("wrong", RUNS_AS_FIXED.values(), ids=RUNS_AS_FIXED)
def test_no_container_runs_as_every_sidecar_of_the_cluster(wrong: Wrong) -> None:
    outcome = inject(wrong.pod, wrong.namespace, FIXED, WORD)
    assert isinstance(outcome, Refused) and all(part in outcome.message for part in wrong.told)
    assert isinstance(inject(wrong.pod, wrong.namespace, SETTINGS, WORD), Injected)
    assert account(injected(pod(), settings=FIXED)) == (15100, 15100)


def test_each_pod_has_a_sidecar_of_its_own_user_and_group() -> None:
    drawn = [inject(pod(), SHOP, SETTINGS, f"word {number}") for number in range(200)]
    found = [account(one.pod) for one in drawn if isinstance(one, Injected)]
    for one, (user, group) in zip(drawn, found, strict=True):
        assert isinstance(one, Injected)
        args = one.pod["spec"]["initContainers"][0]["args"]
        assert args[:6] == ["redirect", "install", "--sidecar-uid", str(user), "--sidecar-gid", str(group)]
        # What a pod in a user namespace of its own has at most.
        assert 1_000 < user < 65_536 and 1_000 < group < 65_536
    assert len(set(found)) == 200 and sum(user == group for user, group in found) < 3
    assert len({user for user, _ in found}) > 190 and len({group for _, group in found}) > 190


def test_no_container_has_the_sidecars_user_or_group() -> None:
    user, group = account(injected(pod()))
    for security in ({"runAsUser": user}, {"runAsGroup": group}, {"runAsUser": group, "runAsGroup": user}):
        neighbour = injected(pod(container(securityContext=security)))
        assert not {*account(neighbour)} & {*security.values()}
        of_pod = injected(pod(securityContext=security))
        assert not {*account(of_pod)} & {*security.values()}
        # One that came after the first injection is seen as well.
        later = injected(pod())
        later["spec"]["initContainers"].append(container("late", securityContext=security))
        assert not {*account(injected(later))} & {*security.values()}


def test_a_pod_keeps_its_sidecars_user_and_group_and_none_that_were_made_up() -> None:
    made = injected(pod())
    again = inject(made, SHOP, SETTINGS, "another-word-of-another-pod")
    assert isinstance(again, Injected) and again.pod == made
    for wrong in ({"runAsUser": 15100}, {"runAsGroup": 0}, {"runAsUser": 65_534}, {"runAsUser": None}):
        changed = copy.deepcopy(made)
        changed["spec"]["initContainers"][1]["securityContext"] |= wrong
        assert account(injected(changed)) == account(made)


@pytest.mark.parametrize(
    ("made", "namespace", "reason"),
    [
        (labelled(pod(), inject="disabled"), SHOP, "its label says so"),
        (labelled(pod(hostNetwork=True), inject="disabled"), SHOP, "its label says so"),
        (pod(), Namespace(name="shop"), "neither it nor its namespace"),
        (pod(), Namespace(name="shop", labels={names.INJECT: "disabled"}), "neither it nor its namespace"),
        (labelled(pod(), inject="enabled"), Namespace(name="kube-system"), "never in the mesh"),
        (labelled(pod(), inject="enabled"), Namespace(name="ringfence-system"), "never in the mesh"),
        (labelled(pod(), rev="canary"), SHOP, "revision 'canary'"),
        (
            {**pod(), "metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}},
            SHOP,
            "of the node's own files",
        ),
    ],
)
def test_a_pod_that_is_not_meant_stays_as_it_is(made: dict[str, Any], namespace: Namespace, reason: str) -> None:
    outcome = inject(made, namespace, SETTINGS, WORD)
    assert isinstance(outcome, Untouched) and reason in outcome.reason


def test_a_revision_takes_its_own_pods_and_the_default_one_those_that_name_none() -> None:
    canary = replace(SETTINGS, revision="canary", default=False)
    own = labelled(pod(), rev="canary")
    of_namespace = Namespace(name="shop", labels={**SHOP.labels, names.REVISION: "canary"})
    assert isinstance(inject(own, SHOP, canary, WORD), Injected)
    assert isinstance(inject(pod(), of_namespace, canary, WORD), Injected)
    assert isinstance(inject(pod(), SHOP, canary, WORD), Untouched)
    assert isinstance(inject(pod(), of_namespace, SETTINGS, WORD), Untouched)
    assert isinstance(inject(own, SHOP, replace(canary, revision="stable", default=True), WORD), Untouched)


def test_each_kind_of_probe_says_what_the_sidecar_must_ask() -> None:
    assert answers(injected(GOLDEN["every-probe"].pod)) == {
        "app/startup": {
            "http": {"port": 8080, "path": "/start", "scheme": "HTTP", "host": "", "headers": []},
            "timeout": 1,
        },
        "app/liveness": {"tcp": {"port": 8080}, "timeout": 4},
        "app/readiness": {"grpc": {"port": 9000, "service": "orders"}, "timeout": 1},
    }


def test_what_says_how_often_a_probe_asks_stays() -> None:
    made = injected(GOLDEN["every-probe"].pod)["spec"]["containers"][0]
    assert made["startupProbe"] == {
        "httpGet": {"path": "/app-health/app/startup", "port": 15020, "scheme": "HTTP"},
        "failureThreshold": 30,
        "periodSeconds": 2,
    }
    assert made["livenessProbe"]["timeoutSeconds"] == 4 and made["readinessProbe"]["initialDelaySeconds"] == 3


def test_no_value_of_a_probe_is_taken_for_a_variable_by_the_kubelet() -> None:
    made = injected(GOLDEN["probe-headers"].pod)
    assert "$" not in variables(made)["RINGFENCE_SIDECAR_PROBES"]
    assert answers(made)["app/liveness"]["http"]["headers"] == [["Host", "orders.example"], ["X-A", "$(HOME)"]]


def test_a_container_that_came_later_is_seen_when_the_webhook_is_asked_again() -> None:
    first = injected(GOLDEN["every-probe"].pod)
    first["spec"]["containers"].append(container("late", livenessProbe={"tcpSocket": {"port": 7000}}))
    first["spec"]["initContainers"].insert(0, container("hasty"))
    again = injected(first)
    assert [one["name"] for one in again["spec"]["initContainers"]] == [
        names.REDIRECT_CONTAINER,
        names.SIDECAR_CONTAINER,
        "hasty",
    ]
    assert answers(again).keys() == {"app/startup", "app/liveness", "app/readiness", "late/liveness"}
    assert again["spec"]["containers"][1]["livenessProbe"]["httpGet"]["path"] == "/app-health/late/liveness"


def test_a_hook_has_the_word_of_its_own_pod_and_keeps_it() -> None:
    def path(of: dict[str, Any]) -> str:
        return str(of["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"]["path"])

    made = injected(GOLDEN["hooks"].pod)
    assert path(made) == f"/app-health/app/prestop/{WORD}"
    again = inject(made, SHOP, SETTINGS, "another-word-of-another-pod")
    assert isinstance(again, Injected)
    assert again.pod == made
    # One of an earlier version had none: the sidecar of this one would not start.
    older = json.loads(json.dumps(made).replace(f"/{WORD}", "").replace(f',\\"word\\":\\"{WORD}\\"', ""))
    assert "word" not in answers(older)["app/prestop"]
    assert injected(older) == made


def test_no_container_of_ours_runs_what_the_author_wrote() -> None:
    first = injected(pod())
    for one in first["spec"]["initContainers"]:
        one |= {"command": ["sh", "-c", "evil"], "envFrom": [{"secretRef": {"name": "evil"}}], "workingDir": "/evil"}
        one |= {"lifecycle": {"postStart": {"exec": {"command": ["evil"]}}}, "stdin": True}
    assert "evil" not in json.dumps(injected(first))


def test_the_redirects_container_has_nothing_of_others_but_what_the_api_server_mounts() -> None:
    first = injected(pod())
    account = {
        "name": "kube-api-access",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    }
    over_ours = {"name": "evil", "mountPath": "/opt/ringfence/code"}
    first["spec"]["initContainers"][0] |= {
        "volumeMounts": [over_ours, account, {**account, "mountPath": "/usr/lib"}],
        "env": [{"name": "PYTHONPATH", "value": "/evil"}, {"name": "LD_PRELOAD", "value": "/evil.so"}],
    }
    redirect = injected(first)["spec"]["initContainers"][0]
    assert redirect["name"] == names.REDIRECT_CONTAINER
    assert redirect["volumeMounts"] == [account] and "env" not in redirect


def test_what_others_put_into_the_sidecar_stays_and_what_is_ours_is_put_right() -> None:
    first = injected(pod())
    sidecar = first["spec"]["initContainers"][1]
    sidecar["volumeMounts"].append({"name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": True})
    sidecar["env"].append({"name": "TZ", "value": "UTC"})
    sidecar["env"].append({"name": "RINGFENCE_SIDECAR_JOIN", "value": "evil:1"})
    sidecar["securityContext"] |= {"runAsUser": 0, "runAsNonRoot": False, "capabilities": {"add": ["ALL"]}}
    sidecar["image"] = "evil"
    sidecar["resizePolicy"] = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]
    again = injected(first)["spec"]["initContainers"][1]
    assert again["volumeMounts"][-1]["name"] == "kube-api-access" and "resizePolicy" in again
    assert [one for one in again["env"] if one["name"] == "TZ"]
    assert [one["value"] for one in again["env"] if one["name"] == "RINGFENCE_SIDECAR_JOIN"] == [
        "ringfence.ringfence-system.svc:7401"
    ]
    assert again["image"] == SETTINGS.image
    assert again["securityContext"] == injected(pod())["spec"]["initContainers"][1]["securityContext"]


def test_a_pod_of_another_version_becomes_one_of_this_version() -> None:
    old = injected(GOLDEN["every-probe"].pod, settings=replace(SETTINGS, version="0.9", image="localhost/old:1"))
    old["spec"]["initContainers"][1]["workingDir"] = "/old"
    assert difference(injected(old), injected(GOLDEN["every-probe"].pod)) == []


def test_a_pod_that_was_injected_for_the_redirect_loses_it_under_cni() -> None:
    assert difference(injected(injected(pod()), settings=CNI), injected(pod(), settings=CNI)) == []


def test_an_annotation_alone_does_not_make_a_container_ours() -> None:
    outcome = inject(
        annotated(pod(container(names.SIDECAR_CONTAINER)), status='{"version":"1.2.3"}'), SHOP, SETTINGS, WORD
    )
    assert isinstance(outcome, Refused) and "rename it" in outcome.message


@pytest.mark.parametrize("status", ["", "[", "[]", '{"version":1}', "x" * 100_000, "[" * 100_000])
def test_a_status_that_says_nothing_is_written_anew(status: str) -> None:
    again = injected(annotated(injected(pod()), status=status))
    assert difference(again, injected(pod())) == []


def test_limits_and_requests_are_as_wished_and_in_the_servers_own_words() -> None:
    def resources(name: str) -> dict[str, Any]:
        found: dict[str, Any] = injected(GOLDEN[name].pod)["spec"]["initContainers"][1]["resources"]
        return found

    assert resources("plain") == {"limits": {"memory": "512Mi"}, "requests": {"cpu": "20m", "memory": "64Mi"}}
    assert resources("guaranteed") == {
        "limits": {"cpu": "500m", "memory": "128Mi"},
        "requests": {"cpu": "500m", "memory": "128Mi"},
    }
    assert resources("low-memory-limit") == {"limits": {"memory": "48Mi"}, "requests": {"cpu": "1", "memory": "48Mi"}}
    # Of what the pod asks for as a whole the sidecar asks for nothing of its own, unless somebody wishes.
    assert resources("resources-of-the-pod") == {}
    assert resources("resources-of-the-pod-and-wishes") == {
        "limits": {"memory": "96Mi"},
        "requests": {"cpu": "10m", "memory": "96Mi"},
    }
    assert resources("high-memory-request")["limits"] == {"memory": "2Gi"}


def test_exclusions_are_whole_words_of_the_redirects_arguments() -> None:
    args = injected(GOLDEN["excluded-ports"].pod)["spec"]["initContainers"][0]["args"]
    assert args[args.index("--exclude-inbound-port") + 1] == "9100,9200,9201,9202,9203"
    assert args[args.index("--exclude-cidr") + 1] == "10.0.0.0/8,fd00::/8"


def test_what_a_pod_wishes_wins_over_what_its_namespace_wishes() -> None:
    golden = GOLDEN["wishes-of-the-namespace"]
    given = variables(injected(golden.pod, golden.namespace))
    assert (given["RINGFENCE_SIDECAR_LOG_LEVEL"], given["RINGFENCE_SIDECAR_DRAIN"]) == ("warning", "1s")


def test_identity_comes_from_the_cluster_and_never_from_the_pods_own_words() -> None:
    given = variables(injected(pod()))
    assert given["RINGFENCE_SIDECAR_SPIFFE_ID"] == "spiffe://shop.example/ns/$(POD_NAMESPACE)/sa/$(SERVICE_ACCOUNT)"
    assert given["POD_NAMESPACE"] == {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    assert list(given).index("POD_NAMESPACE") < list(given).index("RINGFENCE_SIDECAR_SPIFFE_ID")


@pytest.mark.parametrize("settings", [SETTINGS, CNI], ids=["init", "cni"])
def test_whoever_redirects_the_sidecar_is_told_to_look_whether_it_did(settings: InjectSettings) -> None:
    assert variables(injected(pod(), settings=settings))["RINGFENCE_SIDECAR_EXPECT_REDIRECT"] == "true"


def test_the_sidecar_is_told_the_addresses_of_its_pod() -> None:
    told = variables(injected(pod()))["RINGFENCE_SIDECAR_POD_ADDRESS"]
    assert told == {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIPs"}}


def test_the_plugin_is_told_what_it_must_leave_out() -> None:
    golden = GOLDEN["excluded-ports"]
    status = json.loads(injected(golden.pod, settings=CNI)["metadata"]["annotations"][names.STATUS])
    assert status["redirect"] == "cni" and status["exclude"] == {
        "inbound_ports": [9100, 9200, 9201, 9202, 9203, 15020],
        "outbound_ports": [25],
        "outbound_cidrs": ["10.0.0.0/8", "fd00::/8"],
    }


def test_somebody_who_asks_for_one_pod_is_not_asked_for_its_namespaces_label() -> None:
    nowhere = Namespace(name="shop")
    outcome: Outcome = inject(pod(), nowhere, SETTINGS, WORD, asked=True)
    assert isinstance(outcome, Injected)
    assert isinstance(inject(labelled(pod(), inject="disabled"), nowhere, SETTINGS, WORD, asked=True), Untouched)


@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_the_sidecar_understands_what_it_is_told(golden: Golden) -> None:
    """Every setting by the sidecar's own reader, as the kubelet would fill it in."""
    given = variables(injected(golden.pod, golden.namespace))
    filled = {"POD_NAMESPACE": "shop", "SERVICE_ACCOUNT": "default"}
    downward = {"metadata.name": "app-1", "status.podIPs": "10.0.0.5,fd00::5"}
    environment = {}
    for name, value in given.items():
        if not name.startswith("RINGFENCE_SIDECAR_"):
            continue
        text = downward[value["fieldRef"]["fieldPath"]] if isinstance(value, dict) else value
        for variable, meant in filled.items():
            text = text.replace(f"$({variable})", meant)
        environment[name] = text
    settings = load(given_by_environment(environment))
    assert str(settings.identity.spiffe_id) == "spiffe://shop.example/ns/shop/sa/default"
    assert settings.pod.addresses == ("10.0.0.5", "fd00::5")
    assert {f"{probe.container}/{probe.kind}" for probe in settings.pod.probes} == answers(
        injected(golden.pod, golden.namespace)
    ).keys()
