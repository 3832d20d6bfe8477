import csv
import json

import pytest
from typer.testing import CliRunner

from router_gateway import registry
from router_gateway.cli import app
from router_gateway.core.errors import ConfigError, DataError, UnknownPolicy
from router_gateway.evaluation.command import Options, evaluate
from router_gateway.evaluation.embeddings import Encoder
from router_gateway.evaluation.glossary import MEANING
from router_gateway.evaluation.results import EvaluationResult
from router_gateway.evaluation.sitting import REFERENCES

RUNNER = CliRunner()
QUICK = ("--embedder", "hashing", "--backend", "threads", "--seeds", "2")
FEW = ("--policies", "knn,linear,best_on_average")


@pytest.fixture
def judged(tmp_path, monkeypatch):
    """Runs the command on a file and gives what it printed and wrote; nothing but the file is set."""

    def run(source, *options):
        out = tmp_path / "out"
        command = ["evaluate", str(source), "--out", str(out), "--cache", str(tmp_path / "cache"), *QUICK, *options]
        result = RUNNER.invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output, json.loads((out / "evaluation.json").read_text())

    return run


def test_every_figure_is_where_it_is_looked_for(judged, world, outcome_file, tmp_path):
    output, tables = judged(outcome_file(world(120, extra=1)), "--policies", "knn,knn:k=5,best_on_average")
    [(name, table)] = tables.items()
    assert name == "made"
    assert 0 < table["zero"] < table["oracle"] <= 1
    assert list(table["policies"]) == ["knn", "knn:k=5", "best_on_average"]
    for figures in table["policies"].values():
        wanted = ("aiq", "aiq_sd", "gap_closed", "quality_at_zero_price", "score_ms_p50", "score_ms_p99")
        assert all(isinstance(figures[key], float) for key in wanted)
        assert "cost_at_best_single_quality" in figures
    assert table["policies"]["knn:k=5"]["parameters"] == {"k": 5}
    assert list(table["references"]) == ["random", "cheapest", "best_single", "task_oracle"]
    assert set(table["protocols"]) == {"pooled", "tasks", "dynamic", "probes", "robustness"}
    assert set(table["protocols"]["robustness"]["typos"]["unchanged"]) == {"knn", "knn:k=5", "best_on_average"}
    assert {"zero_router", "oracle", "task_oracle", "knn"} <= set(table["protocols"]["dynamic"]["all"]["aiq"])
    for row in ("random", "cheapest", "best_single", "zero_router", "task_oracle", "oracle", "knn"):
        assert row in output
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    whole = EvaluationResult.from_json(json.loads((tmp_path / "out" / "results.json").read_text()))
    assert whole.seeds == (0, 1)
    [one] = whole.sets
    assert one.policies[0].curve is not None
    assert len(one.policies[0].curve.shares[0]) == 4
    assert {task.name for task in one.tasks} == {"sums", "poems", "laws"}
    assert {"knn", "oracle", "best_single"} <= set(one.tasks[0].quality)


def test_every_further_figure_is_explained_and_read_off_the_same_records(judged, world, outcome_file):
    _, tables = judged(outcome_file(world(120, extra=1)), "--policies", "knn,best_on_average", "--protocols", "pooled")
    table = tables["made"]
    known = {"aiq", "aiq_sd", "gap_closed", "gap_closed_low", "gap_closed_high", "quality_at_zero_price", "ece"}
    known |= {"cost_at_best_single_quality", "score_ms_p50", "score_ms_p99", "parameters"}
    for figures in (*table["policies"].values(), *table["references"].values()):
        assert set(figures) - known <= set(MEANING)
    knn = table["policies"]["knn"]
    assert set(MEANING) <= set(knn)
    for figures in table["policies"].values():
        assert (figures["cost_saved_min"] is None) == (figures["reached_best_single_share"] < 1)
    assert knn["apgr"] > 0.5, "the world has topics, and large is only needed for one"
    assert (knn["vs_knn_ahead"], knn["vs_knn_behind"], knn["vs_knn_p"]) == (0, 0, 1.0)
    average = table["policies"]["best_on_average"]
    assert average["apgr"] == pytest.approx(0.5)
    assert (average["vs_best_single_ahead"], average["vs_best_single_behind"]) == (0, 0)
    assert average["vs_knn_ahead"] == knn["vs_best_single_behind"]
    assert table["references"]["random"]["gain_over_random"] == 0.0
    assert table["references"]["best_single"]["gain_over_best_single"] == 0.0
    assert table["references"]["random"]["cost_saved_min"] is None, "it is never as good"
    assert table["zero_other"]["qnc"] == pytest.approx(1.0)
    assert table["zero_other"]["audc"] > 0


def test_pictures_and_tables_are_written_where_told(judged, world, outcome_file, tmp_path):
    page = tmp_path / "docs" / "benchmarks.md"
    more = ("--pictures", str(tmp_path / "docs" / "images"), "--tables", str(page))
    output, _ = judged(outcome_file(world(60)), "--policies", "knn", "--protocols", "pooled", *more)
    text = page.read_text()
    assert "](images/made-plane.png)" in text
    assert (tmp_path / "docs" / "images" / "made-plane.png").is_file()
    assert "benchmarks.md" in output


def test_a_document_without_marks_is_refused_before_anything_is_done(world, outcome_file, tmp_path):
    page = tmp_path / "prose.md"
    page.write_text("mine")
    command = ["evaluate", str(outcome_file(world(60))), "--out", str(tmp_path / "out"), "--tables", str(page), *QUICK]
    result = RUNNER.invoke(app, command)
    assert result.exit_code != 0
    assert not (tmp_path / "out").exists()
    assert page.read_text() == "mine"


def test_the_second_time_nothing_is_done(judged, world, outcome_file, tmp_path):
    file = outcome_file(world(60))
    _, first = judged(file, *FEW)
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out" / "jobs").iterdir())
    _, second = judged(file, *FEW)
    assert second == first
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out" / "jobs").iterdir()) == before


def without(rows, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


ODD = {
    "no cost column": lambda rows: without(rows, "cost_usd"),
    "some costs": lambda rows: [row | {"cost_usd": None} if i % 4 == 0 else row for i, row in enumerate(rows)],
    "two endpoints": lambda rows: [row for row in rows if row["model"] in ("small", "large")],
    "one task": lambda rows: [row for row in rows if row["task"] == "poems"],
    "missing cells": lambda rows: [row for i, row in enumerate(rows) if i % 5],
    "hardly a complete row": lambda rows: [row for i, row in enumerate(rows) if (i // 4 + i) % 4 > 0],
    "never right": lambda rows: [row | {"score": 0.0} for row in rows],
    "free of charge": lambda rows: [row | {"cost_usd": 0.0} for row in rows],
    "one endpoint free": lambda rows: [row | {"cost_usd": 0.0} if row["model"] == "small" else row for row in rows],
    "a task of its own each": lambda rows: [row | {"task": row["sample_id"]} for row in rows],
    "names like patterns": lambda rows: [row | {"model": row["model"] + " [*?] <b>"} for row in rows],
    "hardly a query": lambda rows: rows[:24],
}


@pytest.mark.parametrize("kind", ["missing cells", "two endpoints", "hardly a query"])
def test_a_file_is_judged_by_its_name_alone_with_every_installed_policy(judged, world, outcome_file, kind):
    _, tables = judged(outcome_file(ODD[kind](world(60, extra=1))))
    [table] = tables.values()
    assert set(table["policies"]) == set(registry.available()) - set(REFERENCES)
    for figures in table["policies"].values():
        assert 0 <= figures["aiq"] <= table["oracle"] + 1e-9


@pytest.mark.parametrize("kind", ODD)
def test_any_file_of_the_schema_can_be_judged(judged, world, outcome_file, kind):
    _, tables = judged(outcome_file(ODD[kind](world(60, extra=1))), *FEW)
    [table] = tables.values()
    assert list(table["policies"]) == ["knn", "linear", "best_on_average"]
    for figures in table["policies"].values():
        assert 0 <= figures["aiq"] <= table["oracle"] + 1e-9
    assert table["priced"] == (kind not in ("no cost column", "free of charge"))


def test_a_csv_of_other_names(judged, world, tmp_path):
    path = tmp_path / "theirs.csv"
    rows = without(world(45), "cost_usd")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    _, tables = judged(path, "--policies", "knn", "--protocols", "pooled")
    assert list(tables) == ["theirs"]
    assert list(tables["theirs"]["protocols"]) == ["pooled"]


def options(**more):
    return Options(encoder=Encoder(kind="hashing"), seeds=1, backend="threads", **more)


def no_bar(label):
    raise AssertionError(f"{label}: nothing may be embedded before everything has been checked")


def test_a_broken_file_gives_its_errors_with_their_lines(world, outcome_file, tmp_path):
    rows = world(6)
    rows[3]["score"] = 7
    rows[5]["model"] = None
    good, bad = outcome_file(world(6), "good.jsonl"), outcome_file(rows, "bad.jsonl")
    with pytest.raises(DataError) as caught:
        evaluate([str(good), str(bad)], options(), out=tmp_path, progress=no_bar)
    assert [problem.rpartition("/")[2] for problem in caught.value.problems] == [
        "bad.jsonl:4: score: 7.0 is above 1",
        "bad.jsonl:6: model: missing",
    ]


def test_one_outcome_for_each_query_cannot_be_judged(judged, world, outcome_file, tmp_path):
    """Whom else to route to, nobody knows: that needs propensities, not a table."""
    rows = [row for i, row in enumerate(world(60, extra=1)) if i % 4 == (i // 4) % 4]
    with pytest.raises(DataError, match="no query to test has outcomes of two endpoints"):
        judged(outcome_file(rows))


def test_wrong_options_are_told_together_and_first(world, outcome_file, tmp_path):
    source = [str(outcome_file(world(6)))]
    with pytest.raises(ConfigError) as caught:
        evaluate(source, options(protocols=("pooled", "coins"), workers=0), out=tmp_path, progress=no_bar)
    assert len(caught.value.problems) == 2
    with pytest.raises(UnknownPolicy):
        evaluate(source, options(policies=("nobody",)), out=tmp_path, progress=no_bar)
    with pytest.raises(ConfigError, match="not 'guessed'"):
        evaluate(source, options(policies=("knn@guessed",)), out=tmp_path, progress=no_bar)
    with pytest.raises(ConfigError, match="not parameter=value"):
        evaluate(source, options(policies=("knn:k",)), out=tmp_path, progress=no_bar)


def test_own_prices_come_from_the_configuration(judged, world, outcome_file, tmp_path):
    rows = [row | {"input_tokens": 1000, "output_tokens": 1000} for row in world(60)]
    config = tmp_path / "gateway.yaml"
    endpoints = "".join(
        f"  - {{name: {name}, model: {name}, base_url: 'http://localhost:1/v1', price_input_usd_per_mtok: {price}, "
        f"price_output_usd_per_mtok: {price}, context_tokens_max: 100000}}\n"
        for name, price in (("small", 1), ("large", 30))
    )
    head = f"state_dir: {tmp_path / 'state'}\nembedder: {{kind: hashing}}\ndefault_endpoint: small\n"
    config.write_text(f"{head}endpoints:\n{endpoints}")
    judged(outcome_file(rows), "--config", str(config), "--policies", "knn", "--protocols", "pooled")
    result = EvaluationResult.from_json(json.loads((tmp_path / "out" / "results.json").read_text()))
    singles = {point.name: point.cost_usd for point in result.sets[0].singles}
    assert singles == {"small": pytest.approx(0.002), "large": pytest.approx(0.06)}


def test_a_policy_that_cannot_be_judged_is_named(judged, world, outcome_file):
    """There are no tokens here from which to learn what an answer costs."""
    output, tables = judged(outcome_file(world(60)), "--policies", "knn,knn@learned", "--protocols", "pooled")
    assert list(tables["made"]["policies"]) == ["knn"]
    assert "made: knn@learned: learned costs need recorded tokens" in " ".join(output.split())


def test_parameters_can_be_chosen_inside_train(judged, world, outcome_file):
    _, tables = judged(
        outcome_file(world(90)), "--policies", "linear,best_on_average", "--protocols", "pooled", "--select"
    )
    policies = tables["made"]["policies"]
    assert set(policies["linear"]["parameters"]) == {"penalty"}
    assert policies["best_on_average"]["parameters"] == {}
