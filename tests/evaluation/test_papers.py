from dataclasses import replace

import numpy as np
import pytest

from router_gateway.evaluation.judging import Ground
from router_gateway.evaluation.papers import at_matched_cost, between_two, over_references
from router_gateway.evaluation.references import always
from router_gateway.evaluation.sweep import Expected

# Two endpoints, four queries: the dear one is right three times at 4 USD, the cheap one twice at 1 USD.
QUALITY = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
COST = np.array([[1.0, 4.0]] * 4)
COLUMNS = np.array([0, 1])
GROUND = Ground(
    quality=QUALITY,
    cost_usd=COST,
    endpoints=("cheap", "dear"),
    tasks=("a", "a", "b", "b"),
    columns=COLUMNS,
    best_single=always(1, COLUMNS, QUALITY, COST),
    cheapest=always(0, COLUMNS, QUALITY, COST),
)


def routed(*picks: list[int]) -> Expected:
    chosen = np.array(picks)
    rows = np.arange(4)
    return Expected(quality=QUALITY[rows, chosen], cost_usd=COST[rows, chosen], picks=chosen)


def test_gains_are_means_over_tasks():
    """By task: router 1 and 1, best single 0.5 and 1, random 0.75 and 0.5, oracle 1 and 1."""
    figures = over_references(routed([0, 0, 1, 1], [0, 0, 0, 0]), GROUND)
    assert figures["gain_over_best_single"] == pytest.approx((1.0 / 0.5 - 1 + 0.0) / 2)
    assert figures["gain_over_random"] == pytest.approx((1 / 0.75 - 1 + 1 / 0.5 - 1) / 2)
    assert figures["gap_to_oracle"] == 0.0
    assert figures["normalised_gain"] == pytest.approx(100.0)
    assert figures["perf_gain"] == pytest.approx(1.0 / 0.75 - 1)
    assert figures["cost_save"] == pytest.approx(1 - 2.5 / 4)


def test_the_pair_is_the_cheapest_and_the_best_of_train():
    """A score that knows the gains 0, -1, 1, 1 recovers more than all of the gap of 1/4 with half of the calls."""
    figures = between_two(QUALITY, GROUND)
    # PGR rises to 2 at half of the calls, stays there for a query that gains nothing, and ends at 1
    assert figures["apgr"] == pytest.approx((0.5 * 1.0) + (0.25 * 2.0) + (0.25 * 1.5))
    assert figures["cpt_50"] == pytest.approx(0.125)
    assert figures["cpt_80"] == pytest.approx(0.2)
    blind = between_two(np.full((4, 2), 0.5), GROUND)
    assert blind == {"apgr": pytest.approx(0.5), "cpt_50": pytest.approx(0.5), "cpt_80": pytest.approx(0.8)}


def test_a_column_order_other_than_the_tables_is_understood():
    """The pool may be columns 7 and 3 of a table."""
    columns = np.array([7, 3])
    ground = replace(
        GROUND,
        columns=columns,
        best_single=always(3, columns, QUALITY, COST),
        cheapest=always(7, columns, QUALITY, COST),
    )
    assert between_two(QUALITY, ground) == between_two(QUALITY, GROUND)


def test_without_two_different_endpoints_there_is_no_pair():
    assert between_two(QUALITY, replace(GROUND, best_single=GROUND.cheapest)) == {}
    unknown = replace(GROUND, quality=np.where([True, False], QUALITY, np.nan))
    assert between_two(QUALITY, unknown) == {}


def test_answers_at_the_cost_of_the_best_single():
    """Dials cost 4, 2.5 and 1; the first costs what the best single does, and is it."""
    same = at_matched_cost(routed([1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]), GROUND)
    assert (same["cost_usd"], same["ahead"], same["behind"], same["p_value"]) == (4.0, 0, 0, 1.0)
    cheaper = at_matched_cost(routed([0, 0, 1, 1], [0, 0, 0, 0]), GROUND)
    assert cheaper["cost_usd"] == 2.5
    assert cheaper["quality"] == [1.0, 1.0, 1.0, 1.0]
    assert (cheaper["ahead"], cheaper["behind"], cheaper["p_value"]) == (1, 0, 1.0)


def test_a_router_that_is_dearer_at_every_dial_is_not_compared():
    dear = routed([1, 1, 1, 1])
    assert at_matched_cost(replace(dear, cost_usd=dear.cost_usd + 1.0), GROUND) == {}
