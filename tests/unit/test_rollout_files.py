"""The folder that a change makes, and names that lead nowhere else."""

from __future__ import annotations

import pytest

from controlplane.rollout.files import Change, FilesError, candidate, difference, digest, total_bytes

HELD = {"a.yaml": b"1", "b/c.yml": b"2"}


def test_what_is_not_given_stays_unless_it_is_pruned() -> None:
    assert candidate(HELD, {"a.yaml": b"9"}, prune=False) == {"a.yaml": b"9", "b/c.yml": b"2"}
    assert candidate(HELD, {"a.yaml": b"9"}, prune=True) == {"a.yaml": b"9"}


@pytest.mark.parametrize(
    "name",
    [
        "a.json",
        "a",
        "../a.yaml",
        "b/../../a.yaml",
        "/etc/a.yaml",
        ".hidden.yaml",
        "b/.git/a.yaml",
        "b//a.yaml",
        "a\n.yaml",
        "a\\b.yaml",
        "x" * 200 + ".yaml",
        "1/2/3/4/5/6/7/8/9.yaml",
    ],
)
def test_a_name_that_leads_elsewhere_or_is_not_read_is_refused(name: str) -> None:
    with pytest.raises(FilesError):
        candidate(HELD, {name: b""}, prune=False)


def test_a_name_cannot_be_a_file_and_a_folder() -> None:
    with pytest.raises(FilesError, match=r"'a\.yaml' would be a file and a folder"):
        candidate(HELD, {"a.yaml/b.yaml": b""}, prune=False)


def test_a_change_is_told_by_names() -> None:
    change = difference(HELD, {"a.yaml": b"9", "new.yaml": b"3"})
    assert change == Change(added=("new.yaml",), altered=("a.yaml",), removed=("b/c.yml",))
    assert change
    assert not difference(HELD, dict(reversed(HELD.items())))


def test_equal_folders_alone_have_equal_digests() -> None:
    assert digest(HELD) == digest(dict(reversed(HELD.items())))
    others = [{"a.yaml": b"1", "b/c.yml": b"3"}, {"a.yaml": b"1"}, {"a.yaml1": b"", "b/c.yml": b"2"}, {}]
    assert len({digest(one) for one in [HELD, *others]}) == 5


def test_what_folders_share_counts_once() -> None:
    assert total_bytes([HELD, HELD, {"z.yaml": b"123"}]) == 5
