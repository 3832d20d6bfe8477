"""A complete third-party policy: long and short prompts each have their own mean quality per endpoint."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from annotated_types import Ge, doc

from router_gateway import Experience, Floats, NotFitted, Queries, Scores


@dataclass(kw_only=True)
class Longest:
    """Mean quality of each endpoint on prompts as long as this one."""

    tokens_long: Annotated[int, Ge(1), doc("a prompt with at least this many tokens is long")] = 500

    def __post_init__(self) -> None:
        self.state_: dict[str, Any] | None = None  # {"endpoints", "space", "width"}
        self.sums_: Floats = np.zeros((3, 2, 0))  # count, total, total of squares; short and long; endpoint

    def fit(self, experience: Experience) -> Self:
        queries = experience.queries
        self.state_ = {"endpoints": [], "space": queries.space, "width": queries.embedding.shape[1]}
        self.sums_ = np.zeros((3, 2, 0))
        return self.partial_fit(experience)

    def partial_fit(self, experience: Experience) -> Self:
        state = self._learned()
        experience.queries.expect(space=state["space"], width=state["width"])
        known = state["endpoints"]
        names = known + [name for name in experience.endpoints if name not in known]
        column = np.array([names.index(name) for name in experience.endpoints])[experience.endpoint]
        is_long = self._is_long(experience.queries)[experience.query]
        sums = np.zeros((3, 2, len(names)))  # new arrays: a deep copy must be able to learn alone
        sums[:, :, : len(known)] = self.sums_
        for power, table in enumerate(sums):
            np.add.at(table, (is_long, column), experience.quality.astype(np.float64) ** power)
        self.state_, self.sums_ = {**state, "endpoints": names}, sums
        return self

    def score(self, queries: Queries) -> Scores:
        state = self._learned()
        queries.expect(space=state["space"], width=state["width"])
        count, total, square = self.sums_ + np.array([1.0, 0.5, 0.5])[:, None, None]  # one imagined outcome
        mean = total / count
        error = np.sqrt((square / count - mean**2) / count)
        rows = self._is_long(queries)
        return Scores(
            endpoints=tuple(state["endpoints"]),
            quality=mean[rows].astype(np.float32),
            stddev=error[rows].astype(np.float32),
        )

    def save(self, directory: Path) -> None:
        state = {"parameters": asdict(self), "state": self._learned()}
        (directory / "state.json").write_text(json.dumps(state))
        np.save(directory / "sums.npy", self.sums_, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> Self:
        saved = json.loads((directory / "state.json").read_text())
        policy = cls(**saved["parameters"])
        policy.state_ = saved["state"]
        policy.sums_ = np.load(directory / "sums.npy", allow_pickle=False)
        return policy

    def _is_long(self, queries: Queries) -> np.ndarray:
        return (queries.tokens_input >= self.tokens_long).astype(np.int64)

    def _learned(self) -> dict[str, Any]:
        if self.state_ is None:
            raise NotFitted("Longest has learned nothing yet", hint="call fit first")
        return self.state_
