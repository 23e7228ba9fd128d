"""Pods from which tests make calls: one at a time, or one after another for as long as a block takes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.cluster.cluster import Cluster
from tests.cluster.machine import ClusterError, until
from tests.cluster.mesh import SHOP, answered

_LOAD: Final = """
import json, sys, time
from http.client import HTTPConnection, HTTPException

done, failed = 0, []
while True:
    for method, place, body in json.loads(sys.argv[1]):
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
    print(json.dumps({"done": done, "failed": failed[:50]}), flush=True)
    time.sleep(0.05)
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
    """Calls that go on in a pod, whatever becomes of the API server meanwhile."""

    def __init__(self, cluster: Cluster, namespace: str, name: str) -> None:
        self._cluster = cluster
        self._words = ("logs", f"--namespace={namespace}", name, "--container=caller", "--tail=1")
        self.done = 0
        self.failed: list[str] = []

    def look(self) -> int:
        """How many calls were made by now."""
        lines = self._cluster.try_kubectl(*self._words).stdout.splitlines()
        with contextlib.suppress(ValueError, IndexError):
            told = json.loads(lines[-1])
            self.done, self.failed = told["done"], told["failed"]
        return self.done

    def more(self) -> None:
        """Wait until every call that is under way now has ended, and others after it."""
        before = self.look()
        until(lambda: self.look() > before + 20, "more calls")


@contextmanager
def load(
    cluster: Cluster, namespace: str, wanted: dict[str, Any], places: list[tuple[str, str, object]]
) -> Iterator[Load]:
    """Calls from a pod, each on a connection of its own, from before the block to after it."""
    wanted["spec"]["containers"][0]["command"] = ["python3", "-c", _LOAD, json.dumps(places)]
    with pod(cluster, namespace, wanted):
        made = Load(cluster, namespace, wanted["metadata"]["name"])
        made.more()
        yield made
        made.more()
