"""Which backend is taken, and what a backend's refusal means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sidecar.redirect import operations
from sidecar.redirect.backends import Backend, Held, failure, ipv6_in_use, may_administer
from sidecar.redirect.errors import BackendUnsupported, NotPermitted, RedirectError
from sidecar.redirect.settings import RedirectSettings
from sidecar.redirect.tools import Finished
from tests.unit.test_redirect_nftables import PLAIN


@dataclass
class FakeBackend:
    """A backend that holds rules in memory, or refuses to."""

    name: str
    holds: bool = False
    refusal: RedirectError | None = None
    log: list[str] = field(default_factory=list)

    def held(self) -> tuple[Held, ...]:
        if isinstance(self.refusal, BackendUnsupported):
            raise self.refusal
        return (Held(backend=self.name, versions=("ipv4", "ipv6"), rules=("rule",)),) if self.holds else ()

    def install(self, settings: RedirectSettings) -> None:
        self.log.append("install")
        if self.refusal is not None:
            raise self.refusal
        self.holds = True

    def remove(self) -> None:
        self.log.append("remove")
        self.holds = False


def finders(*backends: FakeBackend | str) -> dict[str, Callable[[], Backend]]:
    """Backends by name; a text is a backend that is not installed, and the reason."""

    def missing(reason: str) -> Callable[[], Backend]:
        def find() -> Backend:
            raise BackendUnsupported(reason)

        return find

    def there(backend: FakeBackend) -> Callable[[], Backend]:
        return lambda: backend

    return {
        backend if isinstance(backend, str) else backend.name: (
            missing(backend) if isinstance(backend, str) else there(backend)
        )
        for backend in backends
    }


def test_auto_takes_the_first_that_can() -> None:
    unfit, fit = FakeBackend("unfit", refusal=BackendUnsupported("unfit: no")), FakeBackend("fit")
    installed = operations.install(PLAIN, finders=finders("not installed", unfit, fit, FakeBackend("more")))
    assert installed.backend == "fit"
    assert (unfit.log, fit.log) == (["install"], ["install"])


def test_auto_takes_the_one_that_holds_the_rules_already() -> None:
    first, holder = FakeBackend("first"), FakeBackend("holder", holds=True)
    assert operations.install(PLAIN, finders=finders(first, holder)).backend == "holder"
    assert first.log == []


def test_a_chosen_backend_is_the_only_one_tried() -> None:
    first, second = FakeBackend("first"), FakeBackend("second", refusal=BackendUnsupported("second: no"))
    with pytest.raises(BackendUnsupported, match="second: no"):
        operations.install(PLAIN, "second", finders=finders(first, second))
    assert first.log == []


def test_rules_are_never_put_beside_those_of_another_backend() -> None:
    first, holder, holder_too = FakeBackend("a"), FakeBackend("b", holds=True), FakeBackend("c", holds=True)
    with pytest.raises(RedirectError, match=r"^b holds rules of an earlier installation"):
        operations.install(PLAIN, "a", finders=finders(first, holder))
    with pytest.raises(RedirectError, match=r"^c holds rules of an earlier installation"):
        operations.install(PLAIN, finders=finders(first, holder, holder_too))
    assert first.log == holder.log == holder_too.log == []


def test_a_missing_capability_ends_the_search() -> None:
    first, second = FakeBackend("first", refusal=NotPermitted("not permitted")), FakeBackend("second")
    with pytest.raises(NotPermitted):
        operations.install(PLAIN, finders=finders(first, second))
    assert second.log == []


def test_when_nothing_can_hold_the_rules_every_reason_is_told() -> None:
    unfit = FakeBackend("unfit", refusal=BackendUnsupported("unfit: no"))
    with pytest.raises(RedirectError, match=r"^nothing here can hold the rules: a is missing; unfit: no$"):
        operations.install(PLAIN, finders=finders("a is missing", unfit))
    with pytest.raises(RedirectError, match=r"^a is missing; b is missing$"):
        operations.install(PLAIN, finders=finders("a is missing", "b is missing"))


def test_removing_takes_the_rules_from_all_that_hold_some() -> None:
    unfit = FakeBackend("unfit", refusal=BackendUnsupported("unfit: no"))
    idle, one, two = FakeBackend("idle"), FakeBackend("one", holds=True), FakeBackend("two", holds=True)
    every = finders("gone", unfit, idle, one, two)
    assert [held.backend for held in operations.remove(finders=every)] == ["one", "two"]
    assert (idle.log, one.log, two.log) == ([], ["remove"], ["remove"])
    assert operations.remove(finders=every) == ()


def test_showing_changes_nothing() -> None:
    one = FakeBackend("one", holds=True)
    assert [held.rules for held in operations.show(finders=finders(one))] == [("rule",)]
    assert one.log == []


def test_a_chosen_backend_that_is_not_there_is_told() -> None:
    for act in (operations.remove, operations.show):
        with pytest.raises(BackendUnsupported, match="gone"):
            act("gone", finders=finders("gone"))


@pytest.mark.parametrize(
    "errors",
    [
        "netlink: Error: cache initialization failed: Operation not permitted",
        "iptables-restore v1.8.9 (legacy): Permission denied (you must be root)",
    ],
)
def test_a_refusal_for_lack_of_rights_says_which_are_needed(errors: str) -> None:
    error = failure("nft", Finished(status=1, output="", errors=errors))
    assert isinstance(error, NotPermitted)
    assert "CAP_NET_ADMIN" in str(error)


def test_any_other_refusal_is_the_programs_own_words() -> None:
    error = failure("nft", Finished(status=1, output="", errors="Error: Could not process rule: No such file\n"))
    assert isinstance(error, BackendUnsupported)
    assert str(error) == "nft: Error: Could not process rule: No such file"


def test_a_lock_file_that_cannot_be_opened_has_a_mend_of_its_own() -> None:
    finished = Finished(status=4, output="", errors="Fatal: can't open lock file /run/xtables.lock: Read-only\n")
    assert "XTABLES_LOCKFILE" in str(failure("iptables-legacy", finished))


@pytest.mark.parametrize(("mask", "fine"), [("0000000000001000", True), ("0000000000002fff", False)])
def test_the_capability_is_looked_for_first(tmp_path: Path, mask: str, fine: bool) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{mask}\nCapBnd:\t0\n")
    if fine:
        may_administer(tmp_path)
    else:
        with pytest.raises(NotPermitted):
            may_administer(tmp_path)


@pytest.mark.parametrize(
    ("lines", "in_use"),
    [
        ("", False),
        ("00000000000000000000000000000001 01 80 10 80       lo\n", False),
        ("fe80000000000000d88643fffeda16ac 02 40 20 80     eth0\n", False),
        ("fd770001000000000000000000000001 02 40 00 80     eth0\n", True),
    ],
)
def test_ipv6_is_in_use_where_others_can_reach_an_address(tmp_path: Path, lines: str, in_use: bool) -> None:
    (tmp_path / "self/net").mkdir(parents=True)
    assert not ipv6_in_use(tmp_path)
    (tmp_path / "self/net/if_inet6").write_text(lines)
    assert ipv6_in_use(tmp_path) is in_use
