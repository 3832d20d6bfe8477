import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.embedding.hashing import HashingEmbedder

any_text = st.text(alphabet=st.characters(), max_size=200)  # lone surrogates and NUL included
embedder = HashingEmbedder()


@given(st.lists(any_text, max_size=4))
def test_unit_length_and_float16(texts):
    vectors = embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(texts), 256)
    assert np.array_equal(vectors, vectors.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


@given(any_text, st.lists(any_text, max_size=3))
def test_a_vector_does_not_depend_on_its_neighbours(text, others):
    assert np.array_equal(embedder.embed([*others, text])[-1], embedder.embed([text])[0])


def test_the_same_in_another_process():
    code = (
        "from router_gateway.embedding.hashing import HashingEmbedder;"
        "print(HashingEmbedder(width=64).embed(['sort a list']).tobytes().hex())"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == HashingEmbedder(width=64).embed(["sort a list"]).tobytes().hex()


def test_similar_spelling_is_near():
    base, near, far = embedder.embed(["sort a list of words", "sorting lists of words", "lentil soup with cumin"])
    assert base @ near > 0.3 > base @ far


def test_case_and_spacing_do_not_matter():
    one, two = embedder.embed(["Sort  a\nLIST", "sort a list"])
    assert np.array_equal(one, two)


def test_a_huge_text_costs_its_tail():
    tail = "what is the capital of France? " * 400
    one, two = embedder.embed(["x" * 1_000_000 + tail, tail])
    assert np.array_equal(one, two)


def test_width_is_part_of_the_space():
    small = HashingEmbedder(width=64)
    assert small.embed(["a"]).shape == (1, 64)
    assert small.space != embedder.space


def test_width_must_be_positive():
    with pytest.raises(ValueError, match="positive"):
        HashingEmbedder(width=0)
