import numpy as np

from policies._terms import TermMemory, terms_of

TEXTS = ["one two two", "", "Two ONE", "naïve — 東京 \ud800", "word " * 9_000]


def test_remembered_terms_are_those_that_would_be_read():
    memory = TermMemory()
    for _ in range(2):
        for text, (bucket, count) in zip(TEXTS, memory.read(TEXTS), strict=True):
            for found in (memory.look(text), (bucket, count)):
                for left, right in zip(found, terms_of(text), strict=True):
                    np.testing.assert_array_equal(left, right)
    assert len(memory) == sum(len(terms_of(text)[0]) for text in TEXTS)


def test_words_and_pairs_are_counted_whatever_their_case():
    bucket, count = terms_of("one two two")
    assert sorted(count) == [1, 1, 1, 2]  # one, one-two, two-two, two
    assert (np.diff(bucket) > 0).all()
    assert set(terms_of("TWO")[0]) < set(bucket)


def test_the_least_recently_read_texts_are_forgotten():
    memory = TermMemory(terms_max=7)
    memory.read(["a b", "c d"])  # three terms each
    memory.read(["a b", "e f"])
    assert len(memory) == 6
    assert memory.look("a b")[0].dtype == memory.look("e f")[0].dtype == np.uint16
    assert memory.look("c d")[0].dtype == np.int64  # read anew
    assert len(memory) == 6  # and not kept by looking
    memory.read(["far more terms than there is room for"])
    assert len(memory) == 0
