from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.errors import NotFitted
from router_gateway.core.experience import Experience
from router_gateway.core.types import Attempt, Endpoint, Floats, NamedPolicy, Queries, Query, Scores
from router_gateway.routing.router import Router
from router_gateway.routing.rules import Greedy

WIDTH = 2


@dataclass(kw_only=True)
class ByHeart:
    """A policy that knows its training queries by heart, and no others; `stddev` is its doubt by endpoint."""

    stddev: tuple[float, ...] = (0.1,)

    def __post_init__(self) -> None:
        self.endpoints_: tuple[str, ...] | None = None
        self.quality_: dict[str, list[float]] = {}

    def fit(self, experience: Experience) -> Self:
        self.endpoints_ = experience.endpoints
        self.quality_ = dict(zip(experience.queries.text, experience.table()[0].tolist(), strict=True))
        return self

    def partial_fit(self, experience: Experience) -> Self:
        if self.endpoints_ is None:
            raise NotFitted("fit first")
        new = experience.align(self.endpoints_)
        self.quality_ |= dict(zip(new.queries.text, new.table()[0].tolist(), strict=True))
        return self

    def score(self, queries: Queries) -> Scores:
        if self.endpoints_ is None:
            raise NotFitted("fit first")
        quality = [self.quality_[text] for text in queries.text]
        wide = np.array(quality, dtype=np.float32).reshape(len(queries), len(self.endpoints_))
        doubt = np.broadcast_to(np.array(self.stddev, dtype=np.float32), wide.shape)
        return Scores(endpoints=self.endpoints_, quality=wide, stddev=doubt)

    def save(self, directory: Path) -> None:
        (directory / "by_heart.json").write_text(json.dumps([self.stddev, self.endpoints_, self.quality_]))

    @classmethod
    def load(cls, directory: Path) -> Self:
        stddev, endpoints, quality = json.loads((directory / "by_heart.json").read_text())
        loaded = cls(stddev=tuple(stddev))
        loaded.endpoints_, loaded.quality_ = tuple(endpoints), quality
        return loaded


@dataclass(frozen=True, kw_only=True)
class ListPrice:
    """A cost model for endpoints that charge by the call."""

    usd: tuple[float, ...]

    def expected_usd(self, queries: Sequence[Query]) -> Floats:
        return np.tile(np.array(self.usd, dtype=np.float64), (len(queries), 1))

    def observe(self, attempts: Sequence[Attempt]) -> None:
        """A list price does not depend on what happened."""


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """Makes the things that a routing test needs; every default can be replaced by name."""

    an_endpoint: Endpoint = field(
        default_factory=lambda: Endpoint(
            name="any",
            model="any",
            price_input_usd_per_mtok=Decimal(1),
            price_output_usd_per_mtok=Decimal(2),
            price_cached_input_usd_per_mtok=Decimal(0),
            price_cache_write_usd_per_mtok=Decimal(0),
            context_tokens_max=8_000,
        )
    )

    def endpoint(self, name: str, **changes: Any) -> Endpoint:
        return replace(self.an_endpoint, **{"name": name, "model": f"maker/{name}", **changes})

    def query(self, row: int = 0, **changes: Any) -> Query:
        """The query that asks row `row` of the policy's table."""
        return Query(**{"id": UUID(int=row), "text": f"q{row}", "tokens_input": 100, **changes})

    def vectors(self, queries: Sequence[Query]) -> Floats:
        return np.ones((len(queries), WIDTH), dtype=np.float32)

    def policy(self, quality: Sequence[Sequence[float]], names: Sequence[str], stddev: Sequence[float]) -> ByHeart:
        table = np.array(quality, dtype=np.float64)
        queries = Queries(
            text=tuple(f"q{row}" for row in range(len(table))),
            embedding=np.ones((len(table), WIDTH), dtype=np.float32),
            tokens_input=np.full(len(table), 100, dtype=np.int64),
            space="test",
        )
        return ByHeart(stddev=tuple(stddev)).fit(Experience.from_table(queries, names, table))

    def router(
        self,
        quality: Sequence[Sequence[float]],
        usd: Sequence[float],
        *,
        names: Sequence[str] = "abcdefgh",
        stddev: Sequence[float] = (0.1,),
        **changes: Any,
    ) -> Router:
        """A greedy router over `quality` (Q, E) and list prices `usd` (E,); a perfect answer is worth one dollar."""
        names = tuple(names)[: len(usd)]
        named = NamedPolicy(name="by_heart", version=1, policy=self.policy(quality, names, stddev))
        parts = {
            "endpoints": tuple(self.endpoint(name) for name in names),
            "default_endpoint": names[0],
            "live": lambda: named,
            "cost": ListPrice(usd=tuple(usd)),
            "rule": Greedy(),
            "space": "test",
            "worth_usd": 1.0,
        }
        return Router(**{**parts, **changes})


@pytest.fixture(scope="session")
def bench() -> Workbench:
    return Workbench()
