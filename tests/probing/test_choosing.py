import numpy as np
import pytest

from router_gateway.probing.choosing import representative
from router_gateway.probing.interval import answers_needed, wilson


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_each_kind_of_query_is_stood_for_by_its_share():
    rng = np.random.default_rng(0)
    centres = np.eye(3, 8)
    targets = unit(np.repeat(centres, (60, 30, 10), axis=0) + 0.05 * rng.normal(size=(100, 8)))
    candidates = unit(np.repeat(centres, 5, axis=0) + 0.05 * rng.normal(size=(15, 8)))
    rows, share = representative(candidates, targets, 3)
    assert sorted(rows // 5) == [0, 1, 2]
    assert dict(zip(rows // 5, share, strict=True)) == {0: 0.6, 1: 0.3, 2: 0.1}


def test_more_probes_only_come_nearer_and_none_comes_twice():
    rng = np.random.default_rng(1)
    candidates, targets = unit(rng.normal(size=(40, 6))), unit(rng.normal(size=(500, 6)))
    few, _ = representative(candidates, targets, 5)
    rows, share = representative(candidates, targets, 99)
    assert list(rows[:5]) == list(few)
    assert sorted(rows) == list(range(40))
    assert share.sum() == pytest.approx(1.0)
    gain = [(targets @ candidates[rows[:k]].T).max(axis=1).mean() for k in range(1, 41)]
    assert (np.diff(gain) >= 0).all()


def test_what_is_chosen_already_stays_and_is_added_to():
    rng = np.random.default_rng(3)
    candidates, targets = unit(rng.normal(size=(20, 6))), unit(rng.normal(size=(200, 6)))
    rows, share = representative(candidates, targets, 6, given=[11, 4])
    assert set(rows[:2]) == {11, 4}
    assert len(set(rows)) == 6
    assert share.sum() == pytest.approx(1.0)
    assert list(representative(candidates, targets, 1, given=[11, 4])[0]) == [rows[0]]
    again, _ = representative(candidates, unit(rng.normal(size=(50, 6))), 6, given=list(rows))
    assert set(again) == set(rows)


def test_nothing_to_choose_from_is_an_error():
    with pytest.raises(ValueError, match="nothing"):
        representative(np.zeros((0, 3), dtype=np.float32), unit([[1, 0, 0]]), 3)


@pytest.mark.parametrize(("right", "asked", "low", "high"), [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278)])
def test_equal_weights_give_the_interval_of_the_textbooks(right, asked, low, high):
    found = wilson(np.array([1.0] * right + [0.0] * (asked - right)), np.ones(asked))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-4)
    assert found.effective == pytest.approx(asked)


def test_intervals_of_chosen_probes_cover_the_truth_that_they_stand_for():
    """Of a population in which neighbours are alike, as often as they promise; half as many would promise less."""
    rng = np.random.default_rng(2)
    covered = widths = 0
    for _ in range(200):
        population = unit(rng.normal(size=(224, 6)))
        easy = rng.normal(size=6)
        right = (rng.random(224) < 1 / (1 + np.exp(-(0.8 + 2 * population @ easy)))).astype(float)
        rows, share = representative(population, population, 40)
        found = wilson(right[rows], share)
        covered += found.low <= right.mean() <= found.high
        widths += found.half_width
    assert covered >= 190
    assert widths / 200 < 0.2


def test_no_weight_no_interval():
    assert wilson(np.zeros(0), np.zeros(0)) is None
    assert wilson(np.ones(2), np.zeros(2)) is None


def test_needed_answers_do_bring_the_width():
    n = answers_needed(0.7, 0.1)
    assert wilson(np.array([1.0] * round(0.7 * n) + [0.0] * (n - round(0.7 * n))), np.ones(n)).half_width <= 0.101
