"""The evidence for a decision, as the `routing` object of responses and of /v1/routing."""

from __future__ import annotations

from typing import Any

from router_gateway.core.types import Decision, Neighbour
from router_gateway.routing.explain import Switch, switch_prices

SCHEMA_VERSION = 1


def routing_object(decision: Decision, neighbours: list[Neighbour] | None = None) -> dict[str, Any]:
    """Scores, prices, probabilities and what would change the choice; versioned by `schema_version`."""
    below, above = switch_prices(decision)
    candidates = [
        {
            "endpoint": name,
            "eligible": _at(decision.eligible, i),
            "quality": _at(decision.quality, i),
            "stddev": _at(decision.stddev, i),
            "cost_usd": _at(decision.cost_usd, i),
            "probability": _at(decision.probability, i),
        }
        for i, name in enumerate(decision.endpoints)
    ]
    explained: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "decision_id": str(decision.query_id),
        "at": decision.at.isoformat(),
        "endpoint": decision.endpoint,
        "order": list(decision.order),
        "reason": decision.reason,
        "detail": decision.detail,
        "policy": decision.policy,
        "rule": decision.rule,
        "propensity": decision.propensity,
        "worth_usd": decision.worth_usd,
        "embedding_space": decision.embedding_space,
        "candidate": decision.candidate,
        "experiment": decision.experiment,
        "arm_share": decision.arm_share,
        "candidates": candidates,
        "switch": {"below": _switch(below), "above": _switch(above)},
    }
    if neighbours is not None:
        explained["neighbours"] = [
            {"row": near.row, "cosine": round(near.cosine, 4), "quality": near.quality} for near in neighbours
        ]
    return explained


def confidence(decision: Decision) -> float | None:
    """The expected quality of the chosen endpoint, or None when nothing was scored."""
    if not decision.quality:
        return None
    return decision.quality[decision.endpoints.index(decision.endpoint)]


def _switch(switch: Switch | None) -> dict[str, Any] | None:
    return None if switch is None else {"worth_usd": switch.worth_usd, "endpoint": switch.endpoint}


def _at(values: tuple[Any, ...], index: int) -> Any:
    return values[index] if index < len(values) else None
