"""Figures of a router that depend on which others it is compared with: two areas, and McNemar's test against `knn`.

They are made from finished records, so judging one more policy changes them and repeats no work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from router_gateway.evaluation.areas import aiq_routerbench_code, area, area50, audc, qnc
from router_gateway.evaluation.metrics import Curve
from router_gateway.evaluation.over_seeds import mean, numbers
from router_gateway.evaluation.runner import Job
from router_gateway.evaluation.significance import Verdict, sign_test

YARDSTICK = "knn"
"""The policy that all others are tested against."""
ZERO_ROUTER = "zero_router"


def areas_together(main: Sequence[tuple[Job, Mapping[str, Any]]]) -> dict[str, dict[str, float]]:
    """AUDC and RouterBench's coded AIQ of all policies, references and the zero router of a set, means over seeds.

    main : the records of the pooled split. Both areas are taken over a range that all of them together span, seed
    by seed. The zero router has its Area, Area(50 %) and QNC here too, which the others have in their records.
    """
    seeds: dict[int, dict[str, Curve]] = defaultdict(dict)
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for job, record in main:
        if job.spec is not None and "parts" in record:
            seeds[job.seed][job.spec.label] = _curve(record["parts"][""]["curve"])
        for name, parts in record.get("references", {}).items():
            seeds[job.seed][name] = _curve(parts[""]["curve"])
        if "tests" in record:
            told = record["tests"][""]
            zero, singles = _curve(told["zero"]), _curve(told["singles"])
            seeds[job.seed][ZERO_ROUTER] = zero
            for name, figure in (("area", area), ("area50", area50), ("qnc", qnc)):
                found[ZERO_ROUTER][name].append(figure(zero, singles))
    for curves in seeds.values():
        for name, values in (("audc", audc(curves)), ("aiq_routerbench_code", aiq_routerbench_code(curves))):
            for row, value in values.items():
                found[row][name].append(value)
    return {row: {name: mean(values) for name, values in own.items()} for row, own in found.items()}


def against(first: Mapping[str, Any], second: Mapping[str, Any]) -> Verdict | None:
    """The paired test of two records' answers at matched cost; None where either was not asked or too dear."""
    own, other = (part.get("matched", {}).get("quality") for part in (first, second))
    return None if own is None or other is None else sign_test(numbers(own) - numbers(other))


def _curve(plain: Mapping[str, Any]) -> Curve:
    return Curve(cost_usd=numbers(plain["cost_usd"]), quality=numbers(plain["quality"]))
