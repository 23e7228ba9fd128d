"""What a container runtime asks of a CNI plugin (CNI spec 1.1): environment and configuration in, values out. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from k8s.objects.fields import JsonObject, MalformedObjectError, as_object, child, text
from ringfence.policy.problems import shown

VERSIONS: Final = ("0.4.0", "1.0.0", "1.1.0")
LATEST: Final = VERSIONS[-1]
COMMANDS: Final = ("ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION")
CONFIGURATION_LIMIT_BYTES: Final = 1024 * 1024
NETNS_VARIABLE: Final = "RINGFENCE_CNI_NETNS"
"""Where the pod's network is found from inside of another root, in the place of CNI_NETNS."""

_ARGUMENTS_LIMIT_CHARACTERS: Final = 8_192
_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", re.ASCII)
_UID: Final = re.compile(r"[-0-9A-Za-z]{1,64}", re.ASCII)


class Code(IntEnum):
    """Error codes of the specification, and from 100 on our own."""

    VERSION = 1
    ENVIRONMENT = 4
    DECODING = 6
    CONFIGURATION = 7
    TRY_AGAIN = 11
    NOT_READY = 50
    REDIRECT = 100
    NETWORK = 101


class CniError(Exception):
    """The call fails, and the pod does not start; the text is one line with the mend."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code

    def document(self, version: str) -> dict[str, Any]:
        """As the runtime reads it from standard output."""
        return {"cniVersion": version, "code": int(self.code), "msg": f"ringfence: {self}", "details": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodName:
    """Which pod the runtime says that it is."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Ours, from the node's list of plugins. ``access``: the file by which the API server is reached; ``pods``: a file
    with a PodList to look into instead; ``exclude_namespaces``: whose pods are let through without a question, so that
    the cluster can start without the mesh."""

    version: str
    access: str
    pods: str
    exclude_namespaces: frozenset[str]
    previous: JsonObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call. ``pod``: None where the runtime runs something that is no pod."""

    command: str
    netns: str
    pod: PodName | None
    configuration: Configuration


def read_call(environment: Mapping[str, str], configuration: bytes) -> Call:
    """Raises CniError."""
    command = environment.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise CniError(Code.ENVIRONMENT, f"CNI_COMMAND: {shown(command)} is unknown (one of {', '.join(COMMANDS)})")
    read = _configuration(configuration, command)
    netns = environment.get(NETNS_VARIABLE) or environment.get("CNI_NETNS", "")
    if command in ("ADD", "CHECK") and not netns.startswith("/"):
        raise CniError(Code.ENVIRONMENT, f"CNI_NETNS: {shown(netns)} is no path (give the pod's network)")
    return Call(command=command, netns=netns, pod=_pod(environment.get("CNI_ARGS", "")), configuration=read)


def version_of(configuration: bytes) -> str:
    """In which version to answer, also a call that cannot be read."""
    try:
        said = json.loads(configuration)["cniVersion"]
    except (ValueError, RecursionError, TypeError, KeyError):
        return LATEST
    return said if said in VERSIONS else LATEST


def _configuration(configuration: bytes, command: str) -> Configuration:
    if len(configuration) > CONFIGURATION_LIMIT_BYTES:
        raise CniError(Code.DECODING, f"a configuration above {CONFIGURATION_LIMIT_BYTES} bytes (give less)")
    try:
        document = as_object(json.loads(configuration), "configuration")
        version = text(document, "cniVersion")
        previous = child(document, "prevResult")
        excluded = document.get("excludeNamespaces") or []
        access, pods = text(document, "access"), text(document, "pods")
    except MalformedObjectError as error:
        raise CniError(Code.CONFIGURATION, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise CniError(Code.DECODING, "the configuration is no JSON (mend the node's CNI configuration)") from error
    if command != "VERSION" and version not in VERSIONS:
        raise CniError(Code.VERSION, f"cniVersion: {shown(version)} is not spoken (one of {', '.join(VERSIONS)})")
    if not isinstance(excluded, list) or not all(isinstance(one, str) for one in excluded):
        raise CniError(Code.CONFIGURATION, "excludeNamespaces: no list of names (write it so)")
    if command == "ADD" and not previous:
        raise CniError(
            Code.CONFIGURATION, "prevResult: missing (put ringfence-cni behind the plugin that makes a network)"
        )
    if command in ("ADD", "CHECK") and not access and not pods:
        raise CniError(Code.CONFIGURATION, "access: missing (install anew by ringfence k8s cni-install)")
    return Configuration(
        version=version, access=access, pods=pods, exclude_namespaces=frozenset(excluded), previous=previous or None
    )


def _pod(arguments: str) -> PodName | None:
    """From ``K8S_POD_NAMESPACE=…;K8S_POD_NAME=…;K8S_POD_UID=…``."""
    if len(arguments) > _ARGUMENTS_LIMIT_CHARACTERS:
        raise CniError(Code.ENVIRONMENT, f"CNI_ARGS: {len(arguments)} characters are too many (give fewer)")
    said = dict(pair.split("=", 1) for pair in arguments.split(";") if "=" in pair)
    namespace, name, uid = (said.get(f"K8S_POD_{key}", "") for key in ("NAMESPACE", "NAME", "UID"))
    if not namespace and not name:
        return None
    for what, value, pattern in (("NAMESPACE", namespace, _NAME), ("NAME", name, _NAME)):
        if pattern.fullmatch(value) is None:
            raise CniError(Code.ENVIRONMENT, f"CNI_ARGS: K8S_POD_{what} {shown(value)} is no name (give the pod's)")
    if uid and _UID.fullmatch(uid) is None:
        raise CniError(Code.ENVIRONMENT, f"CNI_ARGS: K8S_POD_UID {shown(uid)} is none (give the pod's)")
    return PodName(namespace=namespace, name=name, uid=uid)
