"""How the end of a call is read from trailers, HTTP and resets; nothing odd ever reads as OK."""

from __future__ import annotations

import grpc
import pytest

from sidecar.rpc.status import (
    RpcError,
    Status,
    StatusCode,
    percent_decoded,
    status_of_http,
    status_of_reset,
    status_of_trailers,
)


def test_the_codes_are_grpcs_own() -> None:
    assert {code.name: int(code) for code in StatusCode} == {code.name: code.value[0] for code in grpc.StatusCode}


@pytest.mark.parametrize("code", list(StatusCode))
def test_every_code_is_read_with_its_words(code: StatusCode) -> None:
    status = status_of_trailers([(b"grpc-status", b"%d" % code), (b"grpc-message", b"why"), (b"extra", b"1")])
    assert (status.code, status.details) == (code, "why")
    assert status.metadata[b"extra"] == b"1"


@pytest.mark.parametrize(
    "text", [b"", b"00", b"+0", b" 0", b"0 ", b"17", b"-1", b"0x0", b"OK", "٠".encode(), b"9" * 99]
)
def test_a_status_that_is_no_known_code_is_unknown(text: bytes) -> None:
    assert status_of_trailers([(b"grpc-status", text)]).code is StatusCode.UNKNOWN


def test_no_status_and_two_of_them_are_unknown() -> None:
    assert status_of_trailers([]).code is StatusCode.UNKNOWN
    assert status_of_trailers([(b"grpc-status", b"0"), (b"grpc-status", b"0")]).code is StatusCode.UNKNOWN


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        (b"", ""),
        (b"plain words", "plain words"),
        (b"100%25", "100%"),
        (b"na%C3%AFve", "naïve"),
        (b"a%0Ab", "a\nb"),
        (b"%e2%82%ac", "€"),
        # What is no escape stays as it is, and what is no UTF-8 is replaced: a message is never a reason to fail.
        (b"50%", "50%"),
        (b"%zz%4", "%zz%4"),
        (b"%ff", "\N{REPLACEMENT CHARACTER}"),
        (b"\xc3\xaf", "ï"),
    ],
)
def test_messages_are_percent_decoded(wire: bytes, text: str) -> None:
    assert percent_decoded(wire) == text


@pytest.mark.parametrize(
    ("http", "code"),
    [
        (b"400", StatusCode.INTERNAL),
        (b"401", StatusCode.UNAUTHENTICATED),
        (b"403", StatusCode.PERMISSION_DENIED),
        (b"404", StatusCode.UNIMPLEMENTED),
        (b"429", StatusCode.UNAVAILABLE),
        (b"503", StatusCode.UNAVAILABLE),
        (b"200", StatusCode.UNKNOWN),
        (b"302", StatusCode.UNKNOWN),
        (b"", StatusCode.UNKNOWN),
        (b"\xff" * 100, StatusCode.UNKNOWN),
    ],
)
def test_an_answer_of_plain_http_is_no_ok(http: bytes, code: StatusCode) -> None:
    assert status_of_http(http).code is code


@pytest.mark.parametrize(
    ("reset", "code"),
    [
        (0x0, StatusCode.INTERNAL),
        (0x1, StatusCode.INTERNAL),
        (0x7, StatusCode.UNAVAILABLE),
        (0x8, StatusCode.CANCELLED),
        (0xB, StatusCode.RESOURCE_EXHAUSTED),
        (0xC, StatusCode.PERMISSION_DENIED),
        (0x5, StatusCode.UNKNOWN),
        (0xFFFFFFFF, StatusCode.UNKNOWN),
    ],
)
def test_a_reset_tells_its_status(reset: int, code: StatusCode) -> None:
    assert status_of_reset(reset).code is code


def test_an_error_says_its_code_and_its_words() -> None:
    error = RpcError(Status(code=StatusCode.UNAVAILABLE, details="locked"))
    assert (str(error), error.code, error.details) == ("unavailable: locked", StatusCode.UNAVAILABLE, "locked")
    assert str(RpcError(Status(code=StatusCode.ABORTED))) == "aborted"
