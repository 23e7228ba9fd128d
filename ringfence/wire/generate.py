"""Writes ``ringfence/wire/gen`` from ``ringfence/wire/protos``; with ``--check``, only tells whether it is up to date.

A developer's tool: it needs grpcio-tools and mypy-protobuf (extra ``dev``), which no installed process imports.
The protos are handed to protoc under the virtual folder ``ringfence/wire/gen``, so that generated modules import each
other by their full package names and nothing has to be rewritten afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_WIRE: Final = Path(__file__).resolve().parent
_PROTOS: Final = _WIRE / "protos"
_GEN: Final = _WIRE / "gen"
_VIRTUAL_FOLDER: Final = "ringfence/wire/gen"


class GenerationError(Exception):
    """protoc refused the protos or could not be run; the message is what it said."""


def generate(protos: Path) -> dict[str, bytes]:
    """File name -> content of everything that protoc and its plugins make of the ``.proto`` files in ``protos``."""
    names = sorted(path.name for path in protos.glob("*.proto"))
    if not names:
        raise GenerationError(f"no .proto file in {protos}")
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"-I{_VIRTUAL_FOLDER}={protos}",
            *(f"--{plugin}={scratch}" for plugin in ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")),
            *(f"{_VIRTUAL_FOLDER}/{name}" for name in names),
        ]
        # The mypy plugins lie beside the interpreter, also where its folder is on nobody's PATH.
        search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
        # The command is this interpreter and fixed words; no input of anybody else's reaches it.
        run = subprocess.run(
            command, env={**os.environ, "PATH": search}, capture_output=True, text=True, check=False, timeout=120
        )
        if run.returncode != 0:
            raise GenerationError(run.stderr.strip() or f"protoc ended with status {run.returncode}")
        folder = Path(scratch) / _VIRTUAL_FOLDER
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def differences(wanted: dict[str, bytes], folder: Path) -> list[str]:
    """Names in ``folder`` that are missing, stale or generated from a proto that is gone."""
    found = {path.name: path.read_bytes() for path in folder.glob("*_pb2*.py*") if path.is_file()}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    """0 when all is written or up to date, 1 when ``--check`` finds a difference or protoc fails."""
    parser = argparse.ArgumentParser(prog="python -m ringfence.wire.generate", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the generated code is stale")
    options = parser.parse_args(arguments)
    try:
        wanted = generate(_PROTOS)
    except (GenerationError, OSError, subprocess.TimeoutExpired) as error:
        print(f"cannot generate: {error}", file=sys.stderr)
        return 1
    stale = differences(wanted, _GEN)
    if options.check:
        for name in stale:
            print(f"ringfence/wire/gen/{name} is stale: run python -m ringfence.wire.generate", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        if name in wanted:
            (_GEN / name).write_bytes(wanted[name])
        else:
            with contextlib.suppress(FileNotFoundError):
                (_GEN / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
