"""Audits of ledgers whose truth is known: what is told, and what must be refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert
from typer.testing import CliRunner

from router_gateway import registry
from router_gateway.cli import app
from router_gateway.core.errors import GatewayError, RequestError, SnapshotMismatch
from router_gateway.core.types import NamedPolicy
from router_gateway.evaluation.audit import Installation, audit
from router_gateway.evaluation.audit_question import Question
from router_gateway.evaluation.audit_standing import CANDIDATE, LOGGED, MIX
from router_gateway.evaluation.logged import read_logged
from router_gateway.evaluation.logged_outcomes import gathered, rated
from router_gateway.evaluation.logged_replay import Manner
from router_gateway.evaluation.logged_values import judge_logged
from router_gateway.evaluation.sitting import Spec
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.snapshots import Snapshots
from router_gateway.learning.standing import Standing
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.ledger.export import export
from router_gateway.ledger.lessons import Lessons
from router_gateway.ledger.outcome_rows import Wanted
from router_gateway.ledger.tables import feedback, feedback_revocations
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap
from tests.evaluation.traffic_made import COST_USD, NOW, World, fill
from tests.ledger.conftest import database_url, empty_database_url, postgres, postgres_server, postgres_url  # noqa: F401

RIGHT = (0, 2)  # even requests to small, odd ones to large


def installed(tmp_path, policy="knn"):
    return Installation(
        policy=policy,
        unfitted=lambda name: registry.create(name, {}),
        snapshots=Snapshots(tmp_path / "snapshots"),
        manner=Manner(rule=EpsilonGreedy(epsilon=0.6), default_endpoint="mid"),
    )


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """A ledger in which routing pays, on SQLite; read by many tests, changed by none."""
    url = f"sqlite:///{tmp_path_factory.mktemp('explored')}/ledger.db"
    migrate(url)
    engine = open_engine(url)
    fill(engine, World(), 2000)
    yield engine
    engine.dispose()


def fresh(tmp_path, world, count=1200, **options):
    migrate(url := f"sqlite:///{tmp_path}/ledger.db")
    engine = open_engine(url)
    ids = fill(engine, world, count, **options)
    return engine, ids


def covers(estimate, truth):
    return estimate.low <= truth <= estimate.high


def test_routing_that_pays_is_told_with_its_true_gain(explored, tmp_path):
    found, world = audit(explored, installed(tmp_path), Question()), World()
    rows, gains = {row.name: row for row in found.rows}, found.gains
    assert found.verdict == "worth it", found.sentence
    assert covers(rows[CANDIDATE].quality, world.value(RIGHT))
    assert covers(rows[CANDIDATE].cost_usd, world.cost_usd(RIGHT))
    assert covers(rows[CANDIDATE].net, world.value(RIGHT, price=True))
    assert covers(rows["large"].quality, world.value((2, 2)))
    assert covers(gains.net_over_best_single, world.value(RIGHT, price=True) - world.value((2, 2), price=True))
    assert covers(gains.saving_over_best_single, 1 - world.cost_usd(RIGHT) / world.cost_usd((2, 2)))
    assert gains.best_single == "large"
    assert rows[MIX].cost_usd.value == pytest.approx(rows[CANDIDATE].cost_usd.value, rel=1e-6)
    coin = rows[CANDIDATE].quality.value - rows[MIX].quality.value
    assert gains.quality_at_equal_cost.value == pytest.approx(coin)
    qualities = [world.value((column, column)) for column in range(3)]
    assert covers(
        gains.quality_at_equal_cost, world.value(RIGHT) - np.interp(world.cost_usd(RIGHT), COST_USD, qualities)
    )
    assert gains.quality_at_equal_cost.low > 0
    assert "routing is worth it here" in found.sentence
    assert rows[LOGGED].overlap.weight_mean == pytest.approx(1)


def test_where_all_endpoints_are_alike_it_says_to_turn_routing_off(tmp_path):
    alike = (0.7, 0.7, 0.7)
    engine, _ = fresh(tmp_path, World(quality={"even": alike, "odd": alike}))
    found = audit(engine, installed(tmp_path), Question())
    assert found.verdict in ("not shown", "harmful")
    assert found.gains.best_single == "small"
    assert "Turn routing off and send everything to small" in found.recommendation


def test_a_candidate_that_loses_is_told_to_lose(explored, tmp_path):
    found = audit(explored, installed(tmp_path), Question(policy="cheapest"))
    assert found.verdict == "harmful"
    assert found.gains.net_over_best_single.high < 0
    assert found.sentence.startswith("No, routing is not worth it here")


@pytest.mark.parametrize("rule", [Greedy(), InverseGap(gamma=float("inf"))])
def test_a_deterministic_logger_gives_no_number(tmp_path, rule):
    engine, _ = fresh(tmp_path, World(rule=rule), 300)
    found = audit(engine, installed(tmp_path), Question())
    assert found.verdict == "not identifiable"
    assert "the logger was deterministic" in found.sentence
    assert found.gains is None
    assert all(row.quality is None and row.cost_usd is None for row in found.rows)


def test_a_ledger_without_feedback_gives_no_number(tmp_path):
    migrate(url := f"sqlite:///{tmp_path}/ledger.db")
    engine = open_engine(url)
    assert audit(engine, installed(tmp_path), Question()).verdict == "not identifiable"
    fill(engine, World(), 12)
    few = audit(engine, installed(tmp_path), Question())
    assert few.verdict == "not identifiable"
    assert "to ask about" in few.sentence


def test_the_dial_and_the_rule_are_those_asked_for(explored, tmp_path):
    def share(**asked):
        found = audit(explored, installed(tmp_path), Question(resamples=50, **asked))
        return next(row.share for row in found.rows if row.name == CANDIDATE)

    assert share(worth_usd=1e-4)["small"] == pytest.approx(1.0, abs=0.05), "when nothing is worth much"
    greedily, explored_too = share(), share(rule="configured")
    assert greedily["large"] == pytest.approx(0.5, abs=0.05)
    for name, own in greedily.items():
        assert explored_too[name] == pytest.approx(0.4 * own + 0.2), "epsilon is 0.6, of three endpoints"


def test_the_figures_are_those_of_evaluate_on_an_export(explored, tmp_path):
    out = tmp_path / "log.jsonl"
    export(explored, out, Wanted())
    theirs = read_logged(str(out))
    ours = gathered(*rated("the ledger", read_decided(explored, since=None, decisions_max=10_000, rated_only=True)))
    assert ours.ids == theirs.ids
    assert ours.sessions == theirs.sessions
    for name in (
        "drawn",
        "answered",
        "propensity",
        "probability",
        "expected_cost_usd",
        "quality",
        "cost_usd",
        "random",
    ):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name))
    result = judge_logged("log", theirs, [Spec(name="knn", label="knn")], [Greedy()])
    expected = next(value for value in result.values if value.policy == "knn" and value.worth_usd == 0.01)
    found = audit(explored, installed(tmp_path), Question())
    own = next(row for row in found.rows if row.name == CANDIDATE)
    for name in ("quality", "cost_usd", "net"):
        assert getattr(own, name).value == pytest.approx(getattr(expected, name)["dr"].value)
        assert getattr(own, name).low == pytest.approx(getattr(expected, name)["dr"].low, rel=0.01)


def snapshot(engine, tmp_path, *, learned_rows):
    """What the learner would have saved after so many rows of feedback."""
    lesson = Lessons(engine).read(Standing().reached, embedding_space="made", rows_max=learned_rows)
    policy = registry.create("knn", {}).fit(lesson.experience)
    provenance = Provenance.of(lesson.experience, created=NOW, extra=Standing(reached=lesson.reached).extra())
    Snapshots(tmp_path / "snapshots").save(NamedPolicy(name="knn", version=7, policy=policy), provenance)


def test_a_snapshot_is_valued_on_what_it_has_not_read(tmp_path):
    engine, _ = fresh(tmp_path, World())
    snapshot(engine, tmp_path, learned_rows=401)  # 401: the second decision of its session is not asked about either
    found = audit(engine, installed(tmp_path), Question(version=7))
    assert found.candidate == "knn@7"
    assert found.traffic.learned == 402
    assert found.traffic.asked == 1200 - 402
    assert any("learned from 401 of these decisions" in note for note in found.notes)
    assert covers(next(row for row in found.rows if row.name == CANDIDATE).quality, World().value(RIGHT))


def test_a_snapshot_that_has_read_everything_cannot_be_valued(tmp_path):
    engine, _ = fresh(tmp_path, World(), 300)
    snapshot(engine, tmp_path, learned_rows=1000)
    found = audit(engine, installed(tmp_path), Question(version=7))
    assert found.verdict == "not identifiable"
    assert "0 drawn ones to ask about" in found.sentence
    with pytest.raises(SnapshotMismatch, match="no snapshot"):
        audit(engine, installed(tmp_path), Question(version=8))


def test_feedback_taken_back_has_no_part(tmp_path):
    engine, ids = fresh(tmp_path, World(), 100)
    with engine.begin() as connection:
        said = connection.execute(feedback.select().where(feedback.c.query_id == ids[0])).one()
        connection.execute(insert(feedback_revocations), [{"id": said.id, "at": NOW, "tenant": "default"}])
    assert len(read_decided(engine, since=None, decisions_max=1000, rated_only=True)) == 99
    assert len(read_decided(engine, since=None, decisions_max=1000)) == 100


def test_the_newest_decisions_are_read_and_no_more(database_url):  # noqa: F811
    engine = open_engine(database_url)
    ids = fill(engine, World(rated_share=0.5), 900, apart_s=3600.0)
    assert [each.id for each in read_decided(engine, since=None, decisions_max=850)] == ids[-850:]
    rated_ids = [each.id for each in read_decided(engine, since=None, decisions_max=100, rated_only=True)]
    assert len(rated_ids) == 100
    assert rated_ids == [each for each in ids if each in set(rated_ids)], "oldest first"
    recent = read_decided(engine, since=NOW.replace(hour=0), decisions_max=850)
    assert [each.id for each in recent] == ids[-len(recent) :]
    assert read_decided(engine, since=None, decisions_max=850, tenant="stranger") == []
    engine.dispose()


def test_postgres_gives_the_same_answer(explored, tmp_path, postgres_url):  # noqa: F811
    migrate(postgres_url)
    engine = open_engine(postgres_url)
    fill(engine, World(), 2000)
    there, here = (audit(each, installed(tmp_path), Question(resamples=100)) for each in (engine, explored))
    engine.dispose()
    assert json.dumps(there.to_json(), sort_keys=True) == json.dumps(here.to_json(), sort_keys=True)


def test_the_answer_is_plain_json(explored, tmp_path):
    found = audit(explored, installed(tmp_path), Question(resamples=50))
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["verdict"] == "worth it"
    assert set(told["gains"]["net_over_best_single"]) == {"value", "low", "high"}
    assert told["oracle"].startswith("not known")


CONFIG = """
state_dir: {state}
ledger: {{url: "sqlite:///{state}/ledger.db"}}
embedder: {{kind: hashing}}
policy: {{name: knn}}
default_endpoint: mid
rule: {{name: epsilon_greedy, epsilon: 0.6}}
endpoints:
  - {{name: mid, model: m, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
"""


def told(state, *options):
    config = state / "gateway.yaml"
    config.write_text(CONFIG.format(state=state))
    return CliRunner().invoke(app, ["audit", "--config", str(config), *options], env={"COLUMNS": "200"})


def test_the_verb_says_it_in_words_and_in_json(explored, tmp_path):
    state = Path(explored.url.database).parent
    done = told(state, "--since", "all")
    assert done.exit_code == 0, done.output
    assert "Yes, routing is worth it here" in done.output
    assert "random mix at equal cost" in done.output
    answer = json.loads(told(state, "--json", "--policy", "linear", "--since", "4w").stdout)
    assert (answer["candidate"], answer["verdict"]) == ("linear", "worth it")
    hour = json.loads(told(state, "--json", "--since", "1h").stdout)
    assert hour["traffic"]["rated"] <= 61


def test_the_verb_refuses_what_makes_no_sense(explored, tmp_path):
    state = Path(explored.url.database).parent
    wrong = ("--since", "soon"), ("--rule", "best"), ("--worth-usd", "0"), ("--policy", "knn@new")
    for options in wrong:
        assert isinstance(told(state, *options).exception, RequestError), options
    assert isinstance(told(state, "--policy", "nobody").exception, GatewayError)
    assert isinstance(told(tmp_path).exception, GatewayError), "no ledger"


def test_the_verb_ends_with_3_where_the_ledger_cannot_say(tmp_path):
    fresh(tmp_path, World(rule=Greedy()), 100)
    done = told(tmp_path)
    assert done.exit_code == 3
    assert "not identifiable: the logger was deterministic" in done.output
