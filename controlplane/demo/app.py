"""Runs the demo: a temporary folder, the impostors, the mesh, the calls, the report. Wires this package's parts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from ca import CaError
from controlplane.demo.calls import CallResult
from controlplane.demo.impostors import Impostors, make_impostors
from controlplane.demo.logbook import Logbook
from controlplane.demo.plan import PlannedCall, round_of_calls, steady_calls
from controlplane.demo.report import document, table, verdict
from controlplane.demo.shop import ShopMissingError, copy_shop, only_demo, shop_folder
from controlplane.demo.stage import Stage
from controlplane.up.children import MeshLaunch
from controlplane.up.places import Places, ensure_passphrase
from controlplane.up.preparing import BadMeshError, CannotStartError, prepared, read_whole_mesh
from controlplane.up.running import RunningMesh, StartError, running_mesh
from controlplane.up.session import Interrupts, tell_exit
from controlplane.up.summary import facts
from controlplane.up.supervisor import Listener
from ringfence.kit.log import Logger

_PAUSE_SECONDS: Final = 0.5
_LINE_EVERY_SECONDS: Final = 10.0
_CALLER: Final = "shop/web"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scene:
    """What is made before the mesh starts."""

    folder: Path
    launch: MeshLaunch
    impostors: Impostors
    started: float


def run_demo(*, once: bool, as_json: bool) -> int:
    """The whole demo in this process; its exit status. Nothing that it made is left behind."""
    started = time.monotonic()
    signal.signal(signal.SIGTERM, _leave)  # until the mesh runs, which has its own way to stop
    with tempfile.TemporaryDirectory(prefix="ringfence-demo-", ignore_cleanup_errors=True) as name, only_demo() as only:
        folder = Path(name)
        try:
            impostors, passphrase_file = _before_the_mesh(folder)
            mesh_file = folder / "shop" / "mesh.yaml"
            if replaced := copy_shop(mesh_file.parent, own_ports=only):
                pairs = ", ".join(f"{other} for {port}" for port, other in replaced.items())
                _say(f"ports of the shop are taken, or another demo has them; used instead: {pairs}")
            with prepared(mesh_file, _environment(), state=folder / "state", passphrase_file=passphrase_file) as launch:
                scene = _Scene(folder=folder, launch=launch, impostors=impostors, started=started)
                return asyncio.run(_play(scene, once=once, as_json=as_json))
        except (BadMeshError, CannotStartError) as error:
            for line in error.lines:
                _say(line)
        except (StartError, ShopMissingError, CaError, OSError) as error:
            _say(str(error))
        return 1


def _before_the_mesh(folder: Path) -> tuple[Impostors, Path]:
    """The impostors, and with them the mesh's own CA, in the place where the mesh will look for it."""
    mesh_file = shop_folder() / "mesh.yaml"
    mesh = read_whole_mesh(mesh_file)
    web = mesh.service(_CALLER)
    if web is None:
        raise ShopMissingError(f"{mesh_file} has no service {_CALLER}")
    passphrase_file = folder / "passphrase"
    ensure_passphrase(passphrase_file, authority_exists=False)
    places = Places(state=folder / "state", passphrase_file=passphrase_file)
    places.make()
    with (folder / "impostors.log").open("w", encoding="utf-8") as stream:
        impostors = make_impostors(
            web.spiffe_id,
            authority_dir=places.authority,
            passphrase=passphrase_file.read_bytes().removesuffix(b"\n"),
            elsewhere=folder / "strangers",
            log=Logger("ca", stream=stream),
        )
    return impostors, passphrase_file


@dataclass(slots=True)
class _Tally:
    """Of all calls so far."""

    calls: int = 0
    different: int = 0
    rounds: int = 0

    def add(self, results: list[CallResult]) -> None:
        self.calls += len(results)
        self.different += sum(not result.as_expected for result in results)
        self.rounds += 1

    @property
    def status(self) -> int:
        """0 if there was a whole round and every call came out as expected."""
        return 0 if self.rounds and not self.different else 1


async def _play(scene: _Scene, *, once: bool, as_json: bool) -> int:
    """Start the mesh, make the calls, report; the exit status."""
    interrupts, tally = Interrupts(_say), _Tally()
    log = scene.folder / "mesh.log"
    with Logbook(log) as logbook, interrupts.caught():
        listener = Listener(on_line=logbook.add, on_exit=lambda ended: _say(tell_exit(ended)))
        try:
            async with running_mesh(scene.launch, listener, interrupts.supervising) as running:
                ready_seconds = time.monotonic() - scene.started
                stage = Stage(scene.launch.mesh, logbook)
                results = await _round(round_of_calls(stage, scene.impostors))
                tally.add(results)
                if as_json:
                    click.echo(json.dumps(document(results, facts(running, ready_seconds))))
                else:
                    click.echo(f"{_opening(running, ready_seconds)}\n\n{table(results)}\n\n{verdict(results)}")
                if not once:
                    _say(_invitation(scene))
                    await _keep_calling(steady_calls(stage), tally)
        except asyncio.CancelledError:
            if not interrupts.asked:
                raise
            _say("stopped, as asked; nothing is left running")
        except StartError:
            _keep_log(log)
            raise
    if tally.different:
        _keep_log(log)
    return tally.status


async def _round(calls: list[PlannedCall]) -> list[CallResult]:
    """One after the other, so that each one's log lines are its own."""
    return [await call.run() for call in calls]


async def _keep_calling(calls: list[PlannedCall], tally: _Tally) -> None:
    """Steady, modest traffic for ever; a line now and then, and one at once for whatever comes out differently."""
    since, before = time.monotonic(), tally.calls
    while True:
        for call in calls:
            result = await call.run()
            tally.add([result])
            if not result.as_expected:
                _say(f"{result.request} of {result.source}: expected {result.expected}, got {result.observed.outcome}")
            await asyncio.sleep(_PAUSE_SECONDS)
        if time.monotonic() - since >= _LINE_EVERY_SECONDS:
            _say(f"{tally.calls - before} calls in {time.monotonic() - since:.0f} s, {tally.different} not as expected")
            since, before = time.monotonic(), tally.calls


def _opening(running: RunningMesh, seconds: float) -> str:
    mesh = running.launch.mesh
    return (
        f"mesh {mesh.name} of trust domain {mesh.trust_domain} is up after {seconds:.1f} s: a CA, a control plane, "
        f"{len(mesh.services)} apps, {len(mesh.services)} sidecars"
    )


def _invitation(scene: _Scene) -> str:
    mesh = scene.launch.mesh
    web = next(service for service in mesh.services if service.full_name == _CALLER)
    listen = web.instances[0].listens[0]
    return (
        f"steady traffic until Ctrl-C; call it yourself: curl -i http://{listen}/orders/1 (permitted), "
        f"curl -i http://{listen}/admin (refused); logs in {scene.folder / 'mesh.log'}"
    )


def _keep_log(log: Path) -> None:
    """What went wrong is in the log, and the log must outlive the folder it is in."""
    with contextlib.suppress(OSError):
        # A name that others can guess they could have made a link of, to a file of ours.
        descriptor, kept = tempfile.mkstemp(prefix="ringfence-demo-", suffix=".log")
        with log.open("rb") as source, os.fdopen(descriptor, "wb") as target:
            shutil.copyfileobj(source, target)
        _say(f"the log of the whole mesh is kept in {kept}")


def _environment() -> dict[str, str]:
    """Ours, with this interpreter found first: the shop's apps name a python3, and any will not do."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{path}"}


def _leave(number: int, _frame: object) -> None:
    """End by an exception, so that the temporary folder goes, too."""
    raise SystemExit(128 + number)


def _say(line: str) -> None:
    click.echo(line, err=True)
