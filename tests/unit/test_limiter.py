"""Which limits hold for whom, and what asking costs in memory."""

from __future__ import annotations

from ringfence.kit.clock import FakeClock
from ringfence.policy.compile import compile_policy
from ringfence.policy.model import Allowlist, NamespaceCallers, PolicySet, Rule, UnauthenticatedCallers
from ringfence.routing.model import Per, Rate, RateLimit
from ringfence.snapshot import Port, Protocol
from ringfence.spiffe import SpiffeId, TrustDomain
from sidecar.caller import Caller
from sidecar.limits.limiter import CallerLimits, Limiter
from sidecar.metrics import SidecarMetrics

HOURLY = Rate(amount=1, seconds=3600)
TRUST_DOMAIN = TrustDomain("shop.example")
ANYONE = (NamespaceCallers(namespace="shop"), UnauthenticatedCallers())
POLICY = compile_policy(
    PolicySet(
        allowlists=(
            Allowlist(namespace="shop", name="api", rules=(Rule(name="reads", callers=ANYONE, methods=("GET",)),)),
        )
    ),
    trust_domain=TRUST_DOMAIN,
    http_ports=[8080, 8081],
)


def known(spiffe_id: SpiffeId | None) -> Caller:
    return Caller(spiffe_id=spiffe_id, view=POLICY.caller(spiffe_id))


WEB, OPS = (known(SpiffeId.workload(TRUST_DOMAIN, "shop", name)) for name in ("web", "ops"))
STRANGER, OTHER_STRANGER = (known(SpiffeId.workload(TRUST_DOMAIN, "evil", name)) for name in ("a", "b"))


def port(*limits: RateLimit, number: int = 8080) -> Port:
    return Port(
        port=number,
        protocol=Protocol.HTTP,
        address="127.0.0.1",
        app_host="127.0.0.1",
        app_port=9000,
        limits=limits,
    )


def limiter(clock: FakeClock, *ports: Port) -> Limiter:
    made = Limiter(SidecarMetrics(), clock=clock)
    made.enforce(ports)
    return made


def held(found: CallerLimits | None) -> CallerLimits:
    assert found is not None
    return found


def test_a_port_without_limits_has_none_to_ask(clock: FakeClock) -> None:
    assert limiter(clock, port()).of("shop/api", port(), WEB) is None


def test_per_caller_each_identity_has_its_own_and_those_without_share_one(clock: FakeClock) -> None:
    one = port(RateLimit(name="each", per=Per.CALLER, requests=HOURLY))
    made = limiter(clock, one)
    for caller in (WEB, OPS, known(None)):
        assert held(made.of("shop/api", one, caller)).request(b"GET", b"/") == 0
        assert held(made.of("shop/api", one, caller)).request(b"GET", b"/") == 3600


def test_per_route_all_callers_share_one_and_another_port_has_its_own(clock: FakeClock) -> None:
    one = port(RateLimit(name="all", per=Per.ROUTE, requests=HOURLY))
    other = port(RateLimit(name="all", per=Per.ROUTE, requests=HOURLY), number=8081)
    made = limiter(clock, one, other)
    assert held(made.of("shop/api", one, WEB)).request(b"GET", b"/") == 0
    assert held(made.of("shop/api", one, OPS)).request(b"GET", b"/") == 3600
    assert held(made.of("shop/api", other, OPS)).request(b"GET", b"/") == 0


def test_callers_to_whom_nothing_is_permitted_share_one_that_is_not_that_of_the_others(clock: FakeClock) -> None:
    one = port(RateLimit(name="all", per=Per.ROUTE, connections=HOURLY, bytes=Rate(amount=1 << 20, seconds=1)))
    made = limiter(clock, one)
    assert held(made.of("shop/api", one, STRANGER)).connection() == 0
    assert held(made.of("shop/api", one, OTHER_STRANGER)).connection() == 3600
    assert held(made.of("shop/api", one, STRANGER)).used(10 << 20) > 0
    assert held(made.of("shop/api", one, WEB)).used(1) == 0
    assert held(made.of("shop/api", one, WEB)).connection() == 0
    assert held(made.of("shop/api", one, OPS)).connection() == 3600


def test_the_time_to_wait_is_rounded_up_and_is_enough(clock: FakeClock) -> None:
    one = port(RateLimit(name="each", per=Per.CALLER, requests=Rate(amount=10, seconds=1), burst=1))
    limits = held(limiter(clock, one).of("shop/api", one, WEB))
    assert limits.request(b"GET", b"/") == 0
    assert limits.request(b"GET", b"/") == 1
    clock.advance(1.0)
    assert limits.request(b"GET", b"/") == 0


def test_millions_of_paths_are_not_remembered(clock: FakeClock) -> None:
    one = port(RateLimit(name="orders", per=Per.CALLER, paths=("/orders/{id}",), requests=HOURLY, burst=5))
    made = limiter(clock, one)
    limits = held(made.of("shop/api", one, WEB))
    for number in range(5000):
        limits.request(b"GET", b"/other/%d" % number)
    [matcher] = made._matchers.values()
    assert matcher._memory is not None
    assert len(matcher._memory) <= 1024
    limits.request(b"GET", b"/" + b"x" * 5000)
    assert max(len(target) for _, target in matcher._memory) <= 1024
    assert [limits.request(b"GET", b"/orders/%d" % number) for number in range(5)] == [0] * 5
    assert limits.request(b"GET", b"/orders/%2561") > 0


def test_limits_that_are_gone_leave_nothing_behind_and_what_was_used_stays_known(clock: FakeClock) -> None:
    one = port(RateLimit(name="each", per=Per.CALLER, requests=HOURLY))
    made = limiter(clock, one)
    assert held(made.of("shop/api", one, WEB)).request(b"GET", b"/") == 0
    made.enforce([port()])
    assert not made._matchers
    made.enforce([one])
    assert held(made.of("shop/api", one, WEB)).request(b"GET", b"/") > 0


def test_a_path_that_could_mean_two_things_counts_towards_every_limit_of_paths(clock: FakeClock) -> None:
    one = port(RateLimit(name="orders", per=Per.CALLER, paths=("/orders/{id}",), requests=HOURLY))
    limits = held(limiter(clock, one).of("shop/api", one, WEB))
    assert limits.request(b"GET", b"/orders/../x") == 0
    assert limits.request(b"GET", b"/orders/../x") > 0
