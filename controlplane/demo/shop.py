"""The shop's files: where they are found, and a copy of them that can run beside whatever this machine runs already."""

from __future__ import annotations

import random
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

# A wheel carries examples/shop inside this package (pyproject.toml, wheel.sources); a checkout has it where it is.
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


@contextmanager
def only_demo() -> Iterator[bool]:
    """Whether no other demo runs on this machine; held until the end of the block, however the process ends.

    An abstract Unix socket: it is seen by those who share our ports (a network namespace), and leaves no file.
    """
    with socket.socket(socket.AF_UNIX) as mark:
        try:
            mark.bind("\0ringfence-demo")
        except OSError:
            yield False
            return
        yield True


def copy_shop(destination: Path, *, own_ports: bool) -> dict[int, int]:
    """Copy the shop to ``destination``; each port that is taken is replaced by a free one, everywhere in mesh.yaml.

    Without ``own_ports`` all of them are, since another shop has them or is about to. Returns the replacements; what
    could not be written raises OSError.
    """
    shutil.copytree(shop_folder(), destination, ignore=shutil.ignore_patterns(".ringfence", "__pycache__"))
    mesh_file = destination / "mesh.yaml"
    text = mesh_file.read_text("utf-8")
    replaced = replacements(sorted({int(port) for port in _LISTENED.findall(text)}), all_of_them=not own_ports)
    mesh_file.write_text(_LISTENED.sub(lambda found: str(replaced.get(int(found[0]), found[0])), text), "utf-8")
    return replaced


def replacements(wanted: list[int], *, all_of_them: bool = False) -> dict[int, int]:
    """For each port of ``wanted`` that cannot be listened on now: another, free and given to no other of them."""
    with ExitStack() as held:
        taken = []
        for port in wanted:
            probe = _listen(port)
            if probe is None or all_of_them:
                taken.append(port)
            if probe is not None:
                held.enter_context(probe)
        replaced: dict[int, int] = {}
        for port in taken:
            free = next((one for one in map(_listen, _candidates()) if one is not None), None)
            if free is None:
                raise OSError("no free port was found on 127.0.0.1")
            replaced[port] = held.enter_context(free).getsockname()[1]
    return replaced


def _candidates() -> Iterator[int]:
    """Ports below those that the system gives to outgoing connections, which could take one before we listen on it."""
    return (random.randrange(20_000, 32_000) for _ in range(1_000))


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
