"""The rules in nftables' own table, by the ``nft`` program."""

from __future__ import annotations

from typing import Final

from sidecar.redirect import nftables
from sidecar.redirect.backends import Held, failure, ipv6_refused
from sidecar.redirect.errors import BackendUnsupported
from sidecar.redirect.settings import RedirectSettings
from sidecar.redirect.tools import Finished, find_program, run

__all__ = ["NftBackend"]

_VERSIONS: Final = {"inet": ("ipv4", "ipv6"), "ip": ("ipv4",)}


class NftBackend:
    """``program``: the full path of ``nft``."""

    name = "nft"

    def __init__(self, program: str) -> None:
        self._program = program

    @classmethod
    def find(cls) -> NftBackend:
        """Raises BackendUnsupported if the program is not installed."""
        program = find_program("nft")
        if program is None:
            raise BackendUnsupported("nft is not installed (install the package nftables)")
        return cls(program)

    def held(self) -> tuple[Held, ...]:
        held = []
        for family in self._present():
            text = self._nft("--stateless", "list", "table", family, nftables.TABLE).output
            held.append(Held(backend=self.name, versions=_VERSIONS[family], rules=tuple(text.splitlines())))
        return tuple(held)

    def install(self, settings: RedirectSettings) -> None:
        script = nftables.install_script(settings, self._present())
        finished = run((self._program, "-f", "-"), given=script)
        if finished.status == 0:
            return
        error = failure("nft", finished)
        if settings.ipv6 and isinstance(error, BackendUnsupported) and self._would_take_ipv4(settings):
            raise ipv6_refused(error)
        raise error

    def remove(self) -> None:
        if script := nftables.remove_script(self._present()):
            self._nft("-f", "-", given=script)

    def _present(self) -> tuple[str, ...]:
        lines = {line.strip() for line in self._nft("list", "tables").output.splitlines()}
        return tuple(family for family in nftables.FAMILIES if f"table {family} {nftables.TABLE}" in lines)

    def _would_take_ipv4(self, settings: RedirectSettings) -> bool:
        """Whether the same without IPv6 is fine for the kernel; checked by it, not applied."""
        script = nftables.ruleset(settings.without_ipv6())
        return run((self._program, "--check", "-f", "-"), given=script).status == 0

    def _nft(self, *words: str, given: str = "") -> Finished:
        finished = run((self._program, *words), given=given)
        if finished.status != 0:
            raise failure("nft", finished)
        return finished
