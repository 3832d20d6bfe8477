import copy
from dataclasses import replace

import numpy as np
import pytest

from policies._ngrams import Ngrams, _leading_axes
from policies.baseline import BestOnAverage
from policies.lexical import Lexical
from router_gateway.core.experience import Experience
from router_gateway.testing import check_policy

KINDS = ("translate the word {} to french", "how much is {} plus two ?", "write a poem of {} lines")
TRUTH = np.array([[0.9, 0.2, 0.5], [0.1, 0.9, 0.5], [0.4, 0.4, 0.8]])


@pytest.fixture
def world(make):
    """Queries whose kind can be told from the words alone: the vectors say nothing."""

    def made(count, *, seed, missing=0.0):
        rng = np.random.default_rng(seed)
        kind = rng.integers(0, 3, count)
        quality = (rng.random((count, 3)) < TRUTH[kind]).astype(float)
        quality[rng.random(quality.shape) < missing] = np.nan
        experience = make.experience(np.ones((count, 2)), quality)
        texts = tuple(KINDS[k].format(f"w{rng.integers(500)}") for k in kind)
        return replace(experience, queries=replace(experience.queries, text=texts)), kind

    return made


def test_contract():
    check_policy(lambda: Lexical(dimensions=16))


def test_a_penalty_beyond_measure_gives_best_on_average(world):
    train, asked = world(60, seed=0, missing=0.3)[0], world(8, seed=1)[0].queries
    held, average = Lexical(penalty=1e12).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(held.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(held.stddev, average.stddev, atol=1e-6)


def test_without_any_text_it_is_best_on_average(make):
    train, asked = make.random(50, 3, missing=0.3), make.random(8, 1, seed=1).queries
    silent, average = Lexical().fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(silent.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(silent.stddev, average.stddev, atol=1e-6)


@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_the_wording_tells_which_endpoint_is_best(world, missing):
    policy = Lexical().fit(world(600, seed=2, missing=missing)[0])
    asked, kind = world(200, seed=3)
    quality = policy.score(asked.queries).quality
    assert (quality.argmax(axis=1) == TRUTH[kind].argmax(axis=1)).mean() > 0.97
    assert np.abs(quality - TRUTH[kind]).mean() < 0.1


def test_looks_tell_what_words_cannot(make):
    """Every word is new, so only length and figures differ between the kinds."""
    rng = np.random.default_rng(30)

    def made(count):
        kind = rng.integers(0, 2, count)
        quality = (rng.random((count, 2)) < np.array([[0.9, 0.1], [0.1, 0.9]])[kind]).astype(float)
        texts = tuple(
            " ".join(
                str(rng.integers(10**6)) if k else "".join(rng.choice([*"abcdefgh"], 8)) for _ in range(3 + 20 * k)
            )
            for k in kind
        )
        experience = make.experience(np.ones((count, 2)), quality)
        return replace(experience, queries=replace(experience.queries, text=texts)), kind

    train, (asked, kind) = made(300)[0], made(100)
    read, unread = (Lexical(looks=w).fit(train).score(asked.queries).quality.argmax(axis=1) for w in (0.1, 0.0))
    assert (read == kind).mean() > 0.95
    assert (unread == kind).mean() < 0.8


def test_without_looks_it_is_a_regression_on_words_alone(world):
    train, asked = world(100, seed=31)[0], world(8, seed=32)[0].queries
    policy = Lexical(dimensions=16, looks=0.0).fit(train)
    assert policy.model_.reader.width == policy.model_.reader.ngrams.axes.shape[1]
    small = Lexical(dimensions=16, looks=1e-9).fit(train).score(asked)
    np.testing.assert_allclose(policy.score(asked).quality, small.quality, atol=1e-6)


def test_an_empty_text_has_about_the_mean_and_learning_from_some_breaks_nothing(world):
    train, _ = world(400, seed=4)
    rows = np.arange(400)
    half = replace(train.queries, text=tuple(t if i % 2 else "" for i, t in enumerate(train.queries.text)))
    policy = Lexical().fit(replace(train, queries=half))
    silent = policy.score(half.take(rows[:1])).quality[0]
    np.testing.assert_allclose(silent, train.table()[0].mean(axis=0), atol=0.1)
    told, kind = world(200, seed=5)
    assert (policy.score(told.queries).quality.argmax(axis=1) == TRUTH[kind].argmax(axis=1)).mean() > 0.95


def test_partial_fit_equals_a_regression_on_everything_in_the_same_dimensions(world):
    train, _ = world(120, seed=6, missing=0.4)
    asked = world(20, seed=7)[0].queries
    early, late = train.select(train.query < 80), train.select(train.query >= 80)
    learned = Lexical().fit(early).partial_fit(late)
    at_once = Lexical().fit(early)
    at_once.model_ = at_once.model_.learn(late)
    by_two = Lexical().fit(early)
    by_two.partial_fit(late.select(late.query < 100)).partial_fit(late.select(late.query >= 100))
    np.testing.assert_allclose(by_two.score(asked).quality, learned.score(asked).quality, atol=1e-6)
    np.testing.assert_array_equal(at_once.score(asked).quality, learned.score(asked).quality)


def test_a_new_endpoint_is_learned_from_its_probes_and_leaves_the_others_as_they_were(world):
    train, _ = world(300, seed=8)
    known, probes = train.align(("e0", "e1")), world(150, seed=9)[0].align(("e2",))
    asked, kind = world(200, seed=10)
    before = Lexical().fit(known).score(asked.queries)
    after = Lexical().fit(known).partial_fit(probes).score(asked.queries)
    np.testing.assert_array_equal(after.quality[:, :2], before.quality)
    assert after.quality[kind == 2, 2].mean() > after.quality[kind != 2, 2].mean() + 0.15


def test_one_query_and_one_endpoint(make):
    one = make.experience([[1, 0]], [[1.0]])
    one = replace(one, queries=replace(one.queries, text=("hello hello",)))
    assert 0.5 < Lexical().fit(one).score(one.queries).quality[0, 0] <= 1.0


def test_an_endpoint_never_seen_is_a_coin_flip_with_doubt_a_half(world):
    train, _ = world(40, seed=11)
    scores = Lexical().fit(train.select(train.endpoint != 2)).score(train.queries)
    assert (scores.quality[:, 2] == 0.5).all()
    np.testing.assert_allclose(scores.stddev[:, 2], 0.5, atol=1e-6)


def test_a_long_text_is_read_at_both_ends():
    texts = [f"{start} {'filler ' * 3000} {end}" for start in ("alpha", "beta") for end in ("gamma", "delta")] * 3
    vectors = Ngrams.of(texts, width=8, seed=0).vectors(texts[:4])
    assert np.linalg.norm(vectors[:, None] - vectors[None], axis=2)[np.triu_indices(4, 1)].min() > 0.1


def test_vectors_do_not_depend_on_the_case_or_on_other_texts():
    ngrams = Ngrams.of(["one two three", "one two four", "five six", "five six seven"], width=4, seed=0)
    np.testing.assert_array_equal(ngrams.vectors(["One TWO three", "five"])[:1], ngrams.vectors(["one two three"]))
    assert not ngrams.vectors(["", "wholly unknown"]).any()


def test_a_copy_shares_the_model_and_learns_alone(world):
    policy = Lexical().fit(world(50, seed=12)[0])
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_
    assert twin.partial_fit(world(50, seed=13)[0]).model_ is not policy.model_


def test_what_is_learned_is_the_same_for_the_same_texts(world):
    train: Experience = world(100, seed=14)[0]
    first, again = Lexical().fit(train).score(train.queries), Lexical().fit(train).score(train.queries)
    np.testing.assert_array_equal(first.quality, again.quality)


def test_a_refit_keeps_the_dimensions_and_forgets_the_outcomes(world):
    first, second, asked = world(80, seed=20)[0], world(40, seed=21)[0], world(8, seed=22)[0].queries
    policy = Lexical(dimensions=16).fit(first)
    same = copy.deepcopy(policy).refit(first).score(asked)
    np.testing.assert_array_equal(same.quality, policy.score(asked).quality)
    reader = policy.model_.reader
    policy.refit(second)
    assert policy.model_.reader is reader
    assert policy.model_.ridge.count.tolist() == [41.0] * 3


@pytest.mark.parametrize("shape", [(60, 400), (400, 60)])
def test_axes_are_nearly_the_leading_singular_vectors(shape):
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    dense = (rng.random(shape) * (rng.random(shape) < 0.1)).astype(np.float32)
    axes = _leading_axes(csr_matrix(dense), 8, np.random.default_rng(1))
    np.testing.assert_allclose(axes.T @ axes, np.eye(8), atol=1e-4)
    best = np.sqrt((np.linalg.svd(dense, compute_uv=False)[:8] ** 2).sum())
    assert np.linalg.norm(dense @ axes) > 0.98 * best


def test_axes_beyond_the_rank_are_left_out():
    from scipy.sparse import csr_matrix

    one = np.outer(np.arange(1.0, 6.0), np.ones(7)).astype(np.float32)
    assert _leading_axes(csr_matrix(one), 4, np.random.default_rng(0)).shape == (7, 1)
