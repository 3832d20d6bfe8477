"""Figures that other papers report of one router on one test, and its answers where it costs what the best single does.

What follows from the router's own curve alone stands in `judging.judge`; what depends on who else is compared,
in `compared`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from router_gateway.core.types import Floats
from router_gateway.evaluation.gains import cost_save, gain_over, gap_to_oracle, normalised_gain, perf_gain
from router_gateway.evaluation.judging import Ground, plain
from router_gateway.evaluation.metrics import oracle, realised
from router_gateway.evaluation.pairwise import apgr, cpt, sweep_thresholds
from router_gateway.evaluation.references import uniform
from router_gateway.evaluation.significance import dial_within, sign_test
from router_gateway.evaluation.sweep import Expected

CPT_LEVELS = (0.5, 0.8)
_DIGITS = 6  # of qualities kept in a record: enough to tell two answers apart


def over_references(expected: Expected, ground: Ground) -> dict[str, Any]:
    """LLMRouterBench's and Lookahead's gains, each a mean over tasks where price plays no part, and PerfGain, CostSave.

    The best single endpoint is the one that was best on train.
    """
    _, own = np.unique(np.array(ground.tasks), return_inverse=True)
    count = np.bincount(own)
    ideal = realised(ground.quality, ground.cost_usd, oracle(ground.quality, ground.cost_usd))
    router, single, chance, best = (
        np.bincount(own, weights=quality) / count
        for quality in (
            expected.quality[0],
            ground.best_single.quality[0],
            uniform(ground.quality, ground.cost_usd).quality[0],
            ideal.quality,
        )
    )
    curve = ground.best_single.curve
    point = float(curve.quality[0]), float(curve.cost_usd[0])
    return plain(
        {
            "gain_over_best_single": gain_over(router, single),
            "gain_over_random": gain_over(router, chance),
            "gap_to_oracle": gap_to_oracle(router, best),
            "normalised_gain": normalised_gain(router, chance, best),
            "perf_gain": perf_gain(expected.curve, point),
            "cost_save": cost_save(expected.curve, point),
        }
    )


def between_two(predicted: Floats, ground: Ground) -> dict[str, Any]:
    """RouteLLM's APGR and CPT between the cheapest endpoint and the best single one, both by train.

    predicted : (Q, E), the policy's qualities. Its score is what it expects the stronger to gain. The best single
    is where the hull of train ends: the dearest endpoint that is worth paying for. Empty where both are one.
    """
    weak, strong = (int((ground.columns == e.picks[0, 0]).argmax()) for e in (ground.cheapest, ground.best_single))
    known = np.isfinite(ground.quality[:, [weak, strong]]).all(axis=1)
    if weak == strong or not known.any():
        return {}
    swept = sweep_thresholds(
        predicted[:, strong] - predicted[:, weak], ground.quality[:, weak], ground.quality[:, strong]
    )
    return plain({"apgr": apgr(swept), **{f"cpt_{level:.0%}".rstrip("%"): cpt(swept, level) for level in CPT_LEVELS}})


def at_matched_cost(expected: Expected, ground: Ground) -> dict[str, Any]:
    """The router's answers at the dial whose mean cost is nearest to the best single's and not above, and their test.

    `quality` is kept per query, so that two routers can be told apart afterwards. Empty where no dial is that cheap.
    """
    single = ground.best_single
    at = dial_within(expected.curve, float(single.curve.cost_usd[0]))
    if at is None:
        return {}
    quality = expected.quality[at].round(_DIGITS)
    verdict = sign_test(quality - single.quality[0].round(_DIGITS))
    return plain(
        {
            "cost_usd": expected.curve.cost_usd[at],
            "quality": quality,
            "ahead": verdict.ahead,
            "behind": verdict.behind,
            "p_value": verdict.p_value,
        }
    )
