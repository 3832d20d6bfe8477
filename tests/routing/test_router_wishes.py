"""Pins, holds, bounds, the guard and declining."""

from dataclasses import replace

import pytest

from router_gateway.core.types import Preferences
from router_gateway.routing.guard import Guard


def route_one(bench, router, **changes):
    query = bench.query(**changes)
    (decision,) = router.route([query], bench.vectors([query]))
    return decision


@pytest.fixture(scope="session")
def router(bench):
    """Of a (the default), b and c the dearer is the better."""
    return bench.router([[0.25, 0.5, 1.0]], [0.01, 0.02, 0.04])


def test_a_pinned_query_goes_where_it_was_pinned(bench, router):
    decision = route_one(bench, router, pinned="b")
    assert (decision.order, decision.reason) == (("b",), "pinned")
    declined = router.decline(bench.query(pinned="b"), "pinned")
    assert (declined.order, declined.reason, declined.propensity) == (("b",), "pinned", 0.0)


@pytest.mark.parametrize(
    ("offers", "changes", "reason"),
    [
        ({"vision"}, {"needs": frozenset({"vision"})}, "gate:modality"),
        (set(), {"preferences": Preferences(allowed=("b",))}, "pinned"),
        (set(), {"tenant_allows": ("b",)}, "pinned"),
        (set(), {"tokens_input": 9_000}, "fallback:context"),
    ],
)
def test_a_single_candidate_is_reported_as_what_left_it(bench, router, offers, changes, reason):
    special = bench.endpoint("b", offers=frozenset(offers), context_tokens_max=10_000)
    router = replace(router, endpoints=(router.endpoints[0], special, router.endpoints[2]))
    decision = route_one(bench, router, **changes)
    assert (decision.order, decision.reason) == (("b",), reason)


def test_a_tool_loop_returns_to_the_endpoint_that_asked(bench, router):
    decision = route_one(bench, router, held="a")
    assert (decision.order, decision.reason, decision.propensity) == (("a", "c", "b"), "held:tool_state", 0.0)
    assert decision.probability == (0.0, 0.0, 1.0), "what the rule would have done stays on record"


def test_a_hold_on_an_endpoint_that_cannot_serve_is_no_hold(bench, router):
    decision = route_one(bench, router, held="a", preferences=Preferences(ignore=("a",)))
    assert (decision.endpoint, decision.reason) == ("c", "scored")
    assert route_one(bench, router, held="gone").endpoint == "c"


@pytest.mark.parametrize(
    ("wish", "worth_usd", "order"),
    [
        ({"quality_floor": 0.5}, 0.001, ("b", "c")),
        ({"quality_floor": 0.51}, 0.001, ("c",)),
        ({"quality_floor": 1.0}, 0.001, ("c",)),
        ({"max_cost_usd": 0.02}, 1.0, ("b", "a")),
        ({"max_cost_usd": 0.019}, 1.0, ("a",)),
        ({"max_cost_usd": 0.001}, 1.0, ("a",)),
        ({"max_cost_usd": 0.03, "quality_floor": 0.9}, 1.0, ("b",)),
        ({"max_cost_usd": 0.03, "quality_floor": 0.1}, 1.0, ("b", "a")),
    ],
)
def test_bounds_on_quality_and_cost(bench, router, wish, worth_usd, order):
    decision = route_one(bench, replace(router, worth_usd=worth_usd), preferences=Preferences(**wish))
    assert decision.order == order
    assert [name for name, ok in zip("abc", decision.eligible, strict=True) if ok] == sorted(order)


def test_of_equally_good_endpoints_below_the_floor_the_cheaper_serves(bench):
    router = bench.router([[0.5, 0.5, 0.25]], [0.04, 0.02, 0.01])
    decision = route_one(bench, router, preferences=Preferences(quality_floor=0.9))
    assert decision.order == ("b", "a")


def test_the_guard_keeps_the_default_until_there_is_evidence(bench):
    router = bench.router([[0.5, 0.6]], [0.0, 0.0], stddev=(0.1, 0.1))
    assert (route_one(bench, router).endpoint, route_one(bench, router).reason) == ("b", "scored")
    guarded = route_one(bench, replace(router, guard=Guard(z=1.0)))
    assert (guarded.endpoint, guarded.reason, guarded.order) == ("a", "guard:low_evidence", ("a", "b"))
    assert route_one(bench, replace(router, guard=Guard(z=0.5))).endpoint == "b"


def test_the_guard_is_silent_when_the_default_is_the_best_anyway(bench):
    router = bench.router([[0.9, 0.6]], [0.0, 0.0], guard=Guard(z=1.0))
    assert (route_one(bench, router).endpoint, route_one(bench, router).reason) == ("a", "scored")


def test_hope_is_no_evidence(bench):
    router = bench.router([[0.5, 0.5]], [0.0, 0.0], stddev=(0.0, 0.4), optimism=10.0, guard=Guard(z=1.0))
    assert route_one(bench, router).reason == "guard:low_evidence"


def test_a_guard_whose_default_may_not_serve_steps_aside(bench):
    router = bench.router([[0.5, 0.6, 0.7]], [0.0] * 3, guard=Guard(z=9.0))
    decision = route_one(bench, router, preferences=Preferences(ignore=("a",)))
    assert decision.order == ("c", "b")


def test_declining_serves_the_default_then_the_cheapest(bench):
    router = bench.router([[0.5] * 4], [0.04, 0.02, 0.01, 0.02], names="adbc", default_endpoint="d")
    decision = router.decline(bench.query(), "fallback:error", "deadline")
    assert decision.order == ("d", "b", "c", "a")
    assert (decision.propensity, decision.policy, decision.rule) == (0.0, "none", "none")
    assert (decision.reason, decision.detail) == ("fallback:error", "deadline")
    assert decision.quality == decision.probability == ()
    assert decision.cost_usd == (0.04, 0.02, 0.01, 0.02)


def test_declining_asks_no_policy(bench, router):
    def unavailable():
        raise AssertionError("the policy was asked")

    assert replace(router, live=unavailable).decline(bench.query(), "fallback:error").endpoint == "a"


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"held": "c"}, ("c", "a", "b")),
        ({"held": "gone"}, ("a", "b", "c")),
        ({"preferences": Preferences(ignore=("a",))}, ("b", "c")),
        ({"held": "b", "preferences": Preferences(ignore=("b",))}, ("a", "c")),
    ],
)
def test_declining_respects_holds_and_filters(bench, router, changes, order):
    assert router.decline(bench.query(**changes), "fallback:error").order == order


def test_the_clients_dial_is_on_record_even_when_declined(bench, router):
    assert router.decline(bench.query(preferences=Preferences(worth_usd=0.5)), "bypass").worth_usd == 0.5
    assert router.decline(bench.query(), "bypass").worth_usd == router.worth_usd
