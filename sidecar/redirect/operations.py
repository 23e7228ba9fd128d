"""Installing, removing and showing, over whatever backends this machine has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sidecar.redirect import iptables, nftables
from sidecar.redirect.backends import Backend, Held, kernel_has_ipv6, may_administer
from sidecar.redirect.errors import BackendUnsupported, RedirectError
from sidecar.redirect.iptables_backend import IptablesBackend
from sidecar.redirect.nft_backend import NftBackend
from sidecar.redirect.settings import RedirectSettings

__all__ = ["AUTO", "CHOICES", "Installed", "install", "remove", "script", "show"]

AUTO: Final = "auto"

_FINDERS: Final[dict[str, Callable[[], Backend]]] = {
    "nft": NftBackend.find,
    "iptables-nft": lambda: IptablesBackend.find("nft"),
    "iptables-legacy": lambda: IptablesBackend.find("legacy"),
}
"""By preference: a table of our own first, what the kernel still has for old programs last."""

CHOICES: Final = (AUTO, *_FINDERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an installation came to."""

    backend: str
    settings: RedirectSettings
    """As installed: without IPv6 where the kernel has none."""

    held: tuple[Held, ...]


def install(settings: RedirectSettings, choice: str = AUTO) -> Installed:
    """Put the rules in place, by the chosen backend, or the one that holds them already, or the first that can.

    Raises RedirectError; then everything is as it was.
    """
    may_administer()
    if settings.ipv6 and not kernel_has_ipv6():
        settings = settings.without_ipv6()
    found, missing = _found()
    holders = [backend for backend in found if _held(backend)]
    candidates = (holders[:1] or found) if choice == AUTO else [_FINDERS[choice]()]
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
        return Installed(backend=backend.name, settings=settings, held=backend.held())
    raise RedirectError(f"nothing here can hold the rules: {'; '.join(reasons)}")


def remove(choice: str = AUTO) -> tuple[Held, ...]:
    """Take the rules away, and tell which; empty if there were none. Raises RedirectError."""
    may_administer()
    removed: list[Held] = []
    for backend in _chosen(choice):
        held = _held(backend) if choice == AUTO else backend.held()
        if held:
            backend.remove()
            removed.extend(held)
    return tuple(removed)


def show(choice: str = AUTO) -> tuple[Held, ...]:
    """The rules that are there now; empty if none are. Raises RedirectError."""
    may_administer()
    return tuple(held for backend in _chosen(choice) for held in (_held(backend) if choice == AUTO else backend.held()))


def script(settings: RedirectSettings, choice: str = AUTO) -> str:
    """What would be handed to the packet filter's program where nothing of ours is; asks nothing of the kernel."""
    if choice == AUTO:
        found, _ = _found()
        choice = found[0].name if found else NftBackend.name
    return nftables.ruleset(settings) if choice == NftBackend.name else iptables.fresh_script(settings)


def _chosen(choice: str) -> list[Backend]:
    return _found()[0] if choice == AUTO else [_FINDERS[choice]()]


def _found() -> tuple[list[Backend], list[str]]:
    """The backends whose programs are installed, by preference, and why the others are not among them."""
    found, missing = [], []
    for find in _FINDERS.values():
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
