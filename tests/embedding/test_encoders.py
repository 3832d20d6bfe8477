"""What every pretrained encoder does alike, whatever runs it."""

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.embedding.onnx import OnnxEmbedder
from router_gateway.embedding.sentence import SentenceTransformerEmbedder

QUESTION = "How do I sort a list in Python by two keys?"
PREFIX = "The sky over the harbour was wide and blue that morning. " * 200


@pytest.fixture(scope="module", params=[OnnxEmbedder, SentenceTransformerEmbedder])
def encoder(request):
    embedder = request.param(threads=1)
    embedder.load()
    return embedder


@pytest.mark.parametrize("kind", [OnnxEmbedder, SentenceTransformerEmbedder])
def test_nothing_is_loaded_before_first_use(kind):
    assert not kind().loaded


@pytest.mark.parametrize("kind", [OnnxEmbedder, SentenceTransformerEmbedder])
def test_an_empty_folder_is_a_config_error(kind, tmp_path):
    with pytest.raises(ConfigError, match=r"embedder\.model: "):
        kind(str(tmp_path)).load()


def test_vectors_are_unit_float32_and_exactly_float16(encoder):
    vectors = encoder.embed([QUESTION, "hello", PREFIX])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 384)
    assert np.array_equal(vectors, vectors.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


def test_meaning_is_there(encoder):
    question, paraphrase, unrelated = encoder.embed(
        [QUESTION, "sorting Python lists on a primary and a secondary key", "a recipe for lentil soup"]
    )
    assert question @ paraphrase > 0.6
    assert question @ unrelated < 0.3


def test_tail_survives_the_window(encoder):
    question, long_text, prefix = encoder.embed([QUESTION, PREFIX + QUESTION, PREFIX])
    assert long_text @ question > prefix @ question + 0.3


def test_only_the_tail_counts_beyond_the_window(encoder):
    ending = "The quick brown fox jumps over the lazy dog. " * 60  # far more than 256 tokens
    one, two = encoder.embed(["Alpha. " + ending, "Entirely different beginning! " * 50 + ending])
    assert np.array_equal(one, two)


def test_a_vector_does_not_depend_on_its_neighbours(encoder):
    together = encoder.embed([QUESTION, PREFIX, "hi", QUESTION])
    assert np.array_equal(together[0], encoder.embed([QUESTION])[0])
    assert np.array_equal(together[0], together[3])
    assert np.array_equal(together[2], encoder.embed(["hi"])[0])


@pytest.mark.parametrize("text", ["", " ", "\x00", "a\x00b", "\ud800", "x\udfffy", "🙂" * 9, "\n" * 20_000])
def test_odd_texts_have_unit_vectors(encoder, text):
    vectors = encoder.embed([text])
    assert vectors.shape == (1, 384)
    assert abs(float(np.linalg.norm(vectors[0])) - 1.0) < 1e-3


def test_no_texts(encoder):
    assert encoder.embed([]).shape == (0, 384)
