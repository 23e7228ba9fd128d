"""Where a mesh keeps things: modes, the passphrase apart from the keys, one user of a state folder, short sockets."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controlplane.up.places import (
    PlaceError,
    Places,
    default_passphrase_file,
    default_state,
    ensure_passphrase,
    make_private_folder,
    only_one,
)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    made = Places(state=tmp_path / "state", passphrase_file=tmp_path / "elsewhere" / "passphrase")
    made.make()
    return made


def test_folders_are_their_owner_s_alone(places: Places) -> None:
    for folder in (places.state, places.control_plane, places.state / "run", places.state / "sidecars"):
        assert _mode(folder) == 0o700


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PlaceError, match=r"may be written by others \(chmod 700"):
        make_private_folder(tmp_path / "open")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="cannot be made: Not a directory"):
        make_private_folder(tmp_path / "file" / "state")


def test_the_passphrase_is_made_once_and_never_in_the_state_folder(places: Places) -> None:
    assert ensure_passphrase(places.passphrase_file, authority_exists=False) is True
    first = places.passphrase_file.read_bytes()
    assert len(first) > 40
    assert _mode(places.passphrase_file) == 0o600
    assert ensure_passphrase(places.passphrase_file, authority_exists=True) is False
    assert places.passphrase_file.read_bytes() == first


def test_a_missing_passphrase_of_an_existing_authority_is_not_replaced(places: Places) -> None:
    with pytest.raises(PlaceError, match="holds what opens the CA's keys"):
        ensure_passphrase(places.passphrase_file, authority_exists=True)
    assert not places.passphrase_file.exists()


def test_a_passphrase_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text("secret")
    file.chmod(0o644)
    with pytest.raises(PlaceError, match="may be read by others"):
        ensure_passphrase(file, authority_exists=False)


def test_the_standard_passphrase_file_is_told_by_mesh_and_state_and_lies_in_the_configuration_home() -> None:
    def named(state: str, environ: dict[str, str]) -> Path:
        return default_passphrase_file(Path(state), "shop", environ)

    home = {"XDG_CONFIG_HOME": "/home/somebody/conf"}
    assert named("/a", home).parent == Path("/home/somebody/conf/ringfence")
    assert named("/a", home).name.startswith("shop-")
    assert named("/a", home) != named("/b", home)
    assert named("/a", {}).parent == Path.home() / ".config" / "ringfence"
    assert named("/a", {"XDG_CONFIG_HOME": "relative"}) == named("/a", {})


def test_tests_keep_out_of_the_configuration_of_whoever_runs_them() -> None:
    assert Path.home() / ".config" not in default_passphrase_file(Path("/a"), "shop", os.environ).parents
    assert not [name for name in os.environ if name.startswith("RINGFENCE_")]


def test_the_standard_state_lies_beside_the_mesh_file(tmp_path: Path) -> None:
    assert default_state(tmp_path / "mesh.yaml", "shop") == tmp_path / ".ringfence" / "shop"


def test_a_state_folder_is_held_by_one_and_then_free_again(places: Places) -> None:
    refused = pytest.raises(PlaceError, match=f"in use by process {os.getpid()}")
    with only_one(places.state), refused, only_one(places.state):
        pass
    with only_one(places.state):
        pass


def test_a_socket_lies_in_the_state_folder_where_its_path_fits() -> None:
    # Nothing is made there; a folder of the tests may be too long for it.
    places = Places(state=Path("/s/state"), passphrase_file=Path("/s/passphrase"))
    assert places.admin_socket == places.state / "controlplane" / "admin.sock"
    assert places.sidecar_admin_socket("shop", "web").parent == places.sidecar("shop", "web")


def test_a_socket_with_too_long_a_path_gets_a_private_short_one(tmp_path: Path) -> None:
    deep = Places(state=tmp_path / ("d" * 100), passphrase_file=tmp_path / "p")
    sockets = [deep.admin_socket, deep.sidecar_admin_socket("shop", "web"), deep.sidecar_admin_socket("shop", "orders")]
    assert len({str(socket) for socket in sockets}) == 3
    assert all(len(os.fsencode(socket)) <= 107 for socket in sockets)
    deep.make_short(sockets)
    try:
        assert _mode(deep.short) == 0o700
    finally:
        deep.remove_short()
    assert not deep.short.exists()


def test_a_link_in_the_place_of_the_short_folder_is_refused_and_not_followed(tmp_path: Path) -> None:
    deep, elsewhere = Places(state=tmp_path / ("d" * 100), passphrase_file=tmp_path / "p"), tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "precious").write_text("precious")
    deep.short.symlink_to(elsewhere)
    try:
        with pytest.raises(PlaceError, match="is no folder"):
            deep.make_short([deep.admin_socket])
        deep.remove_short()
        assert (elsewhere / "precious").exists()
    finally:
        deep.short.unlink()
