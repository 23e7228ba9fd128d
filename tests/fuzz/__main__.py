"""``python -m tests.fuzz [--seconds N] [--inputs N] [--seed N] [TARGET ...]``: look for inputs that no test has thought
of."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import re
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final, NoReturn

from tests.fuzz.bounds import Bounds

_FOUND: Final = Path("build") / "fuzz"
_PRODUCT: Final = ["ringfence", "sidecar", "controlplane", "k8s"]
_HANG_SECONDS: Final = 20
_MEMORY_MB: Final = 2048
_LAST_LINES: Final = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each target  [default: 5]")
    parser.add_argument("--inputs", type=int, default=0, help="for each target, at most; 0: no bound  [default: 0]")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="targets at a time")
    parser.add_argument("--seed", type=int, default=0, help="the same walk again; 0: another each time  [default: 0]")
    parser.add_argument("target", nargs="*", help="names of folders in tests/fuzz/corpus  [default: all]")
    asked = parser.parse_args()
    if asked.seed and os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets decides which way code goes, and by that which inputs are kept.
        os.execve(sys.executable, [*sys.orig_argv], {**os.environ, "PYTHONHASHSEED": "0"})
    bounds = Bounds(seconds=asked.seconds, inputs=max(0, asked.inputs), seed=asked.seed)
    walk = _unguided
    if _has_atheris():
        import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

        walk = _guided
        with contextlib.redirect_stderr(io.StringIO()), atheris.instrument_imports(include=_PRODUCT):  # it names each
            from tests.fuzz.registry import TARGETS
    else:
        from tests.fuzz.registry import TARGETS
    strangers = [name for name in asked.target if name not in TARGETS]
    if strangers:
        parser.error(f"no target {', '.join(strangers)} (there is {', '.join(TARGETS)})")
    names = asked.target or list(TARGETS)
    return 0 if _all_good(names, max(1, asked.jobs), lambda name: walk(name, bounds)) else 1


def _all_good(names: Sequence[str], jobs: int, walk: Callable[[str], int]) -> bool:
    """Each target in a process of its own, so many at a time, forked from this one: preparing the code takes longer
    than a short walk. Whether nothing was found."""
    waiting = deque(names)
    walking: dict[int, tuple[str, IO[bytes]]] = {}
    good = True
    while waiting or walking:
        while waiting and len(walking) < jobs:
            name = waiting.popleft()
            output = tempfile.TemporaryFile()  # noqa: SIM115 (closed once its walk is told)
            child = os.fork()
            if child == 0:
                _walk_apart(name, output, walk)
            walking[child] = name, output
        child, status = os.wait()
        name, output = walking.pop(child)
        with output:
            output.seek(0)
            text = output.read().decode("utf-8", "backslashreplace")
        good = _told(name, os.waitstatus_to_exitcode(status), text) and good
    return good


def _walk_apart(name: str, output: IO[bytes], walk: Callable[[str], int]) -> NoReturn:
    """What the forked process does."""
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    status = 1
    try:
        status = walk(name)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _told(name: str, status: int, output: str) -> bool:
    """Tell how a target's walk ended; whether nothing was found."""
    units = re.search(r"number_of_executed_units: (\d+)", output)
    if status == 0 and units is not None:
        print(f"{name:12} {units[1]:>9} inputs, nothing found", flush=True)
        return True
    told = [line for line in output.splitlines() if not line.startswith("INFO: ")]
    print(f"{name:12} FOUND", *told[-_LAST_LINES:], sep="\n    ", flush=True)
    return False


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _guided(name: str, bounds: Bounds) -> int:
    """By coverage; does not return."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    from tests.fuzz.registry import CORPUS, TARGETS

    folder = _FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        name,
        f"-max_total_time={max(1, round(bounds.seconds))}",
        f"-runs={bounds.inputs or -1}",
        f"-seed={bounds.seed}",
        f"-timeout={_HANG_SECONDS}",
        f"-max_len={TARGETS[name].limit_bytes}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-artifact_prefix={folder}-",
        "-print_final_stats=1",
        "-verbosity=1",
        str(folder),
        str(CORPUS / name),
    ]
    atheris.Setup(arguments, TARGETS[name].run)
    atheris.Fuzz()
    return 0


def _unguided(name: str, bounds: Bounds) -> int:
    from tests.fuzz.mutation import fuzz
    from tests.fuzz.registry import TARGETS, kept

    _FOUND.mkdir(parents=True, exist_ok=True)
    inputs = [path.read_bytes() for path in kept(name)]
    count = fuzz(TARGETS[name], inputs, bounds, _FOUND / f"{name}-found")
    print(f"number_of_executed_units: {count}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
