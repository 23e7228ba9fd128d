"""A rule on its way: callers, words and conditions gathered until it can be written. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ringfence.policy.importing.imported import Words


@dataclass(slots=True, kw_only=True)
class Draft:
    """``callers`` None: nothing was said of them. ``cidrs`` narrow whoever they are; ``when``: all of these hold."""

    denies: bool
    callers: list[Any] | None = None
    cidrs: list[str] = field(default_factory=list)
    to: Words = field(default_factory=dict)
    when: list[str] = field(default_factory=list)

    def rule(self, name: str) -> Words:
        """The rule, as a document has it."""
        callers = self.callers
        if callers is None:
            callers = [{"anyone": True}] if self.denies else [{"authenticated": True}, {"unauthenticated": True}]
        if self.cidrs:
            callers = [{**caller, "cidrs": list(self.cidrs)} for caller in callers]
        rule: Words = {"name": name, "from": callers}
        if self.to:
            rule["to"] = dict(self.to)
        if self.when:
            rule["when"] = " && ".join(self.when)
        return rule

    def narrow(self, word: str, values: list[Any]) -> bool:
        """Say ``word`` of ``to``; False where it is said already, so that both must hold."""
        if word in self.to:
            return False
        self.to[word] = list(dict.fromkeys(values))
        return True
