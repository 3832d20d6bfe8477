"""How many requests the next days will bring: weekly seasonality, a level that wanders, a bootstrap of whole weeks.

With y the log of a day's requests, s its weekday's effect and l the level,

    y_t = l_{t-1} + s_t + e_t        l_t = l_{t-1} + alpha e_t

exponential smoothing with additive seasonality in logarithms (Hyndman, Koehler, Ord and Snyder 2008, "Forecasting with
Exponential Smoothing", ETS(A,N,A)). Nothing is assumed about e: a path draws whole weeks of the errors that there were,
each on its own weekday (a moving block bootstrap, Künsch 1989), so weekends that are noisier, and bad days that come
together, stay so. Errors are not centred: traffic that has grown is taken to grow on. What is not known is in the
paths too: alpha is drawn by its likelihood, level and weekdays by what refitting simulated histories makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from router_gateway.core.types import Floats, Ints
from router_gateway.ledger.days import Day

DAYS_MIN = 7
"""Complete days without which there is no forecast."""
WEEKLY_MIN = 14
"""Complete days below which weekdays cannot be told apart."""
_WEEK = 7
_ALPHAS = np.array([0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """N complete days in a row, the newest last. requests : int64 (N,); usd_each : float64 (N,), NaN without any."""

    last: date
    requests: Ints
    usd_each: Floats

    def __len__(self) -> int:
        return len(self.requests)

    @classmethod
    def of(cls, days: Sequence[Day], today: date) -> History:
        """Of days with traffic: those before `today`, less the first, which the ledger may have seen in part."""
        known = {day.date: day for day in days if day.date < today}
        if not known:
            return cls(last=today, requests=np.zeros(0, dtype=np.int64), usd_each=np.zeros(0))
        count = (today - min(known)).days - 1
        dates = [today - timedelta(days=count - i) for i in range(count)]
        requests = np.array([known[d].requests if d in known else 0 for d in dates], dtype=np.int64)
        cost = np.array([known[d].cost_usd if d in known else 0.0 for d in dates])
        usd_each = np.divide(cost, requests, out=np.full(count, np.nan), where=requests > 0)
        return cls(last=today - timedelta(days=1), requests=requests, usd_each=usd_each)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """R futures of D days.

    requests : float64 (R, D); price : float64 (R, D), a day's cost per request by what is usual
    """

    requests: Floats
    price: Floats


def simulate(history: History, *, days: int, paths: int, seed: int = 0) -> Paths:
    """Draw futures. Raises ValueError below DAYS_MIN complete days."""
    if len(history) < DAYS_MIN:
        raise ValueError(f"{len(history)} complete days are too few")
    rng = np.random.default_rng(seed)
    y = np.log(history.requests + 0.5)
    fits = [_Fit(y, float(alpha)) for alpha in _ALPHAS]
    squares = np.array([max(fit.squares, 1e-12) for fit in fits])
    log_likelihood = -0.5 * len(y) * np.log(squares / squares.min())
    chance = np.exp(log_likelihood - log_likelihood.max())
    drawn = rng.choice(len(fits), size=paths, p=chance / chance.sum())
    price_noise = _relative(history.usd_each)
    requests, price = np.empty((paths, days)), np.empty((paths, days))
    for number in np.unique(drawn):
        own = np.flatnonzero(drawn == number)
        log_requests, at = fits[number].paths(rng, len(own), days)
        requests[own] = np.maximum(np.exp(log_requests) - 0.5, 0.0)
        price[own] = price_noise[at]
    return Paths(requests=requests, price=price)


class _Fit:
    """The model at one alpha, fitted to y, float64 (N,). What it estimates is linear in y, so batches cost nothing."""

    def __init__(self, y: Floats, alpha: float) -> None:
        self._alpha, self._count = alpha, len(y)
        self._weekday = np.arange(len(y)) % _WEEK
        self._weekly = len(y) >= WEEKLY_MIN
        self._first, self._level, self._season, errors = self._estimate(y[None, :])
        self.squares = float((errors**2).sum())
        estimated = 1 + (_WEEK - 1 if self._weekly else 0) + (alpha > 0)
        self._free = max(len(y) - estimated, 1)
        self._errors = errors[0] * np.sqrt(len(y) / self._free * len(y) / max(len(y) - _WEEK, 1))

    def paths(self, rng: np.random.Generator, paths: int, days: int) -> tuple[Floats, Ints]:
        """Log requests, float64 (paths, days), and the day of the history whose error each of them has."""
        scale = np.sqrt(self._free / rng.chisquare(self._free, paths))[:, None]
        errors = scale * self._errors[self._blocks(rng, paths, self._count)]
        past = self._run(self._first, self._season, errors)
        level = self._first + self._alpha * errors.sum(axis=1)
        _, found_level, found_season, _ = self._estimate(past)
        at = self._blocks(rng, paths, days)
        season = self._season - (found_season - self._season)  # estimates err as they do on simulated histories
        drift = errors.mean(axis=1, keepdims=True) - self._errors.mean()
        errors = scale * self._errors[at]
        wander = self._alpha * (np.cumsum(errors - drift, axis=1) - (errors - drift))
        weekday = (self._count + np.arange(days)) % _WEEK
        start = self._level + (level - found_level)
        return start[:, None] + wander + season[:, weekday] + errors, at

    def _run(self, first: Floats, season: Floats, errors: Floats) -> Floats:
        wander = self._alpha * (np.cumsum(errors, axis=1) - errors)
        return np.asarray(first[:, None] + wander + season[:, self._weekday] + errors)

    def _estimate(self, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """First level (B,), last level (B,), weekday effects (B, 7) and errors (B, N) of histories (B, N)."""
        season = self._seasons(y)
        z = y - season[:, self._weekday]
        errors, decay = np.empty_like(z), (1 - self._alpha) ** np.arange(self._count)
        level = np.zeros(len(z))
        for t in range(self._count):  # from a first level of 0, which the errors are linear in
            errors[:, t] = z[:, t] - level
            level = level + self._alpha * errors[:, t]
        first = errors @ decay / (decay @ decay)
        errors = errors - first[:, None] * decay
        return first, first + self._alpha * errors.sum(axis=1), season, errors

    def _seasons(self, y: Floats) -> Floats:
        """Mean distance of each weekday from the week around it, summing to 0: float64 (B, 7)."""
        season = np.zeros((len(y), _WEEK))
        if not self._weekly:
            return season
        sums = np.cumsum(np.pad(y, ((0, 0), (1, 0))), axis=1)
        around = (sums[:, _WEEK:] - sums[:, :-_WEEK]) / _WEEK
        half = _WEEK // 2
        apart = y[:, half : half + around.shape[1]] - around
        weekday = self._weekday[half : half + around.shape[1]]
        for day in range(_WEEK):
            season[:, day] = apart[:, weekday == day].mean(axis=1)
        return np.asarray(season - season.mean(axis=1, keepdims=True))

    def _blocks(self, rng: np.random.Generator, paths: int, days: int) -> Ints:
        """Days of the history, int64 (paths, days), in runs of a week."""
        weeks = -(-days // _WEEK)
        first = rng.integers(0, self._count - _WEEK + 1, (paths, weeks))
        return np.asarray((first[:, :, None] + np.arange(_WEEK)).reshape(paths, -1)[:, :days])


def _relative(usd_each: Floats) -> Floats:
    """float64 (N,): a day's cost per request by the mean of the week around it; 1 where there was no request."""
    known = np.isfinite(usd_each)
    if not known.any():
        return np.ones(len(usd_each))
    half = _WEEK // 2
    out = np.ones(len(usd_each))
    for t in np.flatnonzero(known):
        around = usd_each[max(0, t - half) : t + half + 1]
        mean = float(np.nanmean(around))
        out[t] = usd_each[t] / mean if mean > 0 else 1.0
    return out
