"""What anybody wrote into an object is read however deep it is, and takes nothing else along."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k8s.client.decoding import DEPTH_LIMIT, cut, decode

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _nested(depth: int, within: str = "[]") -> str:
    return within[0] * depth + within[1] * depth


@given(_JSON)
def test_what_is_not_deep_is_not_touched(value: Any) -> None:
    content = json.dumps(value).encode()
    assert cut(content) == content
    assert decode(content) == value


@pytest.mark.parametrize("escaped", [r"\"", r"]\\", "}]", "[[{{", r"\\\"]"])
def test_brackets_in_texts_are_none(escaped: str) -> None:
    content = f'{{"a{escaped}": ["{escaped}"], "deep": {_nested(50_000)}, "z": "{escaped}"}}'.encode()
    value = decode(content)
    assert (next(iter(value)), value["z"]) == (json.loads(f'"a{escaped}"'), json.loads(f'"{escaped}"'))
    assert len(cut(content)) < 1_000


def test_what_is_too_deep_is_nothing_and_what_stands_beside_it_is_kept() -> None:
    value = decode(f'{{"items": [{{"name": "a"}}, {{"name": "b", "x": {_nested(9_000)}}}, {{"name": "c"}}]}}'.encode())
    assert [one["name"] for one in value["items"]] == ["a", "b", "c"]
    depth, at = 3, value["items"][1]["x"]
    while at:
        (at,) = at
        depth += 1
    assert (depth, at) == (DEPTH_LIMIT, None)


def test_each_of_several_deep_values_is_cut() -> None:
    deep = '{"a":' * 2_000 + "1" + "}" * 2_000
    assert decode(f"[{deep}, 7, {deep}]".encode())[1] == 7


@pytest.mark.parametrize("content", [b"[" * 50_000, b"]" * 50_000, b'{"a":' * 50_000, b"[" * 50_000 + b'"', b"", b"{"])
def test_what_is_no_json_is_told_as_such(content: bytes) -> None:
    with pytest.raises(ValueError):
        decode(content)
