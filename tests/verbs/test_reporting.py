"""The verbs `report reconcile`, `report reprice`, `ledger prune` and `ledger forget` as their user types them."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from router_gateway.ledger.ledger import Ledger
from router_gateway.verbs.pruning import parse_age
from tests.ledger.test_ledger import a_decision, a_query, an_attempt

CONFIG = """
state_dir: {state}
embedder: {{kind: hashing}}
default_endpoint: small
endpoints:
  - {{name: small, model: openai/gpt-small, price_input_usd_per_mtok: 1, price_output_usd_per_mtok: 2,
      context_tokens_max: 1000}}
"""
DAY = datetime.now(UTC) - timedelta(days=20)


@pytest.fixture
def run(console, tmp_path):
    """`console`, with CONFIG."""
    (tmp_path / "gateway.yaml").write_text(CONFIG.format(state=tmp_path / "state"))
    return console


@pytest.fixture
def rows(run, tmp_path):
    """One call of each of two tenants: 10 tokens in, 20 out, 50,000 nano-dollars."""
    run("migrate")
    ledger = Ledger.open(f"sqlite:///{tmp_path}/state/ledger.db", directory=tmp_path / "journal", store_text=True)
    for tenant in ("acme", "bob"):
        query = a_query(tenant=tenant)
        ledger.record_decision(
            query, a_decision(query, at=DAY, endpoint="small"), requested_model="auto", embedding=None
        )
        ledger.record_attempt(an_attempt(query, at=DAY, endpoint="small", cost_nusd=50_000))
    ledger.close()


def test_an_invoice_that_agrees_and_one_that_does_not(run, rows, tmp_path):
    invoice = tmp_path / "invoice.csv"
    invoice.write_text(f"date,model,cost\n{DAY:%Y-%m-%d},gpt-small,0.0001\n")
    code, out, err = run("report", "reconcile", invoice, "--tolerance-usd", "0", "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["lines"][0] | {"day": ""} == {
        "day": "", "model": "gpt-small", "ledger_nusd": 100_000, "invoice_nusd": 100_000, "difference_nusd": 0,
        "difference_percent": 0.0, "attempts": 2, "estimated_attempts": 0, "estimated_nusd": 0, "open_calls": 0,
        "open_nusd": 0, "provider_attempts": 0, "provider_nusd": 0, "verdict": "agrees",
    }  # fmt: skip
    assert told["total"]["invoice_nusd"] == 100_000
    invoice.write_text(f"date,model,cost\n{DAY:%Y-%m-%d},gpt-small,0.25\n")
    code, out, _ = run("report", "reconcile", invoice, "--provider", "openai")
    assert code == 3
    assert "differs" in out
    assert "within 0.010000 USD" in out


def test_mistakes_are_messages(run, rows, tmp_path):
    invoice = tmp_path / "invoice.csv"
    invoice.write_text("date,model,cost\nyesterday,gpt-small,0.25\n")
    code, out, err = run("report", "reconcile", invoice)
    assert (code, out) == (1, "")
    assert "error: invoice.csv:2: 'yesterday' is no date such as 2030-01-31" in err
    code, _, err = run("report", "reconcile", invoice, "--provider", "nobody")
    assert code == 1
    code, _, err = run("report", "reprice", "--as", "nobody")
    assert (code, "no endpoint 'nobody'; there are small" in err) == (1, True)
    for said in ("90", "d", "-1d", "1.5d", "90days"):
        code, _, err = run("ledger", "prune", "--older-than", said)
        assert code in (1, 2), said
    assert parse_age("2w") == parse_age("14d") == parse_age("336h")


def test_no_ledger_is_a_message(run, tmp_path):
    invoice = tmp_path / "invoice.csv"
    invoice.write_text("date,model,cost\n2030-01-01,a,1\n")
    for verb in (("reconcile", invoice), ("reprice",)):
        code, _, err = run("report", *verb)
        assert (code, "there is no ledger yet" in err) == (1, True)


def test_repricing(run, rows):
    code, out, _ = run("report", "reprice", "--json")
    assert code == 0
    assert json.loads(out) == [
        {"endpoint": "small", "attempts": 2, "booked_nusd": 100_000, "repriced_nusd": 100_000, "estimated_nusd": 0,
         "priced": True}
    ]  # fmt: skip
    assert "Repriced" in run("report", "reprice", "--at", "2030-01-01")[1]


def test_rows_go_and_the_report_keeps_their_sum(run, rows):
    assert "1 texts" not in run("ledger", "prune", "--older-than", "30d")[1]
    code, out, _ = run("ledger", "prune", "--older-than", "10d", "--text-only", "--json")
    assert (code, json.loads(out)) == (0, {"rows": {}, "texts": 2, "left": 0})
    code, out, _ = run("ledger", "forget", "--tenant", "acme")
    assert code == 0
    assert "removed: 1 attempts, 1 decisions" in out
    assert "learn --refit" in out
    code, out, _ = run("ledger", "prune", "--older-than", "10d")
    assert "removed: 1 attempts, 1 decisions" in out
    code, out, _ = run("report", "--by", "tenant")
    assert code == 0
    assert "forgotten" in out
    assert "acme" not in out
    code, _, err = run("ledger", "prune", "--older-than", "1d")
    assert (code, "8 days" in err) == (1, True)
