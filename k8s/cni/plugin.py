"""One call of the plugin, from the runtime's question to its answer."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from k8s.cni import network
from k8s.cni.asking import find_pod, read_access
from k8s.cni.request import LATEST, VERSIONS, Call, CniError, Code, PodName, read_call, version_of
from k8s.cni.wanted import Wanted, wanted

_RUN_SECONDS: Final = 90.0
_OUTPUT_LIMIT_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a run of ``ringfence`` came to."""

    status: int
    output: str
    errors: str


Run = Callable[[Sequence[str]], Finished]


def answer(environment: Mapping[str, str], configuration: bytes, run: Run) -> tuple[int, dict[str, Any] | None]:
    """Exit status, and what standard output says. ``run``: runs ``ringfence`` in the network that this process is in,
    which is the pod's when it comes to that."""
    version = version_of(configuration)
    if environment.get("CNI_COMMAND") in ("DEL", "GC"):
        # The rules go with the network; and nothing may keep a pod from going.
        return 0, None
    try:
        call = read_call(environment, configuration)
        if call.command == "VERSION":
            return 0, {"cniVersion": LATEST, "supportedVersions": list(VERSIONS)}
        return 0, _done(call, run)
    except CniError as error:
        return 1, error.document(version)


def run_here(arguments: Sequence[str]) -> Finished:
    """By this interpreter, in this process's namespaces."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ringfence", *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_RUN_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return Finished(status=1, output="", errors="it did not end in time")
    return Finished(status=done.returncode, output=done.stdout, errors=done.stderr)


def _done(call: Call, run: Run) -> dict[str, Any] | None:
    configuration = call.configuration
    if call.command == "STATUS":
        if configuration.access:
            read_access(configuration.access)
        return None
    passed = None if configuration.previous is None else {"cniVersion": configuration.version, **configuration.previous}
    if call.pod is None or call.pod.namespace in configuration.exclude_namespaces:
        return passed if call.command == "ADD" else None
    found = wanted(find_pod(configuration, call.pod), call.pod)
    if found is not None:
        network.enter(call.netns)
        if configuration.previous is not None:
            network.check_addresses(network.promised(configuration.previous))
        if call.command == "ADD":
            _install(found, call.pod, run)
        else:
            _check(call.pod, run)
    return passed if call.command == "ADD" else None


def _install(found: Wanted, pod: PodName, run: Run) -> None:
    done = run(found.arguments)
    if done.status != 0:
        raise CniError(
            Code.REDIRECT, f"pod {pod.namespace}/{pod.name} cannot be redirected, so it does not start: {_last(done)}"
        )


def _check(pod: PodName, run: Run) -> None:
    done = run(("redirect", "show", "--json"))
    try:
        installed = done.status == 0 and json.loads(done.output)["installed"] is True
    except (ValueError, KeyError, TypeError):
        installed = False
    if not installed:
        raise CniError(Code.REDIRECT, f"pod {pod.namespace}/{pod.name} has lost its redirect (delete the pod)")


def _last(done: Finished) -> str:
    """What it complained of, on one line."""
    line = " ".join(done.errors.split()) or f"exit status {done.status}"
    return "".join(one if one.isprintable() else "?" for one in line)[-_OUTPUT_LIMIT_CHARACTERS:]
