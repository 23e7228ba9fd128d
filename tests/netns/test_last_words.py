"""What a sidecar leaves behind in a pod where it could not start, or was ended before it was ready."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.netns.spaces import REPOSITORY, environment
from tests.netns.test_transparent_mesh import until

# A /dev of its own, with a file for last words as the kubelet mounts it.
IN_A_POD = (
    *("unshare", "--mount", "sh", "-c"),
    "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 "
    '&& touch /dev/termination-log && mount --bind "$0" /dev/termination-log && exec "$@"',
)
FLAGS = {
    "--spiffe-id": "spiffe://shop.example/ns/shop/sa/web",
    "--root-fingerprint": "00" * 32,
    "--join": "127.0.0.1:1",
    "--control": "127.0.0.1:1",
}


@pytest.fixture
def words(administrator: None, tmp_path: Path) -> Path:
    place = tmp_path / "termination-log"
    place.touch(0o666)
    return place


def start(words: Path, *flags: str) -> subprocess.Popen[bytes]:
    given = [part for pair in FLAGS.items() for part in pair]
    return subprocess.Popen(
        [*IN_A_POD, str(words), sys.executable, "-P", "-m", "ringfence", "sidecar", *given, *flags],
        stderr=subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment(),
    )


def test_settings_that_are_wrong_are_told_where_the_cluster_shows_it(words: Path) -> None:
    with start(words, "--log-level", "loud") as child:
        _, errors = child.communicate(timeout=60)
    assert child.returncode == 2
    assert words.read_text() == errors.decode().removesuffix("\n")
    assert "--state: missing" in words.read_text()


def test_a_sidecar_that_has_nothing_to_prove_itself_by_says_so(words: Path, tmp_path: Path) -> None:
    with start(words, "--state", str(tmp_path / "state")) as child:
        child.communicate(timeout=60)
    assert child.returncode == 1
    assert "there is no enrolled host key" in words.read_text()


def test_a_sidecar_that_is_ended_while_it_waits_says_for_what(
    words: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port = free_port()
    token = tmp_path / "token"
    token.write_text("token")
    token.chmod(0o600)
    flags = ("--state", str(tmp_path / "state"), "--signals", f"127.0.0.1:{port}", "--join-token-file", str(token))

    def waits() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 503
        except OSError:
            pass
        return False

    with start(words, *flags) as child:
        try:
            until(lambda: waits() or child.poll() is not None, "the sidecar")
            os.kill(child.pid, signal.SIGTERM)
            child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == 0
    assert words.read_text().startswith("stopped before it was ready, waiting for: ")
