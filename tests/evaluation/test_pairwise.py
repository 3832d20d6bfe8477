import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.evaluation.pairwise import PairSweep, apgr, cpt, pgr, sweep_thresholds

NAN = np.nan
# (score, quality of the weak, quality of the strong) of each query, scores with many ties
queries = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


def columns(rows):
    score, weak, strong = np.array(rows, dtype=np.float64).T
    return score, weak / 4, strong / 4


def sweep(share, quality) -> PairSweep:
    return PairSweep(strong_share=np.array(share, dtype=float), quality=np.array(quality, dtype=float))


def test_sweep_by_hand():
    # Scores .9, .5, .5, .1 with gains +1, 0, -1, +1 over a weak mean of 1 / 4; the two of score .5 move together.
    found = sweep_thresholds(
        np.array([0.5, 0.9, 0.1, 0.5]), np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    )
    assert found.strong_share.tolist() == [0, 0.25, 0.75, 1]
    assert found.quality.tolist() == [0.25, 0.5, 0.25, 0.5]
    assert (found.weak_quality, found.strong_quality) == (0.25, 0.5)


@settings(deadline=None)
@given(queries)
def test_a_sweep_has_the_points_of_every_threshold(rows):
    score, weak, strong = columns(rows)
    found = sweep_thresholds(score, weak, strong)
    thresholds = [np.inf, *sorted(set(score.tolist()), reverse=True)]
    expected = [((score >= t).mean(), np.where(score >= t, strong, weak).mean()) for t in thresholds]
    assert found.strong_share.tolist() == pytest.approx([share for share, _ in expected])
    assert found.quality.tolist() == pytest.approx([quality for _, quality in expected])


def test_queries_with_an_unknown_are_passed_over():
    rows = np.array([[0.9, 0.0, 1.0], [NAN, 0.0, 1.0], [0.2, NAN, 1.0], [0.1, 0.0, NAN]])
    found = sweep_thresholds(*rows.T)
    assert (found.strong_share.tolist(), found.quality.tolist()) == ([0, 1], [0, 1])
    with pytest.raises(ValueError, match="at least one query"):
        sweep_thresholds(*rows[1:].T)


def test_pgr_by_hand():
    assert pgr(0.7, weak_quality=0.6, strong_quality=0.8) == pytest.approx(0.5)
    assert pgr(np.array([0.5, 0.9]), weak_quality=0.6, strong_quality=0.8).tolist() == pytest.approx([-0.5, 1.5])
    assert np.isnan(pgr(0.7, weak_quality=0.6, strong_quality=0.6))


def test_apgr_by_hand():
    # PGR 0, .8, 1 at shares 0, .5, 1: .5 * .4 + .5 * .9
    assert apgr(sweep([0, 0.5, 1], [0.6, 0.76, 0.8])) == pytest.approx(0.65)
    assert np.isnan(apgr(sweep([0, 1], [0.6, 0.5])))


@settings(deadline=None)
@given(queries)
def test_a_score_that_tells_nothing_has_an_apgr_of_one_half(rows):
    """All scores equal: the sweep is the straight line between the two endpoints."""
    _, weak, strong = columns(rows)
    found = apgr(sweep_thresholds(np.zeros(len(weak)), weak, strong))
    assert np.isnan(found) if strong.mean() <= weak.mean() else found == pytest.approx(0.5)


def test_scores_drawn_at_random_have_an_apgr_of_one_half_on_average():
    rng = np.random.default_rng(0)
    weak, strong = (rng.random((2, 300)) < [[0.5], [0.8]]).astype(float)
    found = [apgr(sweep_thresholds(rng.random(300), weak, strong)) for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / np.sqrt(len(found)))
    assert apgr(sweep_thresholds(strong - weak, weak, strong)) > max(found)


def test_cpt_by_hand():
    # PGR 0, .5, .25, 1 at shares 0, .2, .6, 1; running maximum 0, .5, .5, 1
    found = sweep([0, 0.2, 0.6, 1], [0.0, 0.2, 0.1, 0.4])
    assert cpt(found, 0) == 0
    assert cpt(found, 0.25) == pytest.approx(0.1)
    assert cpt(found, 0.5) == pytest.approx(0.2)
    assert cpt(found, 0.75) == pytest.approx(0.8)  # half way from .6 to 1
    assert cpt(found, 1) == pytest.approx(1)
    assert cpt(found, 1.01) == np.inf
    assert np.isnan(cpt(sweep([0, 1], [0.6, 0.6]), 0.5))
    # better than the strong endpoint alone is possible
    assert cpt(sweep([0, 0.5, 1], [0.0, 0.6, 0.5]), 1.2) == pytest.approx(0.5)


@settings(deadline=None)
@given(queries, st.floats(0, 1), st.floats(0, 1))
def test_cpt_rises_with_what_is_asked(rows, first, second):
    score, weak, strong = columns(rows)
    found = sweep_thresholds(score, weak, strong)
    low, high = cpt(found, min(first, second)), cpt(found, max(first, second))
    if strong.mean() <= weak.mean():
        assert np.isnan(low)
        assert np.isnan(high)
    else:
        assert 0 <= low <= high <= 1


@pytest.mark.parametrize(
    ("share", "quality"),
    [([0, 1], [0.5]), ([0], [0.5]), ([0.1, 1], [0, 1]), ([0, 0.9], [0, 1]), ([0, 0.7, 0.3, 1], [0, 0, 0, 1])],
)
def test_sweeps_that_are_none_are_refused(share, quality):
    with pytest.raises(ValueError, match="must"):
        sweep(share, quality)
