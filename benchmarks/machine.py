"""What a report's figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import timeit
from pathlib import Path

# Of a processor, what decides the price of AES-GCM: which of a library's implementations can run.
_AES_FEATURES = ("aes", "vaes", "vpclmulqdq", "avx2", "avx512f")


def describe() -> dict[str, object]:
    """The machine, its load at this moment and the versions that the figures depend on, as plain JSON values."""
    flags = (_found(r"^(?:flags|Features)\s*:\s*(.+)$", "/proc/cpuinfo") or "").split()
    return {
        "cpu": _found(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo"),
        "cpu_features": [name for name in _AES_FEATURES if name in flags],
        "cores": os.cpu_count(),
        "memory_gib": round(int(_found(r"^MemTotal:\s*(\d+)", "/proc/meminfo") or 0) / 2**20),
        "kernel": platform.release(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "python_call_ns": round(_call_seconds() * 1e9),
        "packages": {
            name: _version(name) for name in ("ringfence", "uvloop", "pyopenssl", "cryptography", "httptools")
        },
        "programs": {"nginx": _said("nginx", "-v"), "h2load": _said("h2load", "--version")},
    }


def _call_seconds() -> float:
    """What the call of a function takes that does nothing: builds of one version of Python differ by a third."""
    calls = 200_000
    return min(timeit.repeat("nothing()", "def nothing(): pass", repeat=5, number=calls)) / calls


def _found(pattern: str, path: str) -> str | None:
    match = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    return match[1] if match else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _said(*command: str) -> str | None:
    """The version number in what ``command`` prints; None where it does not run."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False, env=environment)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return match[0] if match else None
