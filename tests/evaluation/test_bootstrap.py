import numpy as np
import pytest

from router_gateway.evaluation import bootstrap
from router_gateway.evaluation.bootstrap import interval, resampled_means


def test_columns_are_resampled_together():
    values = np.random.default_rng(0).random((50, 1))
    means = resampled_means(np.column_stack([values, values + 1]), resamples=200)
    assert np.allclose(means[:, 1] - means[:, 0], 1)
    assert means[:, 0].std() > 0


def test_the_seed_and_nothing_else_decides_the_rows(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = resampled_means(values, resamples=100, seed=7)
    assert np.array_equal(whole, resampled_means(values, resamples=100, seed=7))
    assert not np.array_equal(whole, resampled_means(values, resamples=100, seed=8))
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 350)
    assert np.allclose(whole, resampled_means(values, resamples=100, seed=7))


def test_spread_agrees_with_the_standard_error_of_a_mean():
    values = np.random.default_rng(1).normal(size=(400, 1))
    means = resampled_means(values, resamples=2000)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.1)
    low, high = interval(means[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert low < values.mean() < high


def test_unknown_cells_are_left_out_of_their_column_only():
    values = np.array([[1.0, np.nan], [1.0, 3.0], [1.0, 3.0], [1.0, np.nan]])
    means = resampled_means(values, resamples=300)
    assert (means[:, 0] == 1).all()
    assert (means[:, 1][np.isfinite(means[:, 1])] == 3).all()
    assert np.isnan(means[:, 1]).any()  # some draws hold no known value


def test_interval_by_hand():
    assert interval(np.arange(101.0), level=0.9) == pytest.approx((5.0, 95.0))


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        resampled_means(np.zeros((0, 2)))
