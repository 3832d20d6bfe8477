"""The verbs of budgets, on a small installation of its own."""

import pytest

from router_gateway.core.errors import RequestError
from router_gateway.verbs.budgeting import parse_usd


def test_budgets_are_set_listed_changed_and_removed(command):
    key = command("keys", "create", "ci")[1].strip()
    assert command("budgets", "set", "25", "--per", "day") == (0, "gateway, per day: 25.000000 USD\n", "")
    assert command("budgets", "set", "$0.5", "--per", "hour", "--tenant", "acme")[0] == 0
    assert command("budgets", "set", "3 USD", "--per", "month", "--key", key[:11])[0] == 0
    assert command("budgets", "set", "30", "--per", "day")[0] == 0
    listed = command("budgets", "list")[1]
    for words in ("gateway, per day", "30.000000", "tenant acme, per hour", "0.500000", "per month", "100 %"):
        assert words in listed
    assert "25.000000" not in listed
    assert command("budgets", "remove", "--per", "hour", "--tenant", "acme")[:2] == (0, "removed\n")
    assert "acme" not in command("budgets", "list")[1]


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
def test_mistakes_are_named(command, arguments, told):
    code, _, errors = command("budgets", *arguments)
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
