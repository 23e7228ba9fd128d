"""What the control plane knows of each sidecar: what it was sent, what it said back, and what is overdue. Pure.

Times are monotonic seconds handed in by the caller, so that a turned wall clock never makes an answer overdue.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from controlplane.push.workload_key import WorkloadKey


class Standing(StrEnum):
    """Where a sidecar stands with what it was sent."""

    CURRENT = "current"  # it enforces its workload's snapshot
    PENDING = "pending"  # sent, not yet answered
    OVERDUE = "overdue"  # sent, and not answered in time
    REFUSED = "refused"  # it said that it cannot enforce it, and why
    DISCONNECTED = "disconnected"


@dataclass(slots=True, kw_only=True)
class Session:
    """One sidecar process beside one workload; what it says of itself is its own word, its identity is proved."""

    workload: WorkloadKey
    process: str
    version: str
    peer: str
    svid_not_after: float
    svid_serial: str
    since: float
    reports_flows: bool = False
    connected: bool = True
    offered_revision: int = 0
    offered_at: float = 0.0
    sent_revision: int = 0
    answered_revision: int = 0
    enforced_revision: int = 0
    error: str = ""

    def offered(self, revision: int, now: float) -> None:
        """A snapshot was put into the mailbox; from now on an answer to it is waited for."""
        self.offered_revision = revision
        self.offered_at = now

    def sent(self, revision: int) -> None:
        """A snapshot went out; what was said of an older one is no longer what matters."""
        self.sent_revision = revision
        self.answered_revision = 0
        self.error = ""

    def answered(self, revision: int, *, accepted: bool, enforced_revision: int, error: str) -> bool:
        """Take an acknowledgement in; False when it answers nothing that was sent or contradicts itself.

        An answer to a snapshot that was overtaken since still tells what is enforced.
        """
        if not 0 < revision <= self.sent_revision or (accepted and enforced_revision != revision):
            return False
        self.enforced_revision = enforced_revision
        if revision == self.sent_revision:
            self.answered_revision = revision
            self.error = "" if accepted else error or "refused without a reason"
        return True

    def standing(self, now: float, timeout_seconds: float) -> Standing:
        """Where this sidecar stands with the snapshot that it was offered last."""
        if not self.connected:
            return Standing.DISCONNECTED
        if self.offered_revision == self.sent_revision == self.answered_revision:
            return Standing.REFUSED if self.error else Standing.CURRENT
        return Standing.OVERDUE if now - self.offered_at > timeout_seconds else Standing.PENDING
