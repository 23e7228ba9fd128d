"""The gRPC client's machine gives the same whatever the cuts, survives any bytes, and never calls noise a success."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sidecar.http2 import frames
from sidecar.http2.frames import PeerError
from sidecar.rpc.machine import RpcMachine
from sidecar.rpc.status import StatusCode
from sidecar.rpc.stream import WINDOW_BYTES, RpcStream
from tests.rpc_ends import HEAD, headers, message

LIMIT = 2000


def called() -> tuple[RpcMachine, RpcStream]:
    machine = RpcMachine(authority="controlplane.example", monotonic=lambda: 0.0)
    machine.start()
    machine.receive(frames.settings({}))
    stream = machine.open("/p.S/M", timeout_seconds=1.0, limit_bytes=LIMIT)
    machine.take()
    return machine, stream


def taken(stream: RpcStream) -> list[bytes]:
    messages = []
    while (found := stream.take()) is not None:
        messages.append(found)
    return messages


answers = st.builds(
    lambda messages, code, odd: (
        headers(1, HEAD)
        + b"".join(message(1, content) for content in messages)
        + odd
        + headers(1, [(b"grpc-status", code)], end=True)
    ),
    st.lists(st.binary(max_size=LIMIT), max_size=6),
    st.sampled_from([b"0", b"7", b"14", b"nonsense"]),
    st.sampled_from([b"", frames.ping(b"12345678"), frames.goaway(1, 0), frames.window_update(1, 5), message(1, b"y")]),
)


@given(answers, st.lists(st.integers(1, 50), max_size=100))
def test_the_same_bytes_in_any_cut_are_the_same_answer(wire: bytes, cuts: list[int]) -> None:
    whole, whole_stream = called()
    whole.receive(wire)
    parts, parts_stream = called()
    for size in cuts:
        parts.receive(wire[:size])
        wire = wire[size:]
    parts.receive(wire)
    assert taken(parts_stream) == taken(whole_stream)
    assert parts_stream.status == whole_stream.status
    assert parts.take() == whole.take()


frame = st.builds(
    frames.frame,
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 1, 1, 2, 3]),
    st.one_of(st.binary(max_size=40), st.sampled_from([b"\x88", b"\0\0\0\0\1", b"\0\0\0\1\0"])),
)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=400), st.lists(frame, max_size=12).map(b"".join)))
@example(frames.frame(frames.DATA, 1, 1, b"\0\0\0\0\1x"))
def test_noise_is_a_breach_or_nothing_and_never_a_success(wire: bytes) -> None:
    machine, stream = called()
    try:
        machine.receive(wire)
    except PeerError:
        return
    # An answer needs a head and trailers with a status: noise has no such thing.
    assert stream.status is None or stream.status.code is not StatusCode.OK
    assert len(machine.take()) <= 64 * len(wire) + 64


@given(st.lists(st.one_of(st.just("read"), st.integers(0, LIMIT)), max_size=60))
def test_what_is_kept_is_bounded_and_everything_read_gives_credit_again(steps: list[str | int]) -> None:
    machine, stream = called()
    machine.receive(headers(1, HEAD))
    window, sent, got = WINDOW_BYTES, [], []
    for step in steps:
        if isinstance(step, str):
            got += taken(stream)
        elif window >= step + 5:
            content = bytes([len(sent) % 251]) * step
            machine.receive(message(1, content))
            window -= step + 5
            sent.append(content)
        out = machine.take()
        while out:
            length, kind, stream_id = int.from_bytes(out[:3], "big"), out[3], int.from_bytes(out[5:9], "big")
            if kind == frames.WINDOW_UPDATE and stream_id == 1:
                window += int.from_bytes(out[9:13], "big")
            out = out[9 + length :]
        assert window <= WINDOW_BYTES
    assert got + taken(stream) == sent
    assert stream.status is None
