"""A child's output as lines: in any pieces, bounded, nothing lost but what is too long."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.up.process import LINE_LIMIT_BYTES, LineSplitter


def _lines(*pieces: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + splitter.finish()


def test_lines_end_where_the_child_ended_them() -> None:
    assert _lines(b"one\ntw", b"o\r\n\nlast") == ["one", "two", "", "last"]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=5))
def test_the_pieces_do_not_matter(written: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(written)) for cut in cuts), len(written)]
    pieces = [written[start:end] for start, end in itertools.pairwise(edges)]
    assert _lines(*pieces) == _lines(written)


@pytest.mark.parametrize("piece_bytes", [1000, LINE_LIMIT_BYTES * 3])
def test_a_line_without_end_is_cut_and_the_next_one_is_whole(piece_bytes: int) -> None:
    written = b"x" * (LINE_LIMIT_BYTES * 2) + b"\nnext\n"
    lines = _lines(*(written[at : at + piece_bytes] for at in range(0, len(written), piece_bytes)))
    assert lines[0].endswith("…")
    assert len(lines[0]) == LINE_LIMIT_BYTES + 1
    assert lines[1:] == ["next"]


def test_bytes_that_are_no_text_are_shown_escaped() -> None:
    assert _lines(b"\xff\n") == ["\\xff"]
