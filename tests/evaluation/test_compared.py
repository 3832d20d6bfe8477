from typing import Any

import numpy as np
import pytest

from router_gateway.evaluation.areas import aiq_routerbench_code, audc
from router_gateway.evaluation.compared import ZERO_ROUTER, against, areas_together
from router_gateway.evaluation.metrics import Curve
from router_gateway.evaluation.runner import Job
from router_gateway.evaluation.sitting import Spec

SINGLES = {"cost_usd": [1.0, 4.0], "quality": [0.5, 0.75]}


def judged(label: str | None, seed: int, cost_usd: list[float], quality: list[float]) -> tuple[Job, dict[str, Any]]:
    curve = {"cost_usd": cost_usd, "quality": quality}
    if label is None:
        record = {
            "references": {"random": {"": {"curve": curve}}},
            "tests": {"": {"zero": SINGLES, "singles": SINGLES}},
        }
        return Job(entry="set", protocol="pooled", seed=seed, spec=None), record
    spec = Spec(name=label, label=label)
    return Job(entry="set", protocol="pooled", seed=seed, spec=spec), {"parts": {"": {"curve": curve}}}


def test_areas_are_taken_together_seed_by_seed_and_averaged():
    own = [([1.0, 2.0], [0.5, 0.8]), ([1.0, 8.0], [0.4, 0.9])]
    records = [judged(None, seed, [2.5], [0.6]) for seed in (0, 1)]
    records += [judged("knn", seed, *points) for seed, points in enumerate(own)]
    found = areas_together(records)
    assert set(found) == {"random", "knn", ZERO_ROUTER}
    together = [
        {
            "knn": Curve(cost_usd=np.array(cost), quality=np.array(quality)),
            "random": Curve(cost_usd=np.array([2.5]), quality=np.array([0.6])),
            ZERO_ROUTER: Curve(cost_usd=np.array([1.0, 4.0]), quality=np.array([0.5, 0.75])),
        }
        for cost, quality in own
    ]
    for row, figures in found.items():
        assert figures["audc"] == pytest.approx(np.mean([audc(curves)[row] for curves in together]))
        assert figures["aiq_routerbench_code"] == pytest.approx(
            np.mean([aiq_routerbench_code(curves)[row] for curves in together])
        )
    assert found[ZERO_ROUTER]["qnc"] == 1.0
    assert found[ZERO_ROUTER]["area50"] == pytest.approx(0.25 * 0.5 + 0.25 * (0.5 + 0.25 / 6))


def test_a_dearer_router_moves_the_others():
    """Which is why these two areas are no figures of a router alone."""
    few = [judged(None, 0, [2.5], [0.6]), judged("knn", 0, [1.0, 2.0], [0.5, 0.8])]
    more = [*few, judged("dear", 0, [8.0], [0.7])]
    before, after = areas_together(few)["knn"], areas_together(more)["knn"]
    assert before["audc"] != after["audc"]
    assert before["aiq_routerbench_code"] != after["aiq_routerbench_code"]


def test_a_policy_that_failed_on_a_seed_is_compared_on_the_others():
    failed = (
        Job(entry="set", protocol="pooled", seed=0, spec=Spec(name="mine", label="mine")),
        {"failed": "ValueError"},
    )
    records = [judged(None, 0, [2.5], [0.6]), judged(None, 1, [2.5], [0.6]), failed, judged("mine", 1, [1.0], [0.5])]
    assert areas_together(records)["mine"]["audc"] == pytest.approx(0.5)


def test_answers_of_two_records_are_paired():
    def part(*quality: float) -> dict[str, Any]:
        return {"matched": {"quality": list(quality)}}

    verdict = against(part(1, 1, 0, 0.7), part(0, 1, 1, 0.2))
    assert verdict is not None
    assert (verdict.ahead, verdict.behind) == (2, 1)
    assert against(part(1.0), {}) is None
    assert against({"matched": {}}, part(1.0)) is None
