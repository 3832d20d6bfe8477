import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.evaluation.splits import (
    GROUPS_MAX,
    SealBroken,
    Sealed,
    endpoints_apart,
    hash_order,
    partition,
    strata,
    task_groups,
)


def table(benchmark_of, tasks: list[str], **more):
    count = len(tasks)
    return benchmark_of(np.zeros((count, 2)), np.ones((count, 2)), tasks=tuple(tasks), **more)


def test_parts_are_disjoint_complete_and_of_the_asked_size(benchmark_of):
    parts = partition(table(benchmark_of, ["a"] * 100 + ["b"] * 50), (0.6, 0.1, 0.3), seed=3)
    assert [len(p) for p in parts] == [90, 15, 45]
    assert sorted(np.concatenate(parts).tolist()) == list(range(150))


def test_every_task_is_divided_alike(benchmark_of):
    train, test = partition(table(benchmark_of, ["a"] * 100 + ["b"] * 20), (0.7, 0.3), seed=0)
    assert ((train < 100).sum(), (train >= 100).sum()) == (70, 14)
    assert ((test < 100).sum(), (test >= 100).sum()) == (30, 6)


def test_tasks_too_small_to_divide_are_divided_together(benchmark_of):
    singles = table(benchmark_of, [f"task {i}" for i in range(40)])
    assert len(set(strata(singles).tolist())) == 1
    train, test = partition(singles, (0.7, 0.3), seed=0)
    assert (len(train), len(test)) == (28, 12)


def test_the_text_decides_and_not_the_place(benchmark_of):
    prompts = [f"prompt {i}" for i in range(60)]
    order = np.random.default_rng(0).permutation(60)
    one = table(benchmark_of, ["a"] * 60, prompts=prompts)
    other = table(benchmark_of, ["a"] * 60, prompts=[prompts[i] for i in order])
    train, _ = partition(one, (0.7, 0.3), seed=1)
    shuffled, _ = partition(other, (0.7, 0.3), seed=1)
    assert {one.prompts[i] for i in train} == {other.prompts[i] for i in shuffled}


def test_another_seed_is_another_split(benchmark_of):
    whole = table(benchmark_of, ["a"] * 60)
    first, second = (partition(whole, (0.5, 0.5), seed=seed)[0] for seed in (0, 1))
    assert set(first.tolist()) != set(second.tolist())
    np.testing.assert_array_equal(first, partition(whole, (0.5, 0.5), seed=0)[0])


@pytest.mark.parametrize("fractions", [(0.5, 0.6), (1.0, 0.0), (0.7,)])
def test_fractions_must_sum_to_one(benchmark_of, fractions):
    with pytest.raises(ValueError, match="sum to 1"):
        partition(table(benchmark_of, ["a"] * 10), fractions, seed=0)


def test_leaving_a_task_out_covers_every_row_once(benchmark_of):
    groups = task_groups(table(benchmark_of, ["b", "a", "b", "c"]))
    assert {name: rows.tolist() for name, rows in groups.items()} == {"a": [1], "b": [0, 2], "c": [3]}


def test_many_tasks_share_parts(benchmark_of):
    tasks = [f"task {i}" for i in range(100)] + ["large"] * 50
    groups = task_groups(table(benchmark_of, tasks))
    assert len(groups) == GROUPS_MAX
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(150))
    assert groups["large"].tolist() == list(range(100, 150))


@given(st.integers(4, 60), st.integers(0, 50))
def test_endpoints_are_parted_in_two(count, seed):
    names = [f"model {i}" for i in range(count)]
    learned, arriving = endpoints_apart(names, seed=seed)
    assert sorted([*learned, *arriving]) == list(range(count))
    assert len(arriving) == max(2, round(count / 3))
    assert len(learned) >= 2


def test_three_endpoints_cannot_be_parted():
    with pytest.raises(ValueError, match="four endpoints"):
        endpoints_apart(["a", "b", "c"], seed=0)


@given(st.lists(st.text(), min_size=1), st.text())
def test_a_rank_depends_on_text_and_salt_alone(texts, salt):
    ranks = hash_order(texts, salt=salt)
    assert ((ranks >= 0) & (ranks < 1)).all()
    np.testing.assert_array_equal(ranks[::-1], hash_order(texts[::-1], salt=salt))


def test_a_seal_opens_once_for_each_policy_and_seed(benchmark_of):
    outcomes = table(benchmark_of, ["a"] * 4)
    sealed = Sealed(outcomes)
    assert sealed.open(policy="knn", seed=0) is outcomes
    assert sealed.open(policy="knn", seed=1) is outcomes
    assert sealed.open(policy="linear", seed=0) is outcomes
    with pytest.raises(SealBroken, match="knn has seen the test outcomes of seed 1"):
        sealed.open(policy="knn", seed=1)
