import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.types import NamedPolicy, Queries, Scores
from router_gateway.evaluation.metrics import aiq, endpoint_points, oracle_curve
from router_gateway.evaluation.sweep import DIALS_MAX, Expected, MeanCost, dial_grid, score_times_ms, sweep

COSTS = st.lists(st.floats(1e-7, 10.0), min_size=2, max_size=8, unique=True)


class Told:
    """Scores that a test has decided on."""

    def __init__(self, endpoints, quality) -> None:
        self.endpoints, self.quality, self.batches = tuple(endpoints), np.asarray(quality, dtype=np.float32), []

    def score(self, queries: Queries) -> Scores:
        self.batches.append(len(queries))
        quality = self.quality[: len(queries)]
        return Scores(endpoints=self.endpoints, quality=quality, stddev=np.zeros_like(quality))


def swept(prepared, quality, columns=None, **options):
    columns = np.arange(len(prepared.endpoints)) if columns is None else np.asarray(columns)
    rows = np.arange(len(prepared))
    cost = MeanCost.of(prepared.table.cost_usd[:, columns])
    return sweep(
        NamedPolicy(name="told", version=0, policy=Told([prepared.endpoints[c].name for c in columns], quality)),
        prepared,
        prepared.asked(rows, columns),
        prepared.embedding,
        columns=columns,
        cost=cost,
        worth_usd=dial_grid(cost.mean_usd),
        **options,
    )


@given(COSTS)
def test_the_grid_runs_from_no_price_to_price_alone(costs):
    worth_usd = dial_grid(np.array(costs))
    assert worth_usd[0] == np.inf
    assert (np.diff(worth_usd) < 0).all()
    distinct = np.unique(costs)
    assert np.diff(distinct).min() / worth_usd[-1] > 1  # the least difference of costs outweighs any quality
    assert (distinct[-1] - distinct[0]) / worth_usd[1] < 0.0011  # the largest weighs next to nothing
    assert len(worth_usd) <= DIALS_MAX + 1


def test_equal_costs_have_one_dial():
    assert dial_grid(np.array([0.5, 0.5, 0.5])).tolist() == [np.inf]


def test_both_ends_of_a_sweep(prepared_of, world):
    """Where price plays no part the best estimate wins, at the other end the cheapest endpoint, whatever is said."""
    prepared = prepared_of(world(30))
    told = np.tile([0.2, 0.5, 0.9], (30, 1))
    result = swept(prepared, told).expected(prepared.table.quality, prepared.table.cost_usd)
    assert set(result.picks[0]) == {prepared.table.endpoints.index("large")}
    assert set(result.picks[-1]) == {prepared.table.endpoints.index("small")}
    assert result.curve.cost_usd[0] == pytest.approx(prepared.table.cost_usd[:, 2].mean())
    assert result.curve.quality[-1] == pytest.approx(prepared.table.quality[:, 0].mean())


def test_who_knows_the_outcomes_is_the_oracle_up_to_the_cost_it_cannot_see(prepared_of, world):
    prepared = prepared_of(world(60))
    table = prepared.table
    result = swept(prepared, table.quality).expected(table.quality, table.cost_usd)
    singles = endpoint_points(table.quality, table.cost_usd)
    best = aiq(oracle_curve(table.quality, table.cost_usd), singles)
    assert best - 0.01 < aiq(result.curve, singles) <= best + 1e-9


def test_a_query_is_scored_once_for_all_dials(prepared_of, world):
    prepared = prepared_of(world(12))
    told = Told([e.name for e in prepared.endpoints], np.full((12, 3), 0.5))
    cost = MeanCost.of(prepared.table.cost_usd)
    found = sweep(
        NamedPolicy(name="told", version=0, policy=told),
        prepared,
        prepared.asked(np.arange(12), np.arange(3)),
        prepared.embedding,
        columns=np.arange(3),
        cost=cost,
        worth_usd=dial_grid(cost.mean_usd),
    )
    found.expected(prepared.table.quality, prepared.table.cost_usd)
    assert told.batches == [12]


def test_a_part_of_the_pool_keeps_the_tables_columns(prepared_of, world):
    prepared = prepared_of(world(12))
    columns = np.array([0, 2])
    result = swept(prepared, np.tile([0.1, 0.8], (12, 1)), columns).expected(
        prepared.table.quality[:, columns], prepared.table.cost_usd[:, columns]
    )
    assert set(result.picks[0]) == {2}
    assert result.shares(3)[0].tolist() == [0, 0, 1]


def test_joined_tests_are_one_test():
    one = Expected(quality=np.array([[1.0], [0.0]]), cost_usd=np.array([[2.0], [1.0]]), picks=np.array([[0], [1]]))
    joined = Expected.joined([one, one, one])
    assert joined.curve.quality.tolist() == [1, 0]
    assert joined.picks.shape == (2, 3)


def test_a_mean_cost_passes_over_what_is_unknown():
    cost = MeanCost.of(np.array([[1.0, np.nan, np.nan], [3.0, 8.0, np.nan]]))
    assert cost.mean_usd.tolist() == [2, 8, 5]  # an endpoint without a call: the mean of the others
    assert cost.expected_usd([object(), object()]).tolist() == [[2, 8, 5], [2, 8, 5]]


def test_times_are_of_single_queries(prepared_of, world):
    prepared = prepared_of(world(12))
    told = Told([e.name for e in prepared.endpoints], np.full((12, 3), 0.5))
    times_ms = score_times_ms(told, prepared.batch(np.arange(12)))
    assert told.batches == [1] * 12
    assert len(times_ms) == 9  # the first are not counted
    assert (times_ms > 0).all()
