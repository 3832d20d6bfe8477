import copy
from dataclasses import dataclass, replace

import numpy as np
import pytest

from policies.baseline import BestOnAverage
from policies.linear import Linear
from policies.lookahead import Lookahead
from router_gateway.testing import Check, checks, two_by_two


def answered(experience, *, width=3, seed=0):
    """Every answer is a vector that depends on the query, on the endpoint and on chance."""
    rng = np.random.default_rng(seed)
    vectors = experience.queries.embedding
    heads = rng.normal(size=(len(experience.endpoints), vectors.shape[1], width))
    said = np.einsum("nd,ndw->nw", vectors[experience.query], heads[experience.endpoint])
    return replace(experience, answers=(said + 0.1 * rng.normal(size=said.shape)).astype(np.float32))


def telling(make, rows, *, seed, width=64):
    """Two endpoints, good and bad by one direction of `width`, which the answers show and right-or-wrong blurs."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(rows, width))
    queries = make.queries(vectors)
    side = np.sqrt(width) * queries.embedding[:, :1].astype(np.float64)
    truth = 0.5 + 0.4 * np.tanh(side * np.array([[1.0, -1.0]]))
    right = (rng.random(truth.shape) < truth).astype(np.float64)
    seen = make.experience(vectors, right)
    return replace(seen, answers=np.repeat(side, 2, axis=1).reshape(-1, 1).astype(np.float32)), queries, truth


def same(first, second):
    np.testing.assert_array_equal(first.quality, second.quality)
    np.testing.assert_array_equal(first.stddev, second.stddev)


def test_without_weight_or_answers_it_reads_the_query_alone(make):
    train, asked = make.random(60, 3, missing=0.3), make.random(10, 1, seed=1).queries
    query_only = Linear(penalty=5.0).fit(train).score(asked)
    same(Lookahead(penalty=5.0, weight=0.0).fit(answered(train)).score(asked), query_only)
    same(Lookahead(penalty=5.0).fit(train).score(asked), query_only)
    silent = replace(train, answers=np.zeros((len(train), 3), dtype=np.float32))
    same(Lookahead(penalty=5.0).fit(silent).score(asked), query_only)


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_it_is_the_regression_on_the_query_and_on_every_expected_answer(make, missing):
    train, asked = answered(make.random(80, 3, missing=missing)), make.random(10, 1, seed=1).queries
    policy = Lookahead(penalty=5.0, weight=4.0, latent_penalty=2.0)
    vectors, heads = train.queries.embedding.astype(float), []
    for e in range(3):
        own = train.endpoint == e
        x, y = vectors[train.query[own]], train.answers[own].astype(float)
        x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        heads.append(np.linalg.solve(x.T @ x + 2.0 * np.eye(x.shape[1]), x.T @ y))
    expected = np.concatenate(heads, axis=1)
    scale = np.sqrt(4.0 / np.linalg.eigvalsh(expected @ expected.T)[-1])
    wide = np.concatenate([vectors, scale * vectors @ expected], axis=1)
    new = asked.embedding.astype(float)
    by_hand = Linear(penalty=5.0).fit(replace(train, queries=replace(train.queries, embedding=wide)))
    scores = by_hand.score(replace(asked, embedding=np.concatenate([new, scale * new @ expected], axis=1)))
    got = policy.fit(train).score(asked)
    np.testing.assert_allclose(got.quality, scores.quality, atol=1e-6)
    np.testing.assert_allclose(got.stddev, scores.stddev, atol=1e-6)


def test_answers_help_where_they_tell_what_matters(make):
    train, _, _ = telling(make, 150, seed=1)
    _, queries, truth = telling(make, 400, seed=2)
    ahead = ((Lookahead().fit(train).score(queries).quality - truth) ** 2).mean()
    alone = ((Lookahead(weight=0.0).fit(train).score(queries).quality - truth) ** 2).mean()
    average = ((BestOnAverage().fit(train).score(queries).quality - truth) ** 2).mean()
    assert ahead < 0.6 * alone
    assert ahead < 0.5 * average


def test_answers_that_tell_nothing_do_little_harm(make):
    train, _, _ = telling(make, 400, seed=1)
    _, queries, truth = telling(make, 400, seed=2)
    noise = np.random.default_rng(3).normal(size=(len(train), 8)).astype(np.float32)
    misled = ((Lookahead().fit(replace(train, answers=noise)).score(queries).quality - truth) ** 2).mean()
    alone = ((Lookahead(weight=0.0).fit(train).score(queries).quality - truth) ** 2).mean()
    assert misled < 1.25 * alone


def test_a_penalty_beyond_measure_gives_best_on_average(make):
    train, asked = answered(make.random(50, 3, missing=0.3)), make.random(8, 1, seed=1).queries
    held, average = Lookahead(penalty=1e12).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(held.quality, average.quality, atol=1e-5)
    np.testing.assert_allclose(held.stddev, average.stddev, atol=1e-5)


def test_an_unknown_answer_is_left_out_and_its_outcome_is_not(make):
    train = answered(make.random(60, 2))
    gaps = np.random.default_rng(1).random(len(train)) < 0.4
    partly = replace(train, answers=np.where(gaps[:, None], 0.0, train.answers))
    known = Lookahead().fit(partly.select(~gaps))
    np.testing.assert_array_equal(Lookahead().fit(partly).model_.stretch, known.model_.stretch)
    assert Lookahead().fit(partly).model_.ridge.count.tolist() == [61.0, 61.0]


def test_a_new_endpoint_needs_outcomes_and_no_answers(make):
    train = answered(make.random(80, 2, seed=5))
    probes = make.experience(train.queries.embedding[:30], np.random.default_rng(6).random((30, 1)), ("new",))
    asked = make.random(10, 1, seed=7).queries
    before = Lookahead().fit(train).score(asked)
    after = Lookahead().fit(train).partial_fit(probes).score(asked)
    assert after.endpoints == ("e0", "e1", "new")
    np.testing.assert_array_equal(after.quality[:, :2], before.quality)
    assert np.ptp(after.quality[:, 2]) > 0
    assert (after.stddev[:, 2] < 0.5).all()


def test_partial_fit_equals_a_refit_with_the_same_answers(make):
    train = make.random(120, 3, width=16, missing=0.5, seed=3)
    asked = make.random(20, 1, width=16, seed=4).queries
    early, late = answered(train).select(train.query < 60), train.select(train.query >= 60)
    told = replace(answered(train), answers=np.where(train.query[:, None] < 60, answered(train).answers, 0.0))
    pieces, refit = Lookahead().fit(early).partial_fit(late).score(asked), Lookahead().fit(told).score(asked)
    np.testing.assert_allclose(pieces.quality, refit.quality, atol=1e-6)
    np.testing.assert_allclose(pieces.stddev, refit.stddev, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 3), (20, 1), (1, 1)])
def test_one_query_and_one_endpoint_are_enough(make, shape):
    scores = Lookahead().fit(answered(make.random(*shape))).score(make.random(4, 1, seed=1).queries)
    assert scores.quality.shape == (4, shape[1])
    scores.check(4)


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Lookahead().fit(answered(world.experience(1000, seed=1)))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_a_copy_shares_matrices_and_learns_alone(make):
    policy = Lookahead().fit(answered(make.random(20, 2)))
    twin = copy.deepcopy(policy)
    assert twin.model_ is policy.model_
    assert twin.partial_fit(make.random(5, 2, seed=1)).model_ is not policy.model_


@dataclass(kw_only=True)
class Told(Lookahead):
    """The contract's data has no answers; here it gets some."""

    def fit(self, experience):
        return super().fit(answered(experience))


@pytest.mark.parametrize("check", checks(), ids=str)
def test_the_contract_holds_with_answers_too(check: Check):
    check(lambda: Told())
