"""What the router is told a call will cost: a mean per endpoint, or a prediction for the very query (CARROT's side)."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal, get_args

import numpy as np

from router_gateway.core.protocols import CostModel
from router_gateway.core.types import Bools, Endpoint, Floats, Ints
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.prepared import Prepared
from router_gateway.evaluation.protocols import DoesNotFit
from router_gateway.evaluation.sweep import MeanCost
from router_gateway.routing.cost import TokenLengthCost

CostKind = Literal["mean", "learned"]
COST_KINDS: tuple[str, ...] = get_args(CostKind)

_TOLERANCE = 1e-6
_USD_PER_MTOK = 1e-6
_PRICE_DIGITS = 6


def cost_model(kind: CostKind, prepared: Prepared, learnable: Bools, columns: Ints) -> CostModel:
    """What may be known of costs from the outcomes in `learnable`, bool (Q, E), over the endpoints in `columns`.

    "mean" is each endpoint's mean; "learned" predicts output tokens from the request and multiplies them by list
    prices. Raises DoesNotFit where "learned" lacks recorded tokens or list prices.
    """
    if kind == "mean":
        return MeanCost.of(np.where(learnable, prepared.table.cost_usd, np.nan)[:, columns])
    priced = [with_list_prices(prepared.endpoints[c], prepared.table, int(c)) for c in columns]
    endpoints = tuple(endpoint for endpoint in priced if endpoint is not None)
    if len(endpoints) < len(columns):
        raise DoesNotFit("learned costs need recorded tokens and costs that are tokens times list prices")
    rows = np.flatnonzero(learnable[:, columns].any(axis=1))
    at = np.ix_(rows, columns)
    tokens = np.where(learnable[at], prepared.table.tokens_output[at], np.nan)
    return TokenLengthCost(endpoints=endpoints).fit([prepared.queries[i] for i in rows], tokens)


def with_list_prices(endpoint: Endpoint, table: Benchmark, column: int) -> Endpoint | None:
    """The endpoint at prices that explain its recorded costs, its own where it has any; None if none do."""
    if endpoint.price_input_usd_per_mtok or endpoint.price_output_usd_per_mtok:
        return endpoint
    found = list_prices(table.tokens_input[:, column], table.tokens_output[:, column], table.cost_usd[:, column])
    if found is None:
        return None
    sent, answered = (Decimal(repr(round(price, _PRICE_DIGITS))) for price in found)
    return replace(endpoint, price_input_usd_per_mtok=sent, price_output_usd_per_mtok=answered)


def list_prices(tokens_input: Floats, tokens_output: Floats, cost_usd: Floats) -> tuple[float, float] | None:
    """USD per million input and output tokens for which tokens times price is the recorded cost of every call.

    Each (Q,), NaN where unknown. Least squares, then checked; None where no two prices explain the costs.
    """
    tokens = np.column_stack([tokens_input, tokens_output])
    known = np.isfinite(tokens).all(axis=1) & np.isfinite(cost_usd)
    if known.sum() < tokens.shape[1]:
        return None
    solution: Floats = np.linalg.lstsq(tokens[known], cost_usd[known] / _USD_PER_MTOK, rcond=None)[0]
    prices = np.maximum(np.round(solution, _PRICE_DIGITS), 0.0)
    explained = tokens[known] @ prices * _USD_PER_MTOK
    if not np.allclose(explained, cost_usd[known], rtol=_TOLERANCE, atol=0.0):
        return None
    return float(prices[0]), float(prices[1])
