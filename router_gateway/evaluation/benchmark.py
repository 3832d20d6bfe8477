"""A table of recorded outcomes: what every endpoint answered to every query, how well and for how much."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_gateway.core.types import Bools, Floats, Ints

_64_BITS = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Outcomes of E endpoints on Q queries; a cell nobody observed is NaN.

    prompts, sample_ids, datasets, tasks, splits : Q each; a split is None where the source defines none
    endpoints : E names, the columns
    quality : float32 (Q, E) in [0, 1]
    cost_usd : float64 (Q, E) >= 0, USD of that call
    tokens_input, tokens_output : float64 (Q, E), as recorded
    latency_ms : float64 (Q, E)
    responses : object (Q, E), the answers or None; None where the source keeps none at all
    notes : what a reader left out or changed, for the report
    """

    prompts: tuple[str, ...]
    sample_ids: tuple[str, ...]
    datasets: tuple[str, ...]
    tasks: tuple[str, ...]
    splits: tuple[str | None, ...]
    endpoints: tuple[str, ...]
    quality: Floats
    cost_usd: Floats
    tokens_input: Floats
    tokens_output: Floats
    latency_ms: Floats
    responses: NDArray[np.object_] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = {len(c) for c in (self.prompts, self.sample_ids, self.datasets, self.tasks, self.splits)}
        if rows != {len(self)}:
            raise ValueError(f"columns of a Benchmark differ in length: {sorted(rows)}")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoint names of a Benchmark must differ")
        shape = (len(self), len(self.endpoints))
        for name in ("quality", "cost_usd", "tokens_input", "tokens_output", "latency_ms", "responses"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                raise ValueError(f"{name} has shape {array.shape}, expected {shape}")

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Bools | Ints | slice) -> Benchmark:
        """The named queries, in that order."""
        at = np.arange(len(self))[rows]
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in at),
            sample_ids=tuple(self.sample_ids[i] for i in at),
            datasets=tuple(self.datasets[i] for i in at),
            tasks=tuple(self.tasks[i] for i in at),
            splits=tuple(self.splits[i] for i in at),
            quality=self.quality[at],
            cost_usd=self.cost_usd[at],
            tokens_input=self.tokens_input[at],
            tokens_output=self.tokens_output[at],
            latency_ms=self.latency_ms[at],
            responses=None if self.responses is None else self.responses[at],
        )

    def endpoints_subset(self, names: Sequence[str]) -> Benchmark:
        """The named endpoints, in that order. Raises ValueError for a name that is not there."""
        if missing := [name for name in names if name not in self.endpoints]:
            raise ValueError(f"no outcomes of {', '.join(missing)}: the table has {', '.join(self.endpoints)}")
        at = [self.endpoints.index(name) for name in names]
        return replace(
            self,
            endpoints=tuple(names),
            quality=self.quality[:, at],
            cost_usd=self.cost_usd[:, at],
            tokens_input=self.tokens_input[:, at],
            tokens_output=self.tokens_output[:, at],
            latency_ms=self.latency_ms[:, at],
            responses=None if self.responses is None else self.responses[:, at],
        )

    def split(self, name: str) -> Benchmark:
        """The queries of one split as the source defines it. Raises ValueError when it has none of that name."""
        rows = np.array([own == name for own in self.splits], dtype=bool)
        if not rows.any():
            known = sorted({own for own in self.splits if own is not None})
            raise ValueError(f"no split {name!r}: the table has {', '.join(known) or 'none'}")
        return self.select(rows)

    def by_prompt_hash(self, fraction: float, *, seed: int = 0) -> Bools:
        """Choose about `fraction` of the queries by their prompt's text alone: bool (Q,).

        A prompt stays on its side in every table that contains it, so nothing leaks when tables are joined.
        Use as `train = b.select(mask)`, `test = b.select(~mask)`, and with the same mask on embeddings.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"fraction must lie in [0, 1], not {fraction}")
        bound = int(fraction * _64_BITS)
        salt = seed.to_bytes(16, "big", signed=True)
        digests = (hashlib.blake2b(_utf8(prompt), digest_size=8, salt=salt).digest() for prompt in self.prompts)
        return np.array([int.from_bytes(digest, "big") < bound for digest in digests], dtype=bool)

    def deduplicated(self) -> Benchmark:
        """The first query of each prompt; a note says how many repeats were dropped."""
        first: dict[str, int] = {}
        for row, prompt in enumerate(self.prompts):
            first.setdefault(prompt, row)
        if dropped := len(self) - len(first):
            note = f"dropped {dropped} of {len(self)} queries: their prompt was there already"
            kept = self.select(np.fromiter(first.values(), dtype=np.int64, count=len(first)))
            return replace(kept, notes=(*self.notes, note))
        return self

    def complete(self) -> Bools:
        """Where every endpoint's quality and cost are known: bool (Q,)."""
        return np.asarray((np.isfinite(self.quality) & np.isfinite(self.cost_usd)).all(axis=1))

    def mean_quality(self) -> Floats:
        """float64 (E,): mean over the observed cells; NaN for an endpoint without any."""
        return _column_means(self.quality)

    def mean_cost_usd(self) -> Floats:
        """float64 (E,): mean USD per call over the cells with a cost; NaN for an endpoint without any."""
        return _column_means(self.cost_usd)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON may hold a lone surrogate; it must not end a run


def _column_means(cells: Floats) -> Floats:
    known = np.isfinite(cells)
    count = known.sum(axis=0)
    total = np.where(known, cells, 0.0).sum(axis=0, dtype=np.float64)
    return np.asarray(total / np.where(count > 0, count, np.nan))
