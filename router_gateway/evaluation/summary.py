"""From the records of all sittings to one `EvaluationResult`: means over seeds, curves, tables by task and protocol."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from router_gateway.evaluation.compared import YARDSTICK, ZERO_ROUTER, against, areas_together
from router_gateway.evaluation.metrics import Curve, hull, value_at
from router_gateway.evaluation.over_seeds import column_means, floats, mean, number, numbers, over, sd
from router_gateway.evaluation.protocols import PROTOCOLS
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
from router_gateway.evaluation.runner import Entry, Job
from router_gateway.evaluation.significance import Verdict
from router_gateway.evaluation.sitting import REFERENCES

Record = dict[str, Any]
Records = Sequence[tuple[Job, Record]]

_MAIN = "pooled"
_OTHER = (
    "cost_at_zero_price",
    "best_single_quality",
    "best_single_cost",
    "cost_at_best_single_quality_share",
    "quality_at_best_single_cost",
    "area",
    "area50",
    "qnc",
    "apgr",
    "cpt_50",
    "cpt_80",
    "gain_over_best_single",
    "gain_over_random",
    "gap_to_oracle",
    "normalised_gain",
    "perf_gain",
    "cost_save",
    "arena_score",
    "endpoints_used",
    "gain_low",
    "gain_high",
)
_LINE_POINTS = 100


def summarise(
    entries: Mapping[str, Entry], records: Records, *, command: str, versions: Mapping[str, str], seeds: Sequence[int]
) -> EvaluationResult:
    """Everything a report draws. The protocol `pooled` must be among the records; failures become notes."""
    asked = {(job.entry, job.protocol) for job, record in records if "tests" in record}
    missing = {
        (job.entry, job.spec.label, record.get("failed") or record["skipped"])
        for job, record in records
        if job.spec is not None and "parts" not in record and (job.entry, job.protocol) in asked
    }
    return EvaluationResult(
        sets=tuple(_set(name, entry, [r for r in records if r[0].entry == name]) for name, entry in entries.items()),
        seeds=tuple(seeds),
        command=command,
        versions=dict(versions),
        notes=tuple(f"{entry}: {label}: {why}" for entry, label, why in sorted(missing)),
    )


def by_name(result: EvaluationResult) -> dict[str, Any]:
    """The figures to look things up in: `{set: {"zero", "oracle", "policies": {name: {…}}, …}}`, JSON values."""
    plain = result.to_json()
    tables: dict[str, Any] = {}
    for one in plain["sets"]:
        policies = {p["name"]: _flat(p) for p in one["policies"] if not p["reference"]}
        references = {p["name"]: _flat(p) for p in one["policies"] if p["reference"]}
        protocols = {p["name"]: _protocol_by_name(p) for p in one["protocols"]}
        kept = ("zero", "oracle", "zero_other", "queries", "tasks_count", "endpoints", "priced", "best_single", "notes")
        rows = {"policies": policies, "references": references, "protocols": protocols}
        tables[one["name"]] = {key: one[key] for key in kept} | rows
    return tables


def _flat(policy: Mapping[str, Any]) -> dict[str, Any]:
    left_out = ("name", "reference", "curve", "calibration", "other", "parameters")
    figures = {key: value for key, value in policy.items() if key not in left_out}
    calibration = policy["calibration"] or {}
    return figures | dict(policy["other"]) | {"ece": calibration.get("ece"), "parameters": policy["parameters"]}


def _protocol_by_name(protocol: Mapping[str, Any]) -> dict[str, Any]:
    if protocol["skipped"]:
        return {"skipped": protocol["skipped"]}
    return {part["name"] or "all": {k: v for k, v in part.items() if k != "name"} for part in protocol["parts"]}


def _set(name: str, entry: Entry, records: Records) -> SetResult:
    table = entry.prepared.table
    main = [(job, record) for job, record in records if job.protocol == _MAIN]
    references = [r for j, r in main if j.spec is None and "references" in r]
    tests = [r["tests"][""] for r in references]
    costs = np.array([numbers(t["singles"]["cost_usd"]) for t in tests])
    quality = np.array([numbers(t["singles"]["quality"]) for t in tests])
    singles = Curve(cost_usd=column_means(costs), quality=column_means(quality))
    together = areas_together(main)
    learned = _by_label(main)
    yardstick = learned.get(YARDSTICK, [{"parts": {"": {}}}])
    policies = (
        *(_policy(label, own, yardstick) for label, own in learned.items()),
        *(_reference(row, references) for row in REFERENCES),
    )
    return SetResult(
        name=name,
        queries=len(table),
        tasks_count=len(set(zip(table.datasets, table.tasks, strict=True))),
        endpoints=table.endpoints,
        priced=entry.prepared.priced,
        zero=mean(t["zero_aiq"] for t in tests),
        oracle=mean(t["oracle_aiq"] for t in tests),
        zero_other=together[ZERO_ROUTER],
        best_single=_agreed(table.endpoints[t["best_single"]] for t in tests),
        zero_line=_line(hull(singles)),
        oracle_line=_line(_mean_line([t["oracle"] for t in tests])),
        singles=tuple(
            Point(name=n, cost_usd=float(c), quality=float(q))
            for n, c, q in zip(table.endpoints, singles.cost_usd, singles.quality, strict=True)
        ),
        points=tuple(_reference_point(row, references) for row in REFERENCES if row != "task_oracle"),
        policies=tuple(replace(p, other={**p.other, **together.get(p.name, {})}) for p in policies),
        tasks=_tasks(main),
        protocols=tuple(_protocol(p, [r for r in records if r[0].protocol == p]) for p in _protocols(records)),
        notes=table.notes,
    )


def _policy(label: str, records: list[Record], yardstick: list[Record]) -> PolicyResult:
    parts = [record["parts"][""] for record in records]
    more = {
        "selection_entropy_bits_max": mean(max(p["selection_entropy_bits"]) for p in parts),
        "coverage_95": mean(p["calibration"]["coverage_95"] for p in parts),
        "fit_s": mean(over(records)("fit_s")),
        **_verdict("best_single", _told(parts[0].get("matched"))),
        **_verdict(YARDSTICK, against(parts[0], yardstick[0]["parts"][""])),
    }
    row = _row(label, parts)
    return replace(
        row,
        score_ms_p50=mean(over(records)("score_ms_p50")),
        score_ms_p99=mean(over(records)("score_ms_p99")),
        calibration=_bins([p["calibration"] for p in parts]),
        parameters=records[0]["params"],
        other={**row.other, **more},
    )


def _told(matched: Mapping[str, Any] | None) -> Verdict | None:
    return Verdict(**{key: matched[key] for key in ("ahead", "behind", "p_value")}) if matched else None


def _verdict(other: str, verdict: Verdict | None) -> dict[str, float]:
    """Of the first seed, like the intervals: the tests of several seeds share queries."""
    told = (math.nan,) * 3 if verdict is None else (verdict.ahead, verdict.behind, verdict.p_value)
    return dict(zip((f"vs_{other}_{name}" for name in ("ahead", "behind", "p")), told, strict=True))


def _reference(name: str, records: Sequence[Record]) -> PolicyResult:
    return replace(_row(name, [record["references"][name][""] for record in records]), reference=True)


def _row(label: str, parts: Sequence[Record]) -> PolicyResult:
    """What policies and references have in common."""
    figure = over(parts)
    first = parts[0]  # the seed that carries the bootstrap
    saved = [1.0 - number(share) for share in figure("cost_at_best_single_quality_share")]
    return PolicyResult(
        name=label,
        aiq=mean(figure("aiq")),
        aiq_sd=sd(figure("aiq")),
        gap_closed=mean(figure("gap_closed")),
        gap_closed_low=number(first.get("gap_closed_low")),
        gap_closed_high=number(first.get("gap_closed_high")),
        quality_at_zero_price=mean(figure("quality_at_zero_price")),
        cost_at_best_single_quality=mean(figure("cost_at_best_single_quality")),
        curve=_dial_curve(parts),
        other={
            **{name: mean(figure(name)) for name in _OTHER},
            "gap_closed_sd": sd(figure("gap_closed")),
            "gain": mean(p["aiq"] - p["zero"] for p in parts),
            "gain_sd": sd(p["aiq"] - p["zero"] for p in parts),
            "reached_best_single_share": mean(p["cost_at_best_single_quality"] is not None for p in parts),
            "cost_saved": mean(saved),
            "cost_saved_min": float(np.min(saved)),  # NaN where a seed never reached it: then nothing is sure
        },
    )


def _dial_curve(parts: Sequence[Record]) -> DialCurve:
    """Means over seeds, dial by dial; the dial is the same for all seeds."""
    cost = np.array([numbers(p["curve"]["cost_usd"]) for p in parts])
    quality = np.array([numbers(p["curve"]["quality"]) for p in parts])
    shares = np.mean([p["shares"] for p in parts], axis=0) if "shares" in parts[0] else np.zeros((0, 0))
    return DialCurve(
        worth_usd=floats(numbers(parts[0]["curve"]["worth_usd"])),
        cost_usd=floats(cost.mean(axis=0)),
        quality=floats(quality.mean(axis=0)),
        quality_sd=floats(quality.std(axis=0, ddof=min(1, len(parts) - 1))),
        shares=tuple(floats(row) for row in shares),
    )


def _bins(calibrations: Sequence[Mapping[str, Any]]) -> Bins:
    """Of the first seed: bins of several tests cannot be averaged, their errors can."""
    first = calibrations[0]
    return Bins(
        count=tuple(int(n) for n in first["count"]),
        predicted=floats(numbers(first["predicted"])),
        observed=floats(numbers(first["observed"])),
        ece=mean(c["ece"] for c in calibrations),
        brier=mean(c["brier"] for c in calibrations),
    )


def _tasks(main: Records) -> tuple[TaskResult, ...]:
    """By task where price plays no part, means over seeds weighted by queries."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for job, record in main:
        if job.spec is not None and "parts" in record:
            rows.setdefault(job.spec.label, []).append(record["parts"][""]["tasks"])
        for name, parts in record.get("references", {}).items():
            rows.setdefault(name, []).append(parts[""]["tasks"])
        if "tests" in record:
            rows.setdefault("oracle", []).append(record["tests"][""]["oracle_tasks"])
    names = sorted({task for tables in rows.values() for table in tables for task in table})
    return tuple(
        TaskResult(
            name=task,
            queries=round(mean(t[task]["queries"] for t in rows["oracle"] if task in t)),
            quality={row: _weighted(tables, task, "quality") for row, tables in rows.items()},
            cost_usd={row: _weighted(tables, task, "cost_usd") for row, tables in rows.items()},
        )
        for task in names
    )


def _weighted(tables: Sequence[Mapping[str, Any]], task: str, key: str) -> float:
    cells = [(t[task]["queries"], t[task][key]) for t in tables if task in t]
    return sum(n * v for n, v in cells) / sum(n for n, _ in cells) if cells else math.nan


def _protocol(name: str, records: Records) -> ProtocolResult:
    title = PROTOCOLS[name].title
    skipped = [record["skipped"] for _, record in records if "skipped" in record]
    tests = [record["tests"] for _, record in records if "tests" in record]
    if not tests:
        return ProtocolResult(name=name, title=title, skipped=skipped[0] if skipped else "nothing finished")
    rows: dict[str, list[Mapping[str, Any]]] = {
        label: [r["parts"] for r in own] for label, own in _by_label(records).items()
    }
    for row in REFERENCES:
        rows[row] = [record["references"][row] for _, record in records if "references" in record]
    parts = dict.fromkeys(part for own in rows.values() for record in own for part in record)
    order = [*dict.fromkeys(part for test in tests for part in test), *parts]
    return ProtocolResult(
        name=name, title=title, parts=tuple(_part(part, rows, tests) for part in dict.fromkeys(order))
    )


def _part(part: str, rows: Mapping[str, Sequence[Mapping[str, Any]]], tests: Sequence[Mapping[str, Any]]) -> PartResult:
    cells = {row: [record[part] for record in own if part in record] for row, own in rows.items()}
    cells = {row: own for row, own in cells.items() if own}
    bounds = [test[part] for test in tests if part in test]
    aiq = {row: mean(over(own)("aiq")) for row, own in cells.items()}
    if bounds:
        aiq |= {"zero_router": mean(b["zero_aiq"] for b in bounds), "oracle": mean(b["oracle_aiq"] for b in bounds)}
    return PartResult(
        name=part,
        aiq=aiq,
        aiq_sd={row: sd(over(own)("aiq")) for row, own in cells.items()},
        gap_closed={row: mean(over(own)("gap_closed")) for row, own in cells.items()},
        quality_at_zero_price={row: mean(over(own)("quality_at_zero_price")) for row, own in cells.items()},
        unchanged={row: mean(over(own)("unchanged")) for row, own in cells.items() if "unchanged" in own[0]},
    )


def _protocols(records: Records) -> list[str]:
    return [name for name in PROTOCOLS if any(job.protocol == name for job, _ in records)]


def _by_label(records: Records) -> dict[str, list[Record]]:
    """Finished records of each policy, in the order of the seeds."""
    own: dict[str, list[tuple[int, Record]]] = {}
    for job, record in records:
        if job.spec is not None and "parts" in record:
            own.setdefault(job.spec.label, []).append((job.seed, record))
    return {label: [record for _, record in sorted(pairs, key=lambda p: p[0])] for label, pairs in own.items()}


def _reference_point(row: str, references: Sequence[Record]) -> Point:
    """Where price plays no part."""
    own = [record["references"][row][""] for record in references]
    cost, quality = mean(over(own)("cost_at_zero_price")), mean(over(own)("quality_at_zero_price"))
    return Point(name=row, cost_usd=cost, quality=quality)


def _agreed(names: Iterable[str]) -> str:
    """The name, or nothing where seeds disagree."""
    distinct = set(names)
    return distinct.pop() if len(distinct) == 1 else ""


def _mean_line(curves: Sequence[Mapping[str, Any]]) -> Curve:
    """The mean over seeds of hulls, from the cheapest cost that all reach to the dearest that any does."""
    hulls = [Curve(cost_usd=numbers(c["cost_usd"]), quality=numbers(c["quality"])) for c in curves]
    low, high = max(h.cost_usd[0] for h in hulls), max(h.cost_usd[-1] for h in hulls)
    costs = np.unique(np.linspace(low, high, _LINE_POINTS))
    return Curve(cost_usd=costs, quality=np.mean([value_at(h, costs) for h in hulls], axis=0))


def _line(curve: Curve) -> Line:
    return Line(cost_usd=floats(curve.cost_usd), quality=floats(curve.quality))
