from dataclasses import replace

import numpy as np
import pytest

from policies.baseline import BestOnAverage, Cheapest, Random
from router_gateway.core.errors import SnapshotMismatch
from router_gateway.testing import specialists, steady

WORLD = steady(seed=1)
TRAIN = WORLD.experience(200, seed=2)
ASKED, _ = WORLD.queries(2000, seed=3)


def test_random_prefers_each_endpoint_equally_often():
    preferred = Random().fit(TRAIN).score(ASKED).quality.argmax(axis=1)
    counts = np.bincount(preferred, minlength=4)
    chi_square = ((counts - 500) ** 2 / 500).sum()
    assert chi_square < 16.3  # the 0.1 % point with three degrees of freedom


def test_random_repeats_itself_and_another_seed_does_not():
    first, again = Random().fit(TRAIN).score(ASKED), Random().fit(TRAIN).score(ASKED)
    np.testing.assert_array_equal(first.quality, again.quality)
    other = Random(seed=1).fit(TRAIN).score(ASKED)
    agreement = (first.quality.argmax(axis=1) == other.quality.argmax(axis=1)).mean()
    assert 0.2 < agreement < 0.3


def test_cheapest_knows_the_lowest_mean_cost():
    scores = Cheapest().fit(TRAIN).score(ASKED)
    assert scores.quality[0].tolist() == [1.0, 0.0, 0.0, 0.0]
    dearer = replace(TRAIN, cost_usd=np.where(TRAIN.endpoint == 0, 1.0, TRAIN.cost_usd))
    assert Cheapest().fit(dearer).score(ASKED).quality[0].tolist() == [0.0, 1.0, 0.0, 0.0]


def test_cheapest_ignores_unknown_costs_and_says_so_when_it_knows_none():
    hidden = replace(TRAIN, cost_usd=np.where(TRAIN.endpoint == 0, np.nan, TRAIN.cost_usd))
    assert Cheapest().fit(hidden).score(ASKED).quality[0].tolist() == [0.0, 1.0, 0.0, 0.0]
    unknown = replace(TRAIN, cost_usd=np.full(len(TRAIN), np.nan))
    scores = Cheapest().fit(unknown).score(ASKED)
    assert set(scores.quality.ravel()) == set(scores.stddev.ravel()) == {0.5}


def test_best_on_average_is_the_shrunk_mean_and_its_standard_error():
    scores = BestOnAverage().fit(TRAIN).score(ASKED)
    for e in range(4):
        outcomes = TRAIN.quality[TRAIN.endpoint == e].astype(np.float64)
        with_one_more = np.concatenate([np.repeat(outcomes, 2), [0.0, 1.0]])  # half a success, half a failure
        assert scores.quality[0, e] == pytest.approx(with_one_more.mean(), abs=1e-6)
        assert scores.stddev[0, e] == pytest.approx(with_one_more.std() / np.sqrt(len(outcomes) + 1), abs=1e-6)
    assert scores.quality[0].argmax() == 3


@pytest.mark.parametrize("policy", [BestOnAverage, Cheapest])
def test_learning_in_two_parts_is_learning_at_once(policy):
    early, late = TRAIN.query < 100, TRAIN.query >= 100
    parts = policy().fit(TRAIN.select(early)).partial_fit(TRAIN.select(late)).score(ASKED)
    whole = policy().fit(TRAIN).score(ASKED)
    np.testing.assert_allclose(parts.quality, whole.quality, atol=1e-6)
    np.testing.assert_allclose(parts.stddev, whole.stddev, atol=1e-6)


def test_outcomes_of_another_space_are_refused():
    foreign = specialists(seed=1, width=16).experience(20, seed=1)
    with pytest.raises(SnapshotMismatch, match="width 32"):
        BestOnAverage().fit(TRAIN).partial_fit(foreign)


def test_a_folder_of_another_policy_is_refused(tmp_path):
    Cheapest().fit(TRAIN).save(tmp_path)
    with pytest.raises(SnapshotMismatch, match="Cheapest"):
        BestOnAverage.load(tmp_path)


def a_pickled_array(folder):
    np.savez(folder / "arrays.npz", sums=np.array([None], dtype=object))


def other_arrays(folder):
    np.savez(folder / "arrays.npz", something=np.zeros(3))


def no_archive(folder):
    (folder / "arrays.npz").write_bytes(b"PK, or not")


def no_json(folder):
    (folder / "state.json").write_text("{")


def no_files(folder):
    (folder / "arrays.npz").unlink()


@pytest.mark.parametrize("damage", [a_pickled_array, other_arrays, no_archive, no_json, no_files])
def test_a_damaged_folder_is_refused(tmp_path, damage):
    BestOnAverage().fit(TRAIN).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(SnapshotMismatch, match="is not a saved BestOnAverage") as caught:
        BestOnAverage.load(tmp_path)
    assert "fit the policy again" in caught.value.hint
