import numpy as np
import pytest

from router_gateway.evaluation.answers import ANSWER_WIDTH, WORD_BUCKETS, answer_vectors
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.prepared import prepare
from router_gateway.evaluation.sitting import experience


def table(*rows):
    return np.array(rows, dtype=object)


def test_what_was_not_answered_is_zero():
    vectors = answer_vectors(table(["B", None], ["", "the sum is 20"]))
    assert vectors.shape == (2, 2, ANSWER_WIDTH)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors.any(axis=2), [[True, False], [False, True]])
    assert answer_vectors(None) is None
    assert answer_vectors(table([None, None])) is None


def test_like_answers_are_near_and_unlike_ones_far():
    words = answer_vectors(table(["The sum is 20.", "the sum is: 20", "a poem of the sea"]))[0, :, :WORD_BUCKETS]
    assert words[0] @ words[1] == pytest.approx(1.0)
    assert words[0] @ words[2] < 0.5


def test_the_length_is_told_though_only_the_beginning_is_read():
    short, long = answer_vectors(table(["a " * 1000, "a " * 5000]))[0]
    np.testing.assert_array_equal(short[:WORD_BUCKETS], long[:WORD_BUCKETS])
    assert short[WORD_BUCKETS] == pytest.approx(np.log(2001) / 10)
    assert long[WORD_BUCKETS] > short[WORD_BUCKETS]


def test_only_answers_that_may_be_learned_from_are_handed_over(benchmark_of, tmp_path):
    said = table(*[[f"answer {i}", f"reply {i}"] for i in range(5)])
    prompts = ["same", "same", "b", "c", "d"]
    benchmark = benchmark_of([[0, 1]] * 5, [[1, 2]] * 5, prompts=prompts, responses=said)
    prepared = prepare("made", benchmark, encoder=Encoder(kind="hashing"), cache=tmp_path)
    assert prepared.table.responses is None, "the texts themselves are not kept"
    kept = answer_vectors(said[[0, 2, 3, 4]])
    np.testing.assert_array_equal(prepared.answers, kept)
    learnable = np.zeros((4, 2), dtype=bool)
    learnable[[1, 3], [0, 1]] = True
    seen = experience(prepared, learnable)
    np.testing.assert_array_equal(seen.answers, [kept[1, 0], kept[3, 1]])


def test_answers_are_part_of_what_a_result_depends_on(benchmark_of, tmp_path):
    def print_of(word):
        said = table(*[[word, "reply"]] * 4)
        benchmark = benchmark_of([[0, 1]] * 4, [[1, 2]] * 4, responses=said)
        return prepare("made", benchmark, encoder=Encoder(kind="hashing"), cache=tmp_path).fingerprint()

    assert print_of("one") == print_of("one") != print_of("two")
