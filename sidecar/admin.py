"""The admin socket: what tells or changes more than probes may know, on a Unix socket that only its owner can open.

In a pod the app shares loopback with its sidecar, so a port would be no border. Three checks, each enough by itself:
the folder is mode 0700, the socket is mode 0600, and the kernel tells who connects (SO_PEERCRED): the user that runs
the sidecar, or root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ringfence.kit.log import Logger
from sidecar.local_http import LocalHttp, Page, Route, Verbs, json_page
from sidecar.signals import ListenError
from sidecar.state_folder import make_private_folder

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_PROBE_SECONDS: Final = 1.0


class AdminServer:
    """Serves ``routes``: path to a function whose answer is shown as JSON, or to what reads its request itself."""

    def __init__(
        self,
        routes: Mapping[str, Callable[[], object] | Verbs],
        *,
        log: Logger,
        owner: Callable[[], int] = os.geteuid,
        peer: Callable[[socket.socket], int] | None = None,
    ) -> None:
        self._log = log
        self._owner = owner
        self._peer = peer or peer_user
        self._server: asyncio.Server | None = None
        self._made: tuple[Path, int, int] | None = None
        self.http = LocalHttp(
            {path: route if isinstance(route, Verbs) else _page_of(route) for path, route in routes.items()},
            log=log,
            connection_limit=16,
            admits=self._admits,
        )

    async def start(self, path: Path) -> None:
        """Listen on ``path``, in a folder made with mode 0700 if there is none. Raises ListenError."""
        _prepare_folder(path.parent)
        _remove_stale(path)
        listener, self._made = _bound(path)
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(self.http.protocol, sock=listener)
        except OSError as error:
            listener.close()
            raise ListenError(f"--admin-socket: cannot listen on {path}: {_words(error)}") from error

    async def close(self) -> None:
        """Stop listening, end what is open, and remove the socket if it is still the one made here."""
        if self._server is None or self._made is None:
            return
        self._server.close()
        self.http.close()
        await self._server.wait_closed()
        _remove_own(*self._made)
        self._server = self._made = None

    def _admits(self, transport: asyncio.BaseTransport) -> bool:
        # A duplicate, since the loop's own socket object may not offer getsockopt.
        with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
            user = self._peer(connection)
        if user in (0, self._owner()):
            return True
        self._log.warning("admin socket refused a peer", user_id=user)
        return False


def peer_user(connection: socket.socket) -> int:
    """The user id of the process that connected, by the kernel's word."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    user: int = _CREDENTIALS.unpack(credentials)[1]
    return user


def _page_of(route: Callable[[], object]) -> Route:
    def page() -> Page:
        return json_page(route())

    return page


def _prepare_folder(folder: Path) -> None:
    try:
        make_private_folder(folder)
        held = folder.stat()
    except OSError as error:
        raise ListenError(f"--admin-socket: cannot use the folder {folder}: {_words(error)}") from error
    if held.st_uid != os.geteuid() or held.st_mode & 0o077:
        raise ListenError(
            f"--admin-socket: the folder {folder} has mode {stat.S_IMODE(held.st_mode):04o} and user {held.st_uid}; "
            f"it must have mode 0700 and user {os.geteuid()} (give a path in a folder of its own)"
        )


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody listens on any more; ListenError if somebody does, or if it is something else."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ListenError(f"--admin-socket: cannot use {path}: {_words(error)}") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"--admin-socket: {path} is there and is no socket (give another path)")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ListenError(f"--admin-socket: cannot use {path}: {_words(error)}") from error
    raise ListenError(f"--admin-socket: another process listens on {path} (give each sidecar a path of its own)")


def _bound(path: Path) -> tuple[socket.socket, tuple[Path, int, int]]:
    """A socket bound to ``path`` with mode 0600, and by what it can be known again: path, device, inode."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The folder keeps others out in the moment between bind and chmod.
        listener.bind(str(path))
        path.chmod(0o600)
        held = path.stat()
    except OSError as error:
        listener.close()
        raise ListenError(f"--admin-socket: cannot listen on {path}: {_words(error)}") from error
    return listener, (path, held.st_dev, held.st_ino)


def _remove_own(path: Path, device: int, inode: int) -> None:
    """Remove the socket, unless another process has put its own in its place."""
    with contextlib.suppress(OSError):
        held = path.lstat()
        if (held.st_dev, held.st_ino) == (device, inode):
            path.unlink()


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
