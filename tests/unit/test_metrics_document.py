"""What operators read of the metrics is what a sidecar serves."""

from __future__ import annotations

import re

from tests.metrics_document import DOCUMENT, declared, declared_by_control_plane, document


def test_the_document_is_what_the_declarations_say() -> None:
    assert DOCUMENT.read_text() == document(), "write it anew: python -m tests.metrics_document"


def test_every_metric_has_a_lawful_name_of_its_own_a_unit_it_can_keep_and_a_help() -> None:
    families = [*declared(), *declared_by_control_plane()]
    names = [one.name for one in families]
    assert len(names) == len(set(names))
    for one in families:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", one.name)
        assert one.help
        assert "|" not in one.help
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", label) for label in one.labels)
