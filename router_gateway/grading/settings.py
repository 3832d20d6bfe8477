"""Models as judges of answers: the section `judging` of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

_OURS = ("model", "messages", "stream", "stream_options", "n", "tools", "routing")
"""Members of a judge's request that are made here."""


class Judging(BaseModel):
    """Who judges how many answers, and for how much money.

    judges : endpoints that may judge, the first that is no kin of the answer's author does
    share : of the answered decisions, drawn by their id, that get a score
    pairs_share : of the answered decisions whose prompt another endpoint answers as well; the judge compares the two
    usd_per_day : what judges' calls and second answers may cost together in a day (UTC)
    judges_own_family : whether a judge may read answers of its own maker's models
    params : further members of the judge's request; the answer's bound among them
    timeout_s : of each call
    concurrency : samples being judged at a time
    queue_max : samples waiting; more are dropped
    chars_max : conversations and answers longer than this together are not judged
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    judges: list[str] = Field(default_factory=list, max_length=20)
    share: float = Field(0.0, ge=0, le=1)
    pairs_share: float = Field(0.0, ge=0, le=1)
    usd_per_day: Decimal = Field(Decimal(1), ge=0, le=1_000_000, allow_inf_nan=False)
    judges_own_family: bool = False
    params: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0, "max_tokens": 512})
    timeout_s: float = Field(60.0, gt=0, le=3_600)
    concurrency: int = Field(2, ge=1, le=64)
    queue_max: int = Field(100, ge=1, le=10_000)
    chars_max: int = Field(40_000, ge=100, le=1_000_000)

    @field_validator("params")
    @classmethod
    def _leaves_the_question_alone(cls, params: dict[str, Any]) -> dict[str, Any]:
        for name in _OURS:
            if name in params:
                raise ValueError(f"{name!r} is not for the configuration to say")
        return params

    @property
    def enabled(self) -> bool:
        return self.share > 0 or self.pairs_share > 0


def problems(section: Any, endpoints: Collection[Any]) -> list[str]:
    """What no field of the section shows alone, as `path: what is wrong`."""
    if not isinstance(section, Mapping):
        return []
    judges = section.get("judges") or []
    if not isinstance(judges, list):
        return []
    found = [
        f"judging.judges.{i}: {name!r} is not among the endpoints"
        for i, name in enumerate(judges)
        if name not in endpoints
    ]
    wanted = any(isinstance(share := section.get(name), int | float) and share > 0 for name in ("share", "pairs_share"))
    if wanted and not judges:
        found.append("judging.judges: names nobody, so nobody can judge")
    return found
