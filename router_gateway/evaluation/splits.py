"""Who learns from what and is asked what: by prompt text alone, evenly over tasks, the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.benchmark import Benchmark

STRATUM_MIN = 10
"""Tasks with fewer prompts are split together: alone they would fall on one side whole."""
GROUPS_MAX = 32
"""Bound on the parts of leave-one-task-out; the smallest tasks then share parts."""

_RANKS_KEPT = 32  # orders of texts, 8 bytes a text


class SealBroken(RuntimeError):
    """The test outcomes were asked for twice by the same policy and seed."""


class Sealed:
    """Test outcomes that each (policy, seed) may see once.

    Whoever looks twice has chosen by the test. The queries of a test are no secret; what lies here is answers.
    """

    def __init__(self, outcomes: Benchmark) -> None:
        self._outcomes = outcomes
        self._opened: set[tuple[str, int]] = set()

    def open(self, *, policy: str, seed: int) -> Benchmark:
        """The outcomes. Raises SealBroken from the second time on."""
        if (policy, seed) in self._opened:
            raise SealBroken(f"{policy} has seen the test outcomes of seed {seed} already; choose inside train")
        self._opened.add((policy, seed))
        return self._outcomes


def strata(table: Benchmark) -> Ints:
    """int64 (Q,): the (dataset, task) of each query as a number; small tasks share the last one."""
    names = list(zip(table.datasets, table.tasks, strict=True))
    number = {name: i for i, name in enumerate(sorted(set(names)))}
    stratum = np.array([number[name] for name in names], dtype=np.int64)
    small = np.bincount(stratum, minlength=len(number)) < STRATUM_MIN
    return np.where(small[stratum], len(number), stratum)


def partition(table: Benchmark, fractions: Sequence[float], *, seed: int) -> list[Ints]:
    """Rows in disjoint parts of about the given fractions, each task divided alike: ascending int64 arrays.

    Within a task prompts are ordered by a hash of (seed, text) and cut; text and seed decide, never position.
    Raises ValueError unless the fractions are positive and sum to 1.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1.0) > 1e-9:
        raise ValueError(f"fractions must be positive and sum to 1, not {fractions}")
    rank = hash_order([*table.prompts], salt=f"split {seed}")
    bounds = np.cumsum(fractions)[:-1]
    part = np.empty(len(table), dtype=np.int64)
    stratum = strata(table)
    for own in np.unique(stratum):
        rows = np.flatnonzero(stratum == own)
        place = np.empty(len(rows))
        place[np.argsort(rank[rows])] = (np.arange(len(rows)) + 0.5) / len(rows)
        part[rows] = np.searchsorted(bounds, place, side="right")
    return [np.flatnonzero(part == i) for i in range(len(fractions))]


def task_groups(table: Benchmark) -> dict[str, Ints]:
    """Rows by task, for leaving one out: name to ascending rows. At most GROUPS_MAX; small tasks share a part."""
    several = len(set(table.datasets)) > 1
    names = [f"{d}/{t}" if several else t for d, t in zip(table.datasets, table.tasks, strict=True)]
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    by_size = sorted(counts, key=lambda name: (-counts[name], name))
    group = {name: name for name in by_size}
    if len(by_size) > GROUPS_MAX:
        alone = by_size[: GROUPS_MAX // 2]
        shared = GROUPS_MAX - len(alone)
        for i, name in enumerate(by_size[len(alone) :]):
            group[name] = f"small tasks {i % shared + 1}"
    own = np.array([group[name] for name in names])
    return {name: np.flatnonzero(own == name) for name in sorted(set(group.values()))}


def endpoints_apart(endpoints: Sequence[str], *, seed: int) -> tuple[Ints, Ints]:
    """Columns in two: about two thirds to learn from, a third (at least two) that arrive later.

    The dynamic pool of UniRoute (arXiv 2502.08773). Raises ValueError below four endpoints.
    """
    if len(endpoints) < 4:
        raise ValueError("a dynamic pool needs four endpoints: two to learn from, two to arrive")
    rank = hash_order(list(endpoints), salt=f"pool {seed}")
    later = max(2, round(len(endpoints) / 3))
    order = np.argsort(rank)
    return np.sort(order[later:]), np.sort(order[:later])


def hash_order(texts: Sequence[str], *, salt: str) -> Floats:
    """float64 (n,) in [0, 1): a rank that depends on each text and the salt alone; equal texts rank equal."""
    return _ranks(tuple(texts), salt)


@lru_cache(maxsize=_RANKS_KEPT)
def _ranks(texts: tuple[str, ...], salt: str) -> Floats:
    """Kept, because every policy is asked about the same splits; read-only."""
    key = hashlib.blake2b(salt.encode(), digest_size=16).digest()
    digests = (hashlib.blake2b(t.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest() for t in texts)
    ranks = np.array([(int.from_bytes(digest, "big") >> 11) / (1 << 53) for digest in digests])
    ranks.flags.writeable = False
    return ranks
