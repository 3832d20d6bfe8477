"""From requests over HTTP to figures: explored, rated, exported, judged; and what must be refused."""

import asyncio
import csv
import json
from itertools import count
from uuid import UUID

import numpy as np
import pytest
from typer.testing import CliRunner

from router_gateway.api import edge
from router_gateway.cli import app
from router_gateway.core.errors import DataError
from router_gateway.evaluation.logged import is_logged, read_logged
from router_gateway.routing.rules import EpsilonGreedy, Greedy
from tests.api.building import running

RUNNER = CliRunner()
QUALITY = {"easy": {"small": 0.9, "mid": 0.9, "large": 0.95}, "hard": {"small": 0.1, "mid": 0.5, "large": 0.95}}
CONFIG = """
state_dir: {state}
ledger: {{url: "sqlite:///{state}/ledger.db"}}
embedder: {{kind: hashing}}
default_endpoint: mid
rule: {{name: epsilon_greedy, epsilon: 0.9}}
endpoints:
  - {{name: mid, model: m, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
"""
ASKED = 360


def lived(directory, rule, asked=ASKED):
    """A gateway of real parts answers questions, half of them hard, and users say good or bad as QUALITY has it."""

    async def ask(site, number):
        kind = "hard" if number % 2 else "easy"
        text = (
            f"What is the sum of {number}?" if kind == "easy" else f"Summarise the notice clause of contract {number}."
        )
        # each question is a session of its own; one in twenty asks not to be an experiment
        members = {"explore": False} if number % 20 == 0 else {}
        response = await site.chat(text, routing={"session_id": f"s{number}", **members})
        good = np.random.default_rng(number).random() < QUALITY[kind][response.headers["x-router-model"]]
        return {"decision_id": response.headers["x-router-decision-id"], "verdict": "good" if good else "bad"}

    def same_ids_every_time():
        number = next(asked_before)
        return UUID(bytes=np.random.default_rng([2026, number]).bytes(16))

    async def live():
        async with running(directory, rule=rule) as site:
            said = [await ask(site, number) for number in range(asked)]
            await site.rows()  # feedback is taken for decisions that have arrived in the database
            heard = await asyncio.gather(*(site.client.post("/v1/feedback", json=each) for each in said))
            assert {answer.status_code for answer in heard} == {200}
            await site.rows()

    asked_before = count()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edge, "uuid7", same_ids_every_time)  # a draw depends on the id alone
        asyncio.run(live())
    config = directory / "gateway.yaml"
    config.write_text(CONFIG.format(state=directory))
    return config


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """Configuration of a gateway that has explored."""
    return lived(tmp_path_factory.mktemp("explored"), EpsilonGreedy(epsilon=0.9))


def exported(config, name="log.jsonl"):
    out = config.parent / name
    done = RUNNER.invoke(app, ["ledger", "export", "--out", str(out), "--config", str(config)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def evaluated(log, tmp_path, *options):
    command = ["evaluate", str(log), "--out", str(tmp_path / "out"), "--embedder", "hashing", *options]
    done = RUNNER.invoke(app, command, catch_exceptions=False, env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    return done.output, json.loads((tmp_path / "out" / "logged.json").read_text())


def test_the_estimates_agree_with_the_truth(installation, tmp_path):
    log = exported(installation)
    output, [result] = evaluated(log, tmp_path, "--policies", "best_on_average,cheapest", "--config", str(installation))
    values = {(v["policy"], v["rule"], v["worth_usd"]): v for v in result["values"]}
    large = np.mean([row["large"] for row in QUALITY.values()])  # the best on average, where price plays no part
    cheap = np.mean([row["small"] for row in QUALITY.values()])
    even = np.mean([list(row.values()) for row in QUALITY.values()])
    truth = {
        ("best_on_average", "greedy"): large,
        ("cheapest", "greedy"): cheap,
        ("best_on_average", "epsilon_greedy"): 0.1 * large + 0.9 * even,
        ("cheapest", "epsilon_greedy"): 0.1 * cheap + 0.9 * even,
    }
    for (policy, rule), value in truth.items():
        found = values[policy, rule, None]
        assert found["refused"] == found["warning"] == ""
        assert found["overlap"]["ess"] > 30
        for name in ("snips", "dr", "switch"):
            estimate = found["quality"][name]
            assert estimate["low"] < value < estimate["high"], "the log is the same every time"
        assert found["net"]["dr"]["value"] == pytest.approx(found["quality"]["dr"]["value"])
    assert values["cheapest", "greedy", None]["cost_usd"]["dr"]["value"] < (
        0.2 * values["best_on_average", "greedy", None]["cost_usd"]["dr"]["value"]
    )
    logged = result["values"][0]
    assert logged["overlap"]["weight_mean"] == pytest.approx(1)
    assert logged["policy"] == "as logged"
    assert f"{ASKED // 20} rated decisions not drawn but asked for: learned from, not estimated with" in result["notes"]
    assert "best_on_average, epsilon_greedy" in output


def test_every_format_gives_the_same_figures(installation, tmp_path):
    results = []
    for name in ("log.jsonl", "log.csv", "log.parquet"):
        log = exported(installation, name)
        assert is_logged(str(log))
        _, [result] = evaluated(log, tmp_path, "--policies", "knn")
        results.append(result)
    assert results[0] == results[1] == results[2]
    assert [v["policy"] for v in results[0]["values"]].count("knn") == 4


def test_what_is_learned_is_what_the_live_learner_would_learn(installation):
    outcomes = read_logged(str(exported(installation)))
    assert outcomes.endpoints == ("large", "mid", "small")
    assert outcomes.queries.text == ("",) * ASKED, "this ledger stores no text"
    learned = outcomes.experience(np.arange(ASKED))
    assert np.unique(learned.propensity) == pytest.approx([0.3, 0.4, 1.0])
    assert outcomes.probability.sum(axis=1) == pytest.approx(1)


def test_a_deterministic_logger_gives_no_figure(tmp_path):
    log = exported(lived(tmp_path, Greedy(), asked=100))
    output, [result] = evaluated(log, tmp_path, "--policies", "cheapest")
    assert all(v["refused"] == "not identifiable: the logger was deterministic" for v in result["values"])
    assert all(v["quality"] == v["net"] == {} for v in result["values"])
    assert "not identifiable" in output


def test_the_running_gateways_ledger_is_audited_as_it_is(installation):
    """Explored and rated over HTTP; `audit` needs no export."""
    command = ["audit", "--json", "--policy", "best_on_average", "--config", str(installation)]
    done = RUNNER.invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    rows = {row["name"]: row for row in answer["rows"]}
    assert answer["traffic"]["rated"] == ASKED
    for name in ("small", "large"):
        truth = np.mean([row[name] for row in QUALITY.values()])
        assert rows[name]["quality"]["low"] < truth < rows[name]["quality"]["high"]
    assert answer["gains"]["best_single"] == "large"
    assert answer["verdict"] == "not shown", "the best on average is no better than the best single endpoint"


def rewritten(log, path, change):
    with path.open("w", encoding="utf-8") as file:
        for line in log.read_text(encoding="utf-8").splitlines():
            file.write(json.dumps(change(json.loads(line))) + "\n")
    return path


def test_an_endpoint_that_is_never_drawn_cannot_be_valued(installation, tmp_path):
    """The log offers a candidate that nobody was ever sent to, and `cheapest` would send everybody there."""

    def with_stranger(row):
        row["candidates"].append("free")
        row["probability"].append(0.0)
        row["expected_cost_usd"].append(0.0)
        return row

    log = rewritten(exported(installation), tmp_path / "stranger.jsonl", with_stranger)
    _, [result] = evaluated(log, tmp_path, "--policies", "random")
    own, *values = result["values"]
    assert own["refused"] == ""
    dearest = [v for v in values if v["overlap"]["unsupported"] > 0.01]
    assert dearest
    assert all("hardly ever or never logged" in v["refused"] and v["quality"] == {} for v in dearest)


def test_propensities_that_are_not_those_of_the_draws_are_told(installation, tmp_path):
    log = rewritten(
        exported(installation), tmp_path / "wrong.jsonl", lambda row: row | {"propensity": row["propensity"] / 2}
    )
    output, [result] = evaluated(log, tmp_path, "--policies", "cheapest")
    assert any("propensities are not what their rule's probabilities say" in note for note in result["notes"])
    assert "mean weight" in result["values"][0]["warning"]
    assert "mean weight" in output


def test_bad_rows_are_all_named_and_nothing_is_loaded(installation, tmp_path):
    lines = exported(installation).read_text(encoding="utf-8").splitlines()[:3]
    rows = [json.loads(line) for line in lines]
    rows[0]["propensity"], rows[1]["probability"], rows[2]["score"] = 1.5, [1.0], -1
    bad = tmp_path / "bad.jsonl"
    bad.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError) as caught:
        read_logged(str(bad))
    message = caught.value.message
    assert [f"bad.jsonl:{n}: {field}" in message for n, field in ((1, "propensity"), (2, "probability"), (3, "score"))]
    assert len(caught.value.problems) == 3


def test_only_an_export_is_taken_for_one(tmp_path):
    table = tmp_path / "outcomes.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["dataset", "task", "sample_id", "prompt", "model", "score"], [*"abcde", 1]])
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    names = (str(table), str(tmp_path / "broken.parquet"), "paretobandit:val", str(tmp_path), "none.jsonl")
    assert [is_logged(name) for name in names] == [False] * 5


def test_too_little_is_said_to_be_too_little(installation, tmp_path):
    few = tmp_path / "few.jsonl"
    few.write_text("\n".join(exported(installation).read_text(encoding="utf-8").splitlines()[:30]))
    done = RUNNER.invoke(app, ["evaluate", str(few), "--out", str(tmp_path / "out"), "--policies", "cheapest"])
    assert isinstance(done.exception, DataError)
    assert "drawn ones to ask about" in done.exception.message
