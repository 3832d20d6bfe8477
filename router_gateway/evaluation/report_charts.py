"""What the page's script draws, as plain descriptions of three kinds: plane, stack, dots (assets/charts.js).

Costs leave here in USD per 1,000 requests, the unit of every axis and table of a report.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.metrics import Curve, hull
from router_gateway.evaluation.results import DialCurve, PartResult, Point, PolicyResult, ProtocolResult, SetResult

Chart: TypeAlias = dict[str, Any]

PER_THOUSAND = 1000.0
COST_LABEL = "USD per 1,000 requests"
SHARES_SHOWN = 3
STACKED_MAX = 12
"""Endpoints with a layer of their own; the others share one."""
LOG_FROM_RATIO = 20.0
"""Costs that span more than this start on a logarithmic axis."""
_FAR_BELOW = ("random", "cheapest")
"""References that would flatten everything else; they are in the tables, and a key away on the page."""
_DIGITS = 6
_MIXED_STEP = 0.15  # of the natural logarithm of cost
_BESIDE = 0.6  # of the distance between two parts


def plane(own: SetResult) -> Chart:
    """Cost against quality: every curve with its band and hull, zero router, oracle, singles, named points."""
    numbers = colours(own)
    series = [_swept(p.name, p.curve, own, numbers[p.name]) for p in own.policies if p.curve and _is_swept(p)]
    for name, line, index in (("zero router", own.zero_line, -1), ("oracle", own.oracle_line, -2)):
        at = _mixed(line.cost_usd, line.quality)
        series.append({"name": name, "index": index, "line": True, "markers": False, **at})
    for name, points, index in (("single endpoints", own.singles, -4), ("other references", _other_points(own), -3)):
        if points:
            series.append(_points(name, points, index))
    costs = [x for one in series for x in one["x"] if x is not None and x > 0]
    return {
        "kind": "plane",
        "title": f"{own.name}: cost and quality",
        "xLabel": COST_LABEL,
        "yLabel": "mean quality (0 to 1)",
        "log": bool(costs) and max(costs) / min(costs) > LOG_FROM_RATIO,
        "series": series,
    }


def colours(own: SetResult) -> dict[str, int]:
    """A policy's colour and shape are the same in every chart of a set; references come after the policies."""
    ordered = sorted(own.policies, key=lambda p: p.reference)
    return {policy.name: i for i, policy in enumerate(ordered)}


def _is_swept(policy: PolicyResult) -> bool:
    """A reference that no dial moves is a point beside the curves; a policy is drawn as one in any case."""
    return policy.curve is not None and (not policy.reference or len(policy.curve.cost_usd) > 1)


def _other_points(own: SetResult) -> tuple[Point, ...]:
    swept = {p.name for p in own.policies if _is_swept(p)}
    return tuple(p for p in own.points if p.name not in swept)


def _swept(name: str, curve: DialCurve, own: SetResult, index: int) -> Chart:
    best = _hull(curve)
    return {
        "name": name,
        "index": index,
        "line": True,
        "x": _thousand(curve.cost_usd),
        "y": _rounded(curve.quality),
        "sd": _rounded(curve.quality_sd),
        "info": [_dial(curve, i, own.endpoints) for i in range(len(curve.worth_usd))],
        "hull": None if best is None else _mixed(best.cost_usd, best.quality),
    }


def _mixed(cost_usd: Sequence[float] | Floats, quality: Sequence[float] | Floats) -> Chart:
    """A hull with what lies between its points: mixtures, straight over cost but bent where the axis is logarithmic.

    Drawn from corner to corner there, a hull would promise more than it holds.
    """
    cost = np.asarray(cost_usd, dtype=np.float64)
    between = [
        np.geomspace(low, high, math.ceil(math.log(high / low) / _MIXED_STEP) + 1)[1:-1]
        for low, high in pairwise(cost.tolist())
        if 0 < low < high
    ]
    costs = np.unique(np.concatenate([cost, *between]))
    return {"x": _thousand(costs), "y": _rounded(np.interp(costs, cost, np.asarray(quality, dtype=np.float64)))}


def _hull(curve: DialCurve) -> Curve | None:
    points = Curve(cost_usd=np.array(curve.cost_usd), quality=np.array(curve.quality))
    return hull(points) if np.isfinite(points.cost_usd + points.quality).any() else None


def _dial(curve: DialCurve, at: int, endpoints: Sequence[str]) -> list[str]:
    """What hovering over one setting of the dial says."""
    worth = curve.worth_usd[at]
    said = [f"a perfect answer is worth {worth:.4g} USD" if math.isfinite(worth) else "price plays no part"]
    if curve.shares:
        top = sorted(zip(curve.shares[at], endpoints, strict=True), key=lambda pair: -pair[0])[:SHARES_SHOWN]
        said += [f"{share:.1%} {name}" for share, name in top if share >= 0.005]
    return said


def _points(name: str, points: Sequence[Point], index: int) -> Chart:
    return {
        "name": name,
        "index": index,
        "line": False,
        "x": _thousand(p.cost_usd for p in points),
        "y": _rounded(p.quality for p in points),
        "labels": [p.name for p in points],
    }


def qualities(own: SetResult) -> Chart:
    """Instead of `plane` where every call costs the same: quality alone, best first."""
    rows = [_row(p.name, p.quality_at_zero_price, index=colours(own)[p.name]) for p in own.policies]
    rows += [_row(p.name, p.quality) for p in (*own.singles, *_other_points(own)) if p.name not in colours(own)]
    rows.append(_row("oracle", own.oracle, index=-2))
    rows.sort(key=lambda row: -math.inf if row["value"] is None else row["value"], reverse=True)
    return {"kind": "dots", "title": f"{own.name}: quality", "xLabel": "mean quality (0 to 1)", "rows": rows}


def gaps(own: SetResult) -> Chart:
    """Share of the gap from zero router to oracle that each policy closes, with its interval."""
    rows = [
        _row(p.name, p.gap_closed, p.gap_closed_low, p.gap_closed_high, index=colours(own)[p.name])
        for p in own.policies
        if not p.reference
    ]
    return {
        "kind": "dots",
        "title": f"{own.name}: gap closed",
        "xLabel": "gap closed: zero router 0, oracle 1",
        "rangeLabel": "95 % interval",
        "zero": True,
        "rows": rows,
    }


def latencies(own: SetResult) -> Chart:
    """Milliseconds that scoring one query takes: dot at the median, range to the 99th percentile."""
    rows = [
        _row(p.name, p.score_ms_p50, p.score_ms_p50, p.score_ms_p99, index=colours(own)[p.name])
        for p in own.policies
        if math.isfinite(p.score_ms_p50)
    ]
    return {
        "kind": "dots",
        "title": f"{own.name}: time to score one query",
        "xLabel": "milliseconds, median",
        "rangeLabel": "p50 to p99, ms",
        "log": True,
        "rows": rows,
    }


def reliabilities(own: SetResult) -> Chart:
    """Observed against predicted quality per bin; a dot's area is its share of the cells."""
    series = []
    for policy in own.policies:
        if (bins := policy.calibration) is None or not bins.count:
            continue
        largest = max(bins.count)
        series.append(
            {
                "name": f"{policy.name} (ECE {bins.ece:.3f})",
                "index": colours(own)[policy.name],
                "line": True,
                "x": _rounded(bins.predicted),
                "y": _rounded(bins.observed),
                "weight": _rounded(count / largest for count in bins.count),
                "info": [[f"{count:,} outcomes"] for count in bins.count],
            }
        )
    return {
        "kind": "plane",
        "title": f"{own.name}: calibration",
        "xLabel": "predicted quality",
        "yLabel": "observed quality",
        "xRange": [0, 1],
        "yRange": [0, 1],
        "diagonal": True,
        "series": series,
    }


def shares(own: SetResult) -> Chart:
    """Which endpoint answers how often, over the dial, for one policy at a time."""
    variants = []
    swept = [p for p in own.policies if p.curve is not None and p.curve.shares]
    total = np.sum([np.nansum(_shares(p), axis=0) for p in swept], axis=0) if swept else np.zeros(len(own.endpoints))
    order = np.argsort(-total, kind="stable")
    alone = order[:STACKED_MAX]
    for policy in swept:
        assert policy.curve is not None
        worth = np.array(policy.curve.worth_usd)
        at = np.flatnonzero(np.isfinite(worth) & (worth > 0))
        at = at[np.argsort(worth[at])]
        table = _shares(policy)[at]
        layers = [table[:, e] for e in alone]
        if len(order) > len(alone):
            layers.append(table[:, order[len(alone) :]].sum(axis=1))
        if len(at) > 1:
            layered = [_rounded(layer) for layer in layers]
            variants.append({"name": policy.name, "x": _rounded(worth[at]), "shares": layered})
    others = [f"{len(order) - len(alone)} others"] if len(order) > len(alone) else []
    return {
        "kind": "stack",
        "title": f"{own.name}: who answers",
        "xLabel": "what a perfect answer is worth, USD (logarithmic)",
        "yLabel": "share of requests",
        "names": [*(own.endpoints[e] for e in alone), *others],
        "variants": variants,
    }


def _shares(policy: PolicyResult) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.array(policy.curve.shares if policy.curve else (), dtype=np.float64)


def protocol(own: SetResult, asked: ProtocolResult) -> Chart:
    """A protocol of several parts as lines over them, of one part as rows."""
    policies = [p.name for p in own.policies if not p.reference]
    index = colours(own)
    title = f"{own.name}: {asked.title}"
    if len(asked.parts) == 1:
        part = asked.parts[0]
        rows = [_row(n, part.aiq.get(n, math.nan), *_around(part, n), index=index[n]) for n in policies]
        rows += [_row(n, v) for n, v in part.aiq.items() if n not in policies and n not in _FAR_BELOW]
        return {"kind": "dots", "title": title, "xLabel": "AIQ (0 to 1)", "rangeLabel": "± 1 sd", "rows": rows}
    names = list(dict.fromkeys([*policies, *(n for part in asked.parts for n in part.aiq)]))
    at = range(len(asked.parts))
    series = [
        {
            "name": name,
            "index": index.get(name, -1 if name == "zero_router" else -2),
            "line": asked.name == "probes",  # the others have no order, so their dots stand side by side
            "x": [
                part if asked.name == "probes" else part + _BESIDE * (i + 0.5) / len(names) - _BESIDE / 2 for part in at
            ],
            "y": _rounded(part.aiq.get(name, math.nan) for part in asked.parts),
            "sd": _rounded(part.aiq_sd.get(name, math.nan) for part in asked.parts) if _has_sd(asked, name) else None,
        }
        for i, name in enumerate(names)
        if any(name in part.aiq for part in asked.parts)
    ]
    return {
        "kind": "plane",
        "title": title,
        "xLabel": "labelled probes of the endpoint that arrives" if asked.name == "probes" else "part",
        "yLabel": "AIQ (0 to 1)",
        "xTicks": [[i, part.name] for i, part in enumerate(asked.parts)],
        "series": series,
        "off": ["oracle", *_FAR_BELOW],
        "bands": False,  # mostly of the split, which all policies share
    }


def _around(part: PartResult, name: str) -> tuple[float, float]:
    middle, sd = part.aiq.get(name, math.nan), part.aiq_sd.get(name, math.nan)
    return middle - sd, middle + sd


def _has_sd(asked: ProtocolResult, name: str) -> bool:
    return any(math.isfinite(part.aiq_sd.get(name, math.nan)) for part in asked.parts)


def _row(name: str, value: float, low: float = math.nan, high: float = math.nan, *, index: int = -1) -> Chart:
    value, low, high = _rounded((value, low, high))
    return {"name": name, "value": value, "low": low, "high": high, "index": index}


def _thousand(costs_usd: Iterable[float]) -> list[float | None]:
    return _rounded(cost * PER_THOUSAND for cost in costs_usd)


def _rounded(values: Iterable[float]) -> list[Any]:
    """Six digits are more than a screen shows; what is not finite is null."""
    return [float(f"{v:.{_DIGITS}g}") if math.isfinite(v) else None for v in map(float, values)]


def by_set(own: SetResult) -> Mapping[str, Chart]:
    """Every chart of a set that has something to show, by its name on the page."""
    found: dict[str, Chart] = {"plane": plane(own) if own.priced else qualities(own)}
    for name, chart in (("gap", gaps(own)), ("calibration", reliabilities(own)), ("shares", shares(own))):
        found[name] = chart
    found["latency"] = latencies(own)
    for asked in further(own):
        if asked.parts:
            found[f"protocol-{asked.name}"] = protocol(own, asked)
    return {name: chart for name, chart in found.items() if _drawable(chart)}


def further(own: SetResult) -> tuple[ProtocolResult, ...]:
    """The protocols besides the pooled split, which all the other figures of a set are of."""
    return tuple(asked for asked in own.protocols if asked.name != "pooled")


def _drawable(chart: Chart) -> bool:
    if chart["kind"] == "stack":
        return bool(chart["variants"])
    if chart["kind"] == "dots":
        return any(row["value"] is not None for row in chart["rows"])
    return any(y is not None for one in chart["series"] for y in one["y"])
