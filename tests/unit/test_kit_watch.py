"""Watching files by content."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ringfence.kit.clock import FakeClock, SystemClock
from ringfence.kit.hints import FolderHints
from ringfence.kit.watch import ContentReader, Watch, list_files
from tests.data_path import until


def _reader(limit_bytes: int = 1000) -> ContentReader:
    return ContentReader(clock=SystemClock(), limit_bytes=limit_bytes)


def _age(path: Path, seconds: float) -> None:
    """Make ``path`` look as if it was last modified so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_change_within_one_timestamp_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    stamp = path.stat().st_mtime_ns
    reader = _reader()
    assert reader.read(path).content == b"one"
    path.write_text("two")
    os.utime(path, ns=(stamp, stamp))
    assert reader.read(path).content == b"two"


def test_old_unchanged_file_is_read_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    reader = ContentReader(clock=FakeClock(now=time.time() + 60), limit_bytes=1000)
    first = reader.read(path)
    assert reader.read(path) is first
    reader.keep(set())
    assert reader.read(path) is not first
    assert reader.read(path) == first


def test_touched_file_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("one")
    reader = _reader()
    before = reader.read(path)
    _age(path, 100)
    assert reader.read(path) == before


def test_what_cannot_be_read_carries_its_error(tmp_path: Path) -> None:
    reader = _reader()
    assert reader.read(tmp_path / "absent").error == "No such file or directory"
    assert reader.read(tmp_path).error
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    assert reader.read(fifo).error == "not a regular file"
    assert reader.read(Path("/dev/zero")).error == "not a regular file"


def test_file_larger_than_the_limit_shows_that_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"x" * 100)
    assert len(_reader(limit_bytes=10).read(path).content) == 11


def test_listing_is_sorted_recursive_and_bounded(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z.yaml", "b/a.yml", ".hidden.yaml", "notes.txt", "c.yaml~"):
        (tmp_path / name).write_text("")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "link.yaml").symlink_to(tmp_path / "z.yaml")
    found = list_files(tmp_path, (".yaml", ".yml"), 10)
    assert [str(path.relative_to(tmp_path)) for path in found] == ["b/a.yml", "link.yaml", "z.yaml"]
    assert len(list_files(tmp_path, (".yaml", ".yml"), 1)) == 2
    with pytest.raises(FileNotFoundError):
        list_files(tmp_path / "absent", (".yaml",), 10)


def test_folders_too_deep_are_an_error_and_not_left_out(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "x.yaml").write_text("")
    assert list_files(tmp_path, (".yaml",), 10) == [deep / "x.yaml"]
    (deep / "i").mkdir()
    with pytest.raises(OSError, match="nested deeper than 8"):
        list_files(tmp_path, (".yaml",), 10)


def test_a_tree_of_other_files_is_not_walked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringfence.kit.watch._ENTRY_LIMIT", 20)
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        for number in range(6):
            (tmp_path / folder / f"{number}.txt").write_text("")
    with pytest.raises(OSError, match="more than 20 entries"):
        list_files(tmp_path, (".yaml",), 10)


async def test_watch_offers_each_change_once_and_an_unsettled_one_again() -> None:
    value = "a"
    offered: list[str] = []
    settled = True

    async def changed(found: str) -> bool:
        offered.append(found)
        return settled

    watch = Watch(lambda: value, changed, last="a", interval_seconds=0.01, settle_seconds=0.0)
    assert not await watch.poll()
    value = "b"
    assert await watch.poll()
    assert not await watch.poll()
    settled, value = False, "c"
    assert not await watch.poll()
    assert not await watch.poll()
    settled = True
    assert await watch.poll()
    assert offered == ["b", "c", "c", "c"]


async def test_watch_offers_nothing_that_is_still_being_written() -> None:
    readings = iter(["a", "a1", "a12", "a123", "a1234", "a1234", "a1234"])
    offered: list[str] = []

    async def changed(found: str) -> bool:
        offered.append(found)
        return True

    watch = Watch(lambda: next(readings), changed, last="a", interval_seconds=0.01, settle_seconds=0.0)
    assert [await watch.poll() for _ in range(4)] == [False, False, False, True]
    assert offered == ["a1234"]


async def test_a_hint_brings_the_next_look_at_once_and_the_value_must_still_stand_still(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("one")
    seen: list[str] = []
    changed = asyncio.Event()

    async def offer(value: str) -> bool:
        seen.append(value)
        changed.set()
        return True

    watch = Watch(
        file.read_text,
        offer,
        last="one",
        interval_seconds=3600,
        settle_seconds=0.01,
        hints=FolderHints([tmp_path], [".yaml"]),
    )
    running = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    partial = tmp_path / ".a.yaml.partial"
    async with asyncio.timeout(30):
        partial.write_text("two")
        partial.replace(file)
        await changed.wait()
        changed.clear()
        file.write_text("three")
        await until(lambda: seen[-1] == "three")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen[0] == "two"


async def test_without_hints_the_look_comes_after_the_interval(tmp_path: Path) -> None:
    hints = FolderHints([tmp_path / "absent"], [".yaml"])
    hints.open()
    await hints.wait(0.01)
    hints.close()
    hints.close()


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_the_descriptor_of_hints_is_closed_with_the_watch(tmp_path: Path) -> None:
    before = _descriptors()

    async def offer(_: str) -> bool:
        return True

    watch = Watch(
        lambda: "", offer, last="", interval_seconds=3600, settle_seconds=0, hints=FolderHints([tmp_path], [".yaml"])
    )
    running = asyncio.create_task(watch.run())
    await until(lambda: _descriptors() > before)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert _descriptors() == before


async def test_only_files_of_the_wanted_names_give_hints(tmp_path: Path) -> None:
    hints = FolderHints([tmp_path], [".yaml"])
    hints.open()
    (tmp_path / "a.log").write_text("noise")
    (tmp_path / "a.yaml.partial").write_text("noise")
    waiting = asyncio.create_task(hints.wait(3600))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    (tmp_path / "a.yaml.partial").rename(tmp_path / "a.yaml")
    async with asyncio.timeout(30):
        await waiting
    hints.close()


@pytest.fixture
async def heard(tmp_path: Path) -> AsyncIterator[FolderHints]:
    hints = FolderHints([tmp_path / "watched"], [".yaml"])
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "a.yaml").write_text("one")
    hints.open()
    yield hints
    hints.close()


async def _told(hints: FolderHints) -> int:
    """The moment after what happened last was told and it is quiet again."""
    async with asyncio.timeout(30):
        await hints.wait(3600)
    return hints.moment()


async def test_a_file_is_complete_once_renamed_to_its_name_or_closed(heard: FolderHints, tmp_path: Path) -> None:
    file = tmp_path / "watched" / "a.yaml"
    assert not heard.completed(file, heard.moment())
    partial = file.with_name(".a.partial")
    partial.write_text("two")
    partial.rename(file)
    assert heard.completed(file, await _told(heard))
    with file.open("w") as writer:
        writer.write("half")
        writer.flush()
        assert not heard.completed(file, await _told(heard))
        writer.write(" and half")
    assert heard.completed(file, await _told(heard))
    file.chmod(0o600)
    assert heard.completed(file, await _told(heard))
    file.rename(file.with_suffix(".bak"))
    assert not heard.completed(file, await _told(heard))


async def test_a_file_is_not_complete_while_anything_happens_beside_it(heard: FolderHints, tmp_path: Path) -> None:
    file = tmp_path / "watched" / "a.yaml"
    file.write_text("two")
    moment = await _told(heard)
    assert heard.completed(file, moment)
    file.with_name("b.yaml.partial").touch()
    assert not heard.completed(file, moment)


async def test_a_file_is_not_complete_before_it_is_quiet(tmp_path: Path) -> None:
    hints = FolderHints([tmp_path], [".yaml"], quiet_seconds=3600)
    hints.open()
    (tmp_path / "a.yaml").write_text("one")
    assert not hints.completed(tmp_path / "a.yaml", hints.moment())
    hints.close()


async def test_a_file_is_not_complete_because_its_symbolic_link_is(heard: FolderHints, tmp_path: Path) -> None:
    (tmp_path / "half.yaml").write_text("ha")
    link = tmp_path / "watched" / "b.yaml"
    link.with_suffix(".partial").symlink_to(tmp_path / "half.yaml")
    link.with_suffix(".partial").rename(link)
    assert not heard.completed(link, await _told(heard))


async def test_what_completed_a_file_proves_nothing_of_its_next_change(heard: FolderHints, tmp_path: Path) -> None:
    file = tmp_path / "watched" / "a.yaml"
    file.write_text("two")
    moment = await _told(heard)
    heard.forget(moment - 1)
    assert heard.completed(file, moment)
    heard.forget(moment)
    assert not heard.completed(file, moment)


async def test_a_folder_that_took_the_place_of_another_is_heard_from_then_on(
    heard: FolderHints, tmp_path: Path
) -> None:
    file = tmp_path / "watched" / "a.yaml"
    file.write_text("two")
    moment = await _told(heard)
    (tmp_path / "new").mkdir()
    (tmp_path / "watched").rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "watched")
    (tmp_path / "old" / "a.yaml").write_text("whole in the old folder, half in the new one")
    file.write_text("ha")
    assert not heard.completed(file, moment)
    assert not heard.completed(file, await _told(heard))
    file.write_text("half no more")
    assert heard.completed(file, await _told(heard))


async def test_a_single_file_that_is_complete_is_offered_without_standing_still(tmp_path: Path) -> None:
    file, other = tmp_path / "a.yaml", tmp_path / "b.yaml"
    for each in (file, other):
        each.write_text("one")
    seen: list[tuple[str, str]] = []

    async def offer(value: tuple[str, str]) -> bool:
        seen.append(value)
        return True

    asked: list[tuple[str, str]] = []

    def differing(last: tuple[str, str], found: tuple[str, str]) -> Path | None:
        asked.append(found)
        return file if last[1] == found[1] else None

    watch = Watch(
        lambda: (file.read_text(), other.read_text()),
        offer,
        last=("one", "one"),
        interval_seconds=3600,
        settle_seconds=3600,
        hints=FolderHints([tmp_path], [".yaml"]),
        only_change=differing,
    )
    before = _descriptors()
    running = asyncio.create_task(watch.run())
    await until(lambda: _descriptors() > before)
    file.write_text("two")
    await until(lambda: seen == [("two", "one")])
    file.with_suffix(".partial").write_text("three")
    file.with_suffix(".partial").rename(file)
    await until(lambda: len(seen) == 2)
    # Two files are a set that is being saved: that each is complete does not tell that all of them are.
    file.write_text("four")
    other.write_text("four")
    await until(lambda: asked[-1] == ("four", "four"))
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert seen == [("two", "one"), ("three", "one")]
