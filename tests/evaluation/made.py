"""Results as an evaluation gives them, of made-up figures with every kind of gap that real ones have."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from router_gateway.evaluation.metrics import Curve, hull
from router_gateway.evaluation.results import (
    Bins,
    DialCurve,
    EvaluationResult,
    Line,
    PartResult,
    Point,
    PolicyResult,
    ProtocolResult,
    SetResult,
    TaskResult,
)

DIALS = 12
POLICIES = ("knn", "linear", "clusters")


def evaluation(*sets: SetResult) -> EvaluationResult:
    return EvaluationResult(
        sets=sets or (one_set("alpha"), one_set("beta", priced=False)),
        seeds=(0, 1, 2),
        command="router-gateway evaluate alpha.csv --seeds 3",
        versions={"numpy": "2.4.6"},
        notes=("alpha: mine failed: ValueError",),
    )


def one_set(
    name: str, *, endpoints: Sequence[str] | int = 4, policies: Sequence[str] = POLICIES, priced: bool = True
) -> SetResult:
    names = tuple(f"model-{i}" for i in range(endpoints)) if isinstance(endpoints, int) else tuple(endpoints)
    cost = np.geomspace(2e-5, 1e-2, len(names)) if priced else np.full(len(names), 1e-3)
    quality = np.linspace(0.55, 0.85, len(names)) ** 0.9
    zero = hull(Curve(cost_usd=cost, quality=quality))
    single = Point(name="best_single", cost_usd=float(cost[-1]), quality=float(quality[-1]))
    return SetResult(
        name=name,
        queries=1234,
        tasks_count=2,
        endpoints=names,
        priced=priced,
        zero=0.77,
        oracle=0.95,
        best_single=names[-1],
        zero_line=Line(cost_usd=tuple(zero.cost_usd), quality=tuple(zero.quality)),
        oracle_line=Line(cost_usd=tuple(cost[[0, -1]]), quality=(0.8, 0.96)),
        singles=tuple(
            Point(name=n, cost_usd=float(c), quality=float(q)) for n, c, q in zip(names, cost, quality, strict=True)
        ),
        points=(single, Point(name="random", cost_usd=float(cost.mean()), quality=float(quality.mean()))),
        policies=(*(policy(p, i, cost, quality, swept=priced) for i, p in enumerate(policies)), _random()),
        tasks=(
            TaskResult(name="sums", queries=1000, quality={**_each(policies, 0.6), "best_single": 0.61}),
            TaskResult(name="riddles", queries=234, quality={**_each(policies, 0.5), "best_single": math.nan}),
        ),
        protocols=(
            ProtocolResult(name="pooled", title="70/30", parts=(PartResult(name="", aiq=_each(policies, 0.8)),)),
            ProtocolResult(
                name="probes",
                title="one endpoint arrives",
                parts=tuple(
                    PartResult(
                        name=n, aiq={**_each(policies, 0.8), "oracle": 0.95}, aiq_sd=dict.fromkeys(policies, 0.004)
                    )
                    for n in ("10", "20", "all")
                ),
            ),
            ProtocolResult(name="dynamic", title="endpoints arrive later", skipped="fewer than four endpoints"),
            ProtocolResult(
                name="robustness",
                title="prompts perturbed",
                parts=tuple(
                    PartResult(name=n, aiq=_each(policies, 0.8), unchanged=dict.fromkeys(policies, same))
                    for n, same in (("as written", 1.0), ("typos", 0.93))
                ),
            ),
        ),
        notes=("7 calls without a cost are taken at their endpoint's mean",),
    )


def policy(name: str, number: int, cost: np.ndarray, quality: np.ndarray, *, swept: bool) -> PolicyResult:
    count = DIALS if swept else 1
    way = np.linspace(1.0, 0.0, count)
    spent = np.exp(np.interp(way, [0, 1], np.log(cost[[0, -1]])))
    brought = np.interp(way, [0, 1], quality[[0, -1]]) + 0.02 * np.sin(np.pi * way)
    shares = np.exp(-((np.arange(len(cost))[None, :] - way[:, None] * (len(cost) - 1)) ** 2))
    shares /= shares.sum(axis=1, keepdims=True)
    bins = Bins(count=(10, 40), predicted=(0.3, 0.8), observed=(0.35, 0.77), ece=0.034, brier=0.2)
    return PolicyResult(
        name=name,
        aiq=0.83 - 0.01 * number,
        aiq_sd=0.0041,
        gap_closed=0.12 - 0.03 * number,
        gap_closed_low=0.09 - 0.03 * number,
        gap_closed_high=0.16 - 0.03 * number,
        quality_at_zero_price=0.8125,
        cost_at_best_single_quality=0.0047 if number == 0 else math.nan,
        score_ms_p50=0.25 * (number + 1),
        score_ms_p99=1.5 * (number + 1),
        curve=DialCurve(
            worth_usd=(math.nan, *np.geomspace(1e2, 1e-3, count - 1).tolist()),
            cost_usd=tuple(spent.tolist()),
            quality=tuple(brought.tolist()),
            quality_sd=(0.006,) * count,
            shares=tuple(tuple(row) for row in shares.tolist()),
        ),
        calibration=bins,
        parameters={"k": 20},
        other={"qnc": 0.47, "reached_best_single_share": 2 / 3, "cost_at_best_single_quality_share": 0.47},
    )


def _random() -> PolicyResult:
    """As the runner gives it: a curve of one dial."""
    curve = DialCurve(worth_usd=(math.nan,), cost_usd=(0.004,), quality=(0.7,), quality_sd=(0.0,))
    return PolicyResult(name="random", reference=True, aiq=0.7, curve=curve, other={"qnc": math.nan})


def _each(policies: Sequence[str], first: float) -> dict[str, float]:
    return {name: first - 0.01 * i for i, name in enumerate(policies)}
