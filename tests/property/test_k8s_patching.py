"""A patch turns what was into what is, whatever both are."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from k8s.inject.patching import difference
from tests.json_patches import patched

_LEAVES = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "a", "b"])
_KEYS = st.sampled_from(["name", "a", "a/b", "m~n", ""])
_DOCUMENTS = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


@given(_DOCUMENTS, _DOCUMENTS)
def test_a_patch_applied_gives_the_new_document(old: Any, new: Any) -> None:
    patch = json.loads(json.dumps(difference(old, new)))
    assert json.dumps(patched(old, patch), sort_keys=True) == json.dumps(new, sort_keys=True)


@given(_DOCUMENTS)
def test_equal_documents_have_no_difference(document: Any) -> None:
    assert difference(document, json.loads(json.dumps(document))) == []


@given(st.lists(_DOCUMENTS, max_size=3), st.lists(_DOCUMENTS, min_size=1, max_size=3), st.lists(_DOCUMENTS, max_size=3))
def test_what_is_put_at_the_front_or_the_end_of_a_list_leaves_the_rest_alone(
    front: list[Any], held: list[Any], end: list[Any]
) -> None:
    for new in ([*front, *held], [*held, *end]):
        patch = difference({"l": held}, {"l": new})
        assert patched({"l": held}, patch) == {"l": new}
