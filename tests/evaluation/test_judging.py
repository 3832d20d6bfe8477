import json
import math

import numpy as np
import pytest

from router_gateway.evaluation.judging import (
    TASKS_LISTED_MAX,
    Bounds,
    Ground,
    as_json,
    by_task,
    calibration,
    describe,
    gap_interval,
    judge,
)
from router_gateway.evaluation.references import always
from router_gateway.evaluation.sweep import Expected

# Two endpoints, four queries: the dear one is right three times at 4 USD, the cheap one twice at 1 USD.
QUALITY = np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
COST = np.array([[1.0, 4.0]] * 4)


def ground() -> Ground:
    columns = np.array([0, 1])
    return Ground(
        quality=QUALITY,
        cost_usd=COST,
        endpoints=("cheap", "dear"),
        tasks=("a", "a", "b", "b"),
        columns=columns,
        best_single=always(1, columns, QUALITY, COST),
        cheapest=always(0, columns, QUALITY, COST),
    )


def routed(*picks: list[int]) -> Expected:
    chosen = np.array(picks)
    rows = np.arange(4)
    return Expected(quality=QUALITY[rows, chosen], cost_usd=COST[rows, chosen], picks=chosen)


def test_a_test_by_hand():
    """Dials: the dear one everywhere; it only for task b; the cheap one everywhere."""
    bounds = Bounds.of(ground())
    figures = judge(routed([1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]), ground(), bounds, np.array([np.inf, 1.0, 0.1]))
    # zero router: the segment from (1, 0.5) to (4, 0.75), mean 0.625
    assert figures["zero"] == pytest.approx(0.625)
    # router: (1, 0.5) to (2.5, 1.0), then flat to 4: (1.5 · 0.75 + 1.5 · 1.0) / 3
    assert figures["aiq"] == pytest.approx(0.875)
    assert figures["oracle"] == pytest.approx(0.875)  # nobody does better: each wrong answer is bought at the least
    assert figures["gap_closed"] == pytest.approx(1.0)
    assert figures["quality_at_zero_price"] == 0.75
    assert figures["best_single_quality"] == 0.75
    # 0.75 lies halfway from (1, 0.5) to (2.5, 1.0)
    assert figures["cost_at_best_single_quality"] == pytest.approx(1.75)
    assert figures["cost_at_best_single_quality_share"] == pytest.approx(1.75 / 4)
    assert figures["quality_at_best_single_cost"] == pytest.approx(1.0)
    assert figures["selection_entropy_bits"] == [0.0, 1.0, 0.0]
    assert figures["shares"] == [[0, 1], [0.5, 0.5], [1, 0]]
    assert figures["endpoints_used"] == 2
    assert figures["tasks"]["b"] == {"queries": 2, "quality": 1.0, "cost_usd": 4.0}
    assert figures["curve"]["worth_usd"] == [None, 1.0, 0.1]  # JSON has no infinity
    json.dumps(figures, allow_nan=False)


def test_a_quality_never_reached_is_none():
    figures = judge(routed([0, 0, 0, 0]), ground(), Bounds.of(ground()), np.array([np.inf]))
    assert figures["cost_at_best_single_quality"] is None
    assert figures["gap_closed"] < 0.5


def test_the_test_describes_itself():
    told = describe(ground(), Bounds.of(ground()))
    assert told["singles"] == {"cost_usd": [1.0, 4.0], "quality": [0.5, 0.75]}
    assert told["zero"] == told["singles"]
    assert told["best_single"] == 1
    assert told["oracle_tasks"]["a"] == {"queries": 2, "quality": 1.0, "cost_usd": 1.0}


def test_the_interval_contains_the_figure():
    expected = routed([1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0])
    many = Expected(
        quality=np.tile(expected.quality, 20),
        cost_usd=np.tile(expected.cost_usd, 20),
        picks=np.tile(expected.picks, 20),
    )
    columns = np.array([0, 1])
    quality, cost = np.tile(QUALITY, (20, 1)), np.tile(COST, (20, 1))
    single = always(1, columns, quality, cost)
    large = Ground(
        quality=quality,
        cost_usd=cost,
        endpoints=("cheap", "dear"),
        tasks=("a",) * 80,
        columns=columns,
        best_single=single,
        cheapest=single,
    )
    bounds = gap_interval(many, large, resamples=200, seed=0)
    assert bounds["gap_closed_low"] <= 1.0 <= bounds["gap_closed_high"] + 1e-9
    assert 0 < bounds["gain_low"] < 0.25 < bounds["gain_high"]


def test_calibration_of_the_truth():
    told = calibration(np.array([[0.5, 0.5]]), np.zeros((1, 2)), np.array([[0.0, 1.0]]))
    assert told["ece"] == 0
    assert told["brier"] == 0.25
    assert told["count"] == [2]


def test_tasks_are_bounded():
    names = tuple(f"task {i // 2}" for i in range(2 * TASKS_LISTED_MAX)) + ("large",) * 3
    listed = by_task(np.ones(len(names)), np.ones(len(names)), names)
    assert len(listed) == TASKS_LISTED_MAX
    assert listed["large"]["queries"] == 3


def test_json_values_are_plain():
    value = as_json(
        {"a": np.float32(0.5), "b": [np.int64(3), math.inf, math.nan], "c": np.array([1.0, np.inf]), 1: "x"}
    )
    assert value == {"a": 0.5, "b": [3, None, None], "c": [1.0, None], "1": "x"}
    assert type(value["b"][0]) is int
