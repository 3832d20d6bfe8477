"""What would have to change for a decision to fall otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from router_gateway.core.types import Decision
from router_gateway.routing.threshold import RULE


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """At `worth_usd` the choice would pass to `endpoint` (below it or above it, as asked)."""

    worth_usd: float
    endpoint: str


def switch_prices(decision: Decision) -> tuple[Switch | None, Switch | None]:
    """The dial at which a cheaper endpoint takes over below, and a better one above.

    Endpoint e beats the chosen one c where quality[e] - cost[e]/w > quality[c] - cost[c]/w; the two are
    equal at  w = (cost[c] - cost[e]) / (quality[c] - quality[e]). Guard and exploration are left out.
    A decision by threshold has none: the dial had no say in it.
    """
    if not decision.quality or decision.endpoint not in decision.endpoints or decision.rule == RULE:
        return None, None
    chosen = decision.endpoints.index(decision.endpoint)
    below: Switch | None = None
    above: Switch | None = None
    for other, name in enumerate(decision.endpoints):
        dearer = decision.cost_usd[chosen] - decision.cost_usd[other]
        better = decision.quality[chosen] - decision.quality[other]
        if not decision.eligible[other] or dearer * better <= 0:
            continue  # not eligible, itself, or one that wins (or loses) at every price
        switch = Switch(worth_usd=dearer / better, endpoint=name)
        if dearer > 0 and (below is None or switch.worth_usd > below.worth_usd):
            below = switch
        if dearer < 0 and (above is None or switch.worth_usd < above.worth_usd):
            above = switch
    return below, above
