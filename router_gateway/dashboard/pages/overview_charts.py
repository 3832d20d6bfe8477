"""The overview's charts, from one answer of `/admin/api/overview`: each function draws one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_gateway.dashboard.charts import Chart, Series

Answer = Mapping[str, Any]

_BINS = 40


def spend(found: Answer) -> Chart:
    """What was spent, by endpoint."""
    series = [Series(name=of["endpoint"], values=[nusd / 1e9 for nusd in of["cost_nusd"]]) for of in found["endpoints"]]
    return Chart(
        title="Spend", unit=f"USD per {found['step']}", x=found["steps"], series=series, kind="bar", form="usd",
        stacked=True, about="What calls cost in each step of time, by endpoint.",
    )  # fmt: skip


def share(found: Answer) -> Chart:
    """Where requests went, of all in each step."""
    size = max(1, len(found["steps"]) // _BINS)  # in one hour there may be no request to have a share of
    columns = [_binned(of["requests"], size) for of in found["endpoints"]]
    sums = [sum(step) for step in zip(*columns, strict=True)]
    series = [
        Series(name=of["endpoint"], values=_shares(column, sums))
        for of, column in zip(found["endpoints"], columns, strict=True)
    ]
    return Chart(
        title="Traffic share", unit="of requests", x=found["steps"][::size], series=series, kind="area", form="percent",
        stacked=True, y_min=0.0, y_max=1.0, about="Which part of the requests each endpoint got.",
    )  # fmt: skip


def latency(found: Answer) -> Chart:
    """How long answers took."""
    series = []
    for place, of in enumerate(found["endpoints"], 1):
        series.append(Series(name=f"{of['endpoint']}, median", values=of["latency_p50_ms"], color=place))
        series.append(Series(name=f"{of['endpoint']}, p95", values=of["latency_p95_ms"], color=place, dashed=True))
    return Chart(
        title="Latency", unit="of whole answers", x=found["steps"], series=series, form="ms", y_min=0.0,
        about="Median and 95th percentile of the time that answers took, by endpoint.",
    )  # fmt: skip


def errors(found: Answer) -> Chart:
    """Which share of the calls failed."""
    series = [Series(name=of["endpoint"], values=_shares(of["errors"], of["requests"])) for of in found["endpoints"]]
    return Chart(
        title="Failed calls", unit="of an endpoint's calls", x=found["steps"], series=series, form="percent", y_min=0.0,
        about="Which share of the calls of each endpoint failed.",
    )  # fmt: skip


def quality(found: Answer) -> Chart:
    """What was said of answers, where anybody rated them."""
    rated = [of for of in found["endpoints"] if of["quality"] is not None]
    return Chart(
        title="Quality", unit="mean of ratings", x=found["steps"], form="percent", y_min=0.0, y_max=1.0,
        series=[Series(name=of["endpoint"], values=of["quality"]) for of in rated],
        about="The mean of what was said of the answers of each endpoint.",
    )  # fmt: skip


def _binned(counts: Sequence[int], size: int) -> list[int]:
    """So many steps taken together."""
    return [sum(counts[start : start + size]) for start in range(0, len(counts), size)]


def _shares(parts: Sequence[int], wholes: Sequence[int]) -> list[float | None]:
    return [part / whole if whole else None for part, whole in zip(parts, wholes, strict=True)]
