"""The verbs of budgets, on a small installation of its own."""

import os
import sys

import pytest

from router_gateway import cli
from router_gateway.core.errors import RequestError
from router_gateway.verbs.budgeting import parse_usd

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
    monkeypatch.setenv("COLUMNS", "200")
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


def test_budgets_are_set_listed_changed_and_removed(run):
    key = run("keys", "create", "ci")[1].strip()
    assert run("budgets", "set", "25", "--per", "day") == (0, "gateway, per day: 25.000000 USD\n", "")
    assert run("budgets", "set", "$0.5", "--per", "hour", "--tenant", "acme")[0] == 0
    assert run("budgets", "set", "3 USD", "--per", "month", "--key", key[:11])[0] == 0
    assert run("budgets", "set", "30", "--per", "day")[0] == 0
    listed = run("budgets", "list")[1]
    for words in ("gateway, per day", "30.000000", "tenant acme, per hour", "0.500000", "per month", "100 %"):
        assert words in listed
    assert "25.000000" not in listed
    assert run("budgets", "remove", "--per", "hour", "--tenant", "acme")[:2] == (0, "removed\n")
    assert "acme" not in run("budgets", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("set", "25 EUR", "--per", "day"), "'25 EUR' is no amount of US dollars"),
        (("set", "25", "--per", "week"), "`period` must be one of hour, day, month"),
        (("set", "25", "--per", "day", "--key", "rg-unknown0"), "no active API key of that id or prefix"),
        (("set", "25", "--per", "day", "--key", "rg-a", "--tenant", "acme"), "give --tenant or --key, not both"),
        (("remove", "--per", "day"), "no budget of gateway per day"),
    ],
)
def test_mistakes_are_named(run, arguments, told):
    code, _, errors = run("budgets", *arguments)
    assert code == 1
    assert told in errors


@pytest.mark.parametrize(("said", "nusd"), [("25", 25 * 10**9), ("$0.000000001", 1), ("1.5 USD", 1_500_000_000)])
def test_amounts_are_exact(said, nusd):
    assert parse_usd(said) == nusd


@pytest.mark.parametrize("said", ["", "-1", "nan", "inf", "ten", "0.0000000001", "1,5"])
def test_other_amounts_are_refused(said):
    with pytest.raises(RequestError) as refused:
        parse_usd(said)
    assert refused.value.param == "limit"
