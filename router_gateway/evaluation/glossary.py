"""What each further figure of a row (`PolicyResult.other`) means, for the readers of a report.

Definitions with their formulas and sources are in the functions of `areas`, `gains`, `pairwise` and `significance`.
"""

from __future__ import annotations

from collections.abc import Mapping

MEANING: Mapping[str, str] = {
    "cost_at_zero_price": "mean USD per request where price plays no part",
    "best_single_quality": "quality on the test of the endpoint that was best on train",
    "best_single_cost": "mean USD per request of that endpoint on the test",
    "cost_at_best_single_quality_share": "least cost at that quality, as a share of that endpoint's cost",
    "cost_saved": "1 minus that share, mean over the seeds that reach the quality",
    "cost_saved_min": "the least of these over all seeds; none where a seed never reaches the quality",
    "reached_best_single_share": "share of seeds in which the best single endpoint's quality is reached",
    "quality_at_best_single_cost": "quality of the hull at the best single endpoint's cost",
    "area": "UniRoute's Area: quality over cost as a share of the dearest endpoint's, 0 to 1",
    "area50": "the same over the cheaper half of the costs, not divided by that half",
    "qnc": "UniRoute's quality-neutral cost: least cost as good as the test's best endpoint / that one's cost",
    "audc": "CSCR's AUDC: mean quality over the range of costs that all rows of this table span, flat at both ends",
    "aiq_routerbench_code": "AIQ as RouterBench's code has it: what lies left of the first point counts nothing",
    "apgr": "RouteLLM's APGR between cheapest and best single endpoint: mean share of their gap recovered; random 0.5",
    "cpt_50": "RouteLLM's CPT(50 %): least share of calls to the stronger one that recovers half of that gap",
    "cpt_80": "RouteLLM's CPT(80 %)",
    "gain_over_best_single": "LLMRouterBench's Gain@B: relative gain over the best single endpoint, mean over tasks",
    "gain_over_random": "LLMRouterBench's Gain@R: the same over a random choice",
    "gap_to_oracle": "LLMRouterBench's Gap@O: relative gap to the oracle, mean over tasks; 0 is perfect",
    "normalised_gain": "Lookahead's µ_n: 0 is a random choice, 100 the oracle, mean over tasks",
    "perf_gain": "LLMRouterBench's PerfGain: quality of the best dial (picked on the test) / the best single's - 1",
    "cost_save": "LLMRouterBench's CostSave: saved by the cheapest dial as good as the best single, dials not mixed",
    "arena_score": "RouterArena's score of the best dial",
    "endpoints_used": "how many endpoints the dial that uses most of them uses",
    "selection_entropy_bits_max": "entropy of the endpoints' shares at the dial that spreads most",
    "gain": "AIQ minus the zero router's",
    "gain_sd": "its standard deviation over seeds",
    "gain_low": "lower end of its 95 % bootstrap interval over queries, first seed",
    "gain_high": "upper end of that interval",
    "gap_closed_sd": "standard deviation over seeds of the gap closed",
    "coverage_95": "share of outcomes inside the 95 % interval that quality and doubt predict",
    "fit_s": "seconds to learn",
    "vs_best_single_ahead": "test queries answered better than by the best single, at a cost not above its; first seed",
    "vs_best_single_behind": "and worse",
    "vs_best_single_p": "McNemar's exact p of no difference; for graded quality that of the sign test",
    "vs_knn_ahead": "test queries answered better than by knn, both at a cost not above the best single's; first seed",
    "vs_knn_behind": "and worse",
    "vs_knn_p": "p of no difference",
}
