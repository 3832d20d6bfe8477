"""Counters and histograms as plain numbers, exposed to Prometheus when it scrapes.

The client library locks, copies labels and checks on every count, which for a dozen counts a request is more than all
of routing's arithmetic. Here a count is a dictionary's entry. One thread counts (the event loop's); any may scrape.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Counts(Collector):
    """A counter by its labels' values; `_total` is added to the name."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        self._family = name, help_text, tuple(labels)
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, by: float = 1.0) -> None:
        """Count `by` more."""
        counts = self._counts
        counts[labels] = counts.get(labels, 0.0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        name, help_text, labels = self._family
        family = CounterMetricFamily(name, help_text, labels=labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


class Spread(Collector):
    """A histogram by its labels' values. `bounds` are the buckets' inclusive upper bounds, in rising order."""

    def __init__(self, name: str, help_text: str, labels: Sequence[str], *, bounds: Sequence[float]) -> None:
        self._family = name, help_text, tuple(labels)
        self._bounds = tuple(bounds)
        self._said = (*map(str, self._bounds), "+Inf")
        self._series: dict[tuple[str, ...], list[float]] = {}
        """Counts by bucket, the last beyond all bounds, and at the end the sum."""

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = [0.0] * (len(self._bounds) + 2)
        series[bisect_left(self._bounds, value)] += 1.0
        series[-1] += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        name, help_text, labels = self._family
        family = HistogramMetricFamily(name, help_text, labels=labels)
        for values, series in list(self._series.items()):
            *counts, total = list(series)
            family.add_metric(values, list(zip(self._said, accumulate(counts), strict=True)), total)
        yield family
