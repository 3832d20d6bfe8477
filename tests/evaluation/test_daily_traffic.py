"""Futures of daily traffic: weekdays, doubt, and how often the band holds what came."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from router_gateway.evaluation.daily_traffic import DAYS_MIN, History, simulate
from router_gateway.ledger.days import Day

TODAY = date(2026, 3, 4)
WEEKDAYS = np.array([1.0, 1.05, 1.1, 1.05, 0.95, 0.45, 0.4])


def made(count, rng, *, level=300.0, growth=0.0, noise=0.1):
    """Requests of `count` days, a quiet day like any other; growth is per week."""
    day = np.arange(count)
    mean = level * WEEKDAYS[day % 7] * np.exp(growth * day / 7 + rng.normal(0, noise, count))
    return rng.poisson(mean)


def history(requests, usd_each=None):
    usd = np.full(len(requests), 1e-3) if usd_each is None else np.asarray(usd_each)
    return History(last=TODAY - timedelta(days=1), requests=np.asarray(requests), usd_each=usd)


@pytest.mark.parametrize(("count", "growth"), [(56, 0.0), (112, 0.0), (56, 0.03)])
def test_the_band_holds_about_four_fifths_of_what_comes(count, growth):
    held, number = 0, 60
    for seed in range(number):
        requests = made(count + 30, np.random.default_rng([seed, count]), growth=growth)
        total = simulate(history(requests[:count]), days=30, paths=200, seed=seed).requests.sum(axis=1)
        low, high = np.quantile(total, [0.1, 0.9])
        held += low <= requests[count:].sum() <= high
    assert 0.68 <= held / number <= 0.97, "80 % give or take two standard errors, rather too wide than too narrow"


def test_quiet_weekdays_are_forecast_to_be_quiet():
    requests = made(70, np.random.default_rng(0))
    by_day = np.median(simulate(history(requests), days=14, paths=300).requests, axis=0)
    np.testing.assert_allclose(by_day / 300, np.tile(WEEKDAYS, 2), atol=0.15)


def test_of_less_than_two_weeks_the_band_is_wide_and_of_less_than_one_there_is_none():
    requests = made(70, np.random.default_rng(0))

    def width(count):
        low, high = np.quantile(
            simulate(history(requests[:count]), days=28, paths=400).requests.sum(axis=1), [0.1, 0.9]
        )
        return high / low

    assert width(10) > 1.3 * width(70)
    with pytest.raises(ValueError, match="too few"):
        simulate(history(requests[: DAYS_MIN - 1]), days=7, paths=10)


def test_days_without_traffic_and_dear_days_are_part_of_it():
    requests = np.tile([100, 100, 100, 100, 100, 0, 0], 6)
    usd_each = np.where(requests > 0, 1e-3, np.nan)
    usd_each[3::7] = 3e-3
    paths = simulate(history(requests, usd_each), days=14, paths=200)
    by_day = np.median(paths.requests, axis=0)
    assert by_day[[5, 6, 12, 13]].max() < 2
    assert by_day[:5].min() > 90
    assert np.isfinite(paths.requests).all()
    assert np.isfinite(paths.price).all()
    assert paths.price.max() > 1.5


def test_a_history_is_of_complete_days_in_a_row():
    first = TODAY - timedelta(days=5)
    days = [Day(date=first + timedelta(days=i), requests=n, cost_usd=n * 2e-3) for i, n in ((0, 3), (1, 10), (3, 20))]
    days.append(Day(date=TODAY, requests=7, cost_usd=1.0))
    found = History.of(days, TODAY)
    assert found.requests.tolist() == [10, 0, 20, 0], "the first day may have begun before the ledger, today goes on"
    np.testing.assert_allclose(found.usd_each, [2e-3, np.nan, 2e-3, np.nan])
    assert len(History.of([], TODAY)) == 0
    assert len(History.of(days[-1:], TODAY)) == 0
