"""What is chosen, and in which order the rest would follow."""

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import BadScores, NoEligibleEndpoint, NotFitted, SnapshotMismatch
from router_gateway.core.types import Decision, NamedPolicy, Preferences, Scores
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.guard import Guard
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

# Binary fractions: sums and quotients of them are exact, so that a tie is a tie.
qualities = st.integers(0, 16).map(lambda n: n / 16)
prices_usd = st.integers(0, 16).map(lambda n: n / 1024)
worths_usd = st.integers(-6, 6).map(lambda n: 2.0**n)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[list[float]], list[float]]:
    """A table of qualities (Q, E) and a list of prices (E,)."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    table = draw(st.lists(st.lists(qualities, min_size=columns, max_size=columns), min_size=rows, max_size=rows))
    return table, draw(st.lists(prices_usd, min_size=columns, max_size=columns))


def route_one(bench, router, **changes) -> Decision:
    query = bench.query(**changes)
    (decision,) = router.route([query], bench.vectors([query]))
    return decision


def timeless(decision: Decision) -> Decision:
    return replace(
        decision, at=decision.at.replace(year=2000, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    )


def test_the_decision_records_all_that_led_to_it(bench):
    router = bench.router([[0.5, 0.75]], [0.0, 0.125], stddev=(0.1, 0.2), optimism=0.5, rule=EpsilonGreedy(epsilon=0.5))
    decision = route_one(bench, router, id=UUID(int=9))
    assert decision.query_id == UUID(int=9)
    assert decision.endpoints == ("a", "b")
    assert decision.quality == (0.5, 0.75)
    assert decision.stddev == pytest.approx((0.1, 0.2))
    assert decision.cost_usd == (0.0, 0.125)
    assert decision.probability == (0.25, 0.75), "values are 0.5 + 0.05 and 0.75 - 0.125 + 0.1"
    assert decision.eligible == (True, True)
    assert (decision.policy, decision.rule, decision.embedding_space) == ("by_heart@1", "epsilon_greedy", "test")
    assert decision.worth_usd == 1.0
    assert decision.at.tzinfo is not None


@pytest.mark.parametrize(
    ("worth_usd", "chosen"), [(10.0, "c"), (0.2, "b"), (0.01, "a")], ids=["best", "middle", "cheapest"]
)
def test_the_dial_moves_the_choice(bench, worth_usd, chosen):
    router = bench.router([[0.5, 0.75, 1.0]], [0.0, 0.03, 0.11])
    assert route_one(bench, router, preferences=Preferences(worth_usd=worth_usd)).endpoint == chosen
    assert route_one(bench, replace(router, worth_usd=worth_usd)).endpoint == chosen


@given(worlds(), worths_usd, worths_usd)
def test_a_lower_dial_never_picks_a_dearer_endpoint(bench, world, one_usd, other_usd):
    table, usd = world
    queries = [bench.query(row) for row in range(len(table))]
    low, high = (
        bench.router(table, usd, worth_usd=worth).route(queries, bench.vectors(queries))
        for worth in sorted([one_usd, other_usd])
    )
    for thrifty, lavish in zip(low, high, strict=True):
        assert _cost(thrifty) <= _cost(lavish)


def _cost(decision: Decision) -> float:
    return decision.cost_usd[decision.endpoints.index(decision.endpoint)]


@given(worlds(), st.sampled_from([Greedy(), EpsilonGreedy(epsilon=0.5), InverseGap(gamma=10)]), st.data())
def test_a_batch_decides_as_its_rows_would(bench, world, rule, data):
    table, usd = world
    router = bench.router(table, usd, rule=rule, guard=Guard(z=0.5))
    wishes = st.builds(
        Preferences,
        worth_usd=st.none() | worths_usd,
        quality_floor=st.none() | qualities,
        max_cost_usd=st.none() | prices_usd,
        explore=st.booleans(),
    )
    asked = data.draw(st.lists(st.tuples(st.integers(0, len(table) - 1), st.uuids(), wishes), min_size=1, max_size=5))
    queries = [bench.query(row, id=identifier, preferences=wish) for row, identifier, wish in asked]
    together = router.route(queries, bench.vectors(queries))
    alone = [router.route([query], bench.vectors([query]))[0] for query in queries]
    assert [timeless(decision) for decision in together] == [timeless(decision) for decision in alone]


@given(worlds(), st.permutations(range(5)))
def test_the_order_of_the_pool_changes_nothing(bench, world, shuffle):
    table, usd = world
    columns = [i for i in shuffle if i < len(usd)]
    names = "abcde"
    straight = bench.router(table, usd, rule=InverseGap(gamma=10))
    shuffled = bench.router(
        [[row[i] for i in columns] for row in table],
        [usd[i] for i in columns],
        names=[names[i] for i in columns],
        default_endpoint="a",
        rule=InverseGap(gamma=10),
    )
    queries = [bench.query(row, preferences=Preferences(explore=False)) for row in range(len(table))]
    for one, other in zip(
        straight.route(queries, bench.vectors(queries)), shuffled.route(queries, bench.vectors(queries)), strict=True
    ):
        assert one.order == other.order


@given(worlds(), worths_usd)
def test_the_order_holds_every_eligible_endpoint_once_best_first(bench, world, worth_usd):
    table, usd = world
    router = bench.router(table, usd, worth_usd=worth_usd)
    decision = route_one(bench, router)
    assert sorted(decision.order) == sorted(decision.endpoints)
    assert decision.endpoint == decision.order[0]
    columns = [decision.endpoints.index(name) for name in decision.order]
    keys = [(-(table[0][i] - usd[i] / worth_usd), usd[i], decision.endpoints[i]) for i in columns]
    assert keys == sorted(keys)


@pytest.mark.parametrize("rule", [Greedy(), EpsilonGreedy(), InverseGap(gamma=50)])
def test_equal_values_go_to_the_cheaper_endpoint_and_then_by_name(bench, rule):
    unexplored = Preferences(explore=False)
    tied = bench.router([[0.75, 0.5]], [0.25, 0.0], rule=rule)
    assert route_one(bench, tied, preferences=unexplored).order == ("b", "a")
    alike = bench.router([[0.5, 0.5, 0.5]], [0.25, 0.25, 0.25], names="zxy", rule=rule)
    assert route_one(bench, alike, preferences=unexplored).order == ("x", "y", "z")


def test_an_explored_endpoint_leads_and_the_rest_follow_best_first(bench):
    router = bench.router([[0.9, 0.1, 0.5, 0.7]], [0.0] * 4, rule=EpsilonGreedy(epsilon=0.9))
    decisions = [route_one(bench, router, id=UUID(int=i)) for i in range(60)]
    assert {d.order for d in decisions} == {
        ("a", "d", "c", "b"),
        ("b", "a", "d", "c"),
        ("c", "a", "d", "b"),
        ("d", "a", "c", "b"),
    }
    assert {d.reason for d in decisions if d.endpoint != "a"} == {"explored"}
    assert {d.reason for d in decisions if d.endpoint == "a"} == {"scored"}


def test_optimism_values_doubt(bench):
    router = bench.router([[0.5, 0.45]], [0.0, 0.0], stddev=(0.0, 0.4))
    assert route_one(bench, router).endpoint == "a"
    assert route_one(bench, replace(router, optimism=0.25)).endpoint == "b"


def test_a_real_cost_model_prices_the_request_at_hand(bench):
    endpoints = (
        bench.endpoint("a", price_input_usd_per_mtok=Decimal(0), price_output_usd_per_mtok=Decimal(0)),
        bench.endpoint("b", price_input_usd_per_mtok=Decimal(10), price_output_usd_per_mtok=Decimal(0)),
    )
    router = bench.router([[0.5, 0.75]], [0, 0], endpoints=endpoints, cost=TokenPriceCost(endpoints=endpoints))
    router = replace(router, worth_usd=0.01)
    # the better endpoint costs 1e-5 USD a token, and a quarter of 0.01 USD is worth 250 of them
    assert route_one(bench, router, tokens_input=249).endpoint == "b"
    assert route_one(bench, router, tokens_input=251).endpoint == "a"


def test_an_endpoint_the_policy_never_saw_gets_the_prior(bench):
    known = bench.router([[0.4, 0.6]], [0.0, 0.0])
    grown = replace(
        known, endpoints=tuple(bench.endpoint(name) for name in "nab"), cost=replace(known.cost, usd=(0.0, 0.0, 0.0))
    )
    decision = route_one(bench, grown)
    assert decision.endpoints == ("n", "a", "b")
    assert decision.quality == pytest.approx((0.5, 0.4, 0.6))
    assert decision.order == ("b", "n", "a")


def test_the_policy_of_the_moment_decides(bench):
    router = bench.router([[0.9, 0.1]], [0.0, 0.0])
    live = [
        NamedPolicy(name="p", version=v, policy=bench.policy([q], "ab", [0.1])) for v, q in ((1, (1, 0)), (2, (0, 1)))
    ]
    router = replace(router, live=lambda: live[0])
    assert (route_one(bench, router).endpoint, route_one(bench, router).policy) == ("a", "p@1")
    live.pop(0)
    assert (route_one(bench, router).endpoint, route_one(bench, router).policy) == ("b", "p@2")


def test_no_queries_no_decisions(bench):
    assert bench.router([[0.5, 0.5]], [0.0, 0.0], guard=Guard(z=1.0)).route([], np.ones((0, 2), np.float32)) == []


class Broken:
    """A policy that answers every batch with the same wrong scores."""

    def __init__(self, answer: Scores | Exception) -> None:
        self.answer = answer

    def score(self, queries):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NotFitted("fit first"), NotFitted),
        (SnapshotMismatch("another space"), SnapshotMismatch),
        (ZeroDivisionError(), ZeroDivisionError),
        (Scores(endpoints=("a", "b"), quality=np.zeros((2, 2)), stddev=np.zeros((2, 2))), BadScores),
        (Scores(endpoints=("a", "b"), quality=np.full((1, 2), np.nan), stddev=np.zeros((1, 2))), BadScores),
        (Scores(endpoints=("a",), quality=np.zeros((1, 2)), stddev=np.zeros((1, 2))), BadScores),
    ],
)
def test_a_failing_policy_is_heard(bench, answer, error):
    broken = NamedPolicy(name="broken", version=1, policy=Broken(answer))
    router = bench.router([[0.5, 0.5]], [0.0, 0.0], live=lambda: broken)
    with pytest.raises(error):
        route_one(bench, router)


def test_a_query_that_nothing_can_take_is_refused(bench):
    router = bench.router([[0.5, 0.5]], [0.0, 0.0])
    with pytest.raises(NoEligibleEndpoint) as refused:
        route_one(bench, router, tokens_input=10**6)
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(NoEligibleEndpoint):
        router.decline(bench.query(tokens_input=10**6), "fallback:error")


def test_a_default_outside_the_pool_is_refused(bench):
    with pytest.raises(ValueError, match="default_endpoint 'nobody'"):
        bench.router([[0.5, 0.5]], (0.1, 0.2), default_endpoint="nobody")
