import json

import numpy as np
import pytest

from router_gateway.core.errors import UnknownPolicy
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.protocols import (
    AS_WRITTEN,
    PERTURBATIONS,
    PROTOCOLS,
    DoesNotFit,
    Variant,
    perturbed_queries,
    perturbed_rows,
)
from router_gateway.evaluation.sitting import REFERENCES, Spec, experience, sit, sit_references

KNN = Spec(name="knn", label="knn", params={"k": 10})


def sat(prepared, protocol="pooled", spec=KNN, seed=0, **more):
    return sit(spec, prepared, protocol=protocol, seed=seed, variants=more.pop("variants", {}), **more)


def test_a_policy_that_reads_the_task_closes_most_of_the_gap(prepared_of, world):
    prepared = prepared_of(world(300))
    record = sat(prepared, resamples=100)
    figures = record["parts"][""]
    assert figures["zero"] < figures["aiq"] < figures["oracle"]
    assert figures["gap_closed"] > 0.5
    assert figures["gap_closed_low"] < figures["gap_closed"] < figures["gap_closed_high"]
    assert figures["cost_at_best_single_quality_share"] < 0.8
    assert record["score_ms_p50"] <= record["score_ms_p99"]
    assert record["params"] == {"k": 10}
    assert figures["calibration"]["ece"] < 0.2
    json.dumps(record, allow_nan=False)


def test_routes_in_words_send_each_task_to_who_was_ranked_for_it(prepared_of, world):
    ranked = {"sums": "small", "poems": "middle", "laws": "large"}
    described = {
        "sums": "add numbers and give the total of the sum",
        "poems": "write a rhyming poem about the sea",
        "laws": "which statute must the court apply",
    }
    routes = [{"name": n, "description": d, "endpoints": [ranked[n]]} for n, d in described.items()]
    prepared = prepared_of(world(300))
    spec = Spec(name="routes", label="routes", params={"routes": routes, "similarity_min": 0.1})
    assert sat(prepared, spec=spec)["parts"][""]["gap_closed"] > 0.5


def test_it_can_be_repeated_to_the_bit(prepared_of, world):
    prepared = prepared_of(world(90))
    first, second = (sat(prepared)["parts"] for _ in range(2))
    assert first == second


def test_what_knows_nothing_of_the_query_does_not_beat_the_zero_router(prepared_of, world):
    prepared = prepared_of(world(300))
    figures = sat(prepared, spec=Spec(name="best_on_average", label="mean"))["parts"][""]
    assert figures["gap_closed"] <= 1e-9
    assert figures["endpoints_used"] == 1


def test_references_of_every_protocol(prepared_of, world):
    prepared = prepared_of(world(150, extra=2))
    for protocol in PROTOCOLS:
        record = sit_references(prepared, protocol=protocol, seed=0)
        assert tuple(record["references"]) == REFERENCES
        for part, test in record["tests"].items():
            rows = {name: record["references"][name][part] for name in REFERENCES}
            assert rows["random"]["aiq"] <= test["zero_aiq"] + 1e-9
            assert rows["best_single"]["aiq"] <= test["zero_aiq"] + 1e-9
            assert all(row["aiq"] <= test["oracle_aiq"] + 1e-9 for row in rows.values())
            assert rows["cheapest"]["cost_at_zero_price"] <= rows["best_single"]["cost_at_zero_price"] + 1e-9
        json.dumps(record, allow_nan=False)


def test_the_task_oracle_is_hard_to_beat_here_and_no_help_for_tasks_never_seen(prepared_of, world):
    prepared = prepared_of(world(300))
    seen = sit_references(prepared, protocol="pooled", seed=0)["references"]["task_oracle"][""]
    unseen = sit_references(prepared, protocol="tasks", seed=0)["references"]["task_oracle"][""]
    assert seen["gap_closed"] > 0.8
    assert unseen["gap_closed"] < 0.1


def test_more_probes_place_a_newcomer_better(prepared_of, world):
    prepared = prepared_of(world(400))
    # seeds differ in who arrives; what is gained over all of them is what counts
    gains = []
    for seed in range(3):
        parts = sat(prepared, "probes", seed=seed)["parts"]
        gains.append(parts["all"]["gap_closed"] - parts["10"]["gap_closed"])
    assert np.mean(gains) > 0.02


def test_arrived_endpoints_are_routed_among(prepared_of, world):
    prepared = prepared_of(world(300, extra=3))
    figures = sat(prepared, "dynamic")["parts"][""]
    assert np.shape(figures["shares"])[1] == 2  # a third of six
    assert figures["queries"] > 80


def test_a_policy_is_robust_where_its_vectors_do_not_move(prepared_of, world, tmp_path):
    prepared = prepared_of(world(90))
    rows = perturbed_rows(prepared.table)
    same, moved = prepared.embedding[rows], Encoder(kind="hashing").build().embed(["something else"] * len(rows))
    variants = {
        name: Variant(
            rows=rows,
            queries=perturbed_queries(prepared, name),
            embedding=moved if name == "prefix" else same,
        )
        for name in PERTURBATIONS
    }
    parts = sat(prepared, "robustness", variants=variants)["parts"]
    assert parts[AS_WRITTEN]["unchanged"] == 1.0
    assert parts["typos"]["unchanged"] == 1.0
    assert parts["typos"]["aiq"] == parts[AS_WRITTEN]["aiq"]
    assert parts["prefix"]["unchanged"] < 1.0


def test_the_sealed_outcomes_are_not_learned(prepared_of, world):
    """Turn all test outcomes round: the fitted policy must make the same choices."""
    rows = world(120)
    prepared = prepared_of(rows)
    [exam] = PROTOCOLS["pooled"].exams(prepared, 0)
    asked = {prepared.table.sample_ids[i] for i in exam.test}
    turned = [row | {"score": 1 - row["score"]} if row["sample_id"] in asked else row for row in rows]
    before = sat(prepared)["parts"][""]
    after = sat(prepared_of(turned, "turned"))["parts"][""]
    assert before["shares"] == after["shares"]
    assert before["aiq"] != after["aiq"]


def test_missing_cells_and_two_endpoints(prepared_of, world):
    rows = [row for row in world(120) if row["model"] != "middle"]
    thinned = [row for i, row in enumerate(rows) if i % 7]
    figures = sat(prepared_of(thinned))["parts"][""]
    assert 0 < figures["aiq"] < 1


def test_equal_costs_leave_one_dial_and_quality_alone(prepared_of, world):
    figures = sat(prepared_of(world(150, costs=False)))["parts"][""]
    assert len(figures["curve"]["quality"]) == 1
    assert figures["aiq"] == figures["quality_at_zero_price"]
    assert figures["zero"] == pytest.approx(figures["best_single_quality"])


def test_a_stage_names_only_whom_it_teaches(prepared_of, world):
    prepared = prepared_of(world(30))
    learnable = np.zeros((30, 3), dtype=bool)
    learnable[5:10, 1] = True
    data = experience(prepared, learnable)
    assert data.endpoints == ("middle",)
    assert len(data) == 5
    np.testing.assert_array_equal(data.quality, prepared.table.quality[5:10, 1])


def test_strangers_are_refused(prepared_of, world):
    with pytest.raises(UnknownPolicy):
        Spec(name="no such policy", label="x").build()
    with pytest.raises(DoesNotFit):
        sat(prepared_of(world(30)), "dynamic")
