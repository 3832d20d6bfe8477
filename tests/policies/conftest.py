"""Small experiences for the policies' tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries


class Making:
    """Makes queries and experiences from plain arrays; rows are scaled to unit length."""

    def queries(self, vectors: Any, space: str = "synthetic") -> Queries:
        vectors = np.asarray(vectors, dtype=np.float32)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        count = len(vectors)
        return Queries(text=("",) * count, embedding=vectors, tokens_input=np.ones(count, dtype=np.int64), space=space)

    def experience(self, vectors: Any, quality: Any, endpoints: Sequence[str] | None = None) -> Experience:
        """Outcomes `quality` (Q, E), NaN = not observed."""
        table = np.asarray(quality, dtype=np.float64)
        names = endpoints or tuple(f"e{i}" for i in range(table.shape[1]))
        return Experience.from_table(self.queries(vectors), names, table)

    def random(self, rows: int, endpoints: int, *, width: int = 6, missing: float = 0.0, seed: int = 0) -> Experience:
        rng = np.random.default_rng(seed)
        quality = rng.random((rows, endpoints))
        quality[rng.random(quality.shape) < missing] = np.nan
        return self.experience(rng.normal(size=(rows, width)), quality)


@pytest.fixture(scope="session")
def make() -> Making:
    return Making()
