"""What peers of the mesh and the control plane send: tunnel, gRPC, snapshots, certificates, re-proofs, first bytes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Final

from cryptography.utils import CryptographyDeprecationWarning
from google.protobuf.message import DecodeError

from ringfence.kit.clock import FakeClock
from ringfence.spiffe import ChainVerifier, SpiffeId, TrustBundle, TrustDomain, VerificationError
from ringfence.wire.convert import WireError, snapshot_from_wire, snapshot_to_wire
from ringfence.wire.gen import control_pb2
from sidecar.client_hello import host_name
from sidecar.first_bytes import FirstLine
from sidecar.http2 import frames as f
from sidecar.http2.frames import PeerError
from sidecar.http2.literal import encode
from sidecar.reprove import check_proof, make_proof
from sidecar.rpc.machine import RpcMachine
from sidecar.sniff import sniff
from sidecar.tls import TlsIdentity
from tests.fuzz.target import TALK_LIMIT_BYTES, Target, expect, in_pieces, steps
from tests.pki import TestCa
from tests.tls_ends import connected
from tests.tunnel_ends import End

_NOW: Final = 1_800_000_000.0
_FOLDER: Final = Path(__file__).parent
_CONNECT: Final = [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:8080")]
_OUT_FACTOR: Final = 64


def tunnel(data: bytes) -> None:
    """The server's end of a tunnel. c: raw bytes; f: kind, flags, stream id, payload; o: CONNECT with flags and stream
    id; t: endpoints take no more; k: and take again; w: the app says the rest of it on every stream."""
    lives = [_tunnelled(data, size) for size in (0, 1)]
    expect(lives[0] == lives[1], f"cuts show: {lives}")


def _tunnelled(data: bytes, size: int) -> tuple[object, ...]:
    end = End(server=True)
    machine = end.machine
    machine.start()
    out = machine.take()
    broken: object = None
    try:
        machine.receive(f.PREFACE + f.settings({0xF1CE: 1}))
        for kind, rest in steps(data):
            if kind == ord("t"):
                end.taking = False
                for endpoint in end.endpoints.values():
                    endpoint.taking = False
            elif kind == ord("k"):
                end.taking = True
                for stream, _ in end.connects:
                    end.endpoints[stream.stream_id].taking = True
                    stream.credit(stream.held_bytes)
            elif kind == ord("w"):
                for stream, _ in end.connects:
                    stream.send(rest)
            else:
                for piece in in_pieces(_sent(kind, rest), size):
                    machine.receive(piece)
            out += machine.take()
            machine.set_room(1 << 17)
            held = sum(stream.held_bytes for stream in machine.streams.values())
            expect(held == machine.held_bytes, f"{machine.held_bytes} bytes held, streams say {held}")
    except PeerError as error:
        broken = (error.code, error.detail)
    out += machine.take()
    expect(len(out) <= _OUT_FACTOR * len(data) + 1024, f"{len(out)} bytes out for {len(data)} in")
    received = {number: bytes(endpoint.received) for number, endpoint in end.endpoints.items()}
    resets = {number: endpoint.reset for number, endpoint in end.endpoints.items()}
    return (broken, received, resets, end.proofs, end.goaways, out if broken is None else b"")


def _sent(kind: int, rest: bytes) -> bytes:
    if kind == ord("f") and len(rest) >= 3:
        return f.frame(rest[0], rest[1], rest[2], rest[3:])
    if kind == ord("o") and len(rest) >= 2:
        return f.frame(f.HEADERS, rest[0], rest[1], encode(_CONNECT))
    return rest if kind == ord("c") else b""


def rpc(data: bytes) -> None:
    """What a server answers to one call: whole equals cut, and it takes no more out of us than it costs."""
    seen = []
    for size in (0, 1):
        machine = RpcMachine(authority="controlplane.example", monotonic=lambda: 0.0)
        machine.start()
        machine.receive(f.settings({}))
        stream = machine.open("/p.S/M", timeout_seconds=1.0, limit_bytes=2000)
        machine.take()
        broken: object = None
        try:
            for piece in in_pieces(data, size):
                machine.receive(piece)
        except PeerError as error:
            broken = error.code
        out = machine.take()
        expect(len(out) <= _OUT_FACTOR * len(data) + 64, f"{len(out)} bytes out for {len(data)} in")
        messages = []
        while (message := stream.take()) is not None:
            messages.append(message)
        seen.append((broken, messages, stream.status, out if broken is None else b""))
    expect(seen[0] == seen[1], f"cuts show: {seen}")


def first_bytes(data: bytes) -> None:
    """An answer, once given, is final; a host is one name in one spelling."""
    final, line = sniff(data), FirstLine()
    spoken = [said for size in (0, 1) for said in [_fed(size, data)]]
    expect(spoken[0] == spoken[1], f"cuts show: {spoken}")
    line.feed(data)
    for size in range(1, len(data), max(1, len(data) // 64)):
        found = sniff(data[:size])
        expect(found is None or found == final, f"{found} after {size} bytes, {final} in the end")
    if final is not None and final.host:
        expect(host_name(final.host.encode()) == final.host, f"no name: {final.host!r}")


def _fed(size: int, data: bytes) -> object:
    line = FirstLine()
    for piece in in_pieces(data, size):
        said = line.feed(piece)
        if said is not None:
            return said
    return None


def snapshot(data: bytes) -> None:
    """Whatever is taken from the wire can be told again, and means the same."""
    message = control_pb2.Snapshot()
    try:
        message.ParseFromString(data)
        found = snapshot_from_wire(message)
    except (DecodeError, WireError):
        return
    expect(snapshot_from_wire(snapshot_to_wire(found)) == found, f"told again it is another: {found}")


class _Certificates:
    """A chain that is good for ever, as far as this clock goes, and nothing else that would be."""

    def __init__(self) -> None:
        root = (_FOLDER / "root.der").read_bytes()
        self.verifier = ChainVerifier([TrustBundle(TrustDomain("fuzz.example"), (root,))])
        self.good = (_FOLDER / "corpus" / "x509" / "good").read_bytes()

    def judge(self, data: bytes) -> None:
        """``data``: the certificates of a chain, one behind the other, leaf first."""
        chain = _elements(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            try:
                peer = self.verifier.verify(chain, _NOW)
            except VerificationError:
                return
        expect(chain[:2] == _elements(self.good)[:2], f"{peer.spiffe_id} was believed")


def _elements(data: bytes) -> list[bytes]:
    """The DER elements of ``data``; what is none is the last of them."""
    found = []
    while data:
        size = 4 + int.from_bytes(data[2:4], "big") if data[1:2] == b"\x82" else len(data)
        found.append(data[:size])
        data = data[size:]
    return found


class _Proofs:
    """A re-proof that is good on one connection, and changes to it."""

    def __init__(self) -> None:
        ca = TestCa("fuzz.example", now=_NOW)
        clock = FakeClock(_NOW)
        self.peer = SpiffeId.parse("spiffe://fuzz.example/ns/a/sa/web")
        self.verifier = ChainVerifier([ca.bundle()])
        other = SpiffeId.parse("spiffe://fuzz.example/ns/a/sa/api")
        client, self.server = connected(
            TlsIdentity(ca.svid(self.peer), [ca.bundle()], clock), TlsIdentity(ca.svid(other), [ca.bundle()], clock)
        )
        self.good = make_proof(client, ca.svid(self.peer), 1)

    def judge(self, data: bytes) -> None:
        """``=`` and a whole proof; or changes, each of place (two bytes) and new byte."""
        proof = bytearray(data[1:] if data.startswith(b"=") else self.good)
        if not data.startswith(b"="):
            for at in range(0, len(data) - 2, 3):
                proof[int.from_bytes(data[at : at + 2], "big") % len(proof)] = data[at + 2]
        try:
            check_proof(self.server, self.verifier, bytes(proof), self.peer, 1, _NOW)
        except VerificationError:
            return
        expect(proof == self.good, "a changed proof was believed")


TARGETS: Final = (
    Target(name="tunnel", run=tunnel, limit_bytes=TALK_LIMIT_BYTES),
    Target(name="rpc", run=rpc),
    Target(name="first_bytes", run=first_bytes),
    Target(name="snapshot", run=snapshot),
    Target(name="x509", run=_Certificates().judge),
    Target(name="reproof", run=_Proofs().judge),
)
