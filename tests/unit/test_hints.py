"""A hint is remembered, replaced, and never grows the memory."""

from __future__ import annotations

from sidecar.first_bytes import Spoken
from sidecar.hints import Hints


def test_the_last_that_was_spoken_is_remembered_for_each_port() -> None:
    hints = Hints()
    hints.put(1, Spoken.HTTP1)
    hints.put(2, Spoken.OPAQUE)
    hints.put(1, Spoken.HTTP2)
    assert [hints.get(key) for key in (1, 2, 3)] == [Spoken.HTTP2, Spoken.OPAQUE, None]


def test_the_oldest_goes_when_there_are_too_many() -> None:
    hints = Hints(limit=2)
    for key in range(100):
        hints.put(key, Spoken.HTTP1)
        assert len(hints) <= 2
    assert [hints.get(key) for key in (97, 98, 99)] == [None, Spoken.HTTP1, Spoken.HTTP1]
    hints.put(98, Spoken.OPAQUE)
    assert [hints.get(key) for key in (98, 99)] == [Spoken.OPAQUE, Spoken.HTTP1]
