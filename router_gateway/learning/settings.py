"""How the gateway learns while it serves: the section `learning` of the configuration."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.core.types import FeedbackSource


class Learning(BaseModel):
    """Bounds and pace of the learner. Rows are rows of feedback; `_s` are seconds.

    snapshots_dir : where policies are saved, None = `snapshots` in the state folder; replicas share it
    rows_min : fewer new rows are waited for
    rows_max : rows learned from at a time
    history_rows_max : newest rows that a refit reads
    held_out_share : of the decisions, whose outcomes are never learned from and judge what was; 0 judges nothing
    judged_rows_max : newest rows among which the held-out ones are looked for
    judged_min : fewer held-out rows judge nothing
    z : standard errors by which a new snapshot must be worse to be refused
    truth : sources of feedback that judges are measured against, the first that spoke of an answer counts
    corrects_judges : whether judges' scores teach, and compare policies, less their bias against the truth
    judge_prior : how many pairs of score and truth weigh as much as believing the score
    lease_s : how long a learner killed on another machine keeps the others waiting; longer than a step takes
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = True
    interval_s: float = Field(60.0, ge=0.05, le=86_400)
    snapshots_dir: Path | None = None
    rows_min: int = Field(20, ge=1)
    rows_max: int = Field(5_000, ge=1, le=100_000)
    history_rows_max: int = Field(100_000, ge=1, le=10_000_000)
    settle_s: float = Field(60.0, ge=0, le=86_400)
    held_out_share: float = Field(0.1, ge=0, le=0.5)
    judged_rows_max: int = Field(5_000, ge=1, le=100_000)
    judged_min: int = Field(20, ge=2)
    z: float = Field(2.0, ge=0, le=10)
    truth: tuple[FeedbackSource, ...] = ("label", "verifier", "user")
    corrects_judges: bool = True
    judge_prior: float = Field(20.0, gt=0, le=1_000_000)
    lease_s: float = Field(300.0, ge=1, le=86_400)
