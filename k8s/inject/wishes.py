"""The annotations by which a pod, or its namespace for all of its pods, says how it is to be injected. Pure.

Every value is read, also those that concern others than the injector: a wrong one is refused where its author sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from k8s.inject import values
from k8s.inject.settings import InjectSettings
from k8s.objects import names
from ringfence.policy.problems import choose_from, shown

T = TypeVar("T")

# Not ours to read, and no mistake either.
_ALSO_KNOWN: Final = frozenset({names.STATUS})


class WishError(ValueError):
    """An annotation cannot be followed; the text is one line that names it, with the mend."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What holds for one pod: its own annotations over its namespace's over the settings."""

    image: str
    log_level: str
    access_log: str
    drain: str
    exclude_inbound_ports: tuple[int, ...]
    exclude_outbound_ports: tuple[int, ...]
    exclude_outbound_cidrs: tuple[str, ...]
    requests: Mapping[str, str]
    limits: Mapping[str, str]


def read_wishes(
    pod: Mapping[str, str],
    namespace: Mapping[str, str],
    settings: InjectSettings,
    shared: frozenset[str] = frozenset(),
) -> Wishes:
    """From the annotations of both. ``shared``: the resources (``cpu``, ``memory``) that the pod asks for as a whole,
    of which the sidecar takes its part and asks for none unless somebody wishes. Raises WishError for the first that
    is wrong."""
    _no_strangers(pod, _ALSO_KNOWN, "")
    _no_strangers(namespace, frozenset(), " of the namespace")
    read = _Reader(pod, namespace)
    read.parsed(names.MODE, lambda text: values.choice(text, values.MODES), "strict")
    inbound = read.parsed(names.EXCLUDE_INBOUND_PORTS, values.ports, "")
    if names.MESH_PORT in inbound or names.INBOUND_PORT in inbound or names.OUTBOUND_PORT in inbound:
        raise read.error(names.EXCLUDE_INBOUND_PORTS, "a port of the sidecar's own cannot be excluded (leave it out)")
    cidrs = read.parsed(names.EXCLUDE_OUTBOUND_CIDRS, values.networks, "")
    everywhere = ",".join((*settings.exclude_outbound_cidrs, *cidrs))
    requests, limits = _resources(read, settings, shared)
    return Wishes(
        image=read.parsed(names.IMAGE, values.image, settings.image),
        log_level=read.parsed(names.LOG_LEVEL, lambda text: values.choice(text, values.LOG_LEVELS), settings.log_level),
        access_log=read.parsed(
            names.ACCESS_LOG, lambda text: values.choice(text, values.ACCESS_LOGS), settings.access_log
        ),
        drain=read.parsed(names.DRAIN, values.duration, settings.drain),
        exclude_inbound_ports=inbound,
        exclude_outbound_ports=read.parsed(names.EXCLUDE_OUTBOUND_PORTS, values.ports, ""),
        exclude_outbound_cidrs=read.checked(names.EXCLUDE_OUTBOUND_CIDRS, lambda: values.networks(everywhere)),
        requests=requests,
        limits=limits,
    )


class _Reader:
    """Finds an annotation where it counts, and names it where it is wrong."""

    def __init__(self, pod: Mapping[str, str], namespace: Mapping[str, str]) -> None:
        self._pod = pod
        self._namespace = namespace

    def given(self, name: str) -> str | None:
        return self._pod.get(name, self._namespace.get(name))

    def parsed(self, name: str, parse: Callable[[str], T], default: str) -> T:
        given = self.given(name)
        return self.checked(name, lambda: parse(default if given is None else given))

    def checked(self, name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ValueError as error:
            raise self.error(name, str(error)) from error

    def error(self, name: str, what: str) -> WishError:
        of_namespace = name not in self._pod and name in self._namespace
        return WishError(f"annotation {name}{' of the namespace' if of_namespace else ''}: {what}")


def _no_strangers(annotations: Mapping[str, str], also: frozenset[str], whose: str) -> None:
    """An annotation of ours that nobody reads is a mistake, never ignored."""
    known = {*names.WISHES, *also}
    for name in annotations:
        if name.startswith(f"{names.GROUP}/") and name not in known:
            mend = choose_from(name, names.WISHES)
            raise WishError(f"annotation {shown(name)}{whose}: nobody reads it ({mend})")


def _resources(
    read: _Reader, settings: InjectSettings, shared: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Requests and limits. What is wished moves what is not: a low limit lowers the usual request, a high request
    raises the usual limit."""
    usual = settings.resources
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for what, parse, say, places, defaults in (
        ("cpu", values.cpu, _said_cpu, (names.CPU_REQUEST, names.CPU_LIMIT), (usual.cpu_request, usual.cpu_limit)),
        (
            "memory",
            values.memory,
            values.memory_text,
            (names.MEMORY_REQUEST, names.MEMORY_LIMIT),
            (usual.memory_request, usual.memory_limit),
        ),
    ):
        wished = [read.given(name) for name in places]
        for name, text in zip(places, wished, strict=True):
            if text == "":
                raise read.error(name, "it is empty (give an amount, or leave it out)")
        usually = ("", "") if what in shared else defaults
        request, limit = (one if one is not None else given for one, given in zip(wished, usually, strict=True))
        low, high = read.parsed(places[0], parse, request), read.parsed(places[1], parse, limit)
        if low is not None and high is not None and low > high:
            if None not in wished:
                raise read.error(places[1], f"less than {places[0]} asks for (raise it)")
            request = limit = request if wished[0] is not None else limit
        request = request or limit  # as the API server fills it in
        requests |= {what: say(request)} if request else {}
        limits |= {what: say(limit)} if limit else {}
    return requests, limits


def _said_cpu(text: str) -> str:
    cores = values.cpu(text)
    assert cores is not None, text
    return values.cpu_text(cores)
