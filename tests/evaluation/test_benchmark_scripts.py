"""The parts of benchmarks/ablation.py and benchmarks/onboarding.py that need none of the shared tables."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.judging import as_json
from router_gateway.evaluation.protocols import PROBES, PROTOCOLS
from router_gateway.evaluation.sitting import Spec, sit, sit_references

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    return script("ablation")


@pytest.fixture(scope="module")
def onboarding():
    return script("onboarding")


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_every_row_has_a_base_among_the_rows_and_a_label_of_its_own(ablation):
    for rows in (ablation.main_rows(("knn", "linear", "clusters")), ablation.truncation_rows()):
        labels = [row.label for row in rows]
        assert len(set(labels)) == len(labels)
        assert {row.base for row in rows} <= set(labels)


def test_each_policy_is_left_out_once_and_never_all(ablation):
    def left(over):
        return [row.params["over"] for row in ablation.main_rows(over) if "over" in row.params]

    assert left(("knn", "linear", "lexical")) == [["linear", "lexical"], ["knn", "lexical"], ["knn", "linear"]]
    assert left(("knn",)) == []


def test_what_differs_only_in_price_or_guard_is_learned_once(ablation):
    rows = {row.label: row.learned_alike for row in ablation.main_rows(("knn", "linear"))}
    assert rows["stack"] == rows["stack, learned costs"] == rows["stack, guard z = 1"]
    assert len({rows["stack"], rows["stack without knn"], rows["stack, hashed words"], rows["knn"]}) == 4


def test_a_long_text_is_cut_at_its_pieces(ablation):
    text = "one two three four five six"
    words = text.split()
    starts = [text.index(word) for word in words]
    offsets = [(start, start + len(word)) for start, word in zip(starts, words, strict=True)]
    assert ablation.shortened(text, offsets, 6, "head") == text
    assert ablation.shortened(text, offsets, 2, "head") == "one two"
    assert ablation.shortened(text, offsets, 3, "head+tail") == "one\nfive six"
    with pytest.raises(ValueError, match="middle"):
        ablation.shortened(text, offsets, 2, "middle")


def test_differences_are_paired_by_seed(ablation):
    base = [0.1, 0.5, 0.9]
    same = ablation.compared([value + 0.02 for value in base], base)
    assert same["gained"] == pytest.approx(0.02)
    assert same["gained_low"] == pytest.approx(0.02)
    assert same["gained_high"] == pytest.approx(0.02)
    assert same["sd"] == pytest.approx(0.4)
    mixed = ablation.compared([0.2, 0.4, 0.9], base)
    assert mixed["gained"] == pytest.approx(0.0)
    assert mixed["gained_low"] < 0.0 < mixed["gained_high"]
    assert math.isnan(ablation.compared([0.2], [0.1])["gained_low"])


def test_a_base_row_is_what_sit_finds(ablation, prepared_of, world):
    prepared = prepared_of(world(240))
    rows = [
        ablation.Row(label="knn", base="knn", policy="knn"),
        ablation.Row(label="knn, long prompts", base="knn", policy="knn", long=True),
        ablation.Row(label="knn, guard", base="knn", policy="knn", guard=1e6),
        ablation.Row(label="knn, learned costs", base="knn", policy="knn", cost="learned"),
        ablation.Row(label="knn, noise", base="knn", policy="knn", vectors="noise"),
    ]
    noise = np.random.default_rng(0).normal(size=prepared.embedding.shape).astype(np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    others = {"noise": ("noise", noise)}
    job = ablation.Job(prepared=prepared, others=others, long=np.arange(0, 240, 2), rows=rows, seed=0)
    found = ablation.sit_all(job)
    figures = sit(Spec(name="knn", label="knn"), prepared, protocol="pooled", seed=0, variants={})["parts"][""]
    zero = sit_references(prepared, protocol="pooled", seed=0)["tests"][""]["zero_aiq"]
    assert found["knn"]["gap_closed"] == figures["gap_closed"] > 0.4
    assert found["knn"]["over_zero"] == pytest.approx(figures["aiq"] - zero)
    assert 0 < found["knn, long prompts"]["queries"] < found["knn"]["queries"]
    assert found["knn, guard"]["over_zero"] < 0.01, "nothing is evidence enough: one endpoint answers everything"
    assert found["knn, noise"]["gap_closed"] < 0.2
    assert "tokens" in found["knn, learned costs"]["skipped"]
    result = {
        "seeds": 1,
        "window": 256,
        "long_prompts": {"made": {"queries": 240, "long": 120}},
        "sets": {"made": ablation.summed(rows, [found])},
        "truncation": {},
    }
    page = ablation.markdown(as_json(result))
    assert "made 120 of 240" in page
    assert "| knn, learned costs | not asked: learned costs need" in page
    assert {line.count("|") for line in page.splitlines() if line.startswith("|")} == {8}


def test_tables_go_between_the_marks_and_nowhere_else(ablation):
    page = f"before\n{ablation.BEGIN}\nold\n{ablation.END}\nafter"
    written = ablation.between_marks(page, "new")
    assert written == f"before\n{ablation.BEGIN}\n\nnew\n\n{ablation.END}\nafter"
    assert ablation.between_marks(written, "new") == written
    with pytest.raises(ConfigError, match="once each"):
        ablation.between_marks("before", "new")


def test_the_page_has_the_marks(ablation):
    page = (SCRIPTS.parent / "docs" / "ablation.md").read_text(encoding="utf-8")
    assert ablation.between_marks(page, "new")


def test_regret_is_what_a_perfect_choice_about_the_newcomer_would_add(onboarding):
    quality = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=np.float32)  # the newcomer is the last
    estimate = np.full_like(quality, 0.5)
    without = np.array([0, 0, 0, 0])
    perfect = onboarding.figures(quality, estimate, np.array([0, 2, 2, 0]), without, 2)
    assert perfect["regret"] == 0.0
    assert perfect["quality"] == 0.75
    assert perfect["gain_over_without"] == 0.5
    assert perfect["sent"] == 0.5
    assert perfect["brier"] == 0.25
    assert perfect["oracle_quality"] == 0.75
    never = onboarding.figures(quality, estimate, without, without, 2)
    assert never["regret"] == 0.5
    always = onboarding.figures(quality, estimate, np.full(4, 2), without, 2)
    assert always["regret"] == 0.25


def test_the_headlines_are_against_all_outcomes(onboarding):
    seeds = [
        {
            "0": {"quality": 0.4, "brier": 0.25},
            "40": {"quality": 0.5, "brier": 0.24},
            "192": {"quality": 0.54, "brier": 0.22},
            "all": {"quality": 0.6, "brier": 0.20},
        },
        {
            "0": {"quality": 0.7, "brier": 0.25},
            "40": {"quality": 0.7, "brier": 0.24},
            "192": {"quality": 0.8, "brier": 0.20},
            "all": {"quality": 0.8, "brier": 0.15},
        },
    ]
    row = onboarding.summed(seeds)
    assert row["quality_kept_at_192"]["mean"] == pytest.approx(0.95)
    assert row["points_lost_at_40"]["mean"] == pytest.approx(10.0)
    assert row["points_lost_at_40"]["low"] == pytest.approx(10.0)
    assert row["estimates_kept_at_192"]["mean"] == pytest.approx(0.08 / 0.15)
    assert row["estimates_kept_at_192"]["low"] == pytest.approx(0.5)
    assert row["estimates_kept_at_192"]["high"] == pytest.approx(0.6)
    assert row["probes"]["all"]["quality"]["mean"] == pytest.approx(0.7)
    assert 0.9 <= row["quality_kept_at_192"]["low"] < row["quality_kept_at_192"]["high"] <= 1.0


@pytest.mark.parametrize("policy", ["linear", "factors"])
def test_a_newcomer_that_is_good_at_something_is_found_out(onboarding, prepared_of, world, policy):
    """The seed is one whose newcomer is the one endpoint that knows the law."""
    prepared = prepared_of(world(600, costs=False))
    large = prepared.table.endpoints.index("large")
    seed = next(s for s in range(9) if onboarding.newcomer_of(PROTOCOLS["probes"].exams(prepared, s)) == large)
    found = onboarding.sit_one(onboarding.Job(prepared=prepared, policy=policy, seed=seed))
    assert list(found) == [policy, onboarding.CHOSEN][: 1 + (policy == "factors")]
    for row in found.values():
        assert set(row) == {"0", *map(str, PROBES), "all"}
        assert row["0"]["brier"] == pytest.approx(0.25), "1/2 is all that can be said of an endpoint never asked"
        assert row["all"]["brier"] < row["0"]["brier"]
        assert row["all"]["gain_over_without"] > 0.2
        assert row["all"]["regret"] < 0.1
        assert row["all"]["sent"] > 0.25
    json.dumps(as_json(onboarding.summed([found[policy]])), allow_nan=False)


def test_chosen_probes_replace_the_second_stage_only(onboarding, prepared_of, world):
    prepared = prepared_of(world(300, costs=False))
    exams = onboarding.nothing_known(PROTOCOLS["probes"].exams(prepared, 0))
    assert [len(exam.stages) for exam in exams[:2]] == [1, 2]
    newcomer = onboarding.newcomer_of(exams)
    rows = np.array([3, 5])
    chosen = onboarding.with_probes(prepared, exams[1], rows, newcomer)
    assert chosen.stages[0] is exams[1].stages[0]
    assert np.argwhere(chosen.stages[1]).tolist() == [[3, newcomer], [5, newcomer]]
