"""The admin socket: only its owner can open it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from ringfence.kit.log import Logger
from sidecar.admin import AdminServer, peer_user
from sidecar.signals import ListenError

LOG = Logger("admin", stream=io.StringIO())
REQUEST = b"GET /config HTTP/1.1\r\nhost: x\r\n\r\n"


def server(**options: object) -> AdminServer:
    return AdminServer({"/config": lambda: {"revision": 7}}, log=LOG, **options)  # type: ignore[arg-type]


async def ask(path: Path, request: bytes = REQUEST) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 10)
    except (ConnectionResetError, BrokenPipeError):
        return b""
    finally:
        writer.transport.abort()


async def test_the_owner_is_answered_in_json(tmp_path: Path) -> None:
    admin = server()
    path = tmp_path / "run" / "admin.sock"
    await admin.start(path)
    head, _, body = (await ask(path)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body) == {"revision": 7}
    assert b"404" in await ask(path, b"GET /other HTTP/1.1\r\n\r\n")
    await admin.close()


async def test_socket_and_folder_are_for_the_owner_alone(tmp_path: Path) -> None:
    admin = server()
    path = tmp_path / "run" / "admin.sock"
    before = os.umask(0)
    try:
        await admin.start(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    await admin.close()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o711, 0o777])
async def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ListenError, match="must have mode 0700"):
        await server().start(folder / "admin.sock")


async def test_a_peer_of_another_user_gets_nothing(tmp_path: Path) -> None:
    admin = server(peer=lambda _: 4242)
    path = tmp_path / "run" / "admin.sock"
    await admin.start(path)
    assert await ask(path) == b""
    await admin.close()


async def test_root_may_look(tmp_path: Path) -> None:
    admin = server(owner=lambda: 4242, peer=lambda _: 0)
    path = tmp_path / "run" / "admin.sock"
    await admin.start(path)
    assert b"200 OK" in await ask(path)
    await admin.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_the_kernel_names_the_user_of_a_real_process(tmp_path: Path) -> None:
    # The folder and the socket are opened wide on purpose: the kernel's word must be enough by itself.
    admin = server()
    path = tmp_path / "run" / "admin.sock"
    await admin.start(path)
    open_wide(path)
    code = (
        "import os,socket,sys\nos.setgid(12345);os.setuid(12345)\ns=socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try:\n s.sendall(b'GET /config HTTP/1.1\\r\\n\\r\\n');print(len(s.recv(100)))\n"
        "except OSError:\n print(0)\n"
    )
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path), stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(child.communicate(), 30)
    assert out.strip() == b"0"
    assert b"200 OK" in await ask(path)
    await admin.close()


def open_wide(path: Path) -> None:
    path.chmod(0o666)
    path.parent.chmod(0o755)
    for folder in path.parent.parents:
        if folder.stat().st_uid == os.geteuid() and "pytest" in str(folder):
            folder.chmod(0o755)


def test_the_peers_user_is_the_kernels_word() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert peer_user(left) == os.geteuid()


async def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    admin = server()
    await admin.start(path)
    assert b"200 OK" in await ask(path)
    await admin.close()


async def test_a_socket_in_use_is_left_alone_and_told(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    first = server()
    await first.start(path)
    with pytest.raises(ListenError, match="another process listens"):
        await server().start(path)
    assert b"200 OK" in await ask(path)
    await first.close()


async def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    with pytest.raises(ListenError, match="is no socket"):
        await server().start(path)
    assert path.read_text() == "precious"


async def test_closing_leaves_a_socket_that_another_process_made_since(tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    first, second = server(), server()
    await first.start(path)
    path.unlink()
    await second.start(path)
    await first.close()
    assert b"200 OK" in await ask(path)
    await second.close()


def test_the_peer_is_checked_on_uvloop_too(tmp_path: Path) -> None:
    import uvloop

    async def turn() -> tuple[bytes, bytes]:
        admin = server()
        await admin.start(tmp_path / "run" / "one.sock")
        stranger = server(peer=lambda _: 4242)
        await stranger.start(tmp_path / "run" / "two.sock")
        answers = await ask(tmp_path / "run" / "one.sock"), await ask(tmp_path / "run" / "two.sock")
        await admin.close()
        await stranger.close()
        return answers

    mine, theirs = uvloop.run(turn())
    assert b"200 OK" in mine
    assert theirs == b""
