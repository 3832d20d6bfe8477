"""What the form of settings sends, without a browser."""

from __future__ import annotations

import pytest

from router_gateway.dashboard.settings_form import changed

NOW = {
    "worth_usd": 0.01,
    "optimism": 0.0,
    "rule": {"name": "greedy"},
    "guard": {"z": 1.0, "novelty_stddev_max": None},
    "pacing": {"usd": 5.0},
}
GIVEN = {
    "worth_usd": "0.01",
    "optimism": "0",
    "rule": "greedy",
    "epsilon": "0.05",
    "gamma": "200",
    "z": "1",
    "novelty_stddev_max": "",
    "pacing_usd": "5",
    "note": "",
}


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ({}, {}),
        ({"worth_usd": " 0.02 "}, {"worth_usd": 0.02}),
        ({"worth_usd": "much"}, {"worth_usd": "much"}),
        ({"epsilon": "0.5", "gamma": "7"}, {}),
        ({"rule": "epsilon_greedy"}, {"rule": {"name": "epsilon_greedy", "epsilon": 0.05}}),
        ({"rule": "inverse_gap", "gamma": "7"}, {"rule": {"name": "inverse_gap", "gamma": 7.0}}),
        ({"z": "1.5"}, {"guard": {"z": 1.5, "novelty_stddev_max": None}}),
        ({"novelty_stddev_max": "0.2"}, {"guard": {"z": 1.0, "novelty_stddev_max": 0.2}}),
        ({"pacing_usd": "6"}, {"pacing_usd": 6.0}),
    ],
)
def test_what_differs_from_what_is_in_force_is_sent(typed, sent):
    assert changed(NOW, {**GIVEN, **typed}) == sent


def test_where_nothing_is_paced_no_budget_is_sent():
    now = {name: value for name, value in NOW.items() if name != "pacing"}
    given = {name: value for name, value in GIVEN.items() if name != "pacing_usd"}
    assert changed(now, {**given, "optimism": "0.5"}) == {"optimism": 0.5}
