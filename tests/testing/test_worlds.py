import numpy as np
import pytest

from router_gateway.testing import World, specialists, steady, two_by_two

ALL = [specialists, steady, two_by_two]


@pytest.mark.parametrize("make", ALL)
def test_the_same_seeds_give_the_same_world(make):
    first, again = make(seed=4).experience(50, seed=5), make(seed=4).experience(50, seed=5)
    np.testing.assert_array_equal(first.queries.embedding, again.queries.embedding)
    np.testing.assert_array_equal(first.quality, again.quality)
    other = make(seed=4).experience(50, seed=6)
    assert not np.array_equal(first.queries.embedding, other.queries.embedding)


@pytest.mark.parametrize("make", ALL)
def test_outcomes_follow_the_truth(make):
    world = make(seed=1)
    experience = world.experience(4000, seed=2)
    _, cluster = world.queries(4000, seed=2)
    table, cost_usd = experience.table()
    for c in range(len(world.centres)):
        np.testing.assert_allclose(table[cluster == c].mean(axis=0), world.quality[c], atol=0.06)
    np.testing.assert_allclose(cost_usd.mean(axis=0), world.cost_usd)
    assert world.cost_usd[-1] == pytest.approx(10 * world.cost_usd[0])


@pytest.mark.parametrize("make", ALL)
def test_queries_are_unit_vectors_nearest_their_own_centre(make):
    world = make(seed=1)
    queries, cluster = world.queries(500, seed=2)
    np.testing.assert_allclose(np.linalg.norm(queries.embedding, axis=1), 1.0, atol=1e-6)
    assert ((queries.embedding @ world.centres.T).argmax(axis=1) == cluster).all()


def test_the_asked_share_of_cells_is_missing():
    experience = steady().experience(2000, seed=3, missing=0.4)
    assert len(experience) == pytest.approx(0.6 * 2000 * 4, rel=0.03)


def test_comparisons_agree_with_the_outcomes():
    experience = specialists().experience(300, seed=3)
    table, _ = experience.table()
    query, better, worse = experience.comparisons.T
    assert len(query) > 100
    assert (table[query, better] > table[query, worse]).all()


def test_regret_is_zero_for_the_best_and_counts_the_cost():
    world = two_by_two()
    cluster = np.array([0, 1])
    assert world.regret(cluster, np.array([0, 1])) == 0
    assert world.regret(cluster, np.array([0, 0])) == pytest.approx(0.4)  # hard queries lose 0.8, and are half
    assert world.regret(cluster, np.array([1, 1])) == 0  # where money plays no part
    assert world.regret(cluster, np.array([1, 1]), worth_usd=0.01) == pytest.approx(0.045)  # 9e-4 USD for nothing


def test_too_narrow_a_world_is_refused():
    with pytest.raises(ValueError, match="at least 4"):
        specialists(endpoints=4, width=3)


def test_a_world_of_ones_own():
    world = World(centres=np.eye(2, dtype=np.float32), quality=np.array([[1.0], [0.0]]), cost_usd=np.array([0.1]))
    experience = world.experience(40, seed=1)
    _, cluster = world.queries(40, seed=1)
    np.testing.assert_array_equal(experience.quality, (cluster == 0).astype(np.float32))
    assert len(experience.comparisons) == 0
