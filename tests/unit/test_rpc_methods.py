"""Methods are what the .proto files declare, in path, types and form."""

from __future__ import annotations

import pytest

from ringfence.wire.gen import control_pb2, control_pb2_grpc, issuing_pb2, issuing_pb2_grpc
from sidecar.control.session import _SUBSCRIBE
from sidecar.identity.client import _ATTEST, _CHALLENGE, _JOIN, _PROVE, _RENEW
from sidecar.rpc.methods import Method, method


class Paths:
    """A channel for grpcio's generated stubs that notes what they would call."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def _note(self, path: str, **_: object) -> None:
        self.paths.add(path)

    unary_unary = stream_stream = _note


def test_the_paths_are_those_of_the_generated_stubs() -> None:
    channel = Paths()
    for stub in (issuing_pb2_grpc.JoiningStub, issuing_pb2_grpc.RenewalStub, control_pb2_grpc.ControlStub):
        stub(channel)  # type: ignore[arg-type]
    ours: list[Method[object, object]] = [_JOIN, _CHALLENGE, _ATTEST, _PROVE, _RENEW, _SUBSCRIBE]  # type: ignore[type-var]
    assert {one.path for one in ours} == channel.paths


def test_a_method_knows_its_answer_and_its_form() -> None:
    assert (_JOIN.answer, _JOIN.is_stream) == (issuing_pb2.SvidResponse, False)
    assert (_SUBSCRIBE.answer, _SUBSCRIBE.is_stream) == (control_pb2.Snapshot, True)


@pytest.mark.parametrize(
    ("service", "name", "request_type", "answer"),
    [
        ("Joining", "Leave", issuing_pb2.JoinRequest, issuing_pb2.SvidResponse),
        ("Parting", "Join", issuing_pb2.JoinRequest, issuing_pb2.SvidResponse),
        ("Joining", "Join", issuing_pb2.AttestRequest, issuing_pb2.SvidResponse),
        ("Joining", "Join", issuing_pb2.JoinRequest, issuing_pb2.ChallengeResponse),
    ],
)
def test_what_is_not_declared_so_is_refused(service: str, name: str, request_type: type, answer: type) -> None:
    with pytest.raises(ValueError, match=name):
        method(issuing_pb2.DESCRIPTOR, service, name, request_type, answer)
