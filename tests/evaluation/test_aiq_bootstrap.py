import numpy as np
import pytest

from router_gateway.evaluation import aiq_bootstrap, bootstrap
from router_gateway.evaluation.aiq_bootstrap import Dials, Sampled, bootstrap_aiq
from router_gateway.evaluation.bootstrap import resampling_counts
from router_gateway.evaluation.metrics import aiq, endpoint_points, gap_closed, oracle_curve, realised

NAN = np.nan
QUERIES, ENDPOINTS, DIALS = 60, 4, 7


def outcomes(*, holes: bool = False):
    """Dearer endpoints are better on average, and each query has its own."""
    rng = np.random.default_rng(5)
    quality = (rng.random((QUERIES, ENDPOINTS)) < [0.4, 0.5, 0.6, 0.7]).astype(np.float32)
    cost = rng.uniform(0.5, 1.5, (QUERIES, ENDPOINTS)) * [0.001, 0.002, 0.004, 0.01]
    if holes:
        quality[rng.random(quality.shape) < 0.2] = NAN
        cost[rng.random(cost.shape) < 0.1] = NAN
        quality[:, 0], cost[:, 0] = 0.5, 0.001  # so that every query has an outcome
    return quality, cost


def dials(quality, cost, seed: int = 0) -> Dials:
    """A router that has heard rumours of the outcomes, swept; cells it does not know it never picks."""
    rng = np.random.default_rng(seed)
    guess = 0.3 * np.nan_to_num(quality) + 0.7 * rng.random(quality.shape)
    guess = np.where(np.isfinite(quality) & np.isfinite(cost), guess, -np.inf)
    swept = [
        realised(quality, cost, (guess - price * np.nan_to_num(cost)).argmax(axis=1))
        for price in np.geomspace(1, 2000, DIALS)
    ]
    return Dials(
        quality=np.array([point.quality for point in swept], dtype=np.float32),
        cost_usd=np.array([point.cost_usd for point in swept], dtype=np.float32),
    )


@pytest.mark.parametrize("holes", [False, True])
def test_every_resample_is_what_the_metrics_say_of_its_rows(holes):
    quality, cost = outcomes(holes=holes)
    router = dials(quality, cost)
    found = bootstrap_aiq({"it": router}, quality, cost, resamples=20, seed=3)
    (counts,) = resampling_counts(QUERIES, resamples=20, seed=3)
    for draw, times in enumerate([np.ones(QUERIES), *counts]):
        rows = np.repeat(np.arange(QUERIES), times.astype(int))
        own = Dials(quality=router.quality[:, rows], cost_usd=router.cost_usd[:, rows]).curve()
        singles = endpoint_points(quality[rows], cost[rows])
        expected = aiq(singles, singles), aiq(oracle_curve(quality[rows], cost[rows]), singles), aiq(own, singles)
        figures = (found.zero, found.oracle, found.routers["it"])
        values = [f.value if draw == 0 else f.samples[draw - 1] for f in figures]
        assert values == pytest.approx(expected, abs=1e-6)  # the costs of the dials are float32
        closed = found.gap_closed["it"]
        share = closed.value if draw == 0 else closed.samples[draw - 1]
        assert share == pytest.approx(gap_closed(expected[2], expected[0], expected[1]), abs=1e-5)


def test_the_blocks_do_not_change_the_numbers(monkeypatch):
    quality, cost = outcomes()
    routers = {"it": dials(quality, cost)}
    whole = bootstrap_aiq(routers, quality, cost, resamples=30)
    monkeypatch.setattr(bootstrap, "_CHUNK_CELLS", 7 * QUERIES)
    monkeypatch.setattr(aiq_bootstrap, "_BLOCK_CELLS", 1)
    parts = bootstrap_aiq(routers, quality, cost, resamples=30)
    assert parts.oracle.samples == pytest.approx(whole.oracle.samples)
    assert parts.gap_closed["it"].samples == pytest.approx(whole.gap_closed["it"].samples)


def test_routers_are_paired_within_a_call_and_between_calls():
    quality, cost = outcomes()
    first, second = dials(quality, cost, seed=1), dials(quality, cost, seed=2)
    both = bootstrap_aiq({"first": first, "second": second}, quality, cost, resamples=200)
    alone = bootstrap_aiq({"second": second}, quality, cost, resamples=200)
    assert alone.routers["second"].samples == pytest.approx(both.routers["second"].samples)
    difference = both.routers["first"].minus(alone.routers["second"])
    apart = np.hypot(both.routers["first"].samples.std(), both.routers["second"].samples.std())
    assert 0 < difference.samples.std() < apart  # they share the luck of the draw
    assert both.routers["first"].minus(both.routers["first"]).interval() == (0, 0)
    low, high = difference.interval()
    narrow = difference.interval(level=0.5)
    assert low <= narrow[0] <= narrow[1] <= high


def test_the_oracle_closes_the_gap_and_the_endpoints_themselves_close_nothing():
    quality, cost = outcomes()
    prices = np.concatenate([[0.0], np.geomspace(1, 1e5, 400)])
    best = [realised(quality, cost, (quality - price * cost).argmax(axis=1)) for price in prices]
    routers = {
        "oracle": Dials(
            quality=np.array([point.quality for point in best]), cost_usd=np.array([p.cost_usd for p in best])
        ),
        "singles": Dials(quality=quality.T, cost_usd=cost.T),
    }
    found = bootstrap_aiq(routers, quality, cost, resamples=50)
    assert found.gap_closed["oracle"].samples == pytest.approx(np.ones(50), abs=0.01)
    assert (found.gap_closed["oracle"].samples <= 1 + 1e-9).all()  # the exact oracle is above every swept one
    assert found.gap_closed["singles"].samples == pytest.approx(np.zeros(50), abs=1e-9)
    assert (found.oracle.samples > found.zero.samples).all()


def test_no_gap_is_nan():
    table, cost = np.ones((5, 2)), np.full((5, 2), 0.01)
    found = bootstrap_aiq({"it": Dials(quality=table.T, cost_usd=cost.T)}, table, cost, resamples=10)
    assert found.routers["it"].interval() == (1, 1)
    assert np.isnan(found.gap_closed["it"].value)
    assert np.isnan(found.gap_closed["it"].interval()).all()


def test_interval_passes_over_undefined_resamples():
    assert Sampled(value=1.0, samples=np.array([NAN, 1.0, 1.0])).interval() == (1, 1)


def test_what_does_not_fit_is_refused():
    quality, cost = outcomes()
    with pytest.raises(ValueError, match=r"short: not swept over the table's 60 queries"):
        bootstrap_aiq({"short": dials(quality[:50], cost[:50])}, quality, cost)
    with pytest.raises(ValueError, match="known"):
        Dials(quality=np.array([[NAN]]), cost_usd=np.array([[1.0]]))
    with pytest.raises(ValueError, match="alike"):
        Dials(quality=np.zeros((2, 3)), cost_usd=np.zeros((2, 4)))
