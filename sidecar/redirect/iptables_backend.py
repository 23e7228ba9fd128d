"""The rules in the ``nat`` tables of iptables and ip6tables, in either flavour, by their save and restore programs.

Each family is one transaction of its own. If the second fails, the first is put back to what it was, jump by jump; the
signals that end a program wait meanwhile, so only a kill that cannot be caught leaves one family ahead of the other,
and installing again mends that.

The nft flavour makes its table and built-in chains when they are first used. What our rules made is noted beside them
(``iptables.with_notes``) and goes when they go, if it is still empty. The legacy flavour's table, once used, stays
until its module is unloaded; with nothing in it, it decides nothing.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from sidecar.redirect.backends import Held, failure, ipv6_refused
from sidecar.redirect.errors import BackendUnsupported, RedirectError
from sidecar.redirect.iptables import Family, noted, restore_script, rules, with_notes
from sidecar.redirect.saved import EMPTY_TABLE, NOTHING, NatTable, OurRules, parse_save
from sidecar.redirect.settings import RedirectSettings
from sidecar.redirect.tools import Finished, find_program, run

__all__ = ["Flavour", "IptablesBackend"]

Flavour = Literal["nft", "legacy"]

_FAMILIES: Final[tuple[Family, ...]] = ("ipv4", "ipv6")
_STEM: Final[dict[Family, str]] = {"ipv4": "iptables", "ipv6": "ip6tables"}
_NFT_FAMILY: Final[dict[Family, str]] = {"ipv4": "ip", "ipv6": "ip6"}
_NAMES_FILE: Final[dict[Family, str]] = {"ipv4": "ip_tables_names", "ipv6": "ip6_tables_names"}
# A container engine holds the legacy lock for a moment at a time.
_WAIT_FOR_LOCK: Final = ("--wait", "5")
_HELD_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class IptablesBackend:
    """One flavour. ``proc_net``: where the kernel tells which legacy tables are in use; ``find``: of programs."""

    def __init__(
        self,
        flavour: Flavour,
        *,
        proc_net: Path = Path("/proc/self/net"),
        find: Callable[[str], str | None] = find_program,
    ) -> None:
        self._flavour: Flavour = flavour
        self._find = find
        self._proc_net = proc_net
        self._programs: dict[str, str] = {}

    @property
    def name(self) -> str:
        return f"iptables-{self._flavour}"

    @classmethod
    def find(cls, flavour: Flavour) -> IptablesBackend:
        """Raises BackendUnsupported if its programs for IPv4 are not installed."""
        backend = cls(flavour)
        for purpose in ("save", "restore"):
            backend._program("iptables", purpose)
        return backend

    def held(self) -> tuple[Held, ...]:
        tables = ((family, self._read(family, at_rest=True).ours) for family in _FAMILIES)
        return tuple(Held(backend=self.name, versions=(family,), rules=ours.lines()) for family, ours in tables if ours)

    def install(self, settings: RedirectSettings) -> None:
        before: dict[Family, NatTable] = {"ipv4": self._read("ipv4"), "ipv6": self._read_ipv6(settings.ipv6)}
        wanted: dict[Family, OurRules] = {
            "ipv4": self._wanted(settings, "ipv4", before["ipv4"]),
            "ipv6": self._wanted(settings, "ipv6", before["ipv6"]) if settings.ipv6 else NOTHING,
        }
        self._change(before, wanted)

    def remove(self) -> None:
        before = {family: self._read(family, at_rest=True) for family in _FAMILIES}
        self._change(before, dict.fromkeys(_FAMILIES, NOTHING))

    def _change(self, before: Mapping[Family, NatTable], wanted: Mapping[Family, OurRules]) -> None:
        """Both families or none."""
        touched: list[Family] = []
        with _signals_held():
            try:
                for family in _FAMILIES:
                    if wanted[family] or before[family].ours:
                        # Noted first: a program that was killed for being slow may have done its work.
                        touched.append(family)
                        self._apply(family, before[family], wanted[family])
            except RedirectError as error:
                self._put_back(touched, before, error)
                if isinstance(error, BackendUnsupported) and touched[-1] == "ipv6":
                    raise ipv6_refused(error) from error
                raise

    def _put_back(self, touched: Iterable[Family], before: Mapping[Family, NatTable], error: RedirectError) -> None:
        for family in touched:
            try:
                present = self._read(family)
                if present.ours != before[family].ours:
                    self._apply(family, present, before[family].ours)
            except RedirectError as second:
                raise RedirectError(
                    f"{error}; and the {family} rules of before could not be put back: {second} "
                    "(mend the cause, then run: ringfence redirect remove)"
                ) from error

    def _apply(self, family: Family, present: NatTable, wanted: OurRules) -> None:
        stem = _STEM[family]
        waiting = _WAIT_FOR_LOCK if self._flavour == "legacy" else ()
        self._run(stem, "restore", "--noflush", *waiting, given=restore_script(present, wanted))
        if not wanted:
            self._sweep(family, noted(present.ours))

    def _wanted(self, settings: RedirectSettings, family: Family, before: NatTable) -> OurRules:
        """The rules, with notes of what they bring into being now or brought when they were first installed.

        Only ``nft`` can tell; without it an empty chain may stay behind one day, which decides nothing.
        """
        wanted = rules(settings, family)
        if self._flavour == "legacy" or (present := _nft_objects(family)) is None:
            return wanted
        needed = {"TABLE", *(jump.chain for jump in wanted.jumps)}
        return with_notes(wanted, sorted(noted(before.ours) | (needed - present)))

    def _read_ipv6(self, needed: bool) -> NatTable:
        try:
            return self._read("ipv6", at_rest=not needed)
        except BackendUnsupported as error:
            raise ipv6_refused(error) from error

    def _read(self, family: Family, *, at_rest: bool = False) -> NatTable:
        """The family's table. Reading a legacy one would bring it into being, so ``at_rest`` looks first."""
        if at_rest and not self._in_use(family):
            return EMPTY_TABLE
        return parse_save(self._run(_STEM[family], "save", "-t", "nat").output)

    def _in_use(self, family: Family) -> bool:
        if self._flavour == "nft":
            # An installation without ip6tables is thinkable, and then none of its rules are ours.
            return family == "ipv4" or self._has_program(_STEM[family], "save")
        try:
            return "nat" in (self._proc_net / _NAMES_FILE[family]).read_text().split()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise RedirectError(f"{error.filename} cannot be read: {error.strerror} (run it as root)") from error

    def _run(self, stem: str, purpose: str, *words: str, given: str = "") -> Finished:
        finished = run((self._program(stem, purpose), *words), given=given)
        if finished.status != 0:
            raise failure(f"{stem}-{self._flavour}", finished)
        return finished

    def _program(self, stem: str, purpose: str) -> str:
        """The program's path: by its full name, or by its short one if that is of this flavour."""
        full = "-".join(filter(None, (stem, self._flavour, purpose)))
        if full not in self._programs:
            path = self._find(full) or self._by_short_name("-".join(filter(None, (stem, purpose))))
            if path is None:
                raise BackendUnsupported(f"{full} is not installed (install the package iptables)")
            self._programs[full] = path
        return self._programs[full]

    def _by_short_name(self, name: str) -> str | None:
        path = self._find(name)
        if path is None:
            return None
        told = run((path, "--version")).output
        return path if ("nf_tables" in told) == (self._flavour == "nft") else None

    def _has_program(self, stem: str, purpose: str) -> bool:
        try:
            self._program(stem, purpose)
        except BackendUnsupported:
            return False
        return True

    def _sweep(self, family: Family, made: frozenset[str]) -> None:
        """Delete what our rules made and nobody uses; what is in use is refused by the kernel, and stays."""
        for chain in sorted(made - {"TABLE"}):
            run((self._program(_STEM[family], ""), "-t", "nat", "-X", chain))
        if "TABLE" in made and _nft_objects(family) == {"TABLE"} and (nft := find_program("nft")):
            run((nft, "delete", "table", _NFT_FAMILY[family], "nat"))


def _nft_objects(family: Family) -> set[str] | None:
    """The chains of the nft flavour's ``nat`` table, and ``TABLE`` for itself; None if nobody can tell."""
    nft = find_program("nft")
    if nft is None:
        return None
    present = set()
    for kind in ("table", "chain"):
        listed = run((nft, "-j", "list", f"{kind}s", _NFT_FAMILY[family]))
        if listed.status != 0:
            return None
        try:
            for facts in (entry[kind] for entry in json.loads(listed.output)["nftables"] if kind in entry):
                if kind == "table" and facts["name"] == "nat":
                    present.add("TABLE")
                elif kind == "chain" and facts["table"] == "nat":
                    present.add(str(facts["name"]))
        except (ValueError, KeyError, TypeError):
            return None
    return present


@contextmanager
def _signals_held() -> Iterator[None]:
    """Ending signals wait until both families agree; each program we run has its own deadline."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)
