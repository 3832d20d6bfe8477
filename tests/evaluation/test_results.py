from __future__ import annotations

import json
import math

import pytest

from router_gateway.evaluation.results import (
    SCHEMA,
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


def found() -> EvaluationResult:
    curve = DialCurve(
        worth_usd=(math.inf, 0.5),
        cost_usd=(0.02, 0.01),
        quality=(0.9, 0.7),
        quality_sd=(0.01, 0.0),
        shares=((0.0, 1.0), (1.0, 0.0)),
    )
    policy = PolicyResult(
        name="knn",
        aiq=0.8,
        cost_at_best_single_quality=math.nan,
        curve=curve,
        calibration=Bins(count=(3,), predicted=(0.5,), observed=(2 / 3,), ece=1 / 6),
        parameters={"k": 20},
    )
    own = SetResult(
        name="set",
        queries=10,
        tasks_count=1,
        endpoints=("a", "b"),
        priced=True,
        zero=0.75,
        oracle=0.95,
        zero_line=Line(cost_usd=(0.01, 0.02), quality=(0.7, 0.85)),
        oracle_line=Line(cost_usd=(0.01,), quality=(0.95,)),
        singles=(Point(name="a", cost_usd=0.01, quality=0.7),),
        policies=(policy,),
        tasks=(TaskResult(name="sums", queries=10, quality={"knn": 0.9}),),
        protocols=(ProtocolResult(name="tasks", title="one out", parts=(PartResult(name="", aiq={"knn": 0.7}),)),),
    )
    return EvaluationResult(sets=(own,), seeds=(0, 1), command="evaluate set.csv", versions={"numpy": "2"})


def test_json_and_back_is_the_same_but_for_what_is_not_finite():
    text = json.dumps(found().to_json(), allow_nan=False)
    back = EvaluationResult.from_json(json.loads(text))
    assert json.dumps(back.to_json(), allow_nan=False) == text
    policy = back.sets[0].policies[0]
    assert policy.curve is not None
    assert math.isnan(policy.curve.worth_usd[0])
    assert policy.curve.worth_usd[1] == 0.5
    assert math.isnan(policy.cost_at_best_single_quality)
    assert policy.calibration == found().sets[0].policies[0].calibration
    assert back.sets[0].tasks == found().sets[0].tasks


def test_another_schema_and_other_data_are_refused():
    with pytest.raises(ValueError, match=f"reads {SCHEMA}"):
        EvaluationResult.from_json({**found().to_json(), "schema": SCHEMA + 1})
    with pytest.raises(ValueError, match="sets"):
        EvaluationResult.from_json({"seeds": [1]})
