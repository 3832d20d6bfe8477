import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies._ridge import PACKED, Ridge, with_intercept


def outcomes(rows, endpoints, *, width=5, seed=0, missing=0.0):
    """Embedding (rows, width) and long-form outcomes: row, endpoint, quality."""
    rng = np.random.default_rng(seed)
    row, endpoint = np.nonzero(rng.random((rows, endpoints)) >= missing)
    return rng.normal(size=(rows, width)).astype(np.float32), row, endpoint, rng.random(len(row))


def normal_equations(embedding, row, endpoint, quality, *, column, penalty):
    """Coefficients, noise and inverse for one endpoint, straight from the docstring."""
    mine = endpoint == column
    features, observed = with_intercept(embedding[row[mine]]), quality[mine]
    width = features.shape[1]
    gram = np.diag([1.0, *[penalty] * (width - 1)]) + features.T @ features
    moment = np.r_[0.5, np.zeros(width - 1)] + features.T @ observed
    theta = np.linalg.solve(gram, moment)
    noise = (0.5 + (observed**2).sum() - moment @ theta) / (mine.sum() + 1)
    return theta, noise, np.linalg.inv(gram)


@given(
    missing=st.sampled_from([0.0, 0.3, 0.9, 1.0]), penalty=st.sampled_from([0.1, 1.0, 30.0]), seed=st.integers(0, 99)
)
def test_each_endpoint_solves_its_own_normal_equations(missing, penalty, seed):
    embedding, row, endpoint, quality = outcomes(40, 3, seed=seed, missing=missing)
    ridge = Ridge.prior(endpoints=3, features=6, penalty=penalty).learn(embedding, row, endpoint, quality)
    theta = ridge.coefficients()
    for e in range(3):
        by_hand, noise, inverse = normal_equations(embedding, row, endpoint, quality, column=e, penalty=penalty)
        np.testing.assert_allclose(theta[:, e], by_hand, atol=1e-9)
        np.testing.assert_allclose(ridge.noise(theta)[e], noise, atol=1e-9)
        np.testing.assert_allclose(ridge.inverse[ridge.group[e]], inverse, atol=1e-9)


def test_the_ridge_estimate_minimises_what_it_says():
    embedding, row, endpoint, quality = outcomes(30, 1, seed=3)
    theta = Ridge.prior(endpoints=1, features=6, penalty=2.0).learn(embedding, row, endpoint, quality).coefficients()
    features = with_intercept(embedding)

    def loss(at):
        return ((features @ at - quality) ** 2).sum() + (at[0] - 0.5) ** 2 + 2.0 * (at[1:] ** 2).sum()

    rng = np.random.default_rng(0)
    least = loss(theta[:, 0])
    assert all(loss(theta[:, 0] + 0.01 * rng.normal(size=6)) > least for _ in range(50))


def test_equal_rows_share_a_matrix_and_other_rows_do_not():
    embedding, row, endpoint, quality = outcomes(20, 4)
    full = Ridge.prior(endpoints=4, features=6, penalty=1.0).learn(embedding, row, endpoint, quality)
    assert (len(full.gram), full.group.tolist()) == (1, [0, 0, 0, 0])
    kept = (endpoint != 2) | (row < 10)
    masked = Ridge.prior(endpoints=4, features=6, penalty=1.0).learn(
        embedding, row[kept], endpoint[kept], quality[kept]
    )
    assert (len(masked.gram), masked.group.tolist()) == (2, [0, 0, 1, 0])


@pytest.mark.parametrize("chunk", [1, 2, 7, 100])
def test_learning_in_pieces_equals_learning_at_once(chunk):
    embedding, row, endpoint, quality = outcomes(100, 3, width=30, missing=0.4, seed=5)
    start = Ridge.prior(endpoints=3, features=31, penalty=3.0)
    pieces = start
    for first in range(0, len(row), chunk):
        part = slice(first, first + chunk)
        pieces = pieces.learn(embedding, row[part], endpoint[part], quality[part])
    whole = start.learn(embedding, row, endpoint, quality)
    np.testing.assert_allclose(pieces.coefficients(), whole.coefficients(), atol=1e-9)
    for e in range(3):
        np.testing.assert_allclose(pieces.inverse[pieces.group[e]], whole.inverse[whole.group[e]], atol=1e-9)
    assert pieces.stale.any() == (chunk <= 7), "few rows enter by identity, many by a new factorisation"


def test_low_rank_updates_do_not_drift():
    """Thousands of single rows, along one direction far more than along the others."""
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(4000, 20)) * np.r_[30.0, np.ones(19)]).astype(np.float32)
    ridge = Ridge.prior(endpoints=1, features=21, penalty=0.01)
    for i in range(4000):
        ridge = ridge.learn(vectors[i : i + 1], np.array([0]), np.array([0]), rng.random(1))
        assert ridge.stale[0] <= 8 * 21
    np.testing.assert_allclose(ridge.inverse[0] @ ridge.gram[0], np.eye(21), atol=1e-6)


def test_nothing_is_written_in_place():
    embedding, row, endpoint, quality = outcomes(5, 2)
    before = Ridge.prior(endpoints=2, features=6, penalty=1.0).learn(embedding, row, endpoint, quality)
    kept = {name: array.copy() for name, array in before.packed().items()}
    before.widened(3).learn(embedding, row, endpoint, quality)
    assert all(np.array_equal(array, kept[name]) for name, array in before.packed().items())


def test_packing_keeps_every_bit_and_half_the_numbers():
    embedding, row, endpoint, quality = outcomes(50, 3, missing=0.5)
    ridge = Ridge.prior(endpoints=3, features=6, penalty=1.0).learn(embedding, row, endpoint, quality)
    packed = ridge.packed()
    assert set(packed) == set(PACKED)
    assert packed["gram"].shape == (3, 21)
    again = Ridge.unpacked(1.0, packed)
    for name in PACKED:
        np.testing.assert_array_equal(getattr(again, name), getattr(ridge, name))
