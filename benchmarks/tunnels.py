"""What open mesh connections cost the server side: memory for each, and the CPU of a request beside them.

The connections come from one process with one SVID and carry nothing (``open_links``); a chain's own client side is
one more. Envoy's are mutual TLS connections without a request.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmarks import growth, http1
from benchmarks.attesting import Workload
from benchmarks.chain import Chain
from benchmarks.loading import Asking, Turn, pairs, take_turns
from benchmarks.mesh import ControlPlane
from benchmarks.mesh_documents import TRUST_DOMAIN
from benchmarks.processes import resident_megabytes
from benchmarks.results import Pair, Row, compare
from benchmarks.works import BenchmarkError, Plan, Say, Work
from ringfence.wire.gen import issuing_pb2 as pb
from ringfence.wire.gen.issuing_pb2_grpc import JoiningStub

LEVELS = (1, 10, 100, 1_000)
_CONNECTIONS = 32
_HOUSE = Path(__file__).resolve().parent.parent


class Opener:
    """The process that holds connections to one server side."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def open(self, count: int) -> None:
        """Have ``count`` connections open; BenchmarkError unless they are."""
        self.tell(count)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line or json.loads(line)["open"] != count:
            raise BenchmarkError(f"of {count} mesh connections not all are open: {line.strip() or 'the peer died'}")


@contextlib.contextmanager
def _opener(chain: Chain, chain_pem: str, key_pem: str, *, http2: bool) -> Iterator[Opener]:
    command = [sys.executable, "-m", "benchmarks.open_links"]
    with subprocess.Popen(command, cwd=_HOUSE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            opener = Opener(process)
            opener.tell({"chain_pem": chain_pem, "key_pem": key_pem, "port": chain.mesh_port, "http2": http2})
            yield opener
        finally:
            process.kill()


def _joined(plane: ControlPlane) -> tuple[str, str]:
    """An SVID of the mesh and its key, PEM, for a workload that has no sidecar."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    roots = str(plane.ask("GET", "/bundle")["roots_pem"]).encode()
    name = f"controlplane.ringfence.{TRUST_DOMAIN}"
    options = [("grpc.ssl_target_name_override", name)]
    token = plane.join_token(f"spiffe://{TRUST_DOMAIN}/ns/default/sa/opener")
    credentials = grpc.ssl_channel_credentials(roots)
    with grpc.secure_channel(f"127.0.0.1:{plane.join_port}", credentials, options) as channel:
        joining = Workload().joining(token, request.public_bytes(Encoding.DER))
        answer: pb.SvidResponse = JoiningStub(channel).Join(joining, timeout=20)
    chain = "".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode() for der in answer.chain)
    return chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def run(plan: Plan, say: Say) -> list[Row]:
    """CPU a request and memory a connection at so many open mesh connections."""
    plan, counts = growth.shortened(plan, LEVELS)
    found: list[Row] = []
    with contextlib.ExitStack() as stack:
        folder, ours, peer = stack.enter_context(growth.started(say, "open mesh connections"))
        assert ours.plane is not None
        chain_pem, key_pem = _joined(ours.plane)
        theirs = ((peer.home / "client.pem").read_text(), (peer.home / "client.key").read_text())
        openers = (
            stack.enter_context(_opener(ours, chain_pem, key_pem, http2=True)),
            stack.enter_context(_opener(peer, *theirs, http2=False)),
        )
        asking = Asking(paths=http1.PATHS, folder=folder)
        for chain in (ours, peer):  # what the first load costs in memory is no connection's
            asking.warmed_up(chain, _CONNECTIONS, plan.turn_seconds)
        before = [resident_megabytes(chain.server_side) for chain in (ours, peer)]
        for count in counts:
            for opener in openers:
                opener.open(count)
            after = [resident_megabytes(chain.server_side) for chain in (ours, peer)]
            measured = take_turns(plan, [(chain, _CONNECTIONS, asking) for chain in (ours, peer)], say)
            values = pairs(measured[ours.name, _CONNECTIONS], measured[peer.name, _CONNECTIONS], _server_cpu)
            label = f"{count:,} open, c={_CONNECTIONS}"
            found.append(compare("tunnels", label, "cpu_us_per_request_server_side", peer.name, values))
            if count >= 100:  # below, a page more or less is the whole figure
                each = [max((now - then) * 1024 / count, 0.01) for now, then in zip(after, before, strict=True)]
                pair = Pair(ours=each[0], theirs=each[1])
                found.append(compare("tunnels", f"{count:,} open", "kib_per_connection", peer.name, [pair]))
            for opener in openers:
                opener.open(count)  # all the while
    return sorted(found, key=lambda row: row.metric)


def _server_cpu(turn: Turn) -> float:
    return turn.server_side_cpu


WORK = Work(name="tunnels", summary="open mesh connections: memory of each, a request's CPU beside them", run=run)
