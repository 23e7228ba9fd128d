"""What processes wrote, found again after a place that the searcher marked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import controlplane.demo.logbook as logbook_module
from controlplane.demo.logbook import Logbook


async def test_a_line_before_the_mark_is_not_found_and_one_after_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook_module, "LINE_SECONDS", 0.01)
    with Logbook(tmp_path / "log") as book:
        book.add("web", '{"msg": "old"}')
        mark = book.mark("web")
        assert await book.find("web", mark, lambda fields: fields["msg"] == "old") is None
        book.add("web", '{"msg": "new"}')
        assert await book.find("web", mark, lambda fields: fields["msg"] == "new") == {"msg": "new"}


async def test_a_line_that_comes_while_somebody_waits_is_found(tmp_path: Path) -> None:
    with Logbook(tmp_path / "log") as book:
        waiting = asyncio.ensure_future(book.find("web", 0, lambda fields: fields["msg"] == "late"))
        await asyncio.sleep(0)
        book.add("orders", '{"msg": "late"}')
        book.add("web", '{"msg": "early"}')
        await asyncio.sleep(0)
        assert not waiting.done()
        book.add("web", '{"msg": "late"}')
        assert await waiting == {"msg": "late"}


async def test_what_is_no_object_is_kept_in_the_file_and_never_found(tmp_path: Path) -> None:
    with Logbook(tmp_path / "log") as book:
        for line in ("Traceback", "7", "[1]"):
            book.add("app", line)
        assert book.mark("app") == 0
    assert (tmp_path / "log").read_text() == "app | Traceback\napp | 7\napp | [1]\n"


async def test_memory_is_bounded_and_marks_outlive_what_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook_module, "_KEPT_LINES", 10)
    with Logbook(tmp_path / "log") as book:
        for number in range(95):
            book.add("web", f'{{"number": {number}}}')
        mark = book.mark("web")
        assert mark == 95
        book.add("web", '{"number": 95}')
        assert await book.find("web", mark, lambda _: True) == {"number": 95}
        assert len(book._lines["web"]) <= 20


def test_a_full_file_becomes_the_one_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook_module, "_FILE_LIMIT_CHARACTERS", 100)
    with Logbook(tmp_path / "log") as book:
        for _ in range(40):
            book.add("app", "x" * 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.old"]
    assert all(path.stat().st_size < 200 for path in tmp_path.iterdir())
