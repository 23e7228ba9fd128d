"""Which pod it is: one GET to the API server, or a look into a file. Blocking, bounded in time and size.

Not by the client that the controller uses: this process lives for a moment, and pays for each import at every pod.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from k8s.cni.request import CniError, Code, Configuration, PodName
from k8s.objects.fields import MalformedObjectError, as_object, child, objects, text

_ANSWER_LIMIT_BYTES: Final = 8 * 1024 * 1024
_FILE_LIMIT_BYTES: Final = 64 * 1024 * 1024
_ASK_SECONDS: Final = 5.0
_TRY_SECONDS: Final = 15.0
_PAUSE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach the API server, as the installer writes it: JSON with ``server``, ``authority`` (PEM), ``token``."""

    host: str
    port: int
    authority: str
    token: str


def find_pod(
    configuration: Configuration,
    name: PodName,
    *,
    monotonic: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """The pod as the API server has it. Raises CniError if nobody can say; then the pod must not start."""
    if configuration.pods:
        return _in_file(configuration.pods, name)
    deadline = monotonic() + _TRY_SECONDS
    while True:
        try:
            return _asked(read_access(configuration.access), name)
        except (OSError, http.client.HTTPException) as error:
            if monotonic() >= deadline:
                what = " ".join(str(error).split())[:200]
                raise CniError(
                    Code.TRY_AGAIN, f"the API server does not say what pod {name.namespace}/{name.name} is: {what}"
                ) from error
        pause(_PAUSE_SECONDS)


def read_access(path: str) -> Access:
    """Raises CniError."""
    try:
        with Path(path).open("rb") as file:
            document = as_object(json.loads(file.read(_FILE_LIMIT_BYTES)), path)
        server = urlsplit(text(document, "server"))
        found = Access(
            host=server.hostname or "",
            port=server.port or 443,
            authority=text(document, "authority"),
            token=text(document, "token"),
        )
    except OSError as error:
        raise CniError(
            Code.NOT_READY, f"{path} cannot be read: {error.strerror} (is ringfence-cni running?)"
        ) from error
    except (ValueError, RecursionError) as error:
        raise CniError(
            Code.NOT_READY, f"{path} says not how to reach the API server (restart ringfence-cni)"
        ) from error
    # Without an authority the context would believe every one that the machine does.
    if server.scheme != "https" or not found.host or not found.authority or not _is_token(found.token):
        raise CniError(Code.NOT_READY, f"{path} says not how to reach the API server (restart ringfence-cni)")
    return found


def _is_token(text: str) -> bool:
    return text != "" and text.isprintable()


def _asked(access: Access, name: PodName) -> dict[str, Any]:
    context = ssl.create_default_context(cadata=access.authority)
    connection = http.client.HTTPSConnection(access.host, access.port, timeout=_ASK_SECONDS, context=context)
    try:
        # Names were read as DNS names, so that nothing of them can be another path.
        connection.request(
            "GET",
            f"/api/v1/namespaces/{name.namespace}/pods/{name.name}",
            headers={"Authorization": f"Bearer {access.token}", "Accept": "application/json"},
        )
        response = connection.getresponse()
        body = response.read(_ANSWER_LIMIT_BYTES + 1)
    finally:
        connection.close()
    if response.status == 404:
        raise CniError(Code.TRY_AGAIN, f"pod {name.namespace}/{name.name} is gone (nothing to do)")
    if response.status in (401, 403):
        raise CniError(
            Code.NOT_READY, f"the API server refuses ringfence-cni by {response.status} (see its ClusterRole)"
        )
    if response.status != 200 or len(body) > _ANSWER_LIMIT_BYTES:
        raise http.client.HTTPException(f"status {response.status}, {len(body)} bytes")
    try:
        return dict(as_object(json.loads(body), "pod"))
    except (ValueError, RecursionError) as error:
        raise http.client.HTTPException("no JSON") from error


def _in_file(path: str, name: PodName) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            listed = as_object(json.loads(file.read(_FILE_LIMIT_BYTES)), path)
        for where, one in objects(listed, "items"):
            metadata = child(one, "metadata", where)
            if (text(metadata, "namespace"), text(metadata, "name")) == (name.namespace, name.name):
                return dict(one)
    except OSError as error:
        raise CniError(Code.NOT_READY, f"{path} cannot be read: {error.strerror} (write it anew)") from error
    except (MalformedObjectError, ValueError, RecursionError) as error:
        raise CniError(Code.NOT_READY, f"{path} is no PodList (write it anew)") from error
    raise CniError(Code.TRY_AGAIN, f"pod {name.namespace}/{name.name} is not in {path} (write it anew)")
