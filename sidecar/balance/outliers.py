"""Leaves failing endpoints out for a while, each time longer, and never too many of them. Pure."""

from __future__ import annotations

from typing import Final

from ringfence.routing.model import Outliers
from sidecar.balance.member import Member

LONGEST_FACTOR: Final = 10  # of the first ejection: it grows with each that follows, up to this


def count_failure(member: Member, settings: Outliers, now: float, ejected: int, members: int) -> bool:
    """A failure of ``member``; whether it is left out from now on. ``ejected`` of ``members`` are already."""
    if member.failures and now - member.failed_at > settings.interval_seconds:
        member.failures = 0
    member.failures += 1
    member.failed_at = now
    if member.failures < settings.consecutive or member.ejected_until > now:
        return False
    if (ejected + 1) * 100 > settings.max_ejected_percent * members:
        return False
    member.ejections += 1
    member.ejected_until = now + settings.ejection_seconds * min(member.ejections, LONGEST_FACTOR)
    member.failures = 0
    return True


def count_success(member: Member, settings: Outliers, now: float) -> None:
    """An answer of ``member``: its failures are no longer in a row; after a time as long as its last ejection without
    another, the next one is as short as the first."""
    member.failures = 0
    if member.ejections and now > member.ejected_until:
        lasted = settings.ejection_seconds * min(member.ejections, LONGEST_FACTOR)
        if now - member.ejected_until > lasted:
            member.ejections = 0
