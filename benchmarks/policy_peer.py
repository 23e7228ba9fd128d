"""A decision under so many rules, ours and Envoy's RBAC filter's for the same rules; and what the rules cost besides.

The rules are those of ``policy``'s shape ``one caller``: each permits the caller one path template of its own on one
port by two methods, and the calls go through all of them in turn. Ours is the decision by itself, in CPU time, as
``policy`` takes it. Envoy has no such seam: it answers requests itself, over mutual TLS, once with the rules and once
with none, and a decision is what its process takes more. That difference is known to ``_LEAST_MICROSECONDS`` and
``_LEAST_MEGABYTES`` at best, which stand in its place where it is smaller. Envoy takes rules in when it starts, so what
it takes more until it listens is beside our time to compile.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import envoy, policy_shapes
from benchmarks.backend import folder as temporary_folder
from benchmarks.certificates import write_certificates
from benchmarks.envoy_config import SERVER_ID, Config
from benchmarks.policy_shapes import ASKED, ONE_CALLER, Judge
from benchmarks.processes import cpu_seconds, free_ports, listening, resident_megabytes
from benchmarks.results import Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say

COUNTS = (10, 100, 1_000, 10_000)
_LEAST_MICROSECONDS = 0.1
_LEAST_MEGABYTES = 0.1
_LEAST_SECONDS = 0.001
_TURN_SECONDS = 1.0  # of Envoy's CPU, about; at least a hundred requests
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
_MANAGER = f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What an Envoy took: CPU microseconds a request, MiB, and seconds from its start until it listened."""

    request_microseconds: float
    megabytes: float
    start_seconds: float


def run(plan: Plan, say: Say) -> list[Row]:
    """Measure at each of ``COUNTS`` and give the rows."""
    found: list[Row] = []
    with temporary_folder() as home:
        caller = str(ONE_CALLER.caller(0))
        write_certificates(home, {"client": caller, "api": SERVER_ID})
        for count in plan.levels or COUNTS:
            rounds = [_round(home, count) for _ in range(plan.rounds)]
            found += _rows(count, rounds)
            say(f"judged by {count:,} rules, ours and Envoy's")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round at one number of rules."""

    fresh: Pair
    remembered: Pair
    compile_milliseconds: Pair
    megabytes: Pair


def _round(home: Path, count: int) -> Round:
    without, with_rules = _taken(home, 0, ASKED), _taken(home, count, count)
    decision = max(with_rules.request_microseconds - without.request_microseconds, _LEAST_MICROSECONDS)
    megabytes = max(with_rules.megabytes - without.megabytes, _LEAST_MEGABYTES)
    seconds = max(with_rules.start_seconds - without.start_seconds, _LEAST_SECONDS)
    judge = Judge(ONE_CALLER, count)
    return Round(
        fresh=Pair(ours=judge.fresh() * 1e6, theirs=decision),
        remembered=Pair(ours=judge.remembered() * 1e6, theirs=decision),
        compile_milliseconds=Pair(ours=judge.compile_seconds * 1e3, theirs=seconds * 1e3),
        megabytes=Pair(ours=policy_shapes.megabytes(ONE_CALLER, count), theirs=megabytes),
    )


def _rows(count: int, rounds: Sequence[Round]) -> list[Row]:
    peer, level = envoy.label(), f"{count:,} rules"
    return [
        compare("policy", level, metric, peer, pairs)
        for metric, pairs in (
            ("decision_us_fresh", [each.fresh for each in rounds]),
            ("decision_us_remembered", [each.remembered for each in rounds]),
            ("compile_milliseconds", [each.compile_milliseconds for each in rounds]),
            ("compiled_megabytes", [each.megabytes for each in rounds]),
        )
    ]


def _taken(home: Path, rule_count: int, shape_count: int) -> Taken:
    """Run an Envoy with ``rule_count`` rules and have it asked for what ``shape_count`` of them permit."""
    (port,) = free_ports(1)
    started = time.perf_counter()
    with envoy.process(home, "judging", configuration(port, rule_count)) as process:
        deadline = started + 60
        while not listening(port):
            if process.poll() is not None or time.perf_counter() > deadline:
                raise BenchmarkError(f"envoy with {rule_count} rules does not listen: {home / 'judging.log'}")
            time.sleep(0.002)
        start_seconds = time.perf_counter() - started
        paths = [path.decode() for path in ONE_CALLER.paths(shape_count, 0)]
        with _connected(home, port) as ask:
            before, asked = _spend(process.pid, ask, paths, 50)
            once = (cpu_seconds(process.pid) - before) / asked
            before, asked = _spend(process.pid, ask, paths, max(100, min(20_000, int(_TURN_SECONDS / once))))
            spent = cpu_seconds(process.pid) - before
        return Taken(
            request_microseconds=spent / asked * 1e6,
            megabytes=resident_megabytes(process.pid),
            start_seconds=start_seconds,
        )


def _spend(pid: int, ask: _Asking, paths: Sequence[str], count: int) -> tuple[float, int]:
    """Ask so often; the CPU seconds that the process had used before, and the number."""
    before = cpu_seconds(pid)
    for number in range(count):
        ask(paths[number * 7 % len(paths)])
    return before, count


class _Asking:
    """A kept connection on which a path is asked for and must be permitted."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        self._tls = tls

    def __call__(self, path: str) -> None:
        self._tls.sendall(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            received = self._tls.recv(4096)
            answer += received
            if not received or len(answer) > 4096:
                break
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise BenchmarkError(f"envoy answered {path} with {answer[:80]!r}")


@contextlib.contextmanager
def _connected(home: Path, port: int) -> Iterator[_Asking]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(home / "ca.pem")
    context.load_cert_chain(home / "client.pem", home / "client.key")
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        context.wrap_socket(plain, suppress_ragged_eofs=True) as tls,
    ):
        yield _Asking(tls)


# -------------------------------------------------------------------------------------------- what Envoy is told. Pure.


def configuration(port: int, rule_count: int) -> Config:
    """Mutual TLS on loopback ``port``, ``rule_count`` rules (0: no filter at all), and an answer without a body."""
    rbac: list[Config] = [_rbac(port, rule_count)] if rule_count else []
    router: Config = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
    }
    answered: Config = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    manager: Config = {
        "@type": _MANAGER,
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [answered]}]},
        "http_filters": [*rbac, router],
    }
    tls: Config = {
        "@type": f"{_TLS}.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [
                {"certificate_chain": {"filename": "api.pem"}, "private_key": {"filename": "api.key"}}
            ],
            "validation_context": {"trusted_ca": {"filename": "ca.pem"}},
        },
    }
    chain: Config = {
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    address: Config = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    return {"static_resources": {"listeners": [{"name": "in", "address": address, "filter_chains": [chain]}]}}


def _rbac(port: int, count: int) -> Config:
    caller = {"authenticated": {"principal_name": {"exact": str(ONE_CALLER.caller(0))}}}
    policies: Config = {}
    for number in range(count):
        rule = ONE_CALLER.rule(number)
        methods: list[Config] = [
            {"header": {"name": ":method", "string_match": {"exact": method}}} for method in rule.methods
        ]
        parts: list[Config] = [
            {"destination_port": port},  # theirs, which stands for ours
            {"or_rules": {"rules": methods}},
            {"url_path": {"path": {"safe_regex": {"regex": re.sub(r"\{[a-z]+\}", "[^/]+", rule.paths[0])}}}},
        ]
        policies[f"rule-{number:05}"] = {"permissions": [{"and_rules": {"rules": parts}}], "principals": [caller]}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {"@type": f"{_FILTERS}.http.rbac.v3.RBAC", "rules": {"action": "ALLOW", "policies": policies}},
    }
