import itertools

import numpy as np
import pytest

from policies._logistic import Logistic
from policies._pool import best_pool
from policies.baseline import BestOnAverage
from policies.composed import Composed
from router_gateway.core.errors import BadParameters
from router_gateway.core.experience import Experience
from router_gateway.testing import check_policy, specialists, two_by_two


def by_enumeration(quality, traffic, endpoints_max, sizes, size_max):
    """The best worth of any subset of endpoints that fits."""
    endpoints = quality.shape[1]
    most = endpoints if endpoints_max is None else endpoints_max
    room = np.inf if size_max is None else size_max
    subsets = itertools.chain(*(itertools.combinations(range(endpoints), n) for n in range(1, most + 1)))
    return max(traffic @ quality[:, list(s)].max(axis=1) for s in subsets if sizes[list(s)].sum() <= room)


@pytest.mark.parametrize(("endpoints_max", "size_max"), [(None, 3.0), (1, None), (2, None), (3, 2.5), (7, 100.0)])
@pytest.mark.parametrize("seed", range(6))
def test_the_pool_is_the_best_of_all_that_fit(endpoints_max, size_max, seed):
    rng = np.random.default_rng(seed)
    quality, traffic, sizes = rng.random((5, 7)), rng.integers(0, 40, 5).astype(float), rng.uniform(0.3, 2.0, 7)
    kept = best_pool(quality, traffic, endpoints_max=endpoints_max, sizes=sizes, size_max=size_max)
    assert kept.any()
    assert kept.sum() <= (endpoints_max or 7)
    assert sizes[kept].sum() <= (size_max or np.inf)
    worth = traffic @ quality[:, kept].max(axis=1)
    assert worth == pytest.approx(by_enumeration(quality, traffic, endpoints_max, sizes, size_max), abs=1e-9)


def test_a_pool_without_room_for_anybody_is_refused(make):
    policy = Composed(sizes={"e0": 5.0, "e1": 6.0}, size_max=4.0)
    with pytest.raises(BadParameters, match="size_max 4"):
        policy.fit(make.random(20, 2))
    with pytest.raises(ValueError, match="without size_max"):
        Composed(sizes={"e0": 5.0})


@pytest.mark.parametrize("prior_weight", [0.0, 5.0])
def test_one_category_is_best_on_average(make, prior_weight):
    train, asked = make.random(50, 3, missing=0.3), make.random(8, 1, seed=1).queries
    one = Composed(categories=1, prior_weight=prior_weight).fit(train).score(asked)
    average = BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(one.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(one.stddev, average.stddev, atol=1e-6)


def test_where_nothing_is_certain_it_is_best_on_average(make):
    train, asked = make.random(80, 3, missing=0.3), make.random(8, 1, seed=1).queries
    doubting = Composed(certainty_min=1.0).fit(train).score(asked)
    average = BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(doubting.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(doubting.stddev, average.stddev, atol=1e-6)


def test_certain_and_without_a_limit_it_is_a_hard_table_of_categories():
    world = specialists(seed=1)
    train = world.experience(400, seed=2, missing=0.3)
    policy = Composed(categories=4, certainty_min=0.0, prior_weight=0.0).fit(train)
    seen = np.unique(train.query)
    home, _ = policy.table_.cells.router.classify(train.queries.embedding[seen])
    queries, _ = world.queries(100, seed=3)
    category, _ = policy.table_.cells.router.classify(queries.embedding)
    table = train.table()[0][seen]
    share = (np.bincount(home, minlength=4) + 0.25) / (len(seen) + 1)
    scores = policy.score(queries)
    for k in range(4):
        own = table[home == k]
        n, total = (~np.isnan(own)).sum(axis=0), np.nansum(own, axis=0)
        expected = (total + share[k] / 2) / (n + share[k])
        got = scores.quality[category == k]
        np.testing.assert_allclose(got, np.broadcast_to(expected, got.shape), atol=1e-6)


def test_each_category_has_its_own_best_endpoint():
    world = specialists(seed=1)
    train = world.experience(800, seed=2)
    queries, cluster = world.queries(300, seed=3)
    lost = world.regret(cluster, Composed(categories=4).fit(train).score(queries).quality.argmax(axis=1))
    blind = world.regret(cluster, BestOnAverage().fit(train).score(queries).quality.argmax(axis=1))
    assert lost < 0.01 < 0.3 < blind


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Composed(categories=4).fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        scores = Composed(categories=4).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_a_limited_pool_keeps_who_serves_the_commonest_categories_and_drops_the_rest():
    world = specialists(seed=1)
    train = world.experience(800, seed=2)
    cluster = world.queries(800, seed=2)[1]
    rare = cluster >= 2
    few = train.select(~rare[train.query] | (train.query % 8 == 0))
    policy = Composed(categories=4, pool_max=2).fit(few)
    assert policy.pool == world.endpoints[:2]
    scores = policy.score(world.queries(50, seed=3)[0])
    assert (scores.quality[:, 2:] == 0).all()
    assert (scores.stddev[:, 2:] == 0).all()
    assert Composed(categories=4).fit(few).pool == world.endpoints


def test_a_large_endpoint_gives_way_to_several_small_ones():
    world = specialists(seed=1)
    sizes = dict(zip(world.endpoints, (10.0, 3.0, 3.0, 3.0), strict=True))
    policy = Composed(categories=4, sizes=sizes, size_max=10.0).fit(world.experience(800, seed=2))
    assert policy.pool == world.endpoints[1:]


def test_probes_judge_a_new_endpoint_by_category_and_the_pool_is_picked_anew():
    world = specialists(seed=4)
    known = world.experience(800, seed=5).align(world.endpoints[:-1])
    probes = world.experience(192, seed=6).align(world.endpoints[-1:])
    queries, cluster = world.queries(300, seed=7)
    free = Composed(categories=4).fit(known)
    before = free.score(queries)
    after = free.partial_fit(probes).score(queries)
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    assert after.quality[cluster == 3, -1].min() > 0.7
    assert after.quality[cluster != 3, -1].max() < 0.6
    perfect = probes.quality * 0 + 1
    better = Experience(**{name: getattr(probes, name) for name in probes.__slots__} | {"quality": perfect})
    narrow = Composed(categories=4, pool_max=1).fit(known)
    assert narrow.partial_fit(better).pool == world.endpoints[-1:]


def test_few_queries_make_few_categories(make):
    assert len(Composed().fit(make.random(40, 2)).table_.cells.router) <= 5
    single = Composed().fit(make.experience([[1.0, 0.0]], [[1.0, np.nan]])).score(make.queries([[0.0, 1.0]]))
    np.testing.assert_allclose(single.quality, [[0.75, 0.5]])
    assert single.stddev[0, 1] == 0.5


@pytest.mark.parametrize("limit", [{}, {"pool_max": 2}, {"sizes": {"endpoint-0": 2.0}, "size_max": 1.0}])
def test_it_keeps_the_contract(limit):
    check_policy(lambda: Composed(**limit), beats_random=not limit)  # what is dropped moves no more


def test_two_classes_are_told_apart_as_many_are():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(size=(30, 4)) + 2, rng.normal(size=(30, 4)) - 2])
    label = np.repeat([0, 1], 30)
    best, probability = Logistic.fit(points, label, penalty=1.0).classify(points)
    assert (best == label).all()
    assert ((probability > 0.5) & (probability <= 1)).all()
    single = Logistic.fit(points, label * 0, penalty=1.0)
    assert single.classify(points)[1].tolist() == [1.0] * 60
