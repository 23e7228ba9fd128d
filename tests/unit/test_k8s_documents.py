"""A custom resource becomes a document of the mesh, and whatever its author wrote costs no more than it is long."""

from __future__ import annotations

import json
from typing import Any

import pytest

from k8s.controller.documents import RESOURCES, HeldDocument, read_document
from ringfence.policy.documents import read_documents

_ALLOWLISTS = next(one for one in RESOURCES if one.kind == "Allowlist")
_SPEC: dict[str, Any] = {"service": "orders", "rules": [{"name": "all", "from": ["web"]}]}


def _held(**change: Any) -> HeldDocument:
    metadata = {"name": "orders", "namespace": "shop", "uid": "u1", "generation": 3, "labels": {"a": "b"}}
    return read_document(_ALLOWLISTS, {"metadata": metadata, "spec": _SPEC, "status": {"enforced": "0/0"}, **change})


def _nested(depth: int, inner: object) -> object:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_what_the_author_wrote_is_the_document_and_what_the_server_added_is_not() -> None:
    held = _held(extra={"kept": True})
    assert json.loads(held.written.content) == {
        "apiVersion": "ringfence.io/v1alpha1",
        "kind": "Allowlist",
        "metadata": {"name": "orders", "namespace": "shop"},
        "spec": _SPEC,
        "extra": {"kept": True},
    }
    assert (held.written.name, held.written.version) == ("Allowlist/shop/orders", "u1/3")


def test_a_problem_has_a_line_of_its_own() -> None:
    held = _held(spec={**_SPEC, "rules": [{"name": "all", "frm": ["web"]}], "mod": "enforce"})
    _, problems = read_documents(held.written.content, held.written.name)
    assert len({one.line for one in problems}) == len(problems) >= 2


@pytest.mark.parametrize("depth", [20, 300, 900])
def test_brackets_around_much_make_it_no_longer_than_it_is(depth: int) -> None:
    spec = {**_SPEC, "x": _nested(depth, [0] * 50_000)}
    assert len(_held(spec=spec).written.content) < 2 * len(json.dumps(spec))


def test_one_that_is_too_deep_to_be_written_out_is_one_that_is_refused() -> None:
    held = _held(spec={**_SPEC, "x": _nested(5_000, 0)})
    _, problems = read_documents(held.written.content, held.written.name)
    assert held.written.version == "u1/3"
    assert any(one.is_error for one in problems)
