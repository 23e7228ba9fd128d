"""The calls of the demo, each with what should come of it; ``examples/shop/policies`` says why. No results.

``round_of_calls`` is the whole round; ``steady_calls`` those that a shop makes all day, and one that it may not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from controlplane.demo.calls import CallResult, Observed, Stopwatch, failed
from controlplane.demo.impostors import OTHER_TRUST_DOMAIN, Impostors
from controlplane.demo.rogue import Credentials
from controlplane.demo.stage import Stage

FOREIGN_ADDRESS: Final = "169.254.169.254:80"
"""Where many clouds keep a machine's credentials: what an open relay would be used for first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall:
    """A call to make. ``expected`` in the words of ``calls.Observed.outcome``."""

    source: str
    target: str
    protocol: str
    request: str
    expected: str
    make: Callable[[Stopwatch], Awaitable[Observed]]

    async def run(self) -> CallResult:
        """Make the call; what fails on the way is an outcome, too."""
        watch = Stopwatch()
        try:
            observed = await self.make(watch)
        except (OSError, TimeoutError, ValueError) as error:
            observed = failed(str(error) or type(error).__name__)
        return CallResult(
            source=self.source,
            target=self.target,
            protocol=self.protocol,
            request=self.request,
            expected=self.expected,
            observed=observed,
            milliseconds=watch.milliseconds,
        )


def round_of_calls(stage: Stage, impostors: Impostors) -> list[PlannedCall]:
    """Every kind of call once, the permitted ones first."""
    return [*_permitted(stage), *_refused_by_policy(stage), *_refused_at_the_mesh_port(stage, impostors)]


def steady_calls(stage: Stage) -> list[PlannedCall]:
    """What a shop does all day."""
    return [
        _front(stage, "POST", "/checkout", {"item": "tea"}, "permitted: 201"),
        _http(stage, "web", "orders", "GET", "/orders/1", "permitted: 200"),
        _http(stage, "orders", "payments", "GET", "/payments/1", "permitted: 200"),
        _tcp(stage, "payments", "ledger", "BALANCE shop", "permitted: OK"),
        _http(stage, "web", "orders", "GET", "/admin", "refused: path_not_allowed"),
    ]


def _permitted(stage: Stage) -> list[PlannedCall]:
    forged = {"x-forwarded-client-cert": f"By=nobody;Hash=00;URI={stage.service('payments').spiffe_id}"}
    order = {"item": "cake", "price": 7}
    payment = {"account": "shop", "amount": 12}
    return [
        _front(stage, "POST", "/checkout", {"item": "tea"}, "permitted: 201"),
        _http(stage, "web", "orders", "GET", "/orders", "permitted: 200"),
        _http(stage, "web", "orders", "GET", "/orders/1", "permitted: 200"),
        _http(stage, "web", "orders", "GET", "/orders/1", "permitted: 200", headers=forged, note=" posing as payments"),
        _http(stage, "web", "orders", "POST", "/orders", "permitted: 201", body=order),
        _http(stage, "web", "orders", "GET", "/healthz", "permitted: 200"),
        _http(stage, "orders", "payments", "GET", "/payments/1", "permitted: 200"),
        _http(stage, "orders", "payments", "POST", "/payments", "permitted: 201", body=payment),
        _tcp(stage, "payments", "ledger", "BALANCE shop", "permitted: OK"),
        _tcp(stage, "payments", "ledger", "POST shop 12", "permitted: OK"),
    ]


def _refused_by_policy(stage: Stage) -> list[PlannedCall]:
    return [
        _http(stage, "web", "payments", "GET", "/payments/1", "refused: caller_not_allowed"),
        _tcp(stage, "web", "ledger", "BALANCE shop", "refused: caller_not_allowed"),
        _http(stage, "web", "orders", "DELETE", "/orders/1", "refused: method_not_allowed"),
        _http(stage, "web", "orders", "GET", "/admin", "refused: path_not_allowed"),
        _http(stage, "web", "orders", "GET", "/orders/..%2fadmin", "refused: path_ambiguous"),
        _http(stage, "web", "orders", "GET", "/orders/%2e%2e/admin", "refused: path_ambiguous"),
        _http(stage, "web", "orders", "GET", "//admin", "refused: path_ambiguous"),
    ]


def _refused_at_the_mesh_port(stage: Stage, impostors: Impostors) -> list[PlannedCall]:
    target = "orders"
    own = stage.own_authority(target)

    def rogue(source: str, credentials: Credentials | None, authority: str, expected: str) -> PlannedCall:
        return PlannedCall(
            source=source,
            target=target,
            protocol="hbone",
            request=f"CONNECT {authority}",
            expected=expected,
            make=lambda watch: stage.rogue(watch, target, credentials, authority),
        )

    return [
        rogue("web, by hand", impostors.rightful, own, "permitted: 200"),
        rogue("web, by hand", impostors.rightful, FOREIGN_ADDRESS, "refused: not_own_address"),
        rogue("no certificate", None, own, "refused: no_certificate"),
        rogue("web, expired SVID", impostors.expired, own, "refused: expired"),
        rogue("web, another CA", impostors.other_authority, own, "refused: untrusted"),
        rogue(f"web of {OTHER_TRUST_DOMAIN}", impostors.other_trust_domain, own, "refused: unknown_trust_domain"),
        PlannedCall(
            source="plaintext",
            target=target,
            protocol="plain",
            request="GET /orders",
            expected="refused: not_tls",
            make=lambda watch: stage.plaintext(watch, target),
        ),
    ]


def _http(
    stage: Stage,
    source: str,
    target: str,
    method: str,
    path: str,
    expected: str,
    *,
    body: object = None,
    headers: dict[str, str] | None = None,
    note: str = "",
) -> PlannedCall:
    return PlannedCall(
        source=source,
        target=target,
        protocol="http",
        request=f"{method} {path}{note}",
        expected=expected,
        make=lambda watch: stage.http(watch, source, target, method, path, body, headers),
    )


def _tcp(stage: Stage, source: str, target: str, words: str, expected: str) -> PlannedCall:
    return PlannedCall(
        source=source,
        target=target,
        protocol="tcp",
        request=words,
        expected=expected,
        make=lambda watch: stage.tcp(watch, source, target, words),
    )


def _front(stage: Stage, method: str, path: str, body: object, expected: str) -> PlannedCall:
    """Through all four: web calls orders, which calls payments, which calls ledger."""
    return PlannedCall(
        source="browser",
        target="web, and on to ledger",
        protocol="http+tcp",
        request=f"{method} {path}",
        expected=expected,
        make=lambda watch: stage.front(watch, method, path, body),
    )
