import copy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.baseline import BestOnAverage
from policies.knn import KNN
from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries
from router_gateway.testing import specialists, two_by_two


def queries_of(vectors, space="synthetic"):
    vectors = np.asarray(vectors, dtype=np.float32)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    count = len(vectors)
    return Queries(text=("",) * count, embedding=vectors, tokens_input=np.ones(count, dtype=np.int64), space=space)


def experience_of(vectors, quality, endpoints=None):
    quality = np.asarray(quality, dtype=np.float64)
    names = endpoints or tuple(f"e{i}" for i in range(quality.shape[1]))
    return Experience.from_table(queries_of(vectors), names, quality)


def by_hand(policy, train, asked):
    """The docstring's formula, written out for one query and one endpoint at a time."""
    table, _ = train.table()
    vectors = train.queries.embedding.astype(np.float64)
    s = policy.prior_weight
    quality, stddev = np.zeros((len(asked), table.shape[1])), np.zeros((len(asked), table.shape[1]))
    for i, x in enumerate(asked.embedding.astype(np.float64)):
        cosine = vectors @ x
        nearest = np.argsort(-cosine, kind="stable")[: policy.k]
        for e in range(table.shape[1]):
            outcomes = table[~np.isnan(table[:, e]), e]
            n = len(outcomes)
            m = (outcomes.sum() + 0.5) / (n + 1)
            v = ((outcomes**2).sum() + 0.5) / (n + 1) - m**2
            votes = [(np.exp(policy.sharpness * (cosine[j] - 1)), table[j, e]) for j in nearest]
            votes = [(a, q) for a, q in votes if not np.isnan(q)]
            w = sum(a for a, _ in votes)
            mean = (sum(a * q for a, q in votes) + s * m) / (w + s) if w + s > 0 else m
            share = s / (w + s) if w + s > 0 else 1.0
            count = w**2 / sum(a**2 for a, _ in votes) if votes else 0.0
            local = sum(a * q for a, q in votes) / w if votes else 0.0
            scatter = sum(a * (q - local) ** 2 for a, q in votes) / w if votes else 0.0
            spread = (count * scatter + v) / (count + 1)
            error = (1 - share) ** 2 * spread / (count + 1) + share**2 * (v / (s + 1) + v / (n + 1))
            quality[i, e] = mean
            stddev[i, e] = min(0.5, np.sqrt(error))
    return quality, stddev


VECTORS = np.random.default_rng(5).normal(size=(30, 6))
QUALITY = np.random.default_rng(6).random((30, 3))


def test_all_rows_equally_near_and_no_prior_give_the_column_means():
    scores = (
        KNN(k=1000, sharpness=0.0, prior_weight=0.0)
        .fit(experience_of(VECTORS, QUALITY))
        .score(queries_of(VECTORS[:4] + 1))
    )
    np.testing.assert_allclose(scores.quality, np.tile(QUALITY.mean(axis=0), (4, 1)), rtol=1e-6)


def test_a_prior_that_outweighs_everything_gives_best_on_average():
    train, asked = experience_of(VECTORS, QUALITY), queries_of(VECTORS[:4] + 1)
    heavy, average = KNN(prior_weight=1e12).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(heavy.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(heavy.stddev, average.stddev, atol=1e-5)


def test_one_neighbour_hit_exactly_gives_its_outcome():
    scores = KNN(k=1, prior_weight=0.0).fit(experience_of(VECTORS, QUALITY)).score(queries_of(VECTORS))
    np.testing.assert_allclose(scores.quality, QUALITY, rtol=1e-6)


def test_an_exact_repeat_is_found_among_near_duplicates():
    # At half precision these are all the same vector; the exact cosines must still pick the right one.
    vectors = np.array([[1.0, 0.0, 0.0]]) + 1e-4 * np.random.default_rng(1).normal(size=(20, 3))
    quality = np.random.default_rng(2).random((20, 1))
    policy = KNN(k=1, prior_weight=0.0).fit(experience_of(vectors, quality))
    asked = queries_of(vectors)
    exact = np.argmax(asked.embedding @ asked.embedding.T, axis=1)
    np.testing.assert_allclose(policy.score(asked).quality[:, 0], quality[exact, 0], rtol=1e-6)


masked_table = st.integers(1, 25).flatmap(
    lambda rows: st.lists(
        st.lists(st.one_of(st.just(float("nan")), st.floats(0, 1)), min_size=3, max_size=3),
        min_size=rows,
        max_size=rows,
    )
)


@settings(max_examples=60, deadline=None)
@given(
    table=masked_table,
    k=st.integers(1, 30),
    prior_weight=st.sampled_from([0.0, 0.25, 4.0]),
    sharpness=st.sampled_from([0.0, 7.0, 40.0]),
    seed=st.integers(0, 1000),
)
def test_masked_outcomes_follow_the_formula(table, k, prior_weight, sharpness, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(table), 6))
    train = experience_of(vectors, table)
    # A query nobody answered is not a neighbour, so the reference must not see it either.
    answered = np.unique(train.query)
    train = replace(train, queries=train.queries.take(answered), query=np.searchsorted(answered, train.query))
    asked = queries_of(np.random.default_rng(seed + 1).normal(size=(5, 6)))
    policy = KNN(k=k, prior_weight=prior_weight, sharpness=sharpness).fit(train)
    scores = policy.score(asked)
    scores.check(5)
    quality, stddev = by_hand(policy, train, asked)
    np.testing.assert_allclose(scores.quality, quality, atol=2e-5)
    np.testing.assert_allclose(scores.stddev, stddev, atol=2e-4)


def test_doubt_grows_with_distance_and_shrinks_with_evidence():
    world = specialists(seed=3)
    few, many = world.experience(40, seed=4), world.experience(2000, seed=5)
    near, _ = world.queries(20, seed=6)
    away = queries_of(-near.embedding)
    policy = KNN().fit(many)
    assert policy.score(near).stddev.max() < policy.score(away).stddev.min()
    assert policy.score(near).stddev.mean() < KNN().fit(few).score(near).stddev.mean()
    np.testing.assert_allclose(policy.score(away).quality.mean(), many.quality.mean(), atol=0.05)


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        scores = KNN(sharpness=20.0, prior_weight=0.25).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    worth_usd = 0.01
    policy = KNN().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / worth_usd
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=worth_usd) < 0.02


def test_equal_queries_are_one_row_with_the_mean_outcome():
    vectors = [[1, 0], [1, 0], [0, 1]]
    policy = KNN(k=1, prior_weight=0.0).fit(experience_of(vectors, [[1.0], [0.0], [0.25]]))
    assert [len(found) for found in policy.neighbours(queries_of([[1, 0]]), 10)] == [2]
    assert policy.score(queries_of([[1, 0], [0, 1]])).quality.ravel().tolist() == [0.5, 0.25]
    policy.partial_fit(experience_of([[1.0, -0.0]], [[1.0]]))
    assert policy.score(queries_of([[1, 0]])).quality[0, 0] == pytest.approx(2 / 3)


def test_queries_without_outcomes_are_no_neighbours():
    train = experience_of(VECTORS, QUALITY)
    policy = KNN().fit(train.select(train.query < 10))
    assert len(policy.neighbours(queries_of(VECTORS[:1]), 100)[0]) == 10


def test_the_oldest_rows_are_forgotten_and_a_repeat_is_young_again():
    policy = KNN(k=1, prior_weight=0.0, rows_max=3).fit(experience_of(np.eye(4)[:3], [[0.1], [0.2], [0.3]]))
    policy.partial_fit(experience_of(np.eye(4)[:1], [[0.1]]))  # the first is met again
    policy.partial_fit(experience_of(np.eye(4)[3:], [[0.4]]))  # so the second is the one to go
    found = policy.neighbours(queries_of([np.ones(4)]), 10)[0]
    assert sorted(round(neighbour.quality["e0"], 6) for neighbour in found) == [0.1, 0.3, 0.4]


def test_neighbours_are_named_nearest_first_with_what_was_observed():
    train = experience_of([[1, 0], [1, 1], [0, 1]], [[1.0, np.nan], [0.5, 0.25], [np.nan, 0.0]], endpoints=("a", "b"))
    [found] = KNN().fit(train).neighbours(queries_of([[1, 0.1]]), 2)
    assert [(n.row, n.quality) for n in found] == [(0, {"a": 1.0}), (1, {"a": 0.5, "b": 0.25})]
    assert found[0].cosine == pytest.approx(1 / np.sqrt(1.01), abs=1e-6)


def test_a_new_endpoint_leaves_the_others_as_they_were():
    train, asked = experience_of(VECTORS, QUALITY), queries_of(VECTORS[:5] + 1)
    before = KNN().fit(train).score(asked)
    with_new = experience_of(VECTORS, np.full((30, 1), 0.9), endpoints=("new",))
    after = KNN().fit(train).partial_fit(with_new).score(asked)
    assert after.endpoints == ("e0", "e1", "e2", "new")
    np.testing.assert_array_equal(after.quality[:, :3], before.quality)
    assert (after.quality[:, 3] > 0.8).all()


def test_a_copy_shares_memory_and_learns_alone():
    policy = KNN().fit(experience_of(VECTORS, QUALITY))
    twin = copy.deepcopy(policy)
    assert twin.memory_ is policy.memory_  # a copy of many rows costs nothing until it learns
    twin.partial_fit(experience_of(VECTORS + 1, QUALITY))
    assert twin.memory_ is not policy.memory_


def test_fitted_on_nothing_it_answers_the_prior():
    nothing = experience_of(VECTORS, np.full((30, 2), np.nan))
    scores = KNN().fit(nothing).score(queries_of(VECTORS[:2]))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()


def test_searching_leaves_the_threads_of_faiss_alone():
    import faiss

    before = faiss.omp_get_max_threads()
    KNN().fit(experience_of(VECTORS, QUALITY)).score(queries_of(VECTORS))
    assert faiss.omp_get_max_threads() == before


@pytest.fixture(scope="module")
def many():
    """A KNN that remembers more rows than it searches in full, and 40 queries like them (40, 256)."""
    rng = np.random.default_rng(7)
    subjects = rng.normal(size=(300, 256)) * np.geomspace(1.0, 0.05, 256)  # as of texts: few directions hold most
    drawn = subjects[rng.integers(0, len(subjects), 22_040)] + 0.5 * rng.normal(size=(22_040, 256)) * np.geomspace(
        1.0, 0.05, 256
    )
    quality = (rng.random((22_000, 2)) < 0.6).astype(np.float64)
    return KNN().fit(experience_of(drawn[:-40], quality)), queries_of(drawn[-40:])


def test_among_many_rows_nearly_all_of_the_nearest_are_found(many):
    policy, asked = many
    rows = policy.memory_.rows.embedding
    cosine = asked.embedding.astype(np.float64) @ rows.T.astype(np.float64)
    shares = []
    for query, found in zip(cosine, policy.neighbours(asked, 80), strict=True):
        nearest = set(np.argsort(-query, kind="stable")[:80].tolist())
        shares.append(len(nearest & {each.row for each in found}) / 80)
        assert [each.cosine for each in found] == pytest.approx([query[each.row] for each in found], abs=1e-6)
        assert found[0].row == query.argmax()
    assert np.mean(shares) > 0.97


def test_among_many_rows_a_batch_says_what_its_queries_would(many):
    policy, asked = many
    together = policy.score(asked)
    for i in range(len(asked)):
        alone = policy.score(asked.take(slice(i, i + 1)))
        np.testing.assert_array_equal(alone.quality[0], together.quality[i])
        np.testing.assert_array_equal(alone.stddev[0], together.stddev[i])


def test_many_rows_come_back_from_disk_as_they_were(many, tmp_path):
    policy, asked = many
    policy.save(tmp_path)
    np.testing.assert_array_equal(KNN.load(tmp_path).score(asked).quality, policy.score(asked).quality)
