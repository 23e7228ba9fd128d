"""``ringfence k8s inject``: files in, files out, and nothing else of them changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from k8s.inject.documents import inject_document
from k8s.inject.injection import Injected, inject
from k8s.inject.yaml_text import YamlTextError, read, rewritten
from k8s.inject_command import command
from k8s.objects import names
from tests.golden_pods import GOLDEN, SETTINGS, SHOP, WORD, Golden, pod

SHOP_FILE = """\
# The shop
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}   # flow
spec:
  replicas: 2 # two
  template:
    metadata:
      labels:
        app: orders   # our app

    spec:
      # the app itself
      containers:
        # one
        - name: orders
          image: "localhost/orders:1"
          args: [serve, --since, 2020-01-01, 22:30, on]
          livenessProbe:
            tcpSocket: # plain
              port: 8080
            periodSeconds: 3
          readinessProbe: {httpGet: {port: http, path: /ok}}
          ports:
          - name: http
            containerPort: 8080
          command:
          - sh
          - -c
          - |
            # a script
            echo yes

      # after
---
apiVersion: v1
kind: Service
metadata:
  name: orders
spec:
  ports: [{port: 80}]
# end
"""


def run(*arguments: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(command, ["-f", "-", "--trust-domain", "shop.example", *arguments], input=given)


def workload(kind: str, version: str, way: tuple[str, ...], made: dict[str, Any]) -> dict[str, Any]:
    template: Any = {"metadata": {"labels": {"app": "a"}}, "spec": made["spec"]}
    for key in reversed(way):
        template = {key: template}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "a"}, **template}


def test_comments_order_and_other_objects_stay_as_they_were() -> None:
    done = run(given=SHOP_FILE)
    assert done.exit_code == 0, done.output
    kept = [line for line in SHOP_FILE.splitlines() if "tcpSocket" not in line and "{httpGet" not in line]
    kept.remove("              port: 8080")
    made = iter(done.stdout.splitlines())
    assert all(line in made for line in kept), "a line is gone, or is somewhere else"
    container = yaml.safe_load(done.stdout.split("\n---\n")[0])["spec"]["template"]["spec"]["containers"][0]
    assert container["livenessProbe"]["httpGet"]["path"] == "/app-health/orders/liveness"
    assert "1 of 1 workloads are injected" in done.stderr


def test_injected_twice_is_the_same() -> None:
    once = run(given=SHOP_FILE).stdout
    again = run(given=once)
    assert again.stdout == once and again.exit_code == 0


def test_the_same_file_comes_out_the_same_and_another_pod_with_another_account() -> None:
    def accounts(text: str) -> list[tuple[int, int]]:
        pods = [one["spec"]["template"]["spec"] for one in yaml.safe_load_all(text) if one["kind"] == "Deployment"]
        sidecars = [next(each for each in one["initContainers"] if "restartPolicy" in each) for one in pods]
        return [(one["securityContext"]["runAsUser"], one["securityContext"]["runAsGroup"]) for one in sidecars]

    made = run(given=SHOP_FILE).stdout
    assert made == run(given=SHOP_FILE).stdout
    (one,), (other,) = accounts(made), accounts(run(given=SHOP_FILE.replace("orders:1", "orders:2")).stdout)
    assert one != other


def test_lines_may_end_as_on_windows() -> None:
    done = run(given=SHOP_FILE.replace("\n", "\r\n").encode())
    assert yaml.safe_load_all(done.stdout) and "comments are left out" not in done.stderr
    assert [one.value for one in read(done.stdout)] == [one.value for one in read(run(given=SHOP_FILE).stdout)]


@pytest.mark.parametrize(
    ("kind", "version", "way"),
    [
        ("Deployment", "apps/v1", ("spec", "template")),
        ("StatefulSet", "apps/v1", ("spec", "template")),
        ("DaemonSet", "apps/v1", ("spec", "template")),
        ("ReplicaSet", "apps/v1", ("spec", "template")),
        ("Job", "batch/v1", ("spec", "template")),
        ("CronJob", "batch/v1", ("spec", "jobTemplate", "spec", "template")),
    ],
)
def test_the_pod_of_each_kind_of_workload_is_found(kind: str, version: str, way: tuple[str, ...]) -> None:
    made, told = inject_document(workload(kind, version, way, pod()), SETTINGS, "shop", lambda: WORD)
    template = made
    for key in way:
        template = template[key]
    assert template["spec"]["initContainers"][1]["name"] == names.SIDECAR_CONTAINER
    assert template["metadata"]["labels"] == {"app": "a", names.INJECTED: "true"}
    assert [(one.kind, one.outcome) for one in told] == [(kind, "injected")]
    assert names.INJECTED not in json.dumps(made.get("metadata"))


@pytest.mark.parametrize(
    "document",
    [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"template": pod()}},
        {"apiVersion": "example.com/v1", "kind": "Deployment", "spec": {"template": pod()}},
        {"kind": ["Pod"]},
        [pod()],
        None,
        "text",
        7,
    ],
)
def test_what_is_no_workload_stays_as_it_is(document: Any) -> None:
    assert inject_document(document, SETTINGS, "shop", lambda: WORD) == (document, [])


def test_objects_of_a_list_are_each_injected_where_they_stand() -> None:
    listed = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [pod(), {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}, pod(hostNetwork=True)],
    }
    made, told = inject_document(listed, SETTINGS, "shop", lambda: WORD)
    assert [(one.path, one.outcome) for one in told] == [(("items", 0), "injected"), (("items", 2), "refused")]
    assert made["items"][1] == listed["items"][1] and made["items"][2] == listed["items"][2]


def test_json_stays_json() -> None:
    done = run(given=json.dumps(pod(), indent=4))
    assert json.loads(done.stdout)["spec"]["initContainers"][1]["name"] == names.SIDECAR_CONTAINER


def test_a_refused_workload_is_told_by_its_place_and_nothing_is_printed() -> None:
    wrong = SHOP_FILE.replace("      containers:", "      hostNetwork: true\n      containers:")
    done = run(given=f"{wrong}---\n{SHOP_FILE}")
    assert done.exit_code == 2 and done.stdout == ""
    assert done.stderr.startswith("<stdin>:2:1: deployment shop/orders: spec.hostNetwork: ")


def test_a_warning_is_told_and_the_rest_is_done() -> None:
    done = run(given=yaml.safe_dump(GOLDEN["privileged-app"].pod))
    assert done.exit_code == 0 and "<stdin>:1:1: warning: pod shop/app: " in done.stderr


def test_facts_as_json() -> None:
    done = run("--json", given=SHOP_FILE)
    said = json.loads(done.stdout)
    assert said["objects"] == [
        {
            "kind": "Deployment",
            "namespace": "shop",
            "name": "orders",
            "outcome": "injected",
            "reason": "",
            "warnings": [],
        }
    ]
    assert len(said["documents"]) == 2


def test_a_workload_that_opted_out_is_named() -> None:
    done = run(given=SHOP_FILE.replace("app: orders", f"{names.INJECT}: disabled"))
    assert "deployment shop/orders stays as it is: its label says so" in done.stderr
    assert "0 of 1 workloads are injected" in done.stderr


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("a: [1", 2, "mend the YAML"),
        ("a: 1\nb: \t- c", 2, "mend the YAML"),
        ("a: 1\n--- \n\x00", 1, ""),
        ("a: !!python/object/apply:os.system [id]", 1, "mend the YAML"),
        ("1: a", 1, "a key is no text: '1' (quote it)"),
        ("? [a]\n: b", 1, ""),
        ("a: !!binary aGk=", 1, "nothing that Kubernetes reads"),
        ("a: &a [*a]", 1, ""),
        ("[" * 200_000, 1, "nested deeper"),
        ("{a: " * 101 + "}" * 101, 1, "nested deeper"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefg", "bcdefgh", strict=True)),
            1,
            "aliases that say too much",
        ),
    ],
)
def test_what_is_no_yaml_is_told_by_its_line(text: str, line: int, told: str) -> None:
    with pytest.raises(YamlTextError) as caught:
        read(text)
    assert told in str(caught.value) and caught.value.line == line
    done = run(given=text)
    assert done.exit_code == 2 and done.stdout == "" and done.stderr.startswith(f"<stdin>:{line}:")


def test_aliases_are_followed_and_the_file_is_written_anew() -> None:
    text = "x: &labels {app: a}\napiVersion: v1\nkind: Pod\nmetadata:\n  labels: *labels\n"
    text += "spec:\n  containers:\n  - {name: a}\n"
    done = run(given=text)
    made = yaml.safe_load(done.stdout)
    assert made["x"] == {"app": "a"} and made["metadata"]["labels"] == {"app": "a", names.INJECTED: "true"}
    assert "comments are left out" in done.stderr


@pytest.mark.parametrize("flow", [False, True, None])
@pytest.mark.parametrize("golden", GOLDEN.values(), ids=GOLDEN)
def test_every_pod_is_written_into_its_text(golden: Golden, flow: bool | None) -> None:
    if golden.pod["metadata"].get("annotations") and flow is None and "strange" in str(golden.pod):
        pytest.skip("the same as the others")
    text = "# head\n" + yaml.safe_dump(golden.pod, default_flow_style=flow, sort_keys=False) + "# tail\n"
    documents = read(text)
    outcome = inject(documents[0].value, SHOP, SETTINGS, WORD, asked=True)
    assert isinstance(outcome, Injected)
    made, kept = rewritten(text, documents, [outcome.pod])
    assert kept and made.startswith("# head\n") and made.endswith("# tail\n")
    assert yaml.safe_load(made) == outcome.pod


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-f", "-"], "--trust-domain: missing"),
        (["-f", "-", "--trust-domain", "Shop"], "injector: "),
        (["-f", "-", "--trust-domain", "shop.example", "--image", "a b"], "is no image"),
        (["-f", "/nowhere/a.yaml", "--trust-domain", "shop.example"], "cannot read /nowhere/a.yaml"),
        (["-f", "-", "--settings", "/nowhere/s.json"], "cannot read /nowhere/s.json"),
    ],
)
def test_wrong_words_of_the_command_line_end_it(arguments: list[str], told: str) -> None:
    done = CliRunner().invoke(command, arguments, input="")
    assert done.exit_code == 2 and told in done.stderr and done.stdout == ""


def test_settings_come_from_a_file_and_the_command_line_says_more(tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    file.write_text('{"trust_domain": "shop.example", "image": "old:1"}')
    done = CliRunner().invoke(
        command, ["-f", "-", "--settings", str(file), "--image", "new:1", "--cni"], input=SHOP_FILE
    )
    assert "image: new:1" in done.stdout and names.REDIRECT_CONTAINER not in done.stdout


@pytest.mark.parametrize("content", ["[]", "nonsense", "7"])
def test_a_settings_file_that_is_none_ends_it(tmp_path: Path, content: str) -> None:
    file = tmp_path / "s.json"
    file.write_text(content)
    done = CliRunner().invoke(command, ["-f", "-", "--settings", str(file)], input="")
    assert done.exit_code == 2 and str(file) in done.stderr


def test_bytes_that_are_no_text_are_refused() -> None:
    done = run(given=b"a: \xff")
    assert done.exit_code == 2 and "<stdin>:1:1: not UTF-8" in done.stderr
