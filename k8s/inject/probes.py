"""The app's probes and hooks, turned into ones that the sidecar answers. Pure.

Under default deny the kubelet, which has no identity, reaches no port of the app. So what it asked of the app it asks
of the sidecar's signals port, under a path that names container and probe; the sidecar asks the app at exactly the
port and path that the pod declares. What it must ask stands in one setting, JSON by that name:

    {"app/readiness": {"http": {"port": 8080, "path": "/ok", "scheme": "HTTP", "host": "", "headers": []},
                       "timeout": 1}}

A probe asks, but a hook does: one such as ``/shutdown`` is not for whoever reaches the pod. So the path of a hook ends
in a word that nobody guesses, which the kubelet has from the pod, and the sidecar as ``word``.

``exec`` probes run inside the pod and stay. A probe of another host is the author's own affair and stays, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k8s.objects import names
from k8s.objects.fields import JsonObject, child, integer, objects, text
from ringfence.kit.labels import LABEL_MEND, is_label
from ringfence.policy.problems import shown

_PROBES: Final = {"startupProbe": "startup", "livenessProbe": "liveness", "readinessProbe": "readiness"}
_HOOKS: Final = {"postStart": "poststart", "preStop": "prestop"}
_HANDLERS: Final = ("httpGet", "tcpSocket", "grpc")
_HIGHEST_PORT: Final = 65_535
_SCHEMES: Final = ("HTTP", "HTTPS")
# What the sidecar takes; it would not start with more.
_ANSWERS: Final = 128
_SETTING_LIMIT_CHARACTERS: Final = 120_000
_PATH_LIMIT_BYTES: Final = 1_365
_SERVICE_LIMIT_CHARACTERS: Final = 1_024
_HEADERS: Final = 32
_HEADERS_LIMIT_BYTES: Final = 8_192
_LONGEST_SECONDS: Final = 600
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


class ProbeError(ValueError):
    """A probe that the sidecar cannot answer; one line with the mend."""


@dataclass(slots=True, kw_only=True)
class Rewriting:
    """``answers``: what the sidecar must ask, by ``<container>/<probe>``; ``known``: those of an earlier injection.
    ``word``: of this pod's hooks, never of another's."""

    word: str
    known: Mapping[str, Any] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def setting(self) -> str:
        """The sidecar's setting; the same text for the same answers. Kubernetes would put a variable's value in the
        place of ``$(NAME)``, so no such sign stands in it. Raises ProbeError."""
        made = json.dumps(self.answers, separators=(",", ":"), sort_keys=True).replace("$", "\\u0024")
        if len(self.answers) > _ANSWERS or len(made) > _SETTING_LIMIT_CHARACTERS:
            raise ProbeError(
                f"spec.containers: {len(self.answers)} probes and hooks in {len(made)} characters are more than the "
                f"sidecar answers (at most {_ANSWERS}; let some be exec)"
            )
        return made


def rewrite(container: dict[str, Any], path: str, rewriting: Rewriting) -> dict[str, Any]:
    """The container with its probes as the kubelet is to ask them. Raises ProbeError, MalformedObjectError."""
    name = text(container, "name", path)
    ports = {
        text(one, "name", where): integer(one, "containerPort", where)
        for where, one in objects(container, "ports", path)
    }
    written = dict(container)
    for key, holder, found, where in _found(container, path):
        if not is_label(name):
            raise ProbeError(f"{path}.name: {shown(name)} is no name of a container ({LABEL_MEND})")
        probe = f"{name}/{_PROBES.get(key) or _HOOKS[key]}"
        changed = _rewritten(found, probe, where, ports, rewriting)
        if holder:
            written[holder] = {**written[holder], key: changed}
        else:
            written[key] = changed
    return written


def answers_of(setting: str) -> dict[str, Any]:
    """The answers of an earlier injection; none where the text says nothing that can be read."""
    try:
        found = json.loads(setting)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _found(container: JsonObject, path: str) -> Iterator[tuple[str, str, JsonObject, str]]:
    """Each probe and hook: key, the key that holds it, what it says, where."""
    for key in _PROBES:
        if container.get(key) is not None:
            yield key, "", child(container, key, path), f"{path}.{key}"
    lifecycle = child(container, "lifecycle", path)
    for key in _HOOKS:
        if lifecycle.get(key) is not None:
            yield key, "lifecycle", child(lifecycle, key, f"{path}.lifecycle"), f"{path}.lifecycle.{key}"


def _rewritten(
    found: JsonObject, probe: str, where: str, ports: Mapping[str, int], rewriting: Rewriting
) -> dict[str, Any]:
    kinds = [kind for kind in _HANDLERS if found.get(kind) is not None]
    if len(kinds) != 1 or (kinds == ["tcpSocket"] and probe.endswith(tuple(_HOOKS.values()))):
        # None, or too many, which the API server says itself; a TCP hook does nothing and never did.
        return dict(found)
    kind = kinds[0]
    handler = child(found, kind, where)
    here = f"{where}.{kind}"
    if kind == "httpGet" and handler.get("port") == names.SIGNALS_PORT:
        return _again(found, handler, probe, here, rewriting)
    host = text(handler, "host", here)
    if host:
        rewriting.warnings.append(f"{here}.host: asks {shown(host)} and not the pod, so it stays as it is")
        return dict(found)
    answer: dict[str, Any] = {_WORDS[kind]: _ASKED[kind](handler, here, ports)}
    if not probe.endswith(tuple(_HOOKS.values())):
        answer["timeout"] = timeout = integer(found, "timeoutSeconds", where, default=1) or 1
        if not 1 <= timeout <= _LONGEST_SECONDS:
            raise ProbeError(f"{where}.timeoutSeconds: {timeout} (give 1 to {_LONGEST_SECONDS})")
    else:
        answer["word"] = rewriting.word
    rewriting.answers[probe] = answer
    rest = {key: value for key, value in found.items() if key != kind}
    ask = {"path": _path(probe, answer), "port": names.SIGNALS_PORT, "scheme": "HTTP"}
    return {"httpGet": ask, **rest}


def _again(found: JsonObject, handler: JsonObject, probe: str, here: str, rewriting: Rewriting) -> dict[str, Any]:
    """A probe of the sidecar's port: one that was turned before, whose answer is known."""
    answer = rewriting.known.get(probe)
    if not isinstance(answer, dict) or text(handler, "path", here) != _path(probe, answer):
        raise ProbeError(f"{here}.port: {names.SIGNALS_PORT} is the sidecar's own port (probe a port of the app)")
    if probe.endswith(tuple(_HOOKS.values())) and "word" not in answer:
        answer = {**answer, "word": rewriting.word}  # of an earlier version
    rewriting.answers[probe] = answer
    return {**found, "httpGet": {**handler, "path": _path(probe, answer)}}


def _path(probe: str, answer: Mapping[str, Any]) -> str:
    """Where the sidecar answers."""
    word = answer.get("word")
    return f"{names.APP_HEALTH}/{probe}" + (f"/{word}" if isinstance(word, str) else "")


def _http(handler: JsonObject, here: str, ports: Mapping[str, int]) -> dict[str, Any]:
    scheme = text(handler, "scheme", here) or "HTTP"
    if scheme not in _SCHEMES:
        raise ProbeError(f"{here}.scheme: {shown(scheme)} is unknown (use HTTP or HTTPS)")
    headers = [_header(one, at) for at, one in objects(handler, "httpHeaders", here)]
    size = sum(len(name) + len(value.encode()) for name, value in headers)
    if len(headers) > _HEADERS or size > _HEADERS_LIMIT_BYTES:
        raise ProbeError(f"{here}.httpHeaders: {len(headers)} of {size} bytes are too many (at most {_HEADERS})")
    path = text(handler, "path", here)
    if len(path.encode(errors="replace")) > _PATH_LIMIT_BYTES or _is_no_text(path):
        raise ProbeError(f"{here}.path: no text, or above {_PATH_LIMIT_BYTES} bytes (probe a shorter one)")
    return {
        "port": _port(handler, here, ports),
        "path": path if path.startswith("/") else f"/{path}",
        "scheme": scheme,
        "host": "",
        "headers": headers,
    }


def _tcp(handler: JsonObject, here: str, ports: Mapping[str, int]) -> dict[str, Any]:
    return {"port": _port(handler, here, ports)}


def _grpc(handler: JsonObject, here: str, ports: Mapping[str, int]) -> dict[str, Any]:
    service = text(handler, "service", here)
    if not service.isascii() or len(service) > _SERVICE_LIMIT_CHARACTERS:
        raise ProbeError(f"{here}.service: no name of a service (give the ASCII name that the app answers for)")
    return {"port": _port(handler, here, ports), "service": service}


def _header(one: JsonObject, at: str) -> list[str]:
    name, value = text(one, "name", at), text(one, "value", at)
    if _FIELD_NAME.fullmatch(name) is None or _CONTROL.search(value) is not None:
        raise ProbeError(f"{at}: {shown(name)} is no field of HTTP, or its value is none (see RFC 9110, section 5)")
    return [name, value]


def _is_no_text(path: str) -> bool:
    return any("\ud800" <= one <= "\udfff" for one in path)


_WORDS: Final = {"httpGet": "http", "tcpSocket": "tcp", "grpc": "grpc"}
_ASKED: Final = {"httpGet": _http, "tcpSocket": _tcp, "grpc": _grpc}


def _port(handler: JsonObject, here: str, ports: Mapping[str, int]) -> int:
    """By number or by a name of the container's own."""
    given = handler.get("port")
    port = given if isinstance(given, int) and not isinstance(given, bool) else None
    if isinstance(given, str):
        port = ports.get(given)
        if port is None:
            raise ProbeError(
                f"{here}.port: the container has no port named {shown(given)} (name one of its ports, or give a number)"
            )
    if port is None or not 1 <= port <= _HIGHEST_PORT:
        raise ProbeError(f"{here}.port: no port (give a number from 1 to {_HIGHEST_PORT}, or the name of a port)")
    if port in names.OWN_PORTS:
        raise ProbeError(f"{here}.port: {port} is a port of the sidecar's own (let the app listen on another)")
    return port
