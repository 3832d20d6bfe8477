import copy
from dataclasses import replace

import numpy as np
import pytest

from policies import _looks
from policies._looks import LOOKS, WIDTH, Measured, looks
from policies._trees import Trees
from policies.baseline import BestOnAverage
from policies.forest import Forest
from router_gateway.testing import specialists, two_by_two

SMALL = {"trees": 12, "words": 8}
KINDS = ("translate the word {} to french", "how much is {} plus two ?", "(A) {}\n(B) no\n(C) maybe")
TRUTH = np.array([[0.9, 0.2, 0.5], [0.1, 0.9, 0.5], [0.4, 0.4, 0.9]])


@pytest.fixture
def world(make):
    """Queries whose kind can be told from the text alone: the vectors say nothing."""

    def made(count, *, seed, missing=0.0):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 3, count)
        quality = (rng.random((count, 3)) < TRUTH[kind]).astype(float)
        quality[rng.random(quality.shape) < missing] = np.nan
        experience = make.experience(np.ones((count, 2)), quality)
        texts = tuple(KINDS[k].format(f"w{rng.integers(500)}") for k in kind)
        return replace(experience, queries=replace(experience.queries, text=texts)), kind

    return made


@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_wording_and_looks_tell_which_endpoint_is_best(world, missing):
    train, (asked, kind) = world(400, seed=0, missing=missing)[0], world(150, seed=1)
    quality = Forest(**SMALL).fit(train).score(asked.queries).quality
    assert (quality.argmax(axis=1) == TRUTH[kind].argmax(axis=1)).mean() > 0.95
    assert np.abs(quality - TRUTH[kind]).mean() < 0.12


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Forest(**SMALL).fit(world.experience(600, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


@pytest.mark.parametrize("setting", [{"leaf_min": 1_000}, {"prior_weight": 1e12}])
def test_one_leaf_and_a_prior_that_outweighs_everything_give_best_on_average(world, setting):
    train, asked = world(60, seed=2, missing=0.3)[0], world(8, seed=3)[0].queries
    held, average = Forest(**SMALL | setting).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(held.quality, average.quality, atol=1e-5)
    np.testing.assert_allclose(held.stddev, average.stddev, atol=2e-3)


def test_a_tree_is_read_as_it_was_grown():
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    features, target = rng.normal(size=(300, 5)).astype(np.float32), rng.normal(size=(300, 2))
    asked = rng.normal(size=(50, 5)).astype(np.float32)
    trees, reached = Trees.grown(features, target, trees=7, leaf_min=4, share=0.5, seed=3)
    forest = ExtraTreesRegressor(7, min_samples_leaf=4, max_features=0.5, random_state=3).fit(features, target)
    for own, theirs in zip(trees.reached(asked).T, forest.apply(asked).T, strict=True):
        assert len(set(zip(own.tolist(), theirs.tolist(), strict=True))) == len(set(own.tolist())) == len(set(theirs))
    np.testing.assert_array_equal(trees.reached(features), reached)
    np.testing.assert_array_equal(np.concatenate([trees.reached(each[None]) for each in asked]), trees.reached(asked))
    assert trees.leaves == trees.first[-1]
    assert ((trees.reached(asked) >= trees.first[:-1]) & (trees.reached(asked) < trees.first[1:])).all()


def test_probes_place_a_new_endpoint_and_leave_the_others_as_they_were():
    world = specialists(seed=4)
    everything, probes = world.experience(600, seed=5), world.experience(192, seed=6)
    queries, cluster = world.queries(200, seed=7)
    policy = Forest(**SMALL).fit(everything.align(world.endpoints[:-1]))
    before = policy.score(queries)
    after = policy.partial_fit(probes.align(world.endpoints[-1:])).score(queries)
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    assert after.quality[cluster == 3, -1].mean() > after.quality[cluster != 3, -1].mean() + 0.2


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(200, seed=9)
    errors = []
    for seed in range(5):
        scores = Forest(**SMALL).fit(world.experience(150, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.5 < np.sqrt(np.mean(np.square(errors))) < 1.5


def test_a_refit_reads_as_before_and_forgets_the_outcomes(world):
    first, second, asked = world(80, seed=20)[0], world(40, seed=21)[0], world(8, seed=22)[0].queries
    policy = Forest(**SMALL).fit(first)
    same = copy.deepcopy(policy).refit(first).score(asked)
    np.testing.assert_array_equal(same.quality, policy.score(asked).quality)
    reader = policy.table_.cells.reader
    policy.refit(second)
    assert policy.table_.cells.reader is reader
    assert policy.table_.cells.moments[0].sum() == len(second) * 12


def test_looks_are_those_of_the_text_and_bounded_in_work():
    plain, options, nothing, endless = looks(["a b c", "(A) x\n(B) y\n", "", "x" * 100_000], [1, 1, 0, 1])
    assert plain.shape == (WIDTH,)
    assert options[11] == 2
    assert plain[11] == 0
    assert not nothing.any()
    assert endless[1] == pytest.approx(np.log1p(100_000))


def test_looks_count_numbers_words_and_lines():
    text = "- The Cat ate 12 mice and 345 rats.\n1. naïve Löwe\n(A) no\nreally?"
    seen = dict(zip(LOOKS, looks([text], [9])[0, 1:], strict=False))
    assert seen["numbers"] == pytest.approx(np.log1p(3))
    assert seen["number"] == pytest.approx(np.log1p(3))
    assert (seen["bullets"], seen["numbered"], seen["choices"], seen["ends_asking"]) == (1, 1, 1, 1)
    assert seen["names"] == pytest.approx(4 / 11)  # The, Cat, Löwe, A
    assert seen["longest"] == pytest.approx(np.log1p(6))
    assert seen["last_line"] == pytest.approx(np.log1p(7))
    assert seen["foreign"] == pytest.approx(2 / len(text))


def test_what_is_remembered_is_bounded_and_changes_nothing(monkeypatch):
    monkeypatch.setattr(_looks, "_REMEMBERED_MAX", 3)
    texts = [f"text {i} of {10**i}" for i in range(6)]
    first = looks(texts, [1] * 6)
    assert len(_looks._kept) == 3
    np.testing.assert_array_equal(looks(texts, [1] * 6), first)


def test_measured_looks_are_in_deviations_and_an_empty_text_is_nothing():
    texts = [f"{'word ' * n}{n}" for n in range(1, 40)]
    measured = Measured.of(texts)
    vectors = measured.vectors([*texts, "", "x" * 9_000])
    np.testing.assert_allclose(vectors[:39].mean(axis=0), 0.0, atol=0.01)
    assert np.abs(vectors).max() <= 5.0
    assert not vectors[39].any()
    assert Measured.of([]).vectors(["a", ""]).shape == (2, 0)
