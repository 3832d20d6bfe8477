from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Queries

cells = st.one_of(st.just(float("nan")), st.integers(0, 64).map(lambda n: n / 64))
tables = st_numpy.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=cells)


def queries(rows: int, *, prefix: str = "q", space: str = "test", width: int = 3) -> Queries:
    return Queries(
        text=tuple(f"{prefix}{i}" for i in range(rows)),
        embedding=np.eye(rows, width, dtype=np.float32),
        tokens_input=np.full(rows, 7, dtype=np.int64),
        space=space,
    )


def experience(
    quality: list[list[float]], endpoints: str = "ab", cost_usd: Floats | None = None, **space
) -> Experience:
    table = np.array(quality, dtype=np.float64).reshape(-1, len(endpoints))
    return Experience.from_table(queries(len(table), **space), tuple(endpoints), table, cost_usd)


def outcomes(seen: Experience) -> list[tuple[str, str, float]]:
    """What was observed, by name: (query, endpoint, quality)."""
    rows = zip(seen.query, seen.endpoint, seen.quality, strict=True)
    return [(seen.queries.text[q], seen.endpoints[e], float(quality)) for q, e, quality in rows]


def compared(seen: Experience) -> list[tuple[str, str, str]]:
    return [(seen.queries.text[q], seen.endpoints[x], seen.endpoints[y]) for q, x, y in seen.comparisons]


@given(tables)
def test_a_table_survives_the_way_through_long_form(quality: Floats):
    cost_usd = np.where(np.isnan(quality), np.nan, quality * 0.01)
    seen = Experience.from_table(queries(len(quality)), [str(i) for i in range(quality.shape[1])], quality, cost_usd)
    assert len(seen) == np.isfinite(quality).sum()
    again_quality, again_cost = seen.table()
    np.testing.assert_array_equal(again_quality, quality.astype(np.float32))
    np.testing.assert_array_equal(again_cost, cost_usd)
    assert again_quality.dtype == np.float32
    assert again_cost.dtype == np.float64
    assert (seen.propensity == 1).all()


def test_an_observed_cell_may_have_an_unknown_cost():
    seen = experience([[0.5, 1.0]], cost_usd=np.array([[np.nan, 0.02]]))
    np.testing.assert_array_equal(seen.table()[1], [[np.nan, 0.02]])
    assert np.isnan(experience([[0.5, 1.0]]).cost_usd).all()


def test_repeated_cells_are_averaged():
    seen = experience([[0.25, np.nan]], cost_usd=np.array([[0.01, 0.0]]))
    later = experience([[0.75, np.nan]], cost_usd=np.array([[np.nan, 0.0]]))
    both = replace(seen.concatenate(later), query=np.array([0, 0]))
    quality, cost_usd = both.table()
    np.testing.assert_array_equal(quality, np.array([[0.5, np.nan], [np.nan, np.nan]], dtype=np.float32))
    np.testing.assert_array_equal(cost_usd, [[0.01, np.nan], [np.nan, np.nan]])


@pytest.mark.parametrize("rows", [np.array([False, True, True]), np.array([1, 2])])
def test_select_keeps_the_queries(rows):
    seen = experience([[0.0, 0.25], [0.5, np.nan]])
    assert outcomes(seen.select(rows)) == [("q0", "b", 0.25), ("q1", "a", 0.5)]
    assert seen.select(rows).queries is seen.queries


@given(tables, st.permutations("abcdef"))
def test_align_renumbers_by_name_and_drops_the_rest(quality: Floats, pool: list[str]):
    names = "abcd"[: quality.shape[1]]
    seen = Experience.from_table(queries(len(quality)), tuple(names), quality)
    pool = pool[:3]
    aligned = seen.align(pool)
    assert aligned.endpoints == tuple(pool)
    assert outcomes(aligned) == [outcome for outcome in outcomes(seen) if outcome[1] in pool]


def test_align_drops_comparisons_that_lost_a_side():
    seen = replace(experience([[0.1, 0.2, 0.3]], "abc"), comparisons=np.array([[0, 2, 0], [0, 1, 2], [0, 0, 1]]))
    assert compared(seen.align(("c", "a", "z"))) == [("q0", "c", "a")]
    assert seen.align(("b",)).comparisons.shape == (0, 3)
    assert compared(seen) == [("q0", "c", "a"), ("q0", "b", "c"), ("q0", "a", "b")], "the original is untouched"


def test_align_of_nothing():
    nothing = experience([], "ab")
    assert len(nothing) == 0
    assert nothing.align(("b", "c")).endpoints == ("b", "c")


def test_concatenate_joins_both_pools_and_both_sets_of_comparisons():
    first = replace(experience([[0.0, 0.25]], "ab", prefix="old"), comparisons=np.array([[0, 1, 0]]))
    later = replace(experience([[0.5, 0.75], [np.nan, 1.0]], "cb", prefix="new"), comparisons=np.array([[1, 0, 1]]))
    both = first.concatenate(later)
    assert both.endpoints == ("a", "b", "c")
    assert outcomes(both) == outcomes(first) + outcomes(later)
    assert compared(both) == [("old0", "b", "a"), ("new1", "c", "b")]
    assert both.queries.text == ("old0", "new0", "new1")
    assert both.queries.embedding.tolist() == [*queries(1).embedding.tolist(), *queries(2).embedding.tolist()]


@given(tables, tables)
def test_concatenating_loses_nothing(one: Floats, two: Floats):
    first = Experience.from_table(queries(len(one), prefix="old"), tuple("abcd"[: one.shape[1]]), one, one * 0.01)
    later = Experience.from_table(queries(len(two), prefix="new"), tuple("dcba"[: two.shape[1]]), two, two * 0.01)
    both = first.concatenate(later)
    assert outcomes(both) == outcomes(first) + outcomes(later)
    np.testing.assert_array_equal(both.cost_usd, [*first.cost_usd, *later.cost_usd])


def test_concatenating_with_nothing_is_neutral():
    seen = experience([[0.25, 0.5]])
    nothing = experience([], "ab")
    assert outcomes(seen.concatenate(nothing)) == outcomes(nothing.concatenate(seen)) == outcomes(seen)


@pytest.mark.parametrize("foreign", [{"space": "other"}, {"width": 4}])
def test_vectors_of_two_spaces_are_not_mixed(foreign):
    with pytest.raises(SnapshotMismatch):
        experience([[0.5, 0.5]]).concatenate(experience([[0.5, 0.5]], **foreign))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"query": np.array([0])}, "differ in length"),
        ({"propensity": np.ones(3, dtype=np.float32)}, "differ in length"),
        ({"quality": np.array([0.5, np.nan], dtype=np.float32)}, "finite"),
        ({"quality": np.array([0.5, 1.5], dtype=np.float32)}, r"\[0, 1\]"),
        ({"quality": np.array([-0.5, 0.5], dtype=np.float32)}, r"\[0, 1\]"),
        ({"query": np.array([0, 1])}, "outside `queries`"),
        ({"query": np.array([0, -1])}, "outside `queries`"),
        ({"endpoint": np.array([0, 2])}, "outside `endpoints`"),
        ({"endpoint": np.array([-1, 0])}, "outside `endpoints`"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes, says: str):
    with pytest.raises(ValueError, match=says):
        replace(experience([[0.5, 0.5]]), **changes)


def answered(quality: list[list[float]], **options) -> Experience:
    """Every answer is a vector that says whose it is: (query + 1, endpoint + 1)."""
    seen = experience(quality, **options)
    return replace(seen, answers=np.stack([seen.query + 1, seen.endpoint + 1], axis=1).astype(np.float32))


def test_answers_follow_their_outcomes():
    table = np.array([[0.5, np.nan], [np.nan, 1.0]])
    said = np.arange(8.0).reshape(2, 2, 2)
    seen = Experience.from_table(queries(2), "ab", table, answers=said)
    assert seen.answers.dtype == np.float32
    np.testing.assert_array_equal(seen.answers, [said[0, 0], said[1, 1]])
    np.testing.assert_array_equal(seen.select(np.array([1])).answers, [said[1, 1]])
    np.testing.assert_array_equal(seen.align(("b",)).answers, [said[1, 1]])
    assert experience([[0.5, 0.5]]).answers is None


def test_answers_are_joined_and_zero_where_a_side_knows_none():
    knows, silent = answered([[0.5, 1.0]]), experience([[0.25, 0.75]])
    np.testing.assert_array_equal(knows.concatenate(knows).answers, np.concatenate([knows.answers] * 2))
    np.testing.assert_array_equal(knows.concatenate(silent).answers, [*knows.answers, [0, 0], [0, 0]])
    np.testing.assert_array_equal(silent.concatenate(knows).answers, [[0, 0], [0, 0], *knows.answers])
    assert silent.concatenate(silent).answers is None


def test_answers_of_two_widths_are_not_mixed():
    wider = replace(experience([[0.5, 1.0]]), answers=np.ones((2, 3), dtype=np.float32))
    with pytest.raises(SnapshotMismatch, match="widths"):
        answered([[0.5, 1.0]]).concatenate(wider)


@pytest.mark.parametrize(
    ("answers", "says"), [(np.ones((1, 2)), "shape"), (np.ones(2), "shape"), (np.full((2, 1), np.nan), "finite")]
)
def test_answers_that_do_not_fit_are_refused(answers, says: str):
    with pytest.raises(ValueError, match=says):
        replace(experience([[0.5, 0.5]]), answers=answers)
