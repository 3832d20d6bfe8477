"""What an audit or a forecast is asked, and the reading of it from options and query parameters."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from router_gateway.core.errors import RequestError

DECISIONS_MAX = 100_000
"""Decisions that are read, the newest."""
DAYS_MAX = 366
POINTS_MIN, POINTS_MAX = 3, 60
OTHERS_MAX = 3
"""Policies and candidates drawn beside what is live."""

_AGE = re.compile(r"(\d{1,5})([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_CHARS_SHOWN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    policy : None is what is live; a name is that policy as configured, fitted anew out of fold
    version : the policy's snapshot as it is; candidate : one of docs/lifecycle.md in the place of a policy
    worth_usd : the dial; None leaves every decision the one it had
    rule : "greedy" without exploration, "configured" as the gateway would draw
    since : timezone-aware, None = from the first; tenant : None = everybody's decisions
    """

    policy: str | None = None
    version: int | None = None
    candidate: str | None = None
    worth_usd: float | None = None
    rule: Literal["greedy", "configured"] = "greedy"
    since: datetime | None = None
    tenant: str | None = None
    decisions_max: int = DECISIONS_MAX
    resamples: int = 1000
    seed: int = 0

    @classmethod
    def read(
        cls,
        policy: str | None,
        worth_usd: float | None,
        rule: str,
        since: str,
        tenant: str | None = None,
        candidate: str | None = None,
    ) -> Question:
        """From options as they are written. Raises RequestError naming the one that is wrong."""
        if worth_usd is not None and not 0 < worth_usd < float("inf"):
            raise RequestError("worth_usd must be above 0 and finite", param="worth_usd")
        if rule not in ("greedy", "configured"):
            raise RequestError(f"rule {rule[:_CHARS_SHOWN]!r}: choose greedy or configured", param="rule")
        if policy and candidate:
            raise RequestError("name a policy or a candidate, not both", param="candidate")
        name, at, version = (policy or "").partition("@")
        if at and not (name and version.isascii() and version.isdigit()):
            raise RequestError(f"{(policy or '')[:_CHARS_SHOWN]!r} is no NAME or NAME@VERSION", param="policy")
        return cls(
            policy=name or None,
            version=int(version) if at else None,
            candidate=candidate or None,
            worth_usd=worth_usd,
            rule=cast(Literal["greedy", "configured"], rule),
            since=_instant(since),
            tenant=tenant,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CurveQuestion:
    """A cost/quality curve is asked for: of what is live, and of others beside it.

    on : own traffic, or the reference outcomes; policies : as in `Question`; candidates : of docs/lifecycle.md
    points : dials, about; since, tenant, decisions_max : of traffic
    """

    on: Literal["traffic", "reference"] = "traffic"
    policies: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    rule: Literal["greedy", "configured"] = "configured"
    points: int = 24
    since: datetime | None = None
    tenant: str | None = None
    decisions_max: int = DECISIONS_MAX
    resamples: int = 1000
    seed: int = 0

    @classmethod
    def read(
        cls,
        on: str,
        policies: Sequence[str],
        candidates: Sequence[str],
        rule: str,
        points: int,
        since: str,
        tenant: str | None = None,
    ) -> CurveQuestion:
        """From options as they are written. Raises RequestError naming the one that is wrong."""
        if on not in ("traffic", "reference"):
            raise RequestError(f"on {on[:_CHARS_SHOWN]!r}: choose traffic or reference", param="on")
        if not POINTS_MIN <= points <= POINTS_MAX:
            raise RequestError(f"points must be from {POINTS_MIN} to {POINTS_MAX}", param="points")
        for param, named in (("policy", policies), ("candidate", candidates)):
            if len(policies) + len(candidates) > OTHERS_MAX and named:
                raise RequestError(f"at most {OTHERS_MAX} others beside what is live", param=param)
            if any("@" in name for name in named):
                raise RequestError("a curve has no snapshot: its policies are fitted anew", param=param)
        plain = Question.read(None, None, rule, since, tenant)
        return cls(
            on=cast(Literal["traffic", "reference"], on),
            policies=tuple(dict.fromkeys(policies)),
            candidates=tuple(dict.fromkeys(candidates)),
            rule=plain.rule,
            points=points,
            since=plain.since,
            tenant=tenant,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPrice:
    """USD per million tokens. Cached and written prompts change in proportion to the input price."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a forecast is asked: `question` names policy, dial and rule.

    Nothing in it and no price is a forecast of what is.

    days : to come; prices : new ones, by endpoint; budget_usd_per_day : to give the odds of
    """

    question: Question = field(default_factory=Question)
    days: int = 30
    prices: Mapping[str, NewPrice] = field(default_factory=dict)
    budget_usd_per_day: float | None = None

    @property
    def changes(self) -> bool:
        """Whether anything is to be otherwise."""
        asked = self.question
        return bool(asked.policy or asked.candidate or asked.worth_usd or self.prices)

    @classmethod
    def read(
        cls, question: Question, days: int, prices: Sequence[str], budget: float | None, endpoints: Collection[str]
    ) -> Change:
        """From options as they are written. Raises RequestError naming the one that is wrong."""
        if not 1 <= days <= DAYS_MAX:
            raise RequestError(f"days must be from 1 to {DAYS_MAX}", param="days")
        if budget is not None and not 0 < budget < float("inf"):
            raise RequestError("budget must be above 0 and finite", param="budget")
        read = dict(_price(said, endpoints) for said in prices)
        return cls(question=question, days=days, prices=read, budget_usd_per_day=budget)


def _instant(age: str) -> datetime | None:
    """The instant that "30d" ago was; None for "all"."""
    if age == "all":
        return None
    found = _AGE.fullmatch(age)
    if found is None:
        raise RequestError(f"{age[:_CHARS_SHOWN]!r} is no age", param="since", hint="say 12h, 30d, 8w or all")
    return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})


def _price(said: str, endpoints: Collection[str]) -> tuple[str, NewPrice]:
    name, _, numbers = said.partition("=")
    try:
        sent, told = (float(number) for number in numbers.split(","))
        if not (0 <= sent < float("inf") and 0 <= told < float("inf")):
            raise ValueError
    except ValueError:
        shown = said[:_CHARS_SHOWN]
        raise RequestError(f"{shown!r} is no ENDPOINT=IN,OUT", param="price", hint="say small=0.15,0.60") from None
    if name not in endpoints:
        known = ", ".join(sorted(endpoints)[:20])
        raise RequestError(f"{name[:_CHARS_SHOWN]!r} is no endpoint here", param="price", hint=f"there are {known}")
    return name, NewPrice(input_usd_per_mtok=sent, output_usd_per_mtok=told)
