"""Kinds of workloads and protocols, in pods of a meshed namespace: StatefulSets, CronJobs, gRPC, a database, and what
operators do with pods by kubectl."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.cluster.callers import caller, pod
from tests.cluster.cluster import Cluster, network_words
from tests.cluster.machine import environment, until
from tests.cluster.mesh import Mesh, running_pod, state
from tests.cluster.product_image import NAME
from tests.cluster.workloads import caller_pod

WHERE = "--namespace=shop"
_PLAIN = {"runAsUser": 1000}
_SERVE = """
import http.server, os
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(os.environ["HOSTNAME"].encode())
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Page).serve_forever()
"""
_GRPC_SERVER = """
import concurrent.futures, grpc, time
class All(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: details.method.encode())
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
server.add_generic_rpc_handlers([All()])
server.add_insecure_port("0.0.0.0:50051")
server.start()
time.sleep(10000)
"""
_GRPC_CALL = """
import grpc, sys
with grpc.insecure_channel("teller:50051") as channel:
    try:
        print(channel.unary_unary(sys.argv[1])(b"", timeout=10).decode())
    except grpc.RpcError as error:
        print(error.code().name, error.details())
"""
_POSTGRES = """
set -eu
program=$(ls /host/usr/lib/postgresql/*/bin/postgres | tail -n 1)
folder=$(dirname "${program#/host}")
as_nobody="chroot --userspec=65534:65534 /host"
$as_nobody "$folder/initdb" --pgdata=/mnt/data --auth=trust --username=shop --encoding=UTF8 --no-sync >/dev/null
echo "host all all all trust" >>/host/mnt/data/pg_hba.conf
exec $as_nobody "$folder/postgres" -D /mnt/data -c listen_addresses=0.0.0.0 -c unix_socket_directories=/mnt -c fsync=off
"""
_QUERY = """
import psycopg, sys
with psycopg.connect("host=books user=shop dbname=postgres connect_timeout=10 sslmode=disable") as connection:
    connection.execute("create table if not exists kept (word text)")
    connection.execute("insert into kept values ('tea')")
    print(connection.execute("select word from kept").fetchone()[0])
"""


def test_each_pod_of_a_stateful_set_is_reached_by_its_own_name(meshed: Mesh) -> None:
    cluster = meshed.cluster
    service = _service("shelves", 8080, "http", clusterIP="None")
    shelves = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "shelves", "namespace": "shop"},
        "spec": {
            **_replicas("shelves", [_app(_SERVE)], 2),
            "serviceName": "shelves",
            "podManagementPolicy": "Parallel",
        },
    }
    cluster.apply(
        service, shelves, _allowlist("shelves", [{"name": "reads", "from": ["web"], "to": {"ports": [8080]}}])
    )
    rolled = cluster.try_kubectl("rollout", "status", WHERE, "statefulset/shelves", "--timeout=90s")
    assert rolled.returncode == 0, state(cluster, "shop")
    with caller(cluster, "shop", caller_pod("asks-shelves", serviceAccountName="web")) as ask:
        for name in ("shelves-0", "shelves-1"):
            until(lambda name=name: ask("GET", f"{name}.shelves:8080/") == (200, name), f"an answer of {name}")
        assert ask("GET", "shelves:8080/")[1] in ("shelves-0", "shelves-1")
    with caller(cluster, "shop", caller_pod("asks-in-vain", serviceAccountName="ledger")) as ask:
        assert ask("GET", "shelves-0.shelves:8080/")[0] == 403
    cluster.kubectl("delete", WHERE, "statefulset/shelves", "service/shelves", "allowlist/shelves", "--wait=false")


def test_a_cron_job_completes(meshed: Mesh) -> None:
    cluster = meshed.cluster
    command = "import urllib.request as r; print(r.urlopen('http://orders:8080/healthz').read().decode())"
    spec = {"containers": [_app(command)], "restartPolicy": "Never", "serviceAccountName": "web"}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": "shop"},
        "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": spec}}}},
    }
    cluster.apply(cron)
    cluster.kubectl("create", "job", WHERE, "tonight", "--from=cronjob/nightly")
    done = cluster.try_kubectl("wait", WHERE, "job/tonight", "--for=condition=Complete", "--timeout=90s")
    assert done.returncode == 0, state(cluster, "shop")
    # The cluster's garbage collector takes the job after it.
    cluster.kubectl("delete", WHERE, "cronjob/nightly")


def test_grpc_methods_are_permitted_one_by_one(meshed: Mesh) -> None:
    cluster = meshed.cluster
    rule = {"name": "tells", "from": ["web"], "to": {"grpc": ["shop.Teller/Tell"]}}
    cluster.apply(
        _service("teller", 50051, "grpc"), _deployment("teller", [_app(_GRPC_SERVER)]), _allowlist("teller", [rule])
    )
    _rolled_out(cluster, "teller")
    with pod(cluster, "shop", caller_pod("calls-grpc", serviceAccountName="web")) as words:

        def made(method: str) -> str:
            return cluster.kubectl(*words, "python3", "-c", _GRPC_CALL, method).strip()

        until(lambda: made("/shop.Teller/Tell") == "/shop.Teller/Tell", "an answer")
        assert made("/shop.Teller/Forget").startswith("PERMISSION_DENIED")
    cluster.kubectl("delete", WHERE, "deployment/teller", "service/teller", "allowlist/teller", "--wait=false")


def test_a_postgresql_server_in_a_pod_is_reached_through_the_mesh(meshed: Mesh) -> None:
    cluster = meshed.cluster
    rule = {"name": "keeps", "from": ["orders"], "to": {"ports": [5432]}}
    server = {**_app(""), "command": ["sh", "-c", _POSTGRES], "securityContext": {"runAsUser": 0}}
    server["volumeMounts"] = [
        {"name": "host", "mountPath": "/host", "readOnly": True},
        {"name": "data", "mountPath": "/host/mnt"},
    ]
    volumes = [{"name": "host", "hostPath": {"path": "/"}}, {"name": "data", "emptyDir": {}}]
    cluster.apply(
        _service("books", 5432, "tcp"), _deployment("books", [server], volumes=volumes), _allowlist("books", [rule])
    )
    _rolled_out(cluster, "books")
    for account, answer in (("orders", "tea"), ("web", "")):
        with pod(cluster, "shop", caller_pod(f"queries-as-{account}", serviceAccountName=account)) as words:

            def asked(words: tuple[str, ...] = words) -> str:
                return cluster.try_kubectl(*words, "python3", "-c", _QUERY).stdout.strip()

            # Whoever may not is asked last, when the database is known to answer.
            until(lambda asked=asked, answer=answer: asked() == answer, "an answer of the database")
    cluster.kubectl("delete", WHERE, "deployment/books", "service/books", "allowlist/books", "--wait=false")


def test_exec_logs_and_port_forward_work(meshed: Mesh) -> None:
    cluster = meshed.cluster
    name = running_pod(cluster, "orders")["metadata"]["name"]
    assert cluster.kubectl("exec", WHERE, name, "--container=orders", "--", "echo", "here").strip() == "here"
    assert "snapshot in force" in cluster.kubectl("logs", WHERE, name, "--container=ringfence-sidecar")
    argv = cluster.kubectl_words("port-forward", WHERE, name, ":8080", "--address=127.0.0.1")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment(cluster.name)) as program:
        try:
            assert program.stdout is not None
            port = int(program.stdout.readline().split("127.0.0.1:")[1].split()[0])
            curl = ["curl", "--silent", "--max-time", "10", f"http://127.0.0.1:{port}/healthz"]
            got = subprocess.run([*network_words(cluster.name), *curl], capture_output=True, text=True, check=False)
            assert "well" in got.stdout, got
        finally:
            program.kill()


def _app(script: str) -> dict[str, Any]:
    command = ["python3", "-c", script]
    return {"name": "app", "image": NAME, "imagePullPolicy": "Never", "command": command, "securityContext": _PLAIN}


def _replicas(name: str, containers: list[dict[str, Any]], count: int, **spec: Any) -> dict[str, Any]:
    whole = {"containers": containers, "terminationGracePeriodSeconds": 1, **spec}
    template = {"metadata": {"labels": {"app": name}}, "spec": whole}
    return {"replicas": count, "selector": {"matchLabels": {"app": name}}, "template": template}


def _deployment(name: str, containers: list[dict[str, Any]], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": _replicas(name, containers, 1, **spec),
    }


def _service(name: str, port: int, protocol: str, **spec: Any) -> dict[str, Any]:
    ports = [{"name": protocol, "port": port, "appProtocol": protocol}]
    whole = {"selector": {"app": name}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"}, "spec": whole}


def _allowlist(name: str, rules: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"service": name, "rules": rules},
    }


def _rolled_out(cluster: Cluster, name: str) -> None:
    rolled = cluster.try_kubectl("rollout", "status", WHERE, f"deployment/{name}", "--timeout=90s")
    assert rolled.returncode == 0, state(cluster, "shop")
