import copy

import numpy as np
import pytest

from policies._kmeans import _spread_out, centroids
from policies._readers import learned_readers
from policies.baseline import BestOnAverage
from policies.clusters import Clusters
from router_gateway.testing import check_policy, specialists, two_by_two


def by_hand(policy, train, asked):
    """The docstring's formula, one query and one endpoint at a time."""
    cells, s = policy.table_.cells, policy.prior_weight
    centres, share = cells.centres.astype(float), cells.share
    table, _ = train.table()
    home = [int(np.argmin(((centres - x) ** 2).sum(axis=1))) for x in train.queries.embedding.astype(float)]
    quality, stddev = np.zeros((len(asked), table.shape[1])), np.zeros((len(asked), table.shape[1]))
    for i, x in enumerate(asked.embedding.astype(float)):
        distance = ((centres - x) ** 2).sum(axis=1)
        near = np.argsort(distance, kind="stable")[: policy.top]
        w = np.exp(-policy.sharpness * distance[near] / 2)
        w /= w.sum()
        for e in range(table.shape[1]):
            known = ~np.isnan(table[:, e])
            everything = table[known, e].astype(float)
            n_all = len(everything)
            m = (everything.sum() + 0.5) / (n_all + 1)
            m_2 = ((everything**2).sum() + 0.5) / (n_all + 1)
            v = m_2 - m**2
            own = common = 0.0
            for k, weight in zip(near, w, strict=True):
                here = table[known & (np.array(home) == k), e].astype(float)
                g, big = share[k], len(here) + share[k]
                x_k = (here.sum() + g / 2 + s * m) / (big + s)
                y = ((here**2).sum() + g / 2 + s * m_2) / (big + s) - x_k**2
                h, r = s / (big + s), big / (n_all + 1)
                quality[i, e] += weight * x_k
                own += weight**2 * ((1 - h + h * r) ** 2 * y / big + h**2 * (1 - r) ** 2 * v / (s + 1))
                common += weight * h * np.sqrt(max(0.0, 1 - r) * v / (n_all + 1))
            stddev[i, e] = min(0.5, np.sqrt(own + common**2))
    return quality, stddev


@pytest.mark.parametrize(("top", "sharpness"), [(1, 0.0), (3, 10.0), (9, 0.0)])
@pytest.mark.parametrize("prior_weight", [0.0, 5.0])
@pytest.mark.parametrize("missing", [0.0, 0.6])
def test_scores_follow_the_formula(make, top, sharpness, prior_weight, missing):
    train, asked = make.random(60, 3, missing=missing), make.random(10, 1, seed=1).queries
    policy = Clusters(clusters=9, top=top, sharpness=sharpness, prior_weight=prior_weight).fit(train)
    scores = policy.score(asked)
    quality, stddev = by_hand(policy, train, asked)
    np.testing.assert_allclose(scores.quality, quality, atol=1e-6)
    np.testing.assert_allclose(scores.stddev, stddev, atol=1e-6)


@pytest.mark.parametrize("prior_weight", [0.0, 1.0, 50.0])
def test_one_cluster_is_best_on_average(make, prior_weight):
    train, asked = make.random(50, 3, missing=0.3), make.random(8, 1, seed=1).queries
    one = Clusters(clusters=1, prior_weight=prior_weight).fit(train).score(asked)
    average = BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(one.quality, average.quality, atol=1e-6)
    np.testing.assert_allclose(one.stddev, average.stddev, atol=1e-6)


def test_a_prior_that_outweighs_everything_gives_best_on_average(make):
    train, asked = make.random(50, 3), make.random(8, 1, seed=1).queries
    heavy, average = Clusters(prior_weight=1e9).fit(train).score(asked), BestOnAverage().fit(train).score(asked)
    np.testing.assert_allclose(heavy.quality, average.quality, atol=1e-6)


def test_each_kind_of_query_has_its_own_best_endpoint():
    world = specialists(seed=1)
    policy = Clusters(clusters=4, top=1).fit(world.experience(800, seed=2))
    queries, cluster = world.queries(300, seed=3)
    quality = policy.score(queries).quality
    assert world.regret(cluster, quality.argmax(axis=1)) == 0
    np.testing.assert_allclose(quality, world.quality[cluster], atol=0.12)


def test_regret_against_the_known_best_is_below_two_percent():
    world = two_by_two(seed=2)
    policy = Clusters().fit(world.experience(1000, seed=1))
    queries, cluster = world.queries(500, seed=3)
    value = policy.score(queries).quality - world.cost_usd / 0.01
    assert world.regret(cluster, value.argmax(axis=1), worth_usd=0.01) < 0.02


def test_stddev_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(20):
        scores = Clusters(clusters=4).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_probes_place_a_new_endpoint_and_leave_the_others_as_they_were():
    world = specialists(seed=4)
    everything, probes = world.experience(800, seed=5), world.experience(192, seed=6)
    known = everything.align(world.endpoints[:-1])
    queries, cluster = world.queries(300, seed=7)
    before = Clusters().fit(known).score(queries)
    policy = Clusters().fit(known).partial_fit(probes.align(world.endpoints[-1:]))
    after = policy.score(queries)
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    assert after.quality[cluster == 3, -1].min() > after.quality[cluster != 3, -1].max()
    gained = world.regret(cluster, before.quality.argmax(axis=1)) - world.regret(cluster, after.quality.argmax(axis=1))
    assert gained > 0.9 * 0.5 * (cluster == 3).mean(), "the new endpoint is 0.5 better on its own kind"


def test_partial_fit_adds_what_fit_would_have_counted(make):
    train = make.random(60, 3, missing=0.5)
    early, late = train.select(train.query < 40), train.select(train.query >= 40)
    for half_life in (None, 10.0):
        at_once = Clusters(clusters=5, half_life=half_life).fit(early).partial_fit(late)
        by_two = Clusters(clusters=5, half_life=half_life).fit(early)
        by_two.partial_fit(late.select(late.query < 50)).partial_fit(late.select(late.query >= 50))
        np.testing.assert_allclose(by_two.table_.cells.moments, at_once.table_.cells.moments, rtol=1e-12)


def test_a_half_life_halves(make):
    vectors = np.ones((5, 2))
    quality = np.array([[1.0, 1.0], [0.0, np.nan], [0.0, np.nan], [np.nan, 0.0], [0.0, np.nan]])
    cells = Clusters(clusters=1, half_life=3.0).fit(make.experience(vectors, quality)).table_.cells
    # Three later outcomes of e0 halve its first; e1 has had one later outcome of its own.
    np.testing.assert_allclose(cells.moments[1, 0], [0.5, 0.5 ** (1 / 3)])
    np.testing.assert_allclose(cells.moments[0, 0], [0.5 + 0.5 ** (2 / 3) + 0.5 ** (1 / 3) + 1, 0.5 ** (1 / 3) + 1])


def test_forgetting_follows_an_endpoint_that_broke(make):
    world = specialists(seed=1)
    good = world.experience(400, seed=2)
    broken = make.experience(world.queries(200, seed=3)[0].embedding, np.zeros((200, 1)), world.endpoints[:1])
    queries, cluster = world.queries(100, seed=4)
    never, soon = Clusters(clusters=4), Clusters(clusters=4, half_life=30.0)
    at_home = [p.fit(good).partial_fit(broken).score(queries).quality[cluster == 0, 0] for p in (never, soon)]
    assert at_home[1].max() < 0.1 < at_home[0].min()


def test_fewer_distinct_queries_than_clusters(make):
    policy = Clusters(clusters=50).fit(make.experience([[1, 0], [1, 0], [0, 1]], [[1.0], [1.0], [0.0]]))
    assert len(policy.table_.cells.centres) == 2
    nothing = Clusters().fit(make.experience(np.eye(2), np.full((2, 2), np.nan)))
    scores = nothing.score(make.queries(np.eye(2)))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()


def test_centroids_are_the_same_whenever_asked_and_bounded_in_work(monkeypatch):
    points = np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32)
    first = centroids(points, clusters=20, seed=1)
    np.testing.assert_array_equal(first, centroids(points, clusters=20, seed=1))
    assert not np.array_equal(first, centroids(points, clusters=20, seed=2))
    monkeypatch.setattr("policies._kmeans.ROWS_MAX", 100)
    thinned = centroids(points, clusters=100, seed=1)
    away = np.linalg.norm(thinned[:, None] - points[None], axis=2).min(axis=1)
    assert len(thinned) == 100
    assert away.max() < 1e-5, "of a hundred points each is its own centre"


def test_a_copy_shares_the_table_and_learns_alone(make):
    policy = Clusters().fit(make.random(20, 2))
    twin = copy.deepcopy(policy)
    assert twin.table_ is policy.table_
    assert twin.partial_fit(make.random(5, 2, seed=1)).table_ is not policy.table_


def misleading(make, count, seed):
    """Two endpoints, good on one side each; queries bunch along directions that have nothing to do with it."""
    rng = np.random.default_rng(seed)
    side = rng.normal(size=count)
    bunch = 1.5 * np.eye(6)[rng.integers(0, 6, count)] + 0.1 * rng.normal(size=(count, 6))
    chance = np.stack([1 / (1 + np.exp(-4 * side)), 1 / (1 + np.exp(4 * side))], axis=1)
    vectors = np.concatenate([0.5 * side[:, None], bunch], axis=1)
    return make.experience(vectors, (rng.random((count, 2)) < chance).astype(float)), chance


def test_the_learned_map_keeps_the_contract():
    check_policy(lambda: Clusters(learned=True, steps=20))


@pytest.mark.parametrize("top", [1, 8, 200])
def test_a_learned_map_without_steps_is_soft_k_means_to_the_bit(make, top):
    train, asked = make.random(150, 3, missing=0.4), make.random(20, 1, seed=1).queries
    plain = Clusters(clusters=12, top=top).fit(train).score(asked)
    still = Clusters(clusters=12, top=top, learned=True, steps=0).fit(train).score(asked)
    np.testing.assert_array_equal(still.quality, plain.quality)
    np.testing.assert_array_equal(still.stddev, plain.stddev)


def test_a_learned_map_is_a_softmax_of_directions(make):
    train, asked = make.random(150, 3), make.random(20, 1, seed=1).queries
    policy = Clusters(clusters=12, top=12, learned=True, steps=40).fit(train)
    readers = policy.table_.cells.readers.astype(float)
    assert np.abs(readers - policy.table_.cells.centres).max() > 1e-3
    theta = policy.sharpness * readers
    logit = asked.embedding @ theta.T - (theta**2).sum(axis=1) / (2 * policy.sharpness)
    weight = np.exp(logit - logit.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(policy.score(asked).quality, weight @ policy.table_._read[:, 0], atol=1e-5)


def test_the_map_moves_down_the_cross_entropy_it_claims():
    """One query read about evenly by two kinds: the readers move so that the better kind counts more."""
    centres = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    points = np.array([[0.9, 0.1], [0.1, 0.9], [0.6, 0.8]], dtype=np.float32)
    quality = np.array([[1.0], [0.0], [1.0]])
    moved = learned_readers(
        points, np.array([0, 1, 1]), quality, np.ones((3, 1)), centres=centres,
        prior=np.full((2, 1), 0.5), prior_weight=np.full((2, 1), 0.5),
        top=2, sharpness=5.0, steps=20, hold=0.0, seed=0,
    )  # fmt: skip
    nearer = [((points[2] - r[1]) ** 2).sum() - ((points[2] - r[0]) ** 2).sum() for r in (centres, moved)]
    assert nearer[1] > nearer[0], "what succeeded is read nearer to the kind that succeeds"


def test_reading_what_was_learned_beats_reading_by_distance(make):
    train, _ = misleading(make, 1500, seed=1)
    asked, truth = misleading(make, 500, seed=2)
    options = {"clusters": 24, "sharpness": 10.0}
    lost = [
        np.sqrt(np.mean((policy.fit(train).score(asked.queries).quality - truth) ** 2))
        for policy in (Clusters(**options), Clusters(**options, learned=True), BestOnAverage())
    ]
    assert lost[1] < 0.93 * lost[0] < 0.93 * lost[2]


def test_what_was_learned_serves_an_endpoint_that_comes_later(make):
    world = specialists(seed=4, endpoints=6)
    everything, probes = world.experience(800, seed=5), world.experience(192, seed=6)
    queries, cluster = world.queries(300, seed=7)
    policy = Clusters(learned=True).fit(everything.align(world.endpoints[:-1]))
    before, readers = policy.score(queries), policy.table_.cells.readers
    after = policy.partial_fit(probes.align(world.endpoints[-1:])).score(queries)
    assert policy.table_.cells.readers is readers
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    assert world.regret(cluster, after.quality.argmax(axis=1)) < 0.02


def test_a_strong_hold_keeps_the_map_where_it_was(make):
    train = make.random(200, 3)
    loose, held = (
        np.abs(
            (c := Clusters(clusters=12, learned=True, steps=100, hold=h).fit(train).table_.cells).readers - c.centres
        )
        for h in (0.0, 500.0)
    )
    assert held.max() < 0.2 * loose.max()


def test_a_learned_map_of_nothing_is_a_coin_flip(make):
    nothing = make.experience(np.eye(2), np.full((2, 2), np.nan))
    scores = Clusters(learned=True).fit(nothing).score(make.queries(np.eye(2)))
    assert (scores.quality == 0.5).all()
    assert (scores.stddev == 0.5).all()


def test_stddev_of_the_learned_map_is_the_error_one_may_expect():
    world = specialists(seed=8)
    queries, cluster = world.queries(300, seed=9)
    errors = []
    for seed in range(8):
        scores = Clusters(clusters=4, learned=True).fit(world.experience(120, seed=100 + seed)).score(queries)
        errors.append((scores.quality - world.quality[cluster]) / scores.stddev)
    assert 0.6 < np.sqrt(np.mean(np.square(errors))) < 1.4


def test_a_folder_saved_without_readers_still_loads(make, tmp_path):
    import json

    train, asked = make.random(60, 3), make.random(8, 1, seed=1).queries
    policy = Clusters(clusters=6).fit(train)
    policy.save(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    for name in ("learned", "steps", "hold"):
        del state["parameters"][name]
    (tmp_path / "state.json").write_text(json.dumps(state))
    np.testing.assert_array_equal(Clusters.load(tmp_path).score(asked).quality, policy.score(asked).quality)


@pytest.mark.parametrize("learned", [False, True])
def test_a_refit_keeps_the_kinds_and_forgets_the_outcomes(make, learned):
    first, second, asked = make.random(80, 3, seed=30), make.random(40, 3, seed=31), make.random(8, 1, seed=32).queries
    policy = Clusters(clusters=6, learned=learned, steps=10).fit(first)
    same = copy.deepcopy(policy).refit(first).score(asked)
    np.testing.assert_array_equal(same.quality, policy.score(asked).quality)
    centres = policy.table_.cells.centres
    policy.refit(second)
    np.testing.assert_array_equal(policy.table_.cells.centres, centres)
    assert policy.table_.cells.moments[0].sum() == len(second)


def test_starts_are_spread_out_and_never_twice_the_same():
    rng = np.random.default_rng(0)
    points = np.repeat(10.0 * np.eye(5), 20, axis=0) + 0.1 * rng.normal(size=(100, 5))
    points = np.concatenate([points, points[:50]]).astype(np.float32)  # some occur twice
    starts = _spread_out(points, 5, rng)
    assert sorted(starts.argmax(axis=1).tolist()) == list(range(5)), "one of each heap"
    assert len(np.unique(_spread_out(points, 100, rng), axis=0)) == 100
