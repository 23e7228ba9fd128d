"""A decision as a value: Permit names the rule that permits, Deny the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ringfence.policy.reasons import DenyReason


@dataclass(frozen=True, slots=True)
class Permit:
    """Permitted by ``rule`` of ``policy`` (``<namespace>/<name>``).

    ``would_deny`` is the reason for which it would have been refused, had the service not been only observed; then
    ``policy`` and ``rule`` are empty, and ``nearest`` is the rule that came closest, as with ``Deny``.
    """

    permitted: ClassVar[bool] = True

    policy: str
    rule: str
    would_deny: DenyReason | None = None
    nearest: str | None = None

    @property
    def rule_name(self) -> str:
        """``<namespace>/<name>/<rule>``."""
        return f"{self.policy}/{self.rule}"


@dataclass(frozen=True, slots=True)
class StepUp:
    """An authentication that would do: of one of the classes ``acr``, not longer ago than ``max_age_seconds``."""

    acr: tuple[str, ...] = ()
    max_age_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused for ``reason``; ``nearest`` is the rule (``<namespace>/<name>/<rule>``) that came closest, if any.

    ``nearest`` is for this side's log: a stranger must learn nothing of the policy. ``step_up``: with
    ``STEP_UP_REQUIRED``, what the caller's user must do, which alone of all this the caller is told (RFC 9470).
    """

    permitted: ClassVar[bool] = False

    reason: DenyReason
    nearest: str | None = None
    step_up: StepUp | None = None


Decision = Permit | Deny
