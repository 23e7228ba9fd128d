"""The page of reasons is the closed set, each with a meaning and a mend of its own."""

from __future__ import annotations

from ringfence.policy.reasons import DenyReason
from tests.reasons_document import DOCUMENT, document


def test_the_page_is_what_the_reasons_say() -> None:
    assert DOCUMENT.read_text() == document(), "write it anew: python -m tests.reasons_document"


def test_each_reason_is_there_once_with_its_own_words() -> None:
    text = DOCUMENT.read_text()
    for reason in DenyReason:
        assert text.count(f"| `{reason.value}` |") == 1
        assert reason.summary
        assert reason.mend
        assert not set("|\n") & set(reason.summary + reason.mend), "a cell of a table"
    for words in ("summary", "mend"):
        assert len({getattr(reason, words) for reason in DenyReason}) == len(DenyReason)
