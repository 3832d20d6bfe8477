"""Things that happen to a stream half way: a model gets worse, a price falls, an endpoint fails, a new one appears."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np

from router_gateway.evaluation.online import Stream


def quality_drop(stream: Stream, endpoint: int, *, at: int, share: float) -> Stream:
    """From query `at` on the endpoint's answers are worth `share` less; price and list stay as they were."""
    quality = stream.quality.copy()
    quality[at:, endpoint] *= 1.0 - share
    return replace(stream, quality=quality)


def price_cut(stream: Stream, endpoint: int, *, at: int, factor: float) -> Stream:
    """From query `at` on the endpoint costs `factor` of what it did, and its list price says so."""
    cost_usd = stream.cost_usd.copy()
    cost_usd[at:, endpoint] *= factor
    pool = list(stream.endpoints)
    by = Decimal(repr(factor))
    pool[endpoint] = replace(
        pool[endpoint],
        price_input_usd_per_mtok=pool[endpoint].price_input_usd_per_mtok * by,
        price_output_usd_per_mtok=pool[endpoint].price_output_usd_per_mtok * by,
    )
    return replace(stream, cost_usd=cost_usd, repriced=(*stream.repriced, (at, tuple(pool))))


def failure(stream: Stream, endpoint: int, *, at: int) -> Stream:
    """From query `at` on the endpoint answers nothing of worth, for nothing: quality 0, cost 0."""
    quality, cost_usd = stream.quality.copy(), stream.cost_usd.copy()
    quality[at:, endpoint] = 0.0
    cost_usd[at:, endpoint] = 0.0
    return replace(stream, quality=quality, cost_usd=cost_usd)


def newcomer(stream: Stream, endpoint: int, *, at: int) -> Stream:
    """The endpoint can be asked from query `at` on only."""
    available = stream.available.copy()
    available[:at, endpoint] = False
    return replace(stream, available=available)


def recovery_requests(hits: np.ndarray, *, at: int, window: int, target: float) -> int | None:
    """Requests after `at` until `hits`, averaged over the last `window` requests, first reach `target`; None: never.

    hits : float (T,), such as what an answer was worth, or 1 where the right endpoint was asked
    """
    after = np.asarray(hits[at:], dtype=np.float64)
    if len(after) < window:
        return None
    mean = np.convolve(after, np.ones(window) / window, mode="valid")
    reached = np.flatnonzero(mean >= target)
    return int(reached[0]) + window if len(reached) else None
