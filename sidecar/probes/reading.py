"""Probes from the text of a setting, JSON: every problem of it is told, or all of it is taken. Pure.

``{"<container>/<kind>": {"http": {"port": 8080, "path": "/healthz", "scheme": "HTTP", "headers": [["a", "b"]]}}}``, or
``tcp`` or ``grpc`` in the place of ``http``; ``timeout`` in seconds beside it, and ``word`` beside a hook. Nothing of
it can become a second request, or a field of another: what a request line cannot hold is escaped, what a field cannot
hold is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import quote

from ringfence.kit.labels import LABEL_MEND, is_label
from sidecar.probes.model import HOOKS, KINDS, PROBES_LIMIT, GrpcProbe, HttpProbe, Probe, TcpProbe

TEXT_LIMIT_BYTES: Final = 128 * 1024  # what the kernel takes of one variable of the environment
TARGET_LIMIT_BYTES: Final = 4_096
HEADERS_LIMIT: Final = 32
HEADERS_LIMIT_BYTES: Final = 16 * 1024
SERVICE_LIMIT_BYTES: Final = 1_024
TIMEOUT_LIMIT_SECONDS: Final = 600
_HOOK_SECONDS: Final = 600  # the kubelet sets a hook no time but that of the pod's end

_WORD: Final = re.compile(r"[-_0-9A-Za-z]{22,128}", re.ASCII)  # 128 bits at least
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,256}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ESCAPED: Final = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_PATH_CHARACTERS: Final = "!$&'()*+,-./:;=@_~"  # RFC 3986, section 3.3
# They say where the request ends and what becomes of the connection: not a probe's to say, and the kubelet's own HTTP
# client leaves them out as well.
_FRAMING: Final = frozenset({"connection", "content-length", "trailer", "transfer-encoding"})


class ProbesError(ValueError):
    """``problems``: a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_probes(text: str) -> tuple[Probe, ...]:
    """The probes that ``text`` declares; raises ProbesError."""
    if len(text.encode("utf-8", "surrogatepass")) > TEXT_LIMIT_BYTES:
        raise ProbesError([f"probes above {TEXT_LIMIT_BYTES} bytes (declare fewer)"])
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProbesError([f"not JSON: {_short(str(error))}"]) from error
    if not isinstance(found, dict):
        raise ProbesError(['not an object (such as {"app/readiness": {"tcp": {"port": 8080}}})'])
    if len(found) > PROBES_LIMIT:
        raise ProbesError([f"{len(found)} probes (at most {PROBES_LIMIT})"])
    problems: list[str] = []
    probes = [_Reading(name, problems).probe(declared) for name, declared in found.items()]
    if problems:
        raise ProbesError(problems)
    return tuple(probe for probe in probes if probe is not None)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:120] + "…"


def request_target(path: str) -> str:
    """What stands in the request line for a declared path, which may have a query: as the kubelet makes it, with
    everything escaped that a request line cannot hold, and without a fragment. UnicodeEncodeError if it is no text."""
    path = path if path.startswith("/") else f"/{path}"
    if _CONTROL.search(path) or _ESCAPED.fullmatch(path) is None:
        return quote(path, safe=_PATH_CHARACTERS)  # no URL, so all of it is a path
    path, _, _ = path.partition("#")
    path, mark, query = path.partition("?")
    return quote(path, safe=_PATH_CHARACTERS + "%") + mark + quote(query, safe=_PATH_CHARACTERS + '%?[]{}|^`"<>\\')


def _is_value(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL.search(text) is None


class _Reading:
    """One probe; every complaint about it goes to ``problems``."""

    def __init__(self, name: str, problems: list[str]) -> None:
        self._name = name
        self._problems = problems

    def _complain(self, what: str) -> None:
        self._problems.append(f"{_short(self._name)!r}: {what}")

    def probe(self, declared: object) -> Probe | None:
        container, slash, kind = self._name.partition("/")
        if not slash or not is_label(container) or kind not in KINDS:
            known = "|".join(KINDS)
            self._complain(f"not a probe's name (<container>/<{known}>; the container is {LABEL_MEND})")
            return None
        actions: dict[str, Callable[[dict[str, object]], HttpProbe | TcpProbe | GrpcProbe | None]]
        actions = {"http": self._http, "tcp": self._tcp, "grpc": self._grpc}
        fields = self._fields(declared, (*actions, "timeout", *(("word",) if kind in HOOKS else ())), self._name)
        if fields is None:
            return None
        given = [action for action in actions if action in fields]
        if len(given) != 1:
            self._complain("it does one thing (give one of http, tcp, grpc)")
            return None
        timeout = self._number(fields, "timeout", TIMEOUT_LIMIT_SECONDS, _HOOK_SECONDS if kind in HOOKS else 1)
        action = self._fields(fields[given[0]], _FIELDS[given[0]], given[0])
        does = actions[given[0]](action) if action is not None else None
        word = self._word(fields) if kind in HOOKS else ""
        if does is None or timeout is None or word is None:
            return None
        return Probe(container=container, kind=kind, does=does, timeout_seconds=timeout, word=word)

    def _word(self, fields: dict[str, object]) -> str | None:
        """Without one anybody who reaches the pod could have its app stop."""
        found = fields.get("word")
        if not isinstance(found, str) or _WORD.fullmatch(found) is None:
            self._complain("word: a hook has one that nobody guesses (inject the pod anew)")
            return None
        return found

    def _fields(self, declared: object, known: Iterable[str], where: str) -> dict[str, object] | None:
        if not isinstance(declared, dict):
            self._complain(f"{_short(where)} is no object")
            return None
        strangers = sorted(set(declared) - set(known))
        if strangers:
            self._complain(f"unknown field {_short(strangers[0])!r} (there are: {', '.join(known)})")
            return None
        return declared

    def _number(self, fields: dict[str, object], key: str, most: int, default: int | None) -> int | None:
        found = fields.get(key, default)
        if type(found) is not int or not 1 <= found <= most:
            self._complain(f"{key}: {_short(repr(found))} (a whole number from 1 to {most})")
            return None
        return found

    def _text(self, fields: dict[str, object], key: str, default: str) -> str | None:
        found = fields.get(key, default)
        if not isinstance(found, str):
            self._complain(f"{key} is no text")
            return None
        return found

    def _http(self, fields: dict[str, object]) -> HttpProbe | None:
        port = self._number(fields, "port", 65535, None)
        target = self._target(fields)
        scheme = self._text(fields, "scheme", "HTTP")
        headers = self._headers(fields.get("headers", []))
        if scheme is not None and scheme not in ("HTTP", "HTTPS"):
            self._complain(f"scheme: {_short(scheme)!r} (one of HTTP, HTTPS)")
            return None
        if not self._is_own(fields) or port is None or target is None or scheme is None or headers is None:
            return None
        return HttpProbe(port=port, target=target, tls=scheme == "HTTPS", headers=headers)

    def _target(self, fields: dict[str, object]) -> str | None:
        path = self._text(fields, "path", "/")
        if path is None:
            return None
        try:
            target = request_target(path)
        except UnicodeEncodeError:
            self._complain(f"path: {_short(path)!r} is no text")
            return None
        if len(target) > TARGET_LIMIT_BYTES:
            self._complain(f"path: above {TARGET_LIMIT_BYTES} bytes")
            return None
        return target

    def _is_own(self, fields: dict[str, object]) -> bool:
        host = self._text(fields, "host", "")
        if host:
            self._complain(f"host: {_short(host)!r} is not this pod (leave such a probe to the kubelet)")
        return not host if host is not None else False

    def _headers(self, declared: object) -> tuple[tuple[str, str], ...] | None:
        if not isinstance(declared, list) or len(declared) > HEADERS_LIMIT:
            self._complain(f"headers: not a list of at most {HEADERS_LIMIT} pairs")
            return None
        headers: list[tuple[str, str]] = []
        for pair in declared:
            match pair:
                case [str() as name, str() as value] if _FIELD_NAME.fullmatch(name) and _is_value(value):
                    if name.lower() not in _FRAMING:
                        headers.append((name, value.strip(" \t")))
                case _:
                    self._complain(f"headers: {_short(repr(pair))} is no field's name and value")
                    return None
        if sum(len(name) + len(value.encode()) for name, value in headers) > HEADERS_LIMIT_BYTES:
            self._complain(f"headers: above {HEADERS_LIMIT_BYTES} bytes")
            return None
        return tuple(headers)

    def _tcp(self, fields: dict[str, object]) -> TcpProbe | None:
        port = self._number(fields, "port", 65535, None)
        return TcpProbe(port=port) if self._is_own(fields) and port is not None else None

    def _grpc(self, fields: dict[str, object]) -> GrpcProbe | None:
        port = self._number(fields, "port", 65535, None)
        service = self._text(fields, "service", "")
        if service is not None and (len(service) > SERVICE_LIMIT_BYTES or not service.isascii()):
            self._complain(f"service: {_short(service)!r} (ASCII, at most {SERVICE_LIMIT_BYTES} bytes)")
            return None
        return GrpcProbe(port=port, service=service) if port is not None and service is not None else None


_FIELDS: Final = {
    "http": ("port", "path", "scheme", "host", "headers"),
    "tcp": ("port", "host"),
    "grpc": ("port", "service"),
}
