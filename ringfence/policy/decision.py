"""A decision as a value: Permit names the rule that permits, Deny the reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ringfence.policy.reasons import DenyReason


@dataclass(frozen=True, slots=True)
class Permit:
    """Permitted by ``rule`` of ``policy`` (``<namespace>/<name>``).

    ``would_deny`` is the reason for which it would have been refused, had the service not been only observed.
    """

    permitted: ClassVar[bool] = True

    policy: str
    rule: str
    would_deny: str | None = None

    @property
    def rule_name(self) -> str:
        """``<namespace>/<name>/<rule>``."""
        return f"{self.policy}/{self.rule}"


@dataclass(frozen=True, slots=True)
class Deny:
    """Refused for ``reason``; ``nearest`` is the rule (``<namespace>/<name>/<rule>``) that came closest, if any.

    ``nearest`` is for this side's log: a stranger must learn nothing of the policy.
    """

    permitted: ClassVar[bool] = False

    reason: DenyReason
    nearest: str | None = None


Decision = Permit | Deny
