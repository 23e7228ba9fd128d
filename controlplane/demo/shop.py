"""The shop's files: where they are found, and a copy of them that can run beside whatever this machine runs already."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path
from typing import Final

# A wheel carries examples/shop inside this package (pyproject.toml, force-include); a checkout has it where it is.
_PLACES: Final = (Path(__file__).parent / "example", Path(__file__).parents[2] / "examples" / "shop")
# Ports that are listened on have four digits from 7400 on, or five; service ports (8080, 7000) are names only.
_LISTENED: Final = re.compile(r"\b(740[012]|9[0-9]{3}|151[0-9]{2})\b")


class ShopMissingError(Exception):
    """The example was not installed."""


def shop_folder() -> Path:
    """The folder with the shop's mesh.yaml. ShopMissingError if there is none."""
    for place in _PLACES:
        if (place / "mesh.yaml").is_file():
            return place
    raise ShopMissingError(f"the shop is neither in {_PLACES[0]} nor in {_PLACES[1]} (reinstall ringfence)")


def copy_shop(destination: Path) -> dict[int, int]:
    """Copy the shop to ``destination``; each port that is taken is replaced by a free one, everywhere in mesh.yaml.

    Returns the replacements; what could not be written raises OSError.
    """
    shutil.copytree(shop_folder(), destination, ignore=shutil.ignore_patterns(".ringfence", "__pycache__"))
    mesh_file = destination / "mesh.yaml"
    text = mesh_file.read_text("utf-8")
    wanted = sorted({int(port) for port in _LISTENED.findall(text)})
    replaced = replacements(wanted)
    mesh_file.write_text(_LISTENED.sub(lambda found: str(replaced.get(int(found[0]), found[0])), text), "utf-8")
    return replaced


def replacements(wanted: list[int]) -> dict[int, int]:
    """For each port of ``wanted`` that cannot be listened on now: another, free and given to no other of them."""
    held: list[socket.socket] = []
    replaced: dict[int, int] = {}
    try:
        taken = []
        for port in wanted:
            if (held_port := _listen(port)) is None:
                taken.append(port)
            else:
                held.append(held_port)
        for port in taken:
            free = _listen(0)
            if free is None:
                raise OSError("no free port is left on 127.0.0.1")
            held.append(free)
            replaced[port] = free.getsockname()[1]
    finally:
        for one in held:
            one.close()
    return replaced


def _listen(port: int) -> socket.socket | None:
    probe = socket.socket()
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind(("127.0.0.1", port))
        probe.listen(1)
    except OSError:
        probe.close()
        return None
    return probe
