"""A row read as plain lists says what the arrays would."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.routing.choice import best, drawn, ranked

rows = st.integers(1, 12).flatmap(
    lambda count: st.tuples(
        st.lists(st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0, -3.0]), min_size=count, max_size=count),
        st.permutations(range(count)),
        st.lists(st.booleans(), min_size=count, max_size=count).filter(any),
    )
)


@given(rows)
def test_the_order_is_that_of_a_stable_sort(row):
    value, columns, eligible = row
    first = best(value, eligible)
    by_array = np.array(columns)[np.argsort(-np.array(value)[list(columns)], kind="stable")]
    assert ranked(first, value, columns, eligible) == [first, *(i for i in by_array if eligible[i] and i != first)]
    assert first == np.where(eligible, value, -np.inf).argmax()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(any), st.floats(0, 1, exclude_max=True))
def test_the_draw_is_that_of_a_search_in_the_sums(probability, at):
    sums = np.cumsum(probability)
    assert drawn(probability, at) == np.searchsorted(sums, at * sums[-1], side="right")


@pytest.mark.parametrize(("at", "column"), [(0.0, 1), (0.24, 1), (0.25, 3), (0.999, 3)])
def test_what_has_no_chance_is_not_drawn(at, column):
    assert drawn([0.0, 0.25, 0.0, 0.75, 0.0], at) == column
