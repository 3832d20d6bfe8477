"""The verb `report judges`, on an installation whose ledger holds what judges and labels said."""

import json
from datetime import UTC, datetime

import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Decision, Feedback, Query
from router_gateway.ledger.engine import migrate
from router_gateway.ledger.ledger import Ledger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def fill(directory):
    """Forty answers of two endpoints; the judge gives `large` all it asks for."""
    (directory / "state").mkdir()
    url = f"sqlite:///{directory}/state/ledger.db"
    migrate(url)
    ledger = Ledger.open(url, directory=directory / "state" / "journal")
    for number in range(40):
        endpoint, truth = ("large", "small")[number % 2], float(number % 3 == 0)
        query = Query(id=uuid7(), text="", tokens_input=1)
        decision = Decision(
            query_id=query.id, at=AT, endpoint=endpoint, order=(endpoint,), propensity=1.0, worth_usd=1, reason="scored"
        )
        ledger.record_decision(query, decision, requested_model="auto", embedding=None)
        ledger.record_attempt(Attempt(query_id=query.id, number=1, at=AT, endpoint=endpoint, status=200, latency_ms=1))
        score = 1.0 if endpoint == "large" else 0.25 + 0.5 * truth
        said = Feedback(id=uuid7(), query_id=query.id, at=AT, quality=score, source="judge")
        ledger.record_feedback(said)
        ledger.record_judgement(
            Judgement(
                id=said.id,
                query_id=query.id,
                call_id=uuid7(),
                at=AT,
                judge="j",
                endpoint=endpoint,
                score=score,
                chars=9,
            )
        )
        if number < 24:
            ledger.record_feedback(Feedback(id=uuid7(), query_id=query.id, at=AT, quality=truth, source="label"))
    assert ledger.close()


def test_an_empty_ledger_says_so(command):
    code, out, _ = command("report", "judges")
    assert code == 0
    assert "nothing" not in out
    assert "has said anything yet" in out


def test_tables_tell_quality_differences_and_bias(command, tmp_path):
    fill(tmp_path)
    code, out, _ = command("report", "judges")
    assert code == 0
    for told in ("Mean quality", "prediction-powered", "Differences, by both", "Judges: score less truth", "of large"):
        assert told in out
    assert "(n=12 + 8)" in out


def test_json_holds_every_figure(command, tmp_path):
    fill(tmp_path)
    code, out, _ = command("report", "judges", "--json")
    assert code == 0
    told = json.loads(out)
    [judge] = told["judges"]
    assert judge["scores"] == 40
    assert judge["bias_by_endpoint"]["large"]["value"] == pytest.approx(2 / 3)
    large = next(each for each in told["endpoints"] if each["endpoint"] == "large")
    assert large["judged"]["value"] == 1.0
    assert large["powered"]["value"] == pytest.approx(1 / 3)
    assert large["powered"]["power"] == 0.0  # it says the same of every answer
    _, out, _ = command("report", "judges", "--json", "--since", "2027-01-01")
    assert json.loads(out)["endpoints"] == []
