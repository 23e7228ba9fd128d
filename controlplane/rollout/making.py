"""Puts the parts of rolling out together, over the control plane's state folder. Adapter.

<state>/policy-history/       the records
<state>/policy-change.json    the journal of a change that is being written
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from controlplane.intake.applying import Applier
from controlplane.intake.sources import SourceFiles, Sources
from controlplane.rollout.evidence import evidence_of
from controlplane.rollout.folder import PolicyFolderWriter
from controlplane.rollout.history import History
from controlplane.rollout.rollouts import Ports, Rollouts
from ringfence.kit.clock import Clock
from ringfence.kit.log import Logger
from ringfence.policy.learning.flow import Flow


def open_writer(state: Path) -> PolicyFolderWriter:
    """What writes the policy folder, once it has ended a change that a crash interrupted. Raises FolderError."""
    writer = PolicyFolderWriter(state / "policy-change.json")
    writer.recover()
    return writer


def open_history(state: Path, log: Logger) -> History:
    """The records that are kept. Raises HistoryError."""

    def damaged(path: Path, why: str) -> None:
        log.warning("record of policy left out", file=str(path), detail=why)

    history = History(state / "policy-history", damaged)
    history.load()
    return history


def whole(read: Callable[[], SourceFiles], writer: PolicyFolderWriter) -> Callable[[], SourceFiles]:
    """``read``, never in the middle of a change that this process writes."""

    def locked() -> SourceFiles:
        with writer.lock:
            files = read()
            if writer.unfinished and files.policies is not None:
                error = "it holds half of a change that could not be written"
                return replace(files, policies=replace(files.policies, files=(), error=error))
            return files

    return locked


def make_rollouts(
    *,
    sources: Sources,
    applier: Applier,
    writer: PolicyFolderWriter,
    history: History,
    flows: Callable[[float], Iterable[Flow]],
    revision: Callable[[], int],
    log: Logger,
    clock: Clock,
) -> Rollouts:
    """``flows``: what was observed since a moment; ``revision``: the mesh's now."""
    ports = Ports(
        read=whole(sources.read, writer),
        take=applier.apply,
        refused=lambda: applier.refused,
        offer=applier.offer,
        evidence=lambda since: evidence_of(flows(since), since),
        revision=revision,
    )
    return Rollouts(ports=ports, writer=writer, history=history, log=log, clock=clock)
