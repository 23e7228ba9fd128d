"""The API server as a pod sees it: create an object, or get it. Standard library only; every answer is bounded."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_ANSWER_LIMIT_BYTES: Final = 4 << 20
_WAIT_SECONDS: Final = 10.0
_PAUSES_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


class ApiError(Exception):
    """The API server cannot be asked, or refuses; the text is one line with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServer:
    """Where it is, and by what a pod knows it and is known. The token is read for each request, as it changes."""

    host: str
    port: int
    folder: Path

    @classmethod
    def of_pod(cls, environ: Mapping[str, str] = os.environ, folder: Path = FOLDER) -> ApiServer:
        """As the kubelet tells each pod."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "")
        if not host or not port.isdecimal() or not (folder / "token").is_file():
            raise ApiError("this is no pod with a service account token (run it in the cluster, as the chart does)")
        return cls(host=host, port=int(port), folder=folder)

    @property
    def namespace(self) -> str:
        """The pod's own."""
        return (self.folder / "namespace").read_text(encoding="utf-8").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A status and its object."""

    status: int
    body: dict[str, Any]


def ask(
    server: ApiServer, method: str, path: str, body: Mapping[str, object] | None, sleep: Callable[[float], None]
) -> Answer:
    """The answer of the API server; asked again while it is away. Raises ApiError."""
    problem = ""
    for pause in (*_PAUSES_SECONDS, None):
        try:
            answer = _ask_once(server, method, path, body)
        except (OSError, http.client.HTTPException) as error:
            problem = str(error) or type(error).__name__
        else:
            if answer.status not in _AGAIN:
                return answer
            problem = f"status {answer.status}"
        if pause is not None:
            sleep(pause)
    raise ApiError(f"API server {server.host}:{server.port} does not answer: {problem} (see that it runs, then again)")


def refused(answer: Answer, what: str) -> ApiError:
    """What to say of an answer that is no success."""
    told = str(answer.body.get("message", ""))[:300]
    return ApiError(f"{what}: the API server says {answer.status}: {told} (see the chart's Role for this account)")


def _ask_once(server: ApiServer, method: str, path: str, body: Mapping[str, object] | None) -> Answer:
    context = ssl.create_default_context(cafile=str(server.folder / "ca.crt"))
    connection = http.client.HTTPSConnection(server.host, server.port, timeout=_WAIT_SECONDS, context=context)
    try:
        token = (server.folder / "token").read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": "application/json"}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        content = response.read(_ANSWER_LIMIT_BYTES + 1)
        if len(content) > _ANSWER_LIMIT_BYTES:
            raise ApiError(f"the API server answers {path} with more than {_ANSWER_LIMIT_BYTES} bytes (is it one?)")
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        return Answer(status=response.status, body=found if isinstance(found, dict) else {})
    finally:
        connection.close()
