"""The ledger against a provider's invoice; what recorded calls would have cost at other prices."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from router_gateway.core.errors import DataError
from router_gateway.core.types import Usage
from router_gateway.dispatch.endpoints import EndpointSettings
from router_gateway.ledger.invoice import model_key, read_invoice
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.reconcile import Models, reconcile
from router_gateway.ledger.repricing import reprice
from tests.ledger.test_ledger import a_decision, a_query, an_attempt

DAY = datetime(2030, 5, 17, 12, tzinfo=UTC)
CENT = 10_000_000


@pytest.fixture
def ledger(database_url: str, tmp_path: Path) -> Any:
    ledger = Ledger.open(database_url, directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def call(ledger: Ledger, at: datetime, endpoint: str, cost_nusd: int | None, **changes: Any) -> None:
    query = a_query()
    decision = a_decision(query, at=at, endpoint=endpoint)
    ledger.record_decision(query, decision, requested_model="auto", embedding=None, expected_nusd=3 * CENT)
    if cost_nusd is not None:
        ledger.record_attempt(an_attempt(query, at=at, endpoint=endpoint, cost_nusd=cost_nusd, **changes))


def invoice(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "invoice.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "date,model,cost_usd\n2030-05-17,gpt-4o-mini,1.25\n2030-05-18,claude,0.5\n",
        "Usage Date,Model Name,Cost (USD),Currency\n2030-05-17,openai/gpt-4o-mini-2024-07-18,$1.25,usd\n"
        "2030-05-18,anthropic/Claude,0.50,USD\n\n",
        '\ufeffstart_time,model_permaslug,provider_name,amount\n2030-05-17T23:00:00Z,gpt-4o-mini,openai,"1.00"\n'
        "1905289200,gpt-4o-mini@20240718,openai,0.25\n2030-05-19T01:00:00+02:00,claude,anthropic,5e-1\n",
        "day,model,tokens,total_cost,requests\n2030-05-17,gpt-4o-mini,10,2.25,1\n2030-05-17,gpt-4o-mini,0,-1.00,0\n"
        "2030-05-18,claude,1,.5,1\n",
    ],
)
def test_columns_are_found_by_what_providers_call_them(tmp_path: Path, text: str) -> None:
    assert read_invoice(invoice(tmp_path, text)) == {
        (date(2030, 5, 17), "gpt-4o-mini"): 1_250_000_000,
        (date(2030, 5, 18), "claude"): 500_000_000,
    }


def test_a_file_of_several_providers_is_read_for_one(tmp_path: Path) -> None:
    text = "date,model,provider,cost\n2030-05-17,a,OpenAI,1\n2030-05-17,a,other,2\n"
    assert read_invoice(invoice(tmp_path, text), provider="openai") == {(date(2030, 5, 17), "a"): 10**9}
    assert read_invoice(invoice(tmp_path, text)) == {(date(2030, 5, 17), "a"): 3 * 10**9}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", ["invoice.csv: no header line"]),
        (
            "when,what\n",
            ["invoice.csv:1: no column for the date (such as date", "no column for the model", "for the cost"],
        ),
        (
            "date,model,cost,currency\n17/05/2030,a,1,USD\n2030-05-17,a,much,USD\n2030-05-17,,1,USD\n"
            "2030-05-17,a,1,EUR\n2030-05-17,a,1\n2030-05-17,a,inf,\nTotal,a,3,USD\n",
            [
                "invoice.csv:2: '17/05/2030' is no date such as 2030-01-31",
                "invoice.csv:3: 'much' is no amount of US dollars",
                "invoice.csv:4: no model",
                "invoice.csv:5: currency 'EUR': only USD is compared",
                "invoice.csv:6: 3 columns where the header has 4",
                "invoice.csv:7: ",
                "invoice.csv:8: 'Total' is no date",
            ],
        ),
        ('date,model,cost\n2030-05-17,a,"1\n', ["invoice.csv:2: unexpected end of data"]),
    ],
)
def test_every_mistake_is_told_at_once_with_its_line(tmp_path: Path, text: str, problems: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        read_invoice(invoice(tmp_path, text))
    for problem in problems:
        assert problem in refused.value.message


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "invoice.csv"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(DataError, match="UTF-8"):
        read_invoice(path)


def test_a_long_list_of_mistakes_is_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_invoice(invoice(tmp_path, "date,model,cost\n" + "x,a,1\n" * 50))
    assert len(refused.value.problems) == 21
    assert refused.value.problems[-1] == "… and 30 more"


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("openai/gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4"),
        ("Claude-Haiku@20251001", "claude-haiku"),
        ("llama-3.1-8b", "llama-3.1-8b"),
    ],
)
def test_models_are_matched_without_provider_case_and_date(model: str, key: str) -> None:
    assert model_key(model) == key


def test_differences_by_day_and_model_and_what_may_explain_them(ledger: Ledger, tmp_path: Path) -> None:
    for _ in range(3):
        call(ledger, DAY, "small", 100 * CENT)
    call(ledger, DAY, "small-too", 50 * CENT, provider_cost_nusd=51 * CENT)
    call(ledger, DAY, "large", 10 * CENT, usage=None, cost_estimated=True)  # our own count
    call(ledger, DAY + timedelta(days=1), "large", None)  # no outcome
    call(ledger, DAY + timedelta(days=1), "gone", 5 * CENT)  # an endpoint of an earlier configuration
    call(ledger, DAY + timedelta(days=2), "small", 7 * CENT)  # not on the invoice
    call(ledger, DAY + timedelta(days=9), "small", 9 * CENT)  # not in its days
    assert ledger.drain()
    text = """date,model,cost
        2030-05-17,gpt-small,3.505
        2030-05-17,gpt-large-2030-01-01,0.19
        2030-05-18,gpt-large,0.03
        2030-05-18,unheard-of,0.40
        2030-05-19,gpt-large,0.002
        2030-05-20,gpt-small,0""".replace("        ", "")
    models = Models(by_endpoint={"small": "openai/gpt-small", "small-too": "gpt-small", "large": "gpt-large"})
    found = reconcile(ledger.engine, read_invoice(invoice(tmp_path, text)), models, tolerance_nusd=CENT)
    lines = {(line.day.day, line.model): line for line in found.lines}
    assert {key: line.verdict(CENT) for key, line in lines.items()} == {
        (17, "gpt-small"): "agrees",  # the provider rounds: half a cent
        (17, "gpt-large"): "in doubt",  # 9 cents, and 10 rest on our own count
        (18, "gpt-large"): "in doubt",  # what the killed gateway never heard of
        (18, "gone"): "only in the ledger",
        (18, "unheard-of"): "only on the invoice",
        (19, "gpt-large"): "agrees",
        (19, "gpt-small"): "only in the ledger",
        (20, "gpt-small"): "agrees",
    }
    small, killed = lines[17, "gpt-small"], lines[18, "gpt-large"]
    assert (small.ledger_nusd, small.attempts, small.difference_nusd) == (350 * CENT, 4, CENT // 2)
    assert (small.provider_attempts, small.provider_nusd) == (1, 51 * CENT)
    assert small.difference_percent == pytest.approx(100 * 0.005 / 3.505)
    assert (killed.ledger_nusd, killed.open_calls, killed.open_nusd) == (0, 1, 3 * CENT)
    assert lines[18, "gone"].difference_percent is None
    assert lines[17, "gpt-large"].estimated_nusd == 10 * CENT
    assert found.total.invoice_nusd - found.total.ledger_nusd == sum(line.difference_nusd for line in found.lines)
    assert found.differs
    only = Models(by_endpoint=models.by_endpoint, only=frozenset({"large"}))
    day = date(2030, 5, 18)
    assert not reconcile(ledger.engine, {}, only, tolerance_nusd=0, first=day, last=day).differs


def test_what_calls_would_have_cost_at_other_prices(ledger: Ledger) -> None:
    def priced(name: str, usd: int, **changes: Any) -> Any:
        given = {"name": name, "model": name, "price_input_usd_per_mtok": usd, "price_output_usd_per_mtok": 10 * usd}
        return EndpointSettings.model_validate(given | {"context_tokens_max": 1000} | changes).build(DAY)

    change = {"at": DAY, "price_input_usd_per_mtok": 2, "price_output_usd_per_mtok": 20}
    small, large = priced("small", 1, price_changes=[change]), priced("large", 5)
    tokens = Usage(tokens_input=10, tokens_output=1)
    before, after = DAY - timedelta(hours=1), DAY + timedelta(hours=1)
    call(ledger, before, "small", 20_000, usage=tokens)
    call(ledger, DAY, "small", 40_000, usage=tokens)
    call(ledger, after, "small", 40_000, usage=tokens)
    call(ledger, after, "small", 999, usage=None, cost_estimated=True)
    call(ledger, after, "gone", 5, usage=tokens)
    assert ledger.drain()

    def repriced(**changes: Any) -> dict[str, tuple[int, int, int]]:
        rows = reprice(ledger.engine, [small, large], **changes)
        return {row.endpoint: (row.attempts, row.booked_nusd, row.repriced_nusd) for row in rows}

    assert repriced() == {"small": (3, 100_000, 100_000), "gone": (1, 5, 0)}, "the table says what was booked"
    assert repriced(at=before)["small"] == (3, 100_000, 60_000)
    assert repriced(at=after)["small"] == (3, 100_000, 120_000)
    assert repriced(endpoint=large) == {"small": (3, 100_000, 300_000), "gone": (1, 5, 100_000)}
    assert repriced(since=DAY, until=after)["small"] == (1, 40_000, 40_000)
    rows = {row.endpoint: row for row in reprice(ledger.engine, [small])}
    assert (rows["small"].estimated_nusd, rows["gone"].priced) == (999, False)
    assert Decimal(1) < large.price_input_usd_per_mtok
