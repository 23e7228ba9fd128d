"""Running programs, bounded in time and output."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sidecar.redirect import tools
from sidecar.redirect.errors import RedirectError
from sidecar.redirect.tools import Finished, find_program, run


def python(code: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", code, *words)


def test_what_it_is_given_and_prints_and_its_status_come_through() -> None:
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.stderr.write('oh'); sys.exit(3)"
    assert run(python(code), given="rules\n") == Finished(status=3, output="RULES\n", errors="oh")


def test_words_are_words_and_no_shell_reads_them() -> None:
    words = ("$(touch x)", "; exit 7", "a b")
    assert run(python("import sys; print(sys.argv[1:])", *words)).output == f"{list(words)}\n"


def test_much_in_and_out_at_once_does_not_jam() -> None:
    given = "x" * 1_000_000
    code = "import sys; [sys.stdout.write(line) for line in iter(lambda: sys.stdin.read(4096), '')]"
    assert run(python(code), given=given).output == given


def test_a_program_that_reads_nothing_is_no_trouble() -> None:
    assert run(python("raise SystemExit(4)"), given="x" * 1_000_000).status == 4


def test_a_program_that_does_not_end_is_killed(tmp_path: Path) -> None:
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(RedirectError, match="did not end in time"):
        run(python(code, str(tmp_path / "pid")), deadline_seconds=2.0)
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_program_that_closes_its_outputs_and_stays_is_killed() -> None:
    with pytest.raises(RedirectError, match="did not end in time"):
        run(python("import os, time; os.close(1); os.close(2); time.sleep(600)"), deadline_seconds=1.0)


def test_a_program_that_prints_without_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "OUTPUT_LIMIT_BYTES", 100_000)
    with pytest.raises(RedirectError, match="printed more than 100000 bytes"):
        run(python("while True: print('x' * 1000)"))


def test_a_program_that_is_not_there_is_told() -> None:
    with pytest.raises(RedirectError, match="no-such-program cannot be started: No such file or directory"):
        run(("/nowhere/no-such-program",))


def test_it_sees_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XTABLES_LOCKFILE", "/tmp/lock")
    monkeypatch.setenv("SECRET", "word")
    monkeypatch.setenv("LC_ALL", "tr_TR.UTF-8")
    told = run(python("import os; print(sorted(os.environ), os.environ['LC_ALL'])")).output
    # The interpreter adds one of its own where it coerces the locale.
    assert told.replace("'LC_CTYPE', ", "") == "['LC_ALL', 'PATH', 'XTABLES_LOCKFILE'] C\n"


def test_programs_are_found_on_the_path_first_and_never_in_relative_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".:")
    assert find_program("sh") in ("/usr/bin/sh", "/bin/sh")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("sh") == str(program)
    assert find_program("no-such-program") is None


@pytest.mark.parametrize(
    ("errors", "complaint"),
    [
        ("", "exit status 1"),
        ("# Warning: iptables-legacy tables present\nError: no\n   ^^^^\n", "Error: no"),
        ("one\ntwo\nthree\nfour\n", "one; two; three"),
        ("x" * 5000, "x" * 400),
    ],
)
def test_its_complaint_is_one_line(errors: str, complaint: str) -> None:
    assert Finished(status=1, output="", errors=errors).complaint == complaint
