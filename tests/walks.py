"""Documents whose commands are run: what a page says in its ``console`` blocks, done, and its output compared.

A block holds commands, each after ``$ `` (lines that go on one after ``> ``), with the output that a reader will see
below. In that ``…`` stands for any text, and a line of ``…`` alone for any lines. A command without output below is
not looked at, but each one must end with status 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "@@ walked"


@dataclass(kw_only=True)
class Step:
    """One command, the line of the page it stands on, and the output that the page promises."""

    line: int
    command: list[str]
    output: list[str] = field(default_factory=list)


def steps_of(page: str) -> list[Step]:
    """The commands of a page, in order."""
    steps: list[Step] = []
    for block in _BLOCK.finditer(page):
        line = page.count("\n", 0, block.start(1))
        for number, text in enumerate(block[1].splitlines(), line + 1):
            if text.startswith("$ "):
                steps.append(Step(line=number, command=[text[2:]]))
            elif text.startswith("> ") and steps and not steps[-1].output:
                steps[-1].command.append(text[2:])
            else:
                steps[-1].output.append(text)
    return steps


def matches(wanted: list[str], found: list[str]) -> bool:
    """Whether output is what a page promises; trailing blanks do not count."""
    lines = []
    for text in wanted:
        if text.strip() == "…":
            lines.append(r"(?:[^\n]*\n)*?")
        else:
            lines.append(".*?".join(map(re.escape, text.rstrip().split("…"))) + r"[^\S\n]*\n")
    return re.fullmatch("".join(lines), "".join(f"{text}\n" for text in found)) is not None


def walk(steps: list[Step], folder: Path, environment: Mapping[str, str], seconds: float) -> list[str]:
    """Do all of it in one shell in ``folder``; what did not go as the page says, one text each.

    What the shell leaves running is ended with it, by its process group.
    """
    script = ["set -u"]
    for number, step in enumerate(steps):
        script += [*step.command, f"printf '\\n{_MARK} %d %d\\n' {number} $?"]
    shell = subprocess.Popen(
        ["bash"],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = shell.communicate("\n".join(script) + "\n", timeout=seconds)
    except subprocess.TimeoutExpired as late:
        told = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        told += "\n(the time was over)\n"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
    return list(_flaws(steps, told))


def _flaws(steps: list[Step], told: str) -> list[str]:
    flaws = []
    rest = told
    for number, step in enumerate(steps):
        output, mark, after = rest.partition(f"\n{_MARK} {number} ")
        status, _, rest = after.partition("\n")
        where = f"line {step.line}: $ {step.command[0]}"
        if not mark:
            return [*flaws, f"{where}\nwas not done:\n{output[-3000:]}"]
        found = output.removesuffix("\n").split("\n") if output.strip() else []
        if status != "0":
            flaws.append(f"{where}\nended with status {status}:\n{output}")
        elif step.output and not matches(step.output, found):
            wanted = "\n".join(step.output)
            flaws.append(f"{where}\nshould say:\n{wanted}\n\nbut says:\n{output}")
    return flaws
