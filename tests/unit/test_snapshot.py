"""What the words of a snapshot mean."""

from __future__ import annotations

import pytest

from ringfence.policy.services import OPAQUE
from ringfence.snapshot import Protocol, Upstream


@pytest.mark.parametrize("protocol", Protocol)
def test_every_protocol_is_read_request_by_request_but_the_opaque_one_and_that_which_is_found_out(
    protocol: Protocol,
) -> None:
    assert protocol.is_http == (protocol not in (OPAQUE, Protocol.AUTO))


@pytest.mark.parametrize("protocol", Protocol)
def test_words_of_requests_mean_something_on_every_protocol_but_the_opaque_one(protocol: Protocol) -> None:
    assert protocol.may_be_http == (protocol != OPAQUE)


def test_opaque_is_a_protocol() -> None:
    assert Protocol(OPAQUE) is Protocol.TCP


@pytest.mark.parametrize(("host", "port", "has"), [("127.0.0.1", 9102, True), ("", 0, False)])
def test_upstream_has_a_listener_or_none(host: str, port: int, has: bool) -> None:
    upstream = Upstream(
        service="a", namespace="n", port=1, protocol=Protocol.TCP, listen_host=host, listen_port=port, endpoints=()
    )
    assert upstream.has_listener is has
