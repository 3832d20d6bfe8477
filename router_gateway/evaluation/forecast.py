"""The days to come under another policy, dial or price: traffic as it grows, times what a request will cost and bring.

Traffic comes from `daily_traffic`, cost and quality of a request from the ledger's draws as in `audit`, every future
with a resample of its own, so that a band holds what is not known of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from router_gateway.core.errors import DataError, GatewayError
from router_gateway.core.types import Endpoint, Floats
from router_gateway.evaluation.audit import Installation
from router_gateway.evaluation.audit_question import Change
from router_gateway.evaluation.daily_traffic import DAYS_MIN, WEEKLY_MIN, History, Paths, simulate
from router_gateway.evaluation.forecast_requests import Requests, changed_requests, logged_requests
from router_gateway.evaluation.forecast_result import Band, DayBand, Forecast, Outlook, risk
from router_gateway.evaluation.paired import interval
from router_gateway.evaluation.repricing import Repricing
from router_gateway.ledger.days import read_days
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.reads import output_tokens

HISTORY_DAYS = 182
"""Days of traffic that are looked back on, at most."""


def forecast(
    engine: Any, installation: Installation, pool: Sequence[Endpoint], change: Change, *, today: date | None = None
) -> Forecast:
    """Traffic, spend and quality of the days from `today` (UTC) on. What the ledger cannot say is refused in words.

    Raises UnknownPolicy, BadParameters, SnapshotMismatch for a candidate that there is not, LedgerUnavailable.
    """
    now = today or datetime.now(UTC).date()
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC)
    days = read_days(engine, since=midnight - timedelta(days=HISTORY_DAYS), until=midnight)
    history = History.of(days, now)
    if len(history) < DAYS_MIN:
        why = f"{len(history)} complete days of traffic; a forecast needs {DAYS_MIN}, and two weeks to know weekdays"
        return _refused(change, history, why)
    notes = []
    if len(history) < WEEKLY_MIN:
        notes.append(f"{len(history)} complete days are too few to tell weekdays apart: every day is taken as alike")
    asked = change.question
    decided = read_decided(
        engine,
        since=asked.since,
        decisions_max=asked.decisions_max,
        tenant=asked.tenant,
        hearing=installation.hearing(engine),
    )
    paths = simulate(history, days=change.days, paths=asked.resamples, seed=asked.seed)
    try:
        logged = logged_requests(decided, asked)
    except DataError as error:
        return _refused(change, history, error.message)
    before = _outlook("as logged", logged, paths, change, now)
    told = Forecast(
        days=change.days,
        history_days=len(history),
        requests=Band.of(paths.requests.sum(axis=1)),
        as_logged=before,
        changed=None,
        spend_change=None,
        quality_change=None,
        refused="",
        notes=tuple(notes),
    )
    if not change.changes:
        return told
    means = {name: one.mean_output_tokens for name, one in output_tokens(engine).items()}
    repriced = [Repricing(pool, change.prices, means)(one) for one in decided]
    try:
        own = changed_requests(decided, repriced, installation, asked, logged)
    except (DataError, GatewayError, ValueError) as error:
        return replace(told, refused=f"the change cannot be judged on this ledger: {error}")
    after = _outlook(own.label, own, paths, change, now)
    return replace(
        told,
        changed=after,
        spend_change=Band.of(_spend(paths, own).sum(axis=1) / _spend(paths, logged).sum(axis=1) - 1.0),
        quality_change=None if own.quality_change is None else interval(own.quality_change, own.change_bounds),
        notes=(*notes, *own.notes),
    )


def _spend(paths: Paths, requests: Requests) -> Floats:
    """float64 (R, D), USD: future r takes resample r of what a request costs."""
    return np.asarray(paths.requests * paths.price * requests.cost_usd[1:, None])


def _outlook(label: str, requests: Requests, paths: Paths, change: Change, today: date) -> Outlook:
    spend = _spend(paths, requests)
    daily = [
        DayBand(
            date=(today + timedelta(days=day)).isoformat(),
            requests=Band.of(paths.requests[:, day]),
            spend_usd=Band.of(spend[:, day]),
        )
        for day in range(spend.shape[1])
    ]
    return Outlook(
        label=label,
        spend_usd=Band.of(spend.sum(axis=1)),
        spend_by=requests.spend_by,
        usd_per_request=interval(requests.cost_usd),
        quality=None if requests.quality is None else interval(requests.quality, requests.bounds),
        quality_refused=requests.quality_refused,
        share=requests.share,
        budget=risk(spend, change.budget_usd_per_day),
        daily=tuple(daily),
    )


def _refused(change: Change, history: History, why: str) -> Forecast:
    return Forecast(
        days=change.days,
        history_days=len(history),
        requests=None,
        as_logged=None,
        changed=None,
        spend_change=None,
        quality_change=None,
        refused=f"not identifiable: {why}",
        notes=(),
    )
