import numpy as np
import pytest


def test_select_takes_rows_in_the_order_asked(benchmark_of):
    benchmark = benchmark_of([[1, 0], [0, 1], [0.5, 0.5]], np.ones((3, 2)), prompts=("a", "b", "c"))
    taken = benchmark.select(np.array([2, 0]))
    assert taken.prompts == ("c", "a")
    assert taken.quality.tolist() == [[0.5, 0.5], [1, 0]]
    assert benchmark.select(np.array([False, True, False])).prompts == ("b",)


def test_endpoints_subset_reorders_columns_and_names_what_is_missing(benchmark_of):
    benchmark = benchmark_of([[0.1, 0.2, 0.3]], [[1, 2, 3]], endpoints=("a", "b", "c"))
    subset = benchmark.endpoints_subset(["c", "a"])
    assert subset.endpoints == ("c", "a")
    assert subset.cost_usd.tolist() == [[3, 1]]
    with pytest.raises(ValueError, match="no outcomes of z"):
        benchmark.endpoints_subset(["a", "z"])


def test_split_selects_and_names_the_known_ones(benchmark_of):
    benchmark = benchmark_of(np.ones((3, 1)), np.ones((3, 1)), splits=("train", None, "test"), prompts=("a", "b", "c"))
    assert benchmark.split("test").prompts == ("c",)
    with pytest.raises(ValueError, match="test, train"):
        benchmark.split("validation")


def test_prompt_hash_depends_on_the_text_and_the_seed_only(benchmark_of):
    prompts = tuple(f"question number {i}" for i in range(2000))
    benchmark = benchmark_of(np.ones((2000, 1)), np.ones((2000, 1)), prompts=prompts)
    mask = benchmark.by_prompt_hash(0.7, seed=3)
    assert 0.66 < mask.mean() < 0.74
    back = benchmark.select(np.arange(1999, -1, -1))
    assert np.array_equal(back.by_prompt_hash(0.7, seed=3)[::-1], mask)
    assert not np.array_equal(benchmark.by_prompt_hash(0.7, seed=4), mask)
    assert benchmark.by_prompt_hash(1.0).all()
    assert not benchmark.by_prompt_hash(0.0).any()


def test_a_larger_fraction_contains_the_smaller(benchmark_of):
    benchmark = benchmark_of(np.ones((500, 1)), np.ones((500, 1)))
    small, large = benchmark.by_prompt_hash(0.3), benchmark.by_prompt_hash(0.6)
    assert (large | ~small).all()


def test_deduplicated_keeps_the_first_and_says_how_many_went(benchmark_of):
    benchmark = benchmark_of([[0.1], [0.2], [0.3]], np.ones((3, 1)), prompts=("same", "other", "same"))
    kept = benchmark.deduplicated()
    assert kept.prompts == ("same", "other")
    assert kept.quality.ravel().tolist() == pytest.approx([0.1, 0.2])
    assert kept.notes == ("dropped 1 of 3 queries: their prompt was there already",)
    assert kept.deduplicated() is kept


def test_means_pass_over_missing_cells(benchmark_of):
    nan = np.nan
    benchmark = benchmark_of([[1, nan, nan], [0, 0.5, nan]], [[2, nan, nan], [4, 6, nan]])
    assert benchmark.mean_quality()[:2].tolist() == [0.5, 0.5]
    assert benchmark.mean_cost_usd()[:2].tolist() == [3, 6]
    assert np.isnan(benchmark.mean_quality()[2])
    assert benchmark.complete().tolist() == [False, False]
    assert benchmark.endpoints_subset(["model-0", "model-1"]).complete().tolist() == [False, True]


def test_tables_of_another_shape_are_refused(benchmark_of):
    with pytest.raises(ValueError, match="cost_usd has shape"):
        benchmark_of(np.ones((2, 2)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="must differ"):
        benchmark_of(np.ones((1, 2)), np.ones((1, 2)), endpoints=("a", "a"))
    with pytest.raises(ValueError, match="differ in length"):
        benchmark_of(np.ones((2, 1)), np.ones((2, 1)), tasks=("only one",))
