"""The set of reasons: closed, documented, safe as words on the wire."""

from __future__ import annotations

import re

from ringfence.policy.reasons import DenyReason, ReasonKind


def test_every_reason_says_what_it_means_in_one_line() -> None:
    for reason in DenyReason:
        assert re.fullmatch(r"[a-z][a-z_]{1,39}", reason.value)
        assert reason.name == reason.value.upper()
        assert re.fullmatch(r"[^\n]{20,100}[^.\n]", reason.summary)
        assert isinstance(reason.kind, ReasonKind)


def test_a_reason_is_its_word_and_found_by_it() -> None:
    assert DenyReason("path_ambiguous") is DenyReason.PATH_AMBIGUOUS
    assert f"{DenyReason.PATH_AMBIGUOUS}" == "path_ambiguous"
    assert DenyReason.PATH_AMBIGUOUS == "path_ambiguous"


def test_meanings_do_not_repeat() -> None:
    assert len({reason.summary for reason in DenyReason}) == len(DenyReason)
