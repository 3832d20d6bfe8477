"""The rows beside every policy: what needs no learning, and what no router can pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from router_gateway.core.errors import NotFitted, PolicyError
from router_gateway.core.experience import Experience
from router_gateway.core.types import Floats, Ints, Queries, Scores
from router_gateway.evaluation.sweep import Expected

_PRIOR_WEIGHT = 1.0  # outcomes of the endpoint's own mean that stand beside a task's


@dataclass(kw_only=True)
class TaskTable:
    """The dataset oracle: it is told each query's task and answers with the task's mean quality per endpoint.

    LLMRouterBench's reference (arXiv 2601.07206), swept over the dial like any policy. What a router gains over
    it comes from the query itself; what it lacks, from not recognising tasks. It exists in evaluations only:
    live requests carry no task.

    task_of : text of a query to its task
    """

    task_of: Mapping[str, str]
    means_: dict[str, Floats] = field(init=False, default_factory=dict)
    overall_: Floats | None = field(init=False, default=None)
    endpoints_: tuple[str, ...] = field(init=False, default=())

    def fit(self, experience: Experience) -> Self:
        """Means by task, with one vote for the endpoint's own mean; a task never seen is the endpoint's mean."""
        quality, _ = experience.table()
        known = np.isfinite(quality)
        count, total = known.sum(axis=0), np.where(known, quality, 0.0).sum(axis=0)
        self.overall_ = (total + 0.5) / (count + 1.0)
        self.endpoints_ = experience.endpoints
        task = np.array([self.task_of[text] for text in experience.queries.text])
        self.means_ = {}
        for name in sorted(set(task.tolist())):
            own = task == name
            votes, sums = known[own].sum(axis=0), np.where(known[own], quality[own], 0.0).sum(axis=0)
            self.means_[name] = (sums + _PRIOR_WEIGHT * self.overall_) / (votes + _PRIOR_WEIGHT)
        return self

    def partial_fit(self, experience: Experience) -> Self:
        """Add columns of endpoints it has not seen; the others stay as they are."""
        if self.overall_ is None:
            raise NotFitted("the task table has learned nothing yet", hint="call fit first")
        names = [name for name in experience.endpoints if name not in self.endpoints_]
        later = TaskTable(task_of=self.task_of).fit(experience.align(names))
        assert later.overall_ is not None
        before, after = self.overall_, later.overall_
        tasks = {*self.means_, *later.means_}
        self.means_ = {
            t: np.concatenate([self.means_.get(t, before), later.means_.get(t, after)]) for t in sorted(tasks)
        }
        self.overall_ = np.concatenate([before, after])
        self.endpoints_ = (*self.endpoints_, *names)
        return self

    def score(self, queries: Queries) -> Scores:
        """Quality by task; no doubt."""
        if self.overall_ is None:
            raise NotFitted("the task table has learned nothing yet", hint="call fit first")
        rows = [self.means_.get(self.task_of.get(text, ""), self.overall_) for text in queries.text]
        quality = np.array(rows, dtype=np.float32).reshape(len(rows), len(self.endpoints_))
        return Scores(endpoints=self.endpoints_, quality=np.clip(quality, 0, 1), stddev=np.zeros_like(quality))

    def save(self, directory: Path) -> None:
        """It is never served, so it is never saved."""
        raise PolicyError("the task table is a reference for evaluations and cannot be served")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """See `save`."""
        raise PolicyError("the task table is a reference for evaluations and cannot be served")


def always(column: int, columns: Ints, quality: Floats, cost_usd: Floats) -> Expected:
    """One endpoint for every query, and where its outcome is missing the mean of those known.

    column : of the table; `columns` are those of quality and cost_usd, (Q, E)
    """
    at = int(np.flatnonzero(columns == column)[0])
    own = np.isfinite(quality[:, at])
    chance = uniform(quality, cost_usd)
    return Expected(
        quality=np.where(own, quality[:, at], chance.quality[0]).astype(np.float64)[None, :],
        cost_usd=np.where(own, cost_usd[:, at], chance.cost_usd[0]).astype(np.float64)[None, :],
        picks=np.full((1, len(quality)), column, dtype=np.int16),
    )


def uniform(quality: Floats, cost_usd: Floats) -> Expected:
    """Any endpoint as likely as any other, in expectation; `picks` name none (-1)."""
    return Expected(
        quality=np.nanmean(quality, axis=1).astype(np.float64)[None, :],
        cost_usd=np.nanmean(cost_usd, axis=1).astype(np.float64)[None, :],
        picks=np.full((1, len(quality)), -1, dtype=np.int16),
    )


def best_column(quality: Floats, cost_usd: Floats, columns: Sequence[int] | Ints) -> int:
    """The endpoint with the best mean among `columns`, of equals the cheaper; learnable outcomes (Q, E) only."""
    means = [(-_mean(quality[:, c]), _mean(cost_usd[:, c]), int(c)) for c in columns]
    return min(means)[2]


def cheapest_column(cost_usd: Floats, columns: Sequence[int] | Ints) -> int:
    """The endpoint with the lowest mean cost among `columns`, of equals the first."""
    return min((_mean(cost_usd[:, c]), int(c)) for c in columns)[1]


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("inf")
