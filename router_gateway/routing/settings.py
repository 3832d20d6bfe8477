"""How a budget is paced: the section `pacing` of the configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.core.protocols import Rule
from router_gateway.routing.floor import Floor
from router_gateway.routing.pacing import BudgetPacer
from router_gateway.routing.plans import PerPeriod, PerRequest, Plan

_SECONDS = {"hour": 3_600.0, "day": 86_400.0}


class Pacing(BaseModel):
    """What may be spent, and how the dial keeps to it.

    usd, per : the budget of the whole gateway, all its processes together; hours and days begin in UTC
    requests_guess : of the first hour or day, until there was one to count
    optimism_max : how far `optimism` may go with money that buys no better answer
    floor : whether a coin flip between two endpoints takes over where the router brings less
    refresh_s : how often the ledger is asked what all processes spent
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd: float = Field(gt=0, le=1e9)
    per: Literal["request", "hour", "day"] = "request"
    requests_guess: float = Field(1_000.0, ge=1, le=1e9)
    optimism_max: float = Field(2.0, ge=0, le=10)
    floor: bool = True
    refresh_s: float = Field(5.0, ge=0.05, le=3_600)

    def plan(self) -> Plan:
        """The account of the budget."""
        if self.per == "request":
            return PerRequest(usd=self.usd)
        return PerPeriod(usd=self.usd, period_s=_SECONDS[self.per], requests=self.requests_guess)

    def pacer(self, *, rule: Rule, worth_usd: float, optimism: float) -> BudgetPacer:
        """The pacer beside a router of that rule, dial and optimism."""
        return BudgetPacer(
            plan=self.plan(),
            rule=rule,
            worth_usd=worth_usd,
            optimism=optimism,
            optimism_max=self.optimism_max,
            floor=Floor() if self.floor else None,
        )
