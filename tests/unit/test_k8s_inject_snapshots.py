"""A few injected pods to the last byte, so that a change of what runs in people's pods is seen by who makes it.

Written anew by ``python -m tests.unit.test_k8s_inject_snapshots``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from k8s.inject.injection import Injected, inject
from tests.golden_pods import CNI, GOLDEN, SETTINGS, WORD

_FOLDER: Final = Path(__file__).parent / "golden"
_KEPT: Final = {
    "plain": SETTINGS,
    "every-probe": SETTINGS,
    "excluded-ports": SETTINGS,
    "restricted": CNI,
}


def _text(name: str) -> str:
    golden = GOLDEN[name]
    outcome = inject(golden.pod, golden.namespace, _KEPT[name], WORD)
    assert isinstance(outcome, Injected)
    return json.dumps(outcome.pod, indent=2) + "\n"


@pytest.mark.parametrize("name", _KEPT)
def test_an_injected_pod_is_what_it_was(name: str) -> None:
    assert _text(name) == (_FOLDER / f"{name}.json").read_text()


if __name__ == "__main__":
    for each in _KEPT:
        (_FOLDER / f"{each}.json").write_text(_text(each))
