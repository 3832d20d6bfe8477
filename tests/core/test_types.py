from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import BadScores, SnapshotMismatch
from router_gateway.core.types import NamedPolicy, Queries, Scores, Usage


def queries(rows: int = 4, width: int = 3) -> Queries:
    return Queries(
        text=tuple(f"q{i}" for i in range(rows)),
        embedding=np.arange(rows * width, dtype=np.float32).reshape(rows, width),
        tokens_input=np.arange(rows, dtype=np.int64) * 10,
        space="test",
    )


def scores(quality: list[list[float]], stddev: list[list[float]] | None = None, names: str = "ab") -> Scores:
    wide = np.array(quality, dtype=np.float32)
    doubt = np.full_like(wide, 0.1) if stddev is None else np.array(stddev, dtype=np.float32)
    return Scores(endpoints=tuple(names), quality=wide, stddev=doubt)


@pytest.mark.parametrize("rows", [np.array([2, 0]), slice(1, 3), np.array([True, False, False, True])])
def test_take_keeps_text_vector_and_tokens_together(rows):
    taken = queries().take(rows)
    assert len(taken) == 2
    for text, vector, tokens in zip(taken.text, taken.embedding, taken.tokens_input, strict=True):
        row = int(text[1:])
        assert vector.tolist() == queries().embedding[row].tolist()
        assert tokens == row * 10


def test_take_of_nothing_keeps_the_width():
    assert queries().take(np.array([], dtype=np.int64)).embedding.shape == (0, 3)


def test_vectors_of_two_spaces_or_widths_never_meet():
    queries().expect(space="test", width=3)
    with pytest.raises(SnapshotMismatch, match="'other'"):
        queries().expect(space="other", width=3)
    with pytest.raises(SnapshotMismatch, match="width 4"):
        queries().expect(space="test", width=4)


def test_types_are_frozen_and_take_keywords_only():
    with pytest.raises(FrozenInstanceError):
        queries().space = "other"
    with pytest.raises(TypeError):
        Usage(1)


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_scores_at_the_edges_are_good(edge: float):
    scores([[edge, edge]], [[0.0, 3.0]]).check(1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (scores([[0.5, 0.5], [0.5, 0.5]]), "quality has shape"),
        (scores([[0.5, 0.5, 0.5]]), "quality has shape"),
        (scores([[0.5, 0.5]], [[0.1]]), "stddev has shape"),
        (scores([[0.5, np.nan]]), "quality is not finite"),
        (scores([[0.5, 0.5]], [[0.1, np.inf]]), "stddev is not finite"),
        (scores([[0.5, 1.001]]), "leaves"),
        (scores([[-0.001, 0.5]]), "leaves"),
        (scores([[0.5, 0.5]], [[0.1, -0.1]]), "negative"),
    ],
)
def test_bad_scores_are_named(wrong: Scores, says: str):
    with pytest.raises(BadScores, match=says):
        wrong.check(1)


@given(st.permutations("abcd"), st.permutations("abcdef"))
def test_align_moves_columns_by_name_and_gives_strangers_the_prior(learned: list[str], pool: list[str]):
    position = np.array([ord(name) - ord("a") for name in learned]) / 10
    given = scores([list(position)], [list(position / 2)], "".join(learned))
    aligned = given.align(pool, unseen_quality=0.75, unseen_stddev=0.25)
    aligned.check(1)
    assert aligned.endpoints == tuple(pool)
    for j, name in enumerate(pool):
        expected = (0.75, 0.25) if name in "ef" else ((ord(name) - ord("a")) / 10, (ord(name) - ord("a")) / 20)
        assert (aligned.quality[0, j], aligned.stddev[0, j]) == pytest.approx(expected)


def test_align_drops_endpoints_that_left_the_pool():
    assert scores([[0.2, 0.8]]).align(["b"]).quality.tolist() == [[pytest.approx(0.8)]]


def test_align_to_the_same_pool_is_the_same():
    given = scores([[0.2, 0.8]])
    assert given.align(("a", "b")) is given


def test_usage_totals():
    usage = Usage(tokens_input=1, tokens_cached_input=2, tokens_cache_write=4, tokens_output=8, tokens_reasoning=16)
    assert usage.tokens_prompt == 7
    assert usage.tokens_completion == 24


def test_a_decision_names_policy_and_version():
    assert NamedPolicy(name="knn", version=3, policy=None).label == "knn@3"
