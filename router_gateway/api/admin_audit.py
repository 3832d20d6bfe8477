"""/admin/api: what the ledger says of another policy, dial or price."""

from __future__ import annotations

import asyncio
from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.core.errors import RequestError
from router_gateway.evaluation.audit_question import Change, CurveQuestion, Question
from router_gateway.lifecycle.rollout import Rollout

_AUDIT = frozenset({"policy", "candidate", "worth_usd", "rule", "since", "tenant"})
_FORECAST = frozenset({"policy", "candidate", "worth_usd", "rule", "since", "days", "price", "budget"})
_CURVE = frozenset({"on", "policy", "candidate", "rule", "points", "since", "tenant", "max_age_s"})
_PRICES_MAX = 100
_AGE_S = 600.0
_POINTS = 24


@admin_only
async def get_audit(asked: Asked) -> dict[str, Any]:
    """Whether routing is worth it here: as the verb has its options."""
    return await asked.parts.estimates.audit(_question(asked, _AUDIT, rule="greedy"))


@admin_only
async def get_forecast(asked: Asked) -> dict[str, Any]:
    """The days to come, as the verb has its options; `price` is repeatable."""
    question = _question(asked, _FORECAST, rule="configured")
    prices = asked.request.query_params.getlist("price")
    if len(prices) > _PRICES_MAX:
        raise RequestError(f"at most {_PRICES_MAX} prices", param="price")
    days = _number(asked, "days")
    if days is not None and days != int(days):
        raise RequestError("`days` must be a whole number", param="days")
    estimates = asked.parts.estimates
    change = Change.read(
        question, 30 if days is None else int(days), prices, _number(asked, "budget"), estimates.endpoints
    )
    return await estimates.forecast(change)


@admin_only
async def get_curve(asked: Asked) -> dict[str, Any]:
    """Cost and quality over the dial, of what is live and of others; one that is younger than `max_age_s` is kept."""
    _refuse_strangers(asked, _CURVE)
    given = asked.request.query_params
    points, age_s = _number(asked, "points"), _number(asked, "max_age_s")
    if points is not None and points != int(points):
        raise RequestError("`points` must be a whole number", param="points")
    said = (
        given.get("on", "traffic"),
        tuple(given.getlist("policy")),
        tuple(given.getlist("candidate")),
        given.get("rule", "configured"),
        _POINTS if points is None else int(points),
        given.get("since", "30d"),
        given.get("tenant"),
    )
    question = CurveQuestion.read(*said)
    key = (said, await asyncio.to_thread(_live, asked.gateway.rollout))
    return await asked.parts.estimates.curves(question, key, _AGE_S if age_s is None else age_s)


def _live(rollout: Rollout | None) -> tuple[tuple[str, str], ...]:
    """The candidates that are live now: another one, another curve."""
    if rollout is None:
        return ()
    return tuple((row.policy, row.candidate) for row in rollout.desk.register.standing() if row.state == "live")


def _refuse_strangers(asked: Asked, known: frozenset[str]) -> None:
    if strange := sorted(set(asked.request.query_params) - known):
        raise RequestError(f"`{strange[0][:64]}` is not supported", param=strange[0][:64], code="unsupported_parameter")


def _question(asked: Asked, known: frozenset[str], *, rule: str) -> Question:
    _refuse_strangers(asked, known)
    given = asked.request.query_params
    return Question.read(
        given.get("policy"),
        _number(asked, "worth_usd"),
        given.get("rule", rule),
        given.get("since", "30d"),
        given.get("tenant"),
        given.get("candidate"),
    )


def _number(asked: Asked, name: str) -> float | None:
    said = asked.request.query_params.get(name)
    if said is None:
        return None
    try:
        number = float(said)
        if not abs(number) < float("inf"):
            raise ValueError
    except ValueError:
        raise RequestError(f"`{name}` must be a number", param=name) from None
    return number


ROUTES: tuple[Route, ...] = (
    ("GET", "/audit", get_audit),
    ("GET", "/forecast", get_forecast),
    ("GET", "/curve", get_curve),
)
