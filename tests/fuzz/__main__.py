"""``python -m tests.fuzz [--seconds N] [--seed N] [TARGET ...]``: look for inputs that no test has thought of."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

_FOUND: Final = Path("build") / "fuzz"
_PRODUCT: Final = ["ringfence", "sidecar", "controlplane", "k8s"]
_HANG_SECONDS: Final = 20
_MEMORY_MB: Final = 2048
_LAST_LINES: Final = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each target  [default: 5]")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="targets at a time")
    parser.add_argument("--seed", type=int, default=0, help="the same walk again; 0: another each time  [default: 0]")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("target", nargs="*", help="names of folders in tests/fuzz/corpus  [default: all]")
    asked = parser.parse_args()
    if asked.one:
        walk = _guided if _has_atheris() else _unguided
        return walk(asked.target[0], asked.seconds, asked.seed)
    from tests.fuzz.registry import TARGETS

    strangers = [name for name in asked.target if name not in TARGETS]
    if strangers:
        parser.error(f"no target {', '.join(strangers)} (there is {', '.join(TARGETS)})")
    with ThreadPoolExecutor(asked.jobs) as pool:
        good = list(pool.map(lambda name: _run(name, asked.seconds, asked.seed), asked.target or list(TARGETS)))
    return 0 if all(good) else 1


def _run(name: str, seconds: float, seed: int) -> bool:
    """One target in a process of its own; whether nothing was found."""
    command = [sys.executable, "-m", "tests.fuzz", "--one", "--seconds", str(seconds), "--seed", str(seed), name]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    units = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    if done.returncode == 0 and units is not None:
        print(f"{name:12} {units[1]:>9} inputs, nothing found", flush=True)
        return True
    told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO: ")]
    print(f"{name:12} FOUND", *told[-_LAST_LINES:], sep="\n    ", flush=True)
    return False


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _guided(name: str, seconds: float, seed: int) -> int:
    """By coverage; does not return."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=_PRODUCT):
        from tests.fuzz.registry import CORPUS, TARGETS
    folder = _FOUND / name
    folder.mkdir(parents=True, exist_ok=True)
    arguments = [
        name,
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed}",
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


def _unguided(name: str, seconds: float, seed: int) -> int:
    from tests.fuzz.mutation import fuzz
    from tests.fuzz.registry import TARGETS, kept

    _FOUND.mkdir(parents=True, exist_ok=True)
    inputs = [path.read_bytes() for path in kept(name)]
    count = fuzz(TARGETS[name], inputs, seconds, _FOUND / f"{name}-found", seed)
    print(f"number_of_executed_units: {count}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
