import numpy as np
import pytest

from router_gateway.core.errors import NotFitted, PolicyError
from router_gateway.evaluation.references import TaskTable, always, best_column, cheapest_column, uniform
from router_gateway.evaluation.sitting import experience

NAN = np.nan


def test_the_task_table_knows_the_best_endpoint_of_each_task(prepared_of, world):
    prepared = prepared_of(world(120))
    task_of = {query.text: task for query, task in zip(prepared.queries, prepared.table.tasks, strict=True)}
    table = TaskTable(task_of=task_of).fit(experience(prepared, np.isfinite(prepared.table.quality)))
    scores = table.score(prepared.batch(np.arange(len(prepared))))
    tasks = np.array(prepared.table.tasks)
    for task in ("sums", "poems", "laws"):
        own = prepared.table.quality[tasks == task]
        # 40 outcomes, and one vote for the endpoint's overall mean (itself with half a right answer added)
        overall = (prepared.table.quality.sum(axis=0) + 0.5) / 121
        expected = (own.sum(axis=0) + overall) / 41
        np.testing.assert_allclose(scores.quality[tasks == task], np.tile(expected, (40, 1)), rtol=1e-6)
    scores.check(len(prepared))


def test_a_task_never_seen_is_the_endpoints_mean(prepared_of, world):
    prepared = prepared_of(world(60))
    tasks = np.array(prepared.table.tasks)
    task_of = {query.text: task for query, task in zip(prepared.queries, tasks, strict=True)}
    table = TaskTable(task_of=task_of).fit(experience(prepared, (tasks != "laws")[:, None] & np.ones(3, dtype=bool)))
    quality = table.score(prepared.batch(tasks == "laws")).quality
    np.testing.assert_allclose(quality, np.tile(table.overall_, (20, 1)), rtol=1e-6)


def test_a_newcomer_gets_its_column(prepared_of, world):
    prepared = prepared_of(world(60))
    task_of = {query.text: task for query, task in zip(prepared.queries, prepared.table.tasks, strict=True)}
    every = np.ones((60, 3), dtype=bool)
    early, late = every.copy(), every.copy()
    early[:, 2], late[:, :2] = False, False
    whole = TaskTable(task_of=task_of).fit(experience(prepared, every))
    grown = TaskTable(task_of=task_of).fit(experience(prepared, early)).partial_fit(experience(prepared, late))
    batch = prepared.batch(np.arange(60))
    assert grown.endpoints_ == whole.endpoints_
    np.testing.assert_allclose(grown.score(batch).quality, whole.score(batch).quality, rtol=1e-6)


def test_the_task_table_is_for_evaluations_only(tmp_path, prepared_of, world):
    with pytest.raises(NotFitted):
        TaskTable(task_of={}).score(prepared_of(world(6)).batch(np.arange(2)))
    with pytest.raises(PolicyError, match="cannot be served"):
        TaskTable(task_of={}).save(tmp_path)


def test_always_the_same_endpoint():
    quality, cost = np.array([[0.0, 1.0], [1.0, 0.5]]), np.array([[1.0, 3.0], [1.0, 5.0]])
    chosen = always(7, np.array([4, 7]), quality, cost)
    assert (chosen.curve.quality.tolist(), chosen.curve.cost_usd.tolist()) == ([0.75], [4.0])
    assert chosen.picks.tolist() == [[7, 7]]


def test_an_unknown_outcome_of_it_is_the_mean_of_the_known():
    quality, cost = np.array([[0.2, NAN, 0.6], [1.0, 1.0, 1.0]]), np.array([[1.0, NAN, 3.0], [1.0, 1.0, 1.0]])
    chosen = always(1, np.array([0, 1, 2]), quality, cost)
    np.testing.assert_allclose(chosen.quality, [[0.4, 1.0]])
    np.testing.assert_allclose(chosen.cost_usd, [[2.0, 1.0]])


def test_uniform_is_the_mean_of_what_is_known():
    chance = uniform(np.array([[0.0, 1.0], [0.5, NAN]]), np.array([[1.0, 3.0], [2.0, NAN]]))
    assert chance.quality.tolist() == [[0.5, 0.5]]
    assert chance.cost_usd.tolist() == [[2, 2]]
    assert chance.picks.tolist() == [[-1, -1]]


def test_train_picks_the_singles_and_ties_go_to_the_cheaper():
    quality = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [NAN, NAN, 0.0]])
    cost = np.array([[3.0, 2.0, 1.0], [3.0, 2.0, 1.5], [NAN, NAN, 0.5]])
    assert best_column(quality, cost, [0, 1, 2]) == 1
    assert best_column(quality, cost, [0, 2]) == 0
    assert cheapest_column(cost, [0, 1]) == 1
    assert cheapest_column(cost, [0, 1, 2]) == 2
