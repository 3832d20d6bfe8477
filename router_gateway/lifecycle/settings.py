"""How candidates are judged and moved: the section `lifecycle` of the configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(gt=0, lt=1)]
Margin = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]


class Margins(BaseModel):
    """By how much a candidate may be worse; null = is not judged by it.

    quality : of the mean quality, absolute, of [0, 1]
    errors : of the share of requests that failed, absolute
    cost : of the mean cost of a request, relative
    first_token : of the time to first token (geometric mean), relative
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quality: Margin | None = 0.03
    errors: Margin | None = 0.01
    cost: Margin | None = 0.10
    first_token: Margin | None = 0.25


class Lifecycle(BaseModel):
    """Canaries. A block is one session of the candidate's beside sessions of the live policy (docs/lifecycle.md).

    automatic : whether candidates are promoted and rolled back by what their canary shows
    shares : of the traffic, one stage each, before a candidate is live
    alpha : chance that a candidate no worse than its margins is ever rolled back, over all looks, stages and measures
    margins : by how much it may be worse
    blocks_min : fewer blocks of any measure promote nothing
    window_blocks : so many without proof of harm, and a stage but the last is passed; for proof the bounds are
        narrowest at this number
    undecided : what happens to a candidate whose last window is over without proof that it is no worse
    refresh_s : how long a process may lag behind a transition
    judge_s : how often the evidence is looked at
    rows_max : decisions of a stage that are read as evidence
    shadow_rows_max : decisions recorded of one candidate in shadow
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    automatic: bool = True
    shares: tuple[Share, ...] = Field((0.01, 0.05, 0.25), min_length=1, max_length=10)
    alpha: float = Field(0.05, ge=1e-6, le=0.2)
    margins: Margins = Margins()
    blocks_min: int = Field(50, ge=2)
    window_blocks: int = Field(500, ge=2, le=1_000_000)
    undecided: Literal["hold", "rollback"] = "hold"
    refresh_s: float = Field(5.0, ge=0.05, le=3_600)
    judge_s: float = Field(30.0, ge=0.05, le=86_400)
    rows_max: int = Field(200_000, ge=100, le=5_000_000)
    shadow_rows_max: int = Field(100_000, ge=0, le=100_000_000)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if any(later <= earlier for earlier, later in pairwise(self.shares)):
            raise ValueError("shares must rise from stage to stage")
        if self.window_blocks < self.blocks_min:
            raise ValueError("window_blocks must be at least blocks_min")
        return self
