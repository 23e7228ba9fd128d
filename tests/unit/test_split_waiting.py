"""Requests that no endpoint could take yet: none is forgotten when the endpoint that they wait for goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.balance import Outcome
from sidecar.http2 import frames as f
from tests.split_ends import Fan

ONE_AT_A_TIME = {f.SETTING_MAX_CONCURRENT_STREAMS: 1}


def _goes_away(fan: Fan) -> None:
    fan.server(0, f.goaway(1, f.NO_ERROR))


def _is_lost(fan: Fan) -> None:
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[0], None))


def _leaves(fan: Fan) -> None:
    fan.tell(lambda: fan.splitter.leg_leaves(fan.leg[0]))


@pytest.mark.parametrize("end", [_goes_away, _is_lost, _leaves])
def test_a_request_that_waits_for_a_full_endpoint_goes_on_by_its_next_connection(end: Callable[[Fan], None]) -> None:
    fan = Fan(1, server_settings=ONE_AT_A_TIME)
    assert fan.ask(1) == 0
    assert fan.ask(3) == -1
    first = fan.leg[0]
    end(fan)
    assert fan.leg[0] is not first
    assert len(fan.to_leg[0].headers(1)) == 1
    fan.reply(0, 1)
    assert len(fan.to_client.headers(3)) == 1


def test_requests_that_wait_for_full_endpoints_take_one_that_is_new() -> None:
    fan = Fan(2, server_settings=ONE_AT_A_TIME)
    fan.chooser.members[1].gone = True
    assert fan.ask(1) == 0
    assert fan.ask(3) == -1
    fan.chooser.members[1].gone = False
    fan.tell(fan.splitter.keep)
    assert len(fan.to_leg[1].headers(1)) == 1


def test_what_is_no_fault_of_an_endpoint_is_not_tried_at_every_other_nor_held_against_it() -> None:
    fan = Fan(3, silent={0, 1, 2})
    fan.ask(1)
    [refused] = fan.leg
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[refused], "rate_limited", again=False))
    assert list(fan.leg) == [refused]
    assert ("unreachable", 1, "rate_limited") in fan.events
    assert fan.chooser.failures == []


def test_what_one_endpoint_refuses_for_a_limit_goes_to_another_that_is_open() -> None:
    fan = Fan(2, silent={0})
    assert fan.ask(1) == 1
    assert fan.ask(3) == -1
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[0], "rate_limited", again=False))
    assert len(fan.to_leg[1].headers(3)) == 1


def test_a_call_that_is_ended_for_no_fault_of_its_endpoint_says_nothing_of_it() -> None:
    fan = Fan(1)
    assert fan.ask(1) == 0
    fan.tell(lambda: fan.splitter.leg_lost(fan.leg[0], "not_permitted", again=False))
    assert fan.chooser.outcomes == [(0, Outcome.UNKNOWN)]
