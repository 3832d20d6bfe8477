"""What recorded answers said, as vectors: material to learn from, never shown to whoever is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from router_gateway.core.types import Floats

WORD_BUCKETS = 128
ANSWER_WIDTH = WORD_BUCKETS + 1
_CHARS_READ = 2_000
_LOG_CHARS_PER_UNIT = 10.0  # e^10 characters: the length weighs no more than the words


def answer_vectors(responses: NDArray[np.object_] | None) -> Floats | None:
    """float32 (Q, E, ANSWER_WIDTH) of answers (Q, E): hashed words, then the length. None where none is known.

    Words of the first 2,000 characters are counted in 128 signed buckets and scaled to unit length (Weinberger et
    al., 2009, "Feature hashing for large scale multitask learning"); the length is log(1 + characters) / 10.
    An answer that is unknown or empty is a row of zeros.
    """
    if responses is None:
        return None
    known = np.array([answer is not None for answer in responses.flat], dtype=bool).reshape(responses.shape)
    if not known.any():
        return None
    from sklearn.feature_extraction.text import HashingVectorizer  # costs more than a second

    texts: list[Any] = responses[known].tolist()
    hashing = HashingVectorizer(n_features=WORD_BUCKETS, token_pattern=r"\w+", dtype=np.float32)
    vectors = np.zeros((*responses.shape, ANSWER_WIDTH), dtype=np.float32)
    said = np.empty((len(texts), ANSWER_WIDTH), dtype=np.float32)
    said[:, :WORD_BUCKETS] = hashing.transform([text[:_CHARS_READ] for text in texts]).toarray()
    said[:, WORD_BUCKETS] = [np.log1p(len(text)) / _LOG_CHARS_PER_UNIT for text in texts]
    vectors[known] = said
    return vectors
