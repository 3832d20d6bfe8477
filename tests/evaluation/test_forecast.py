"""Forecasts from ledgers whose truth is known: spend and quality under a change, odds of a budget, refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import numpy as np
import pytest
from typer.testing import CliRunner

from router_gateway.cli import app
from router_gateway.core.errors import RequestError
from router_gateway.evaluation.audit_question import Change, NewPrice, Question
from router_gateway.evaluation.forecast import forecast
from router_gateway.evaluation.repricing import Repricing
from router_gateway.ledger.decided import Decided, Tried
from router_gateway.ledger.engine import migrate, open_engine
from router_gateway.routing.rules import Greedy
from tests.api.building import endpoint
from tests.evaluation.test_audit import CONFIG, RIGHT, covers, fresh, installed
from tests.evaluation.traffic_made import COST_USD, ENDPOINTS, World, fill

TODAY = date(2026, 3, 4)
NEWEST = datetime(2026, 3, 3, 23, 59, tzinfo=UTC)
HOUR_S = 3600.0
POOL = tuple(endpoint(name) for name in ENDPOINTS)
LOGGED = np.array([0.2, 0.6, 0.2])  # the odds of World's logger
LOGGED_USD = float(LOGGED @ COST_USD)


@pytest.fixture(scope="module")
def explored(tmp_path_factory):
    """Forty days of two requests an hour, on SQLite; read by many tests, changed by none."""
    url = f"sqlite:///{tmp_path_factory.mktemp('explored')}/ledger.db"
    migrate(url)
    engine = open_engine(url)
    fill(engine, World(), 1920, newest=NEWEST, apart_s=HOUR_S / 2)
    yield engine
    engine.dispose()


def asked(engine, tmp_path, **options):
    question = Question(resamples=300, **options.pop("question", {}))
    return forecast(engine, installed(tmp_path), POOL, Change(question=question, **options), today=TODAY)


def test_as_things_are(explored, tmp_path):
    found = asked(explored, tmp_path)
    assert found.refused == ""
    assert found.changed is None
    assert found.requests.p10 < 30 * 48 < found.requests.p90 * 1.01
    assert found.requests.p90 < 1.1 * 30 * 48, "traffic is the same every day"
    spend = found.as_logged.spend_usd
    assert 0.95 * spend.p10 < 30 * 48 * LOGGED_USD < 1.05 * spend.p90, "a band of 80 % may well miss by a little"
    assert covers(found.as_logged.usd_per_request, LOGGED_USD)
    assert covers(found.as_logged.quality, np.mean([LOGGED @ np.array(own) for own in World().quality.values()]))
    assert sum(found.as_logged.share.values()) == pytest.approx(1)
    assert [day.date for day in found.as_logged.daily][::29] == ["2026-03-04", "2026-04-02"]


def test_another_policy_changes_spend_and_quality_by_what_is_true(explored, tmp_path):
    found, world = asked(explored, tmp_path, question={"policy": "knn"}), World()
    changed = found.changed
    assert changed.spend_by == "dr"
    assert covers(changed.quality, world.value(RIGHT))
    assert covers(changed.usd_per_request, world.cost_usd(RIGHT))
    assert found.spend_change.p10 < world.cost_usd(RIGHT) / LOGGED_USD - 1 < found.spend_change.p90
    assert found.quality_change.low > 0.1
    assert changed.share["large"] == pytest.approx(0.5, abs=0.05)
    assert changed.spend_usd.p10 < 30 * 48 * world.cost_usd(RIGHT) < changed.spend_usd.p90


def test_what_was_not_drawn_stays_as_it_was(tmp_path):
    engine, _ = fresh(tmp_path, World(pinned=True), 960, newest=NEWEST, apart_s=HOUR_S)
    found = asked(engine, tmp_path, question={"policy": "cheapest"})
    assert found.changed.share["small"] == pytest.approx(0.5 + 0.5 * 0.2, abs=0.04)
    half = (COST_USD[0] + LOGGED_USD) / 2
    assert covers(found.changed.usd_per_request, half)


def test_a_budget_has_odds(explored, tmp_path):
    day = asked(explored, tmp_path).as_logged.spend_usd.p50 / 30

    def risk(usd):
        return asked(explored, tmp_path, budget_usd_per_day=usd).as_logged.budget

    assert (risk(3 * day).any_day, risk(day / 3).a_day) == (0, 1)
    even = risk(day)
    assert even.in_all == pytest.approx(0.5, abs=0.01)
    assert even.a_day <= even.any_day
    assert even.days_over.p50 == pytest.approx(30 * even.a_day, abs=6)


def test_a_price_that_falls_is_spent_less_on(explored, tmp_path):
    """`large` costs 10 USD per million output tokens, 200 of them a call: half the price saves 0.001 a call."""
    before = asked(explored, tmp_path, question={"policy": "best_on_average"})
    half = NewPrice(input_usd_per_mtok=2.5, output_usd_per_mtok=5.0)
    after = asked(explored, tmp_path, question={"policy": "best_on_average"}, prices={"large": half})
    saved = before.changed.usd_per_request.value - after.changed.usd_per_request.value
    assert after.as_logged == before.as_logged
    assert saved == pytest.approx(200 * 5e-6, rel=0.05)


def test_a_deterministic_log_forecasts_spend_by_replay_and_no_quality(tmp_path):
    engine, _ = fresh(tmp_path, World(rule=Greedy()), 480, newest=NEWEST, apart_s=2 * HOUR_S)
    found = asked(engine, tmp_path, question={"worth_usd": 1e-5})
    assert found.changed.spend_by == "replay"
    assert found.changed.quality is None
    assert "the logger was deterministic" in found.changed.quality_refused
    assert found.changed.share == {"large": 0, "mid": 0, "small": 1}
    assert any("a replay expects" in note for note in found.notes)
    assert found.changed.usd_per_request.value == pytest.approx(COST_USD[0], rel=0.1)


def test_too_short_a_history_is_said_to_be(tmp_path):
    engine, _ = fresh(tmp_path, World(), 100, newest=NEWEST, apart_s=HOUR_S)
    found = asked(engine, tmp_path)
    assert (
        found.refused
        == "not identifiable: 4 complete days of traffic; a forecast needs 7, and two weeks to know weekdays"
    )
    assert found.as_logged is None
    fill(engine, World(), 200, newest=NEWEST, apart_s=HOUR_S, seed=1)
    assert any("too few to tell weekdays apart" in note for note in asked(engine, tmp_path).notes)


def logged(**changes):
    plain = Decided(
        id=UUID(int=1), session=None, text="", tokens_input=100, space="made", vector=None, drawn="small",
        answered="large", propensity=0.5, candidates=["large", "small"], probability=[0.5, 0.5],
        expected_cost_usd=[100 * 2.5e-6 + 400 * 10e-6, 5e-5], worth_usd=0.01, quality=None, cost_usd=3e-3,
        tried=(
            Tried(endpoint="small", cost_usd=0.0, tokens=None),
            Tried(endpoint="large", cost_usd=3e-3, tokens=(60, 40, 0, 250)),
        ),
    )  # fmt: skip
    return replace(plain, **changes)


def test_new_prices_by_hand():
    """`large`: input 2.50 to 5.00, output 10 to 20, and with the input the cached prompt, which costs the same here."""
    twice = Repricing(POOL, {"large": NewPrice(input_usd_per_mtok=5.0, output_usd_per_mtok=20.0)}, {})(logged())
    assert twice.cost_usd == pytest.approx(3e-3 + 100 * 2.5e-6 + 250 * 10e-6)
    assert twice.expected_cost_usd == pytest.approx([2 * (100 * 2.5e-6 + 400 * 10e-6), 5e-5])
    free = replace(POOL[2], price_output_usd_per_mtok=Decimal(0))
    priced = Repricing([free], {"large": NewPrice(input_usd_per_mtok=2.5, output_usd_per_mtok=1.0)}, {"large": 300.0})
    assert priced(logged()).expected_cost_usd[0] == pytest.approx(logged().expected_cost_usd[0] + 300e-6)
    unscored = logged(probability=[], expected_cost_usd=[])
    assert priced(unscored).expected_cost_usd == []


def test_the_verb(tmp_path):
    engine, _ = fresh(tmp_path, World(), 960, apart_s=HOUR_S)
    engine.dispose()
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(state=tmp_path))

    def told(*options):
        return CliRunner().invoke(app, ["forecast", "--config", str(config), *options], env={"COLUMNS": "200"})

    done = told("--policy", "knn", "--worth-usd", "0.01", "--budget", "0.02", "--since", "all")
    assert done.exit_code == 0, done.output
    assert "spend changes by" in done.output
    assert "a budget of $0.02 a day" in done.output
    answer = json.loads(told("--json", "--price", "mid=1,2", "--days", "7").stdout)
    assert len(answer["changed"]["daily"]) == 7
    for wrong in (("--price", "mid=1"), ("--price", "nobody=1,2"), ("--days", "0"), ("--budget", "-1")):
        assert isinstance(told(*wrong).exception, RequestError), wrong
