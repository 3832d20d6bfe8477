"""The verb `report judges`, on an installation whose ledger holds what judges and labels said."""

import json
import os
import sys
from datetime import UTC, datetime

import pytest

from router_gateway import cli
from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Attempt, Decision, Feedback, Query
from router_gateway.ledger.engine import migrate
from router_gateway.ledger.ledger import Ledger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONFIG = """
state_dir: {state}
embedder: {{kind: hashing}}
default_endpoint: small
endpoints:
  - {{name: small, model: m-small, base_url: "http://127.0.0.1:9/v1", context_tokens_max: 8000,
     price_input_usd_per_mtok: 0.1, price_output_usd_per_mtok: 0.4}}
"""


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """`run(*arguments)`: (exit code, stdout, stderr) of the console script."""
    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(state=tmp_path / "state"))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["router-gateway", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        return code, *capsys.readouterr()

    return run


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


def test_an_empty_ledger_says_so(run):
    code, out, _ = run("report", "judges")
    assert code == 0
    assert "nothing" not in out
    assert "has said anything yet" in out


def test_tables_tell_quality_differences_and_bias(run, tmp_path):
    fill(tmp_path)
    code, out, _ = run("report", "judges")
    assert code == 0
    for told in ("Mean quality", "prediction-powered", "Differences, by both", "Judges: score less truth", "of large"):
        assert told in out
    assert "(n=12 + 8)" in out


def test_json_holds_every_figure(run, tmp_path):
    fill(tmp_path)
    code, out, _ = run("report", "judges", "--json")
    assert code == 0
    told = json.loads(out)
    [judge] = told["judges"]
    assert judge["scores"] == 40
    assert judge["bias_by_endpoint"]["large"]["value"] == pytest.approx(2 / 3)
    large = next(each for each in told["endpoints"] if each["endpoint"] == "large")
    assert large["judged"]["value"] == 1.0
    assert large["powered"]["value"] == pytest.approx(1 / 3)
    assert large["powered"]["power"] == 0.0  # it says the same of every answer
    _, out, _ = run("report", "judges", "--json", "--since", "2027-01-01")
    assert json.loads(out)["endpoints"] == []
