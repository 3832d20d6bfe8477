"""Probabilities, the draw, and what the ledger may conclude from them."""

from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from scipy import stats

from router_gateway.core.ids import draw
from router_gateway.core.types import Preferences
from router_gateway.routing.guard import Guard
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

IDS = [UUID(int=0x017F22E279B07CC398C4DC0C0C07398F + 7919 * i) for i in range(5_000)]


def many(bench, router, **changes):
    queries = [bench.query(id=identifier, **changes) for identifier in IDS]
    return router.route(queries, bench.vectors(queries))


@pytest.mark.parametrize("rule", [EpsilonGreedy(epsilon=0.4), InverseGap(gamma=20)])
@pytest.mark.parametrize("salt", ["", "other"])
def test_endpoints_are_drawn_as_often_as_the_rule_says(bench, rule, salt):
    router = bench.router([[0.9, 0.85, 0.6, 0.5]], [0.0, 0.01, 0.0, 0.02], rule=rule, salt=salt)
    decisions = many(bench, router)
    drawn = [sum(d.endpoint == name for d in decisions) for name in "abcd"]
    expected = np.array(decisions[0].probability) * len(IDS)
    assert stats.chisquare(drawn, expected).pvalue > 1e-4


@pytest.mark.parametrize("rule", [Greedy(), EpsilonGreedy(epsilon=0.4), InverseGap(gamma=20)])
def test_the_propensity_is_the_rules_probability_of_what_was_drawn(bench, rule):
    router = bench.router([[0.9, 0.85, 0.6]], [0.0, 0.01, 0.0], rule=rule)
    for decision in many(bench, router)[:300]:
        column = decision.endpoints.index(decision.endpoint)
        assert decision.propensity == decision.probability[column] > 0
        assert sum(decision.probability) == pytest.approx(1)


def test_a_decision_can_be_recomputed_from_what_it_records(bench):
    router = bench.router([[0.9, 0.85, 0.6]], [0.0, 0.01, 0.0], rule=EpsilonGreedy(epsilon=0.6), salt="s")
    for decision in many(bench, router)[:300]:
        edges = np.cumsum(decision.probability)
        assert decision.endpoint == decision.endpoints[int((edges <= draw(decision.query_id, "s")).sum())]


@pytest.mark.parametrize(("drawn", "endpoint"), [(0.0, "b"), (0.5, "c"), (1 - 2**-53, "c")])
def test_a_draw_on_an_edge_never_picks_an_endpoint_without_probability(bench, monkeypatch, drawn, endpoint):
    monkeypatch.setattr("router_gateway.routing.router.draw", lambda query_id, salt: drawn)
    router = bench.router([[0.5] * 4], [0.0] * 4, rule=InverseGap(gamma=0))
    query = bench.query(preferences=Preferences(allowed=("b", "c")))
    (decision,) = router.route([query], bench.vectors([query]))
    assert decision.probability == (0.0, 0.5, 0.5, 0.0)
    assert (decision.endpoint, decision.propensity) == (endpoint, 0.5)


def test_the_salt_redraws(bench):
    router = bench.router([[0.9, 0.85]], [0.0, 0.0], rule=EpsilonGreedy(epsilon=1.0))
    one, other = (many(bench, replace(router, salt=salt)) for salt in ("a", "b"))
    differing = sum(a.endpoint != b.endpoint for a, b in zip(one, other, strict=True))
    assert 0.4 < differing / len(IDS) < 0.6


def test_who_does_not_want_to_explore_gets_the_most_probable_endpoint(bench):
    router = bench.router([[0.5, 0.9, 0.6]], [0.0, 0.01, 0.0], rule=EpsilonGreedy(epsilon=0.9))
    decisions = many(bench, router, preferences=Preferences(explore=False))
    assert {(d.endpoint, d.propensity, d.reason) for d in decisions} == {("b", 1.0, "scored")}
    assert decisions[0].probability == pytest.approx((0.3, 0.4, 0.3)), "what the rule would have done stays on record"


def test_what_is_not_eligible_is_never_drawn(bench):
    router = bench.router([[0.9, 0.85, 0.6]], [0.0, 0.01, 0.0], rule=EpsilonGreedy(epsilon=1.0))
    decisions = many(bench, router, preferences=Preferences(ignore=("a",)))
    assert {d.endpoint for d in decisions} == {"b", "c"}
    assert all("a" not in d.order and d.probability[0] == 0 for d in decisions)


def test_what_the_guard_rejects_is_never_drawn_but_remains_as_fallback(bench):
    router = bench.router(
        [[0.5, 0.55, 0.9]], [0.0] * 3, stddev=(0.1, 0.1, 0.1), rule=EpsilonGreedy(epsilon=1.0), guard=Guard(z=1.0)
    )
    decisions = many(bench, router)
    assert {d.endpoint for d in decisions} == {"a", "c"}
    assert all(set(d.order) == {"a", "b", "c"} and d.probability[1] == 0 for d in decisions)
