"""Pods from which tests make calls: one at a time, or one after another for as long as a block takes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.machine import ClusterError, environment
from tests.cluster.mesh import SHOP, answered

_LOAD: Final = """
import json, select, sys, time
from http.client import HTTPConnection, HTTPException

places = json.loads(sys.argv[1])
done, failed, told = 0, [], False
while not select.select([sys.stdin], [], [], 0)[0]:
    for method, place, body in places:
        address, _, path = place.partition("/")
        connection = HTTPConnection(address, timeout=10)
        try:
            connection.request(method, "/" + path, json.dumps(body) if body else None)
            response = connection.getresponse()
            answer = response.read().decode()
            if response.status >= 300:
                failed.append(f"{time.time():.3f} {method} {place}: {response.status} {answer}")
        except (OSError, HTTPException) as error:
            failed.append(f"{time.time():.3f} {method} {place}: {error!r}")
        finally:
            connection.close()
        done += 1
    if not told:
        print("begun", flush=True)
        told = True
    time.sleep(0.02)
print(json.dumps({"done": done, "failed": failed[:50]}))
"""


@contextmanager
def pod(cluster: Cluster, namespace: str, wanted: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """A pod that is there and ready for the block; the words of `kubectl exec` for its container `caller`."""
    name = wanted["metadata"]["name"]
    where = f"--namespace={namespace}"
    cluster.apply({**wanted, "metadata": {**wanted["metadata"], "namespace": namespace}})
    try:
        waited = cluster.try_kubectl("wait", where, f"pod/{name}", "--for=condition=Ready", "--timeout=90s")
        if waited.returncode != 0:
            raise ClusterError(cluster.try_kubectl("describe", where, f"pod/{name}").stdout)
        yield ("exec", "--stdin", where, name, "--container=caller", "--")
    finally:
        cluster.kubectl("delete", where, f"pod/{name}", "--wait=false", "--grace-period=1")


@contextmanager
def caller(cluster: Cluster, namespace: str, wanted: dict[str, Any]) -> Iterator[Callable[[str, str], tuple[int, str]]]:
    """What makes one call from a pod that is there for the block: the status (0: no answer) and the answer."""
    script = (SHOP / "apps" / "call.py").read_text(encoding="utf-8")
    with pod(cluster, namespace, wanted) as words:

        def make(method: str, place: str) -> tuple[int, str]:
            return answered(cluster.kubectl(*words, "python3", "-c", script, method, place))

        yield make


class Load:
    """Calls that go on; ``done`` and ``failed`` are known once they ended."""

    def __init__(self) -> None:
        self.done = 0
        self.failed: list[str] = []


@contextmanager
def load(
    cluster: Cluster, namespace: str, wanted: dict[str, Any], places: list[tuple[str, str, object]]
) -> Iterator[Load]:
    """Calls from a pod, each on a connection of its own, during the whole block, at least one round before it."""
    told = Load()
    with pod(cluster, namespace, wanted) as words:
        argv = cluster.kubectl_words(*words, "python3", "-c", _LOAD, json.dumps(places))
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(cluster.name)
        ) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            assert program.stdout.readline() == "begun\n"
            try:
                yield told
            finally:
                program.stdin.close()
                summary = json.loads(program.stdout.read())
                told.done, told.failed = summary["done"], summary["failed"]
