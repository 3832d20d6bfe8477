"""/admin/api: what the ledger says of another policy, dial or price."""

from __future__ import annotations

from typing import Any

from router_gateway.api.admin_door import Asked, Route, admin_only
from router_gateway.core.errors import RequestError
from router_gateway.evaluation.audit_question import Change, Question

_AUDIT = frozenset({"policy", "worth_usd", "rule", "since", "tenant"})
_FORECAST = frozenset({"policy", "worth_usd", "rule", "since", "days", "price", "budget"})
_PRICES_MAX = 100


@admin_only
async def get_audit(asked: Asked) -> dict[str, Any]:
    """Whether routing is worth it here: `policy`, `worth_usd`, `rule`, `since` and `tenant` as the verb has them."""
    return await asked.parts.estimates.audit(_question(asked, _AUDIT, rule="greedy"))


@admin_only
async def get_forecast(asked: Asked) -> dict[str, Any]:
    """The days to come: `days`, `policy`, `worth_usd`, `rule`, `price` (repeatable), `budget`, `since`."""
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


def _question(asked: Asked, known: frozenset[str], *, rule: str) -> Question:
    given = asked.request.query_params
    if strange := sorted(set(given) - known):
        raise RequestError(f"`{strange[0][:64]}` is not supported", param=strange[0][:64], code="unsupported_parameter")
    return Question.read(
        given.get("policy"),
        _number(asked, "worth_usd"),
        given.get("rule", rule),
        given.get("since", "30d"),
        given.get("tenant"),
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


ROUTES: tuple[Route, ...] = (("GET", "/audit", get_audit), ("GET", "/forecast", get_forecast))
