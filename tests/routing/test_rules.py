import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from router_gateway.core.protocols import Rule
from router_gateway.core.types import Bools, Floats
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

RULES = [
    Greedy(),
    EpsilonGreedy(epsilon=0.0),
    EpsilonGreedy(epsilon=0.3),
    EpsilonGreedy(epsilon=1.0),
    InverseGap(gamma=0.0),
    InverseGap(gamma=200.0),
    InverseGap(gamma=np.inf),
]


@st.composite
def tables(draw: st.DrawFn) -> tuple[Floats, Bools]:
    shape = (draw(st.integers(0, 5)), draw(st.integers(1, 6)))
    value = draw(st_numpy.arrays(np.float64, shape, elements=st.floats(-1e6, 1e6).map(lambda x: round(x, 3))))
    eligible = draw(st_numpy.arrays(np.bool_, shape))
    forced = draw(st.lists(st.integers(0, shape[1] - 1), min_size=shape[0], max_size=shape[0]))
    eligible[np.arange(shape[0]), np.array(forced, dtype=np.int64)] = True
    return value, eligible


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(table=tables())
def test_rows_are_distributions_over_the_eligible(rule: Rule, table: tuple[Floats, Bools]):
    value, eligible = table
    probability = rule.probabilities(value, eligible)
    assert probability.dtype == np.float64
    assert probability.shape == value.shape
    np.testing.assert_allclose(probability.sum(axis=1), 1.0, atol=1e-12)
    assert (probability >= 0).all()
    assert (probability[~eligible] == 0).all()


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(table=tables())
def test_a_row_does_not_depend_on_its_batch(rule: Rule, table: tuple[Floats, Bools]):
    value, eligible = table
    together = rule.probabilities(value, eligible)
    for row in range(len(value)):
        alone = rule.probabilities(value[[row]], eligible[[row]])
        np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(table=tables())
def test_what_an_excluded_endpoint_is_worth_changes_nothing(rule: Rule, table: tuple[Floats, Bools]):
    value, eligible = table
    tempting = np.where(eligible, value, 1e9)
    np.testing.assert_array_equal(rule.probabilities(tempting, eligible), rule.probabilities(value, eligible))


@given(tables())
def test_greedy_is_one_hot_on_the_first_best(table: tuple[Floats, Bools]):
    value, eligible = table
    for values, allowed, probability in zip(value, eligible, Greedy().probabilities(value, eligible), strict=True):
        best = max(v for v, ok in zip(values, allowed, strict=True) if ok)
        first = next(i for i, (v, ok) in enumerate(zip(values, allowed, strict=True)) if ok and v == best)
        assert probability.tolist() == [float(i == first) for i in range(len(values))]


def test_epsilon_is_spread_over_the_eligible_the_best_included():
    probability = EpsilonGreedy(epsilon=0.3).probabilities(
        np.array([[0.1, 0.9, 0.5, 2.0]]), np.array([[True, True, True, False]])
    )
    np.testing.assert_allclose(probability, [[0.1, 0.8, 0.1, 0.0]])


def test_inverse_gap_by_hand():
    value = np.array([[0.80, 0.90, 0.65, 5.0]])
    eligible = np.array([[True, True, True, False]])
    # gaps 0.1, 0, 0.25 over n = 3: 1/(3 + 200·0.1) = 1/23 and 1/(3 + 200·0.25) = 1/53
    np.testing.assert_allclose(
        InverseGap(gamma=200).probabilities(value, eligible), [[1 / 23, 1 - 1 / 23 - 1 / 53, 1 / 53, 0]]
    )


@given(tables())
def test_gamma_zero_is_uniform(table: tuple[Floats, Bools]):
    value, eligible = table
    even = eligible / eligible.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(InverseGap(gamma=0).probabilities(value, eligible), even, atol=1e-12)


@pytest.mark.parametrize("gamma", [1e12, np.inf])
def test_gamma_without_end_is_greedy_and_shares_exact_ties(gamma: float):
    value = np.array([[0.2, 0.9, 0.5], [0.9, 0.9, 0.5]])
    probability = InverseGap(gamma=gamma).probabilities(value, np.ones_like(value, dtype=bool))
    np.testing.assert_allclose(probability, [[0, 1, 0], [2 / 3, 1 / 3, 0]], atol=1e-9)


@given(tables(), st.floats(0, 1e4))
def test_inverse_gap_prefers_what_is_better_and_bounds_the_rest(table: tuple[Floats, Bools], gamma: float):
    value, eligible = table
    probability = InverseGap(gamma=gamma).probabilities(value, eligible)
    for values, allowed, chances in zip(value, eligible, probability, strict=True):
        ranked = chances[allowed][np.argsort(-values[allowed], kind="stable")]
        assert (np.diff(ranked) <= 1e-12).all()
        assert (ranked[1:] <= 1 / allowed.sum() + 1e-12).all()
