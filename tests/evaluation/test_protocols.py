import itertools

import numpy as np
import pytest

from router_gateway.evaluation.protocols import (
    AS_WRITTEN,
    PERTURBED_MAX,
    PROTOCOLS,
    DoesNotFit,
    cells,
    dynamic,
    perturbed_queries,
    perturbed_rows,
    pooled,
    probes,
    robustness,
    tasks,
)


def learnable(exam):
    return np.logical_or.reduce(exam.stages)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_nothing_that_is_asked_can_be_learned(prepared_of, world, name):
    """The one rule of every protocol: no outcome of a test query of an endpoint that may be chosen is in training."""
    prepared = prepared_of(world(120, extra=3))
    exams = PROTOCOLS[name].exams(prepared, 0)
    assert exams
    for exam in exams:
        assert not learnable(exam)[np.ix_(exam.test, exam.columns)].any()
        assert exam.stages[0].any()
        assert len(exam.test)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_seed_can_be_repeated(prepared_of, world, name):
    prepared = prepared_of(world(120, extra=3))
    for first, second in zip(*(PROTOCOLS[name].exams(prepared, 5) for _ in range(2)), strict=True):
        np.testing.assert_array_equal(first.test, second.test)
        np.testing.assert_array_equal(learnable(first), learnable(second))


def test_pooled_is_seventy_to_thirty(prepared_of, world):
    prepared = prepared_of(world(100))
    [exam] = pooled(prepared, 0)
    assert 28 <= len(exam.test) <= 32
    assert learnable(exam).any(axis=1).sum() == 100 - len(exam.test)


def test_every_task_is_left_out_once(prepared_of, world):
    prepared = prepared_of(world(60))
    exams = tasks(prepared, 0)
    task = np.array(prepared.table.tasks)
    assert len(exams) == 3
    for exam in exams:
        [held] = set(task[exam.test])
        assert held not in set(task[learnable(exam).any(axis=1)])
    assert sorted(np.concatenate([exam.test for exam in exams]).tolist()) == list(range(60))


def test_one_task_cannot_be_left_out(prepared_of, world):
    only = [row for row in world(30) if row["task"] == "sums"]
    with pytest.raises(DoesNotFit, match="one task only"):
        tasks(prepared_of(only), 0)


def test_endpoints_arrive_in_a_second_stage(prepared_of, world):
    prepared = prepared_of(world(200, extra=3))
    [exam] = dynamic(prepared, 0)
    learned, labelled = exam.stages
    assert set(np.flatnonzero(labelled.any(axis=0))) == set(exam.columns)
    assert not set(np.flatnonzero(learned.any(axis=0))) & set(exam.columns)
    shares = [stage.any(axis=1).mean() for stage in exam.stages]
    assert shares == pytest.approx([0.6, 0.1], abs=0.02)


def test_three_endpoints_are_no_dynamic_pool(prepared_of, world):
    with pytest.raises(DoesNotFit, match="four endpoints"):
        dynamic(prepared_of(world(30)), 0)


def test_probes_grow_and_contain_each_other(prepared_of, world):
    prepared = prepared_of(world(150))
    exams = probes(prepared, 1)
    assert [exam.part for exam in exams] == ["10", "20", "40", "80", "all"]
    labelled = [exam.stages[1] for exam in exams]
    assert [stage.sum() for stage in labelled] == [10, 20, 40, 80, 105]
    for fewer, more in itertools.pairwise(labelled):
        assert not (fewer & ~more).any()
    newcomers = {tuple(np.flatnonzero(stage.any(axis=0))) for stage in labelled}
    assert len(newcomers) == 1
    assert all(exam.stages[0] is exams[0].stages[0] for exam in exams)  # learned once


def test_another_seed_brings_another_newcomer(prepared_of, world):
    prepared = prepared_of(world(60))
    newcomers = {int(np.flatnonzero(probes(prepared, seed)[0].stages[1].any(axis=0))[0]) for seed in range(3)}
    assert newcomers == {0, 1, 2}


def test_too_few_prompts_for_probes(prepared_of, world):
    with pytest.raises(DoesNotFit, match="fewer than 11"):
        probes(prepared_of(world(12)), 0)


def test_the_perturbed_are_asked_as_they_were_and_changed(prepared_of, world):
    prepared = prepared_of(world(60))
    exams = robustness(prepared, 0)
    assert [exam.part for exam in exams] == [AS_WRITTEN, "typos", "lower_case", "politeness", "prefix"]
    assert exams[0].variant is None
    rows = perturbed_rows(prepared.table)
    assert all((exam.test == rows).all() for exam in exams)
    assert len(rows) == 18 <= PERTURBED_MAX
    changed = perturbed_queries(prepared, "politeness")
    assert [query.id for query in changed] == [prepared.queries[i].id for i in rows]
    assert all(prepared.queries[i].text in query.text for i, query in zip(rows, changed, strict=True))


def test_incomplete_rows_are_asked_only_where_complete_ones_are_few(prepared_of, world):
    rows = world(100)
    thinned = [row for i, row in enumerate(rows) if row["model"] != "large" or i % 10]  # a tenth of `large` is missing
    prepared = prepared_of(thinned, "thinned")
    [exam] = pooled(prepared, 0)
    assert np.isfinite(prepared.table.quality[exam.test]).all()
    sparse = [row for i, row in enumerate(rows) if (i // 3 + i) % 3]  # every query lacks one endpoint
    prepared = prepared_of(sparse, "sparse")
    [exam] = pooled(prepared, 0)
    assert len(exam.test) >= 28
    assert (np.isfinite(prepared.table.quality[exam.test]).sum(axis=1) == 2).all()


def test_cells_are_observed_outcomes(benchmark_of):
    table = benchmark_of([[1, np.nan], [0, 1], [1, 1]], np.ones((3, 2)))
    assert cells(table, np.array([0, 1])).tolist() == [[True, False], [True, True], [False, False]]
    assert cells(table, np.array([1, 2]), np.array([1])).tolist() == [[False, False], [False, True], [False, True]]
