"""Installing, removing and showing, over whatever backends this machine has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sidecar.redirect import iptables, nftables
from sidecar.redirect.backends import Backend, Held, kernel_has_ipv6
from sidecar.redirect.errors import BackendUnsupported, RedirectError
from sidecar.redirect.iptables_backend import IptablesBackend
from sidecar.redirect.nft_backend import NftBackend
from sidecar.redirect.settings import RedirectSettings

__all__ = ["AUTO", "CHOICES", "FINDERS", "Finders", "Installed", "install", "remove", "script", "show"]

AUTO: Final = "auto"

Finders = Mapping[str, Callable[[], Backend]]
"""By name, how a backend is found; each raises BackendUnsupported if its programs are not installed."""

FINDERS: Final[Finders] = {
    "nft": NftBackend.find,
    "iptables-nft": lambda: IptablesBackend.find("nft"),
    "iptables-legacy": lambda: IptablesBackend.find("legacy"),
}
"""By preference: a table of our own first, what the kernel still has for old programs last."""

CHOICES: Final = (AUTO, *FINDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an installation came to."""

    backend: str
    settings: RedirectSettings
    """As installed: without IPv6 where the kernel has none."""


def install(settings: RedirectSettings, choice: str = AUTO, *, finders: Finders = FINDERS) -> Installed:
    """Put the rules in place, by the chosen backend, or the one that holds them already, or the first that can.

    Raises RedirectError; then everything is as it was.
    """
    if settings.ipv6 and not kernel_has_ipv6():
        settings = settings.without_ipv6()
    found, missing = _found(finders)
    holders = [backend for backend in found if _held(backend)]
    candidates = (holders[:1] or found) if choice == AUTO else [finders[choice]()]
    if not candidates:
        raise RedirectError("; ".join(missing))
    strangers = [backend.name for backend in holders if backend.name != candidates[0].name]
    if strangers:
        raise RedirectError(
            f"{' and '.join(strangers)} {'holds' if len(strangers) == 1 else 'hold'} rules of an earlier installation "
            "(take them away first: ringfence redirect remove)"
        )
    reasons = missing if choice == AUTO and not holders else []
    for backend in candidates:
        try:
            backend.install(settings)
        except BackendUnsupported as error:
            if len(candidates) == 1 and not reasons:
                raise
            reasons.append(str(error))
            continue
        return Installed(backend=backend.name, settings=settings)
    raise RedirectError(f"nothing here can hold the rules: {'; '.join(reasons)}")


def remove(choice: str = AUTO, *, finders: Finders = FINDERS) -> tuple[Held, ...]:
    """Take the rules away, and tell which; empty if there were none. Raises RedirectError."""
    removed: list[Held] = []
    for backend in _chosen(choice, finders):
        held = _held(backend) if choice == AUTO else backend.held()
        if held:
            backend.remove()
            removed.extend(held)
    return tuple(removed)


def show(choice: str = AUTO, *, finders: Finders = FINDERS) -> tuple[Held, ...]:
    """The rules that are there now; empty if none are. Raises RedirectError."""
    return tuple(
        held for backend in _chosen(choice, finders) for held in (_held(backend) if choice == AUTO else backend.held())
    )


def script(settings: RedirectSettings, choice: str = AUTO) -> str:
    """What would be handed to the packet filter's program where nothing of ours is; asks nothing of the kernel."""
    if choice == AUTO:
        found, _ = _found(FINDERS)
        choice = found[0].name if found else NftBackend.name
    return nftables.ruleset(settings) if choice == NftBackend.name else iptables.fresh_script(settings)


def _chosen(choice: str, finders: Finders) -> list[Backend]:
    return _found(finders)[0] if choice == AUTO else [finders[choice]()]


def _found(finders: Finders) -> tuple[list[Backend], list[str]]:
    """The backends whose programs are installed, by preference, and why the others are not among them."""
    found, missing = [], []
    for find in finders.values():
        try:
            found.append(find())
        except BackendUnsupported as error:
            missing.append(str(error))
    return found, missing


def _held(backend: Backend) -> tuple[Held, ...]:
    """What it holds; a backend that does not work here holds nothing."""
    try:
        return backend.held()
    except BackendUnsupported:
        return ()
