"""/admin/api/endpoints: the pool, how each endpoint fares, what it charges, and whether its estimates hold."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.core.errors import NotFound
from router_gateway.core.prices import periods, priced_at
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.circuit import CircuitStatus, State
from router_gateway.evaluation.calibration import brier, reliability
from router_gateway.ledger.endpoint_rows import Foretold, Percentiles, Recent, foretold, recent
from router_gateway.probing.interval import wilson

_ROWS_OF_LIST, _ROWS_OF_ONE = 200, 2_000
_LIST_S, _ONE_S = 3_600.0, 86_400.0
_RATINGS_MAX = 5_000
_BINS = 10
_DEGRADED_RATE = 0.2
_DEGRADED_ATTEMPTS_MIN = 5


@admin_only
async def list_endpoints(asked: Asked) -> dict[str, Any]:
    """The pool, in the configuration's order, with how each fared in the last hour."""
    pool = asked.gateway.endpoints
    circuits, default = asked.gateway.dispatcher.circuits(), asked.gateway.router(None).default_endpoint
    fared = await _fared(asked, pool, _LIST_S, _ROWS_OF_LIST)
    return listed([_row(each, circuits[each.name], fared[each.name], each.name == default) for each in pool])


@admin_only
async def get_endpoint(asked: Asked) -> dict[str, Any]:
    """One endpoint: of the last day its newest tries, and all prices that it ever had or will have."""
    endpoint = _named(asked)
    circuit, default = asked.gateway.dispatcher.circuits()[endpoint.name], asked.gateway.router(None).default_endpoint
    hour = (await _fared(asked, [endpoint], _LIST_S, _ROWS_OF_LIST))[endpoint.name]
    day = (await _fared(asked, [endpoint], _ONE_S, _ROWS_OF_ONE))[endpoint.name]
    history = [
        {
            "since": None if since is None else since.isoformat(),
            "until": None if until is None else until.isoformat(),
            **_prices(at_those),
        }
        for since, until, at_those in periods(endpoint)
    ]
    row = _row(endpoint, circuit, hour, endpoint.name == default)
    return {**row, "recent": _recent(day), "price_history": history}


@admin_only
async def get_calibration(asked: Asked) -> dict[str, Any]:
    """Predicted quality, as decisions wrote it down, against what was said of the answers."""
    endpoint = _named(asked)
    rows = await asyncio.to_thread(partial(foretold, asked.database, rows_max=_RATINGS_MAX))
    return {"object": "calibration", "endpoint": endpoint.name, **_calibration(rows, endpoint.name)}


def _named(asked: Asked) -> Endpoint:
    name = asked.path("name")
    found = next((each for each in asked.gateway.endpoints if each.name == name), None)
    if found is None:
        raise NotFound(f"no endpoint {name[:100]!r}", param="name")
    return found


async def _fared(asked: Asked, pool: Sequence[Endpoint], seconds: float, rows_max: int) -> dict[str, Recent]:
    since, names = datetime.now(UTC) - timedelta(seconds=seconds), [each.name for each in pool]
    return dict(await asyncio.to_thread(partial(recent, asked.database, names, since=since, rows_max=rows_max)))


def _row(endpoint: Endpoint, circuit: CircuitStatus, fared: Recent, default: bool) -> dict[str, Any]:
    return {
        "name": endpoint.name,
        "model": endpoint.model,
        "provider": endpoint.provider,
        "protocol": endpoint.protocol,
        **_prices(priced_at(endpoint, datetime.now(UTC))),
        "context_tokens_max": endpoint.context_tokens_max,
        "offers": sorted(endpoint.offers),
        "region": endpoint.region,
        "collects_data": endpoint.collects_data,
        "default": default,
        "health": _health(circuit, fared),
        "circuit": circuit.state.name.lower(),
        "circuit_since": None if circuit.since is None else circuit.since.isoformat(),
        "circuit_until": None if circuit.until is None else circuit.until.isoformat(),
        "circuit_why": circuit.why,
        "failures_in_a_row": circuit.failures,
        "in_flight": circuit.in_flight,
        "recent": _recent(fared),
    }


def _health(circuit: CircuitStatus, fared: Recent) -> str:
    """`down` and `recovering` as the circuit says, `degraded` where a fifth of the tries failed, else `healthy`."""
    if circuit.state is not State.CLOSED:
        return "down" if circuit.state is State.OPEN else "recovering"
    if not fared.attempts:
        return "idle"
    failing = (fared.error_rate or 0.0) >= _DEGRADED_RATE and fared.attempts >= _DEGRADED_ATTEMPTS_MIN
    return "degraded" if failing else "healthy"


def _recent(fared: Recent) -> dict[str, Any]:
    return {
        "attempts": fared.attempts,
        "oldest": None if fared.oldest is None else fared.oldest.isoformat(),
        "error_rate": fared.error_rate,
        "errors": dict(fared.errors),
        "latency_ms": _ranks(fared.latency_ms),
        "first_byte_ms": _ranks(fared.first_byte_ms),
    }


def _ranks(of: Percentiles | None) -> dict[str, float] | None:
    return None if of is None else of._asdict()


def _prices(endpoint: Endpoint) -> dict[str, str]:
    return {
        "price_input_usd_per_mtok": str(endpoint.price_input_usd_per_mtok),
        "price_output_usd_per_mtok": str(endpoint.price_output_usd_per_mtok),
        "price_cached_input_usd_per_mtok": str(endpoint.price_cached_input_usd_per_mtok),
        "price_cache_write_usd_per_mtok": str(endpoint.price_cache_write_usd_per_mtok),
    }


def _calibration(rows: Sequence[Foretold], name: str) -> dict[str, Any]:
    expected = np.array([row.expected for row in rows if row.endpoint == name], dtype=np.float64)
    said = np.array([row.said for row in rows if row.endpoint == name], dtype=np.float64)
    if not len(said):
        return {"n": 0, "ece": None, "brier": None, "expected": None, "said": None, "bins": []}
    bins = reliability(expected, said, bins=_BINS)
    return {
        "n": len(said),
        "ece": bins.ece,
        "brier": brier(expected, said),
        "expected": float(expected.mean()),
        "said": float(said.mean()),
        "bins": [
            {"n": int(n), "expected": float(guess), "said": float(mean), **_interval(float(mean), int(n))}
            for n, guess, mean in zip(bins.count, bins.predicted, bins.observed, strict=True)
        ],
    }


def _interval(mean: float, n: int) -> dict[str, float]:
    """Wilson's 95 % of a mean of n answers; for graded ones a safe one."""
    found = wilson(np.full(n, mean), np.ones(n))
    assert found is not None
    return {"low": found.low, "high": found.high}


ROUTES: tuple[Route, ...] = (
    ("GET", "/endpoints", list_endpoints),
    ("GET", "/endpoints/{name}", get_endpoint),
    ("GET", "/endpoints/{name}/calibration", get_calibration),
)
