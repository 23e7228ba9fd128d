"""What a splitter sends again although an endpoint may have begun with it: each as a transcript of frames."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ringfence.routing.model import RetryOn
from sidecar.balance import Outcome
from sidecar.http2 import Malformed
from sidecar.http2 import frames as f
from tests.http2_ends import GET, GRPC, OK, POST
from tests.split_ends import Fan

BUSY = [(b":status", b"503"), (b"x-of", b"the first")]
BROKEN = [(b":status", b"500")]
ALL = (RetryOn.RESET_BEFORE_RESPONSE, RetryOn.GATEWAY_ERROR, RetryOn.SERVER_ERROR)

LOSSES: list[Callable[[Fan], None]] = [
    lambda fan: fan.server(1, f.rst_stream(1, f.INTERNAL_ERROR)),
    lambda fan: fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], None)),
    lambda fan: fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], "the link broke")),
    lambda fan: fan.server(1, f.frame(f.DATA, 0, 0, b"a breach")),
]


def repeated(fan: Fan) -> list[object]:
    return [event[-1] for event in fan.events if event[0] == "repeated"]


@pytest.mark.parametrize("lose", LOSSES)
def test_a_call_that_is_lost_before_its_response_goes_elsewhere_where_it_may(lose: Callable[[Fan], None]) -> None:
    fan = Fan(2, repeats_on=ALL)
    assert fan.ask(1, GET, body=b"kept") == 1
    lose(fan)
    assert (fan.to_leg[0].headers(1), fan.to_leg[0].content(1)) == ([GET], b"kept")
    fan.reply(0, 1, body=b"whole")
    assert (fan.to_client.headers(1), fan.to_client.content(1)) == ([OK], b"whole")
    assert repeated(fan) == [RetryOn.RESET_BEFORE_RESPONSE]
    assert fan.chooser.outcomes == [(1, Outcome.FAILED), (0, Outcome.ANSWERED)]
    assert fan.open_count == fan.chooser.open_count == 0


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("fields", [POST, GRPC])
def test_a_call_that_may_not_be_repeated_is_lost_with_its_endpoint(lose: Callable[[Fan], None], fields: object) -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1, fields, body=b"x")  # type: ignore[arg-type]
    lose(fan)
    assert repeated(fan) == []
    assert 0 not in fan.to_leg
    assert fan.open_count == fan.chooser.open_count == 0


def test_what_policy_ended_is_not_tried_elsewhere() -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1)
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], "denied", again=False))
    assert repeated(fan) == []
    assert fan.to_client.headers(1)[0][0] == (b":status", b"503")


@pytest.mark.parametrize(
    "on, fields, goes",
    [
        (RetryOn.GATEWAY_ERROR, BUSY, True),
        (RetryOn.GATEWAY_ERROR, BROKEN, False),
        (RetryOn.SERVER_ERROR, BROKEN, True),
        (RetryOn.SERVER_ERROR, [(b":status", b"429")], False),
        (RetryOn.RESET_BEFORE_RESPONSE, BUSY, False),
    ],
)
def test_a_status_that_is_named_is_tried_elsewhere_and_nobody_sees_it(on: RetryOn, fields: object, goes: bool) -> None:
    fan = Fan(2, repeats_on=[on])
    fan.ask(1)
    fan.reply(1, 1, fields, end=False)  # type: ignore[arg-type]
    fan.server(1, f.frame(f.DATA, f.FLAG_END_STREAM, 1, b"sorry"))
    assert repeated(fan) == ([on] if goes else [])
    if not goes:
        assert (fan.to_client.headers(1), fan.to_client.content(1)) == ([fields], b"sorry")
        return
    assert fan.to_leg[1].codes(1) == [f.CANCEL]
    assert fan.to_client.headers(1) == []
    fan.reply(0, 1, body=b"whole")
    assert (fan.to_client.headers(1), fan.to_client.content(1)) == ([OK], b"whole")
    assert [event for event in fan.events if event[0] == "response"] == [("response", 1, 200)]
    assert fan.chooser.outcomes == [(1, Outcome.ERROR), (0, Outcome.ANSWERED)]
    assert fan.flaws == []
    assert fan.ask(3) >= 0  # and the first endpoint's connection lives


def test_an_answer_that_is_whole_is_not_reset() -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1)
    fan.reply(1, 1, BUSY)
    assert fan.to_leg[1].codes(1) == []
    fan.reply(0, 1)
    assert fan.to_client.headers(1) == [OK]


def test_the_last_answer_passes_when_nobody_is_left_to_ask() -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1)
    fan.reply(1, 1, BROKEN)
    fan.reply(0, 1, BUSY, body=b"sorry")
    assert (fan.to_client.headers(1), fan.to_client.content(1)) == ([BUSY], b"sorry")
    assert len(repeated(fan)) == 1
    assert fan.open_count == fan.chooser.open_count == 0


def test_attempts_bound_what_is_repeated() -> None:
    fan = Fan(4, repeats_on=ALL, attempts=1)
    for _ in range(2):
        fan.splitter.outstanding() or fan.ask(1)
        leg = fan.splitter.outstanding()[0].leg  # type: ignore[attr-defined]
        fan.reply(fan.number(leg), 1, BUSY)
    assert fan.to_client.headers(1) == [BUSY]
    assert len(repeated(fan)) == 1


@pytest.mark.parametrize("began", [[(b":status", b"103")], OK])
def test_nothing_is_repeated_once_a_byte_of_a_response_went_out(began: object) -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1)
    fan.reply(1, 1, began, end=False)  # type: ignore[arg-type]
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[1], None))
    assert repeated(fan) == []
    assert fan.flaws == [Malformed.TRUNCATED if began == OK else Malformed.NO_RESPONSE]


def test_a_try_that_is_too_slow_is_given_up_for_another() -> None:
    fan = Fan(2, repeats_on=ALL)
    fan.ask(1)
    [call] = fan.splitter.outstanding()
    assert fan.splitter.try_again(call)
    fan.flush()
    assert fan.to_leg[1].codes(1) == [f.CANCEL]
    fan.reply(1, 1, body=b"late")  # crossed the reset
    assert fan.to_client.headers(1) == []
    fan.reply(0, 1, body=b"in time")
    assert fan.to_client.content(1) == b"in time"
    assert not fan.splitter.try_again(call)
    assert fan.flaws == []
