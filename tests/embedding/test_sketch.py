from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.embedding.sketch import WIDTH, sketch

pieces = st.lists(st.integers(0, 2**20 - 1), max_size=60)


@given(pieces)
def test_a_sketch_is_whole_numbers_and_no_more_of_them_than_features(ids):
    found = sketch(ids)
    features = len(set(ids)) + len(set(pairwise(ids)))
    assert found.shape == (WIDTH,)
    assert np.array_equal(found, np.round(found))
    assert np.abs(found).sum() <= features
    assert (np.abs(found).sum() - features) % 2 == 0  # what is missing has cancelled in pairs


@given(pieces)
def test_saying_it_twice_adds_one_pair_at_most(ids):
    assert np.abs(sketch(ids + ids) - sketch(ids)).sum() <= 1


def test_order_counts_by_its_pairs():
    assert not np.array_equal(sketch([1, 2, 3]), sketch([3, 2, 1]))


def test_shared_features_are_what_inner_products_count():
    """On average over 300 pairs of texts that share 20 of their 40 words and, word by word, no pair."""
    draw = np.random.default_rng(0)
    products = []
    for _ in range(300):
        shared, one, two = np.split(draw.choice(2**20, 60, replace=False), 3)
        first = np.stack([shared, one], axis=1).ravel().tolist()
        second = np.stack([two, shared], axis=1).ravel().tolist()
        products.append(sketch(first) @ sketch(second))
    assert abs(np.mean(products) - 20) < 3 * np.std(products) / np.sqrt(300)
