from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.types import Decision
from router_gateway.routing.explain import Switch, switch_prices


def decided(chosen: str, quality: list[float], cost_usd: list[float], eligible: list[bool] | None = None) -> Decision:
    names = tuple("abcdef"[: len(quality)])
    return Decision(
        query_id=UUID(int=0),
        at=datetime(2000, 1, 1, tzinfo=UTC),
        endpoint=chosen,
        order=(chosen,),
        propensity=1.0,
        endpoints=names,
        quality=tuple(quality),
        cost_usd=tuple(cost_usd),
        eligible=tuple(eligible or [True] * len(quality)),
        worth_usd=1.0,
        reason="scored",
    )


def test_by_hand():
    below, above = switch_prices(decided("b", [0.5, 0.75, 1.0], [0.01, 0.02, 0.08]))
    # a: (0.02 - 0.01) / (0.75 - 0.5); c: (0.08 - 0.02) / (1.0 - 0.75)
    assert below == Switch(worth_usd=0.04, endpoint="a")
    assert above == Switch(worth_usd=0.24, endpoint="c")


def test_the_nearest_price_on_each_side_is_named():
    below, above = switch_prices(decided("c", [0.0, 0.4, 0.5, 0.6, 0.9], [0.0, 0.01, 0.02, 0.04, 0.05]))
    # below: a at 0.04, b at 0.1; above: d at 0.2, e at 0.075
    assert below.endpoint == "b"
    assert above.endpoint == "e"


def test_what_wins_or_loses_at_every_price_has_none():
    dominated = decided("b", [0.2, 0.8, 0.8], [0.05, 0.01, 0.01])
    assert switch_prices(dominated) == (None, None)


def test_what_may_not_serve_is_no_alternative():
    assert switch_prices(decided("b", [0.5, 0.75], [0.01, 0.02], [False, True])) == (None, None)


def test_nothing_was_scored():
    assert switch_prices(decided("a", [], [])) == (None, None)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 1_000)), min_size=1, max_size=6), st.integers(1, 10_000))
def test_at_the_switch_price_both_values_are_equal_and_beyond_it_the_order_turns(table, worth_mills: int):
    quality = [q / 100 for q, _ in table]
    cost_usd = [c / 10_000 for _, c in table]
    worth_usd = worth_mills / 1_000

    def value(i: int, worth: float) -> float:
        return quality[i] - cost_usd[i] / worth

    chosen = max(range(len(table)), key=lambda i: (value(i, worth_usd), -cost_usd[i]))
    decision = decided("abcdef"[chosen], quality, cost_usd)
    below, above = switch_prices(decision)
    for switch, beyond in ((below, 0.5), (above, 2.0)):
        if switch is None:
            continue
        other = decision.endpoints.index(switch.endpoint)
        assert value(other, switch.worth_usd) == pytest.approx(value(chosen, switch.worth_usd), abs=1e-9)
        assert value(other, switch.worth_usd * beyond) > value(chosen, switch.worth_usd * beyond)
    assert below is None or below.worth_usd <= worth_usd * (1 + 1e-9)
    assert above is None or above.worth_usd >= worth_usd * (1 - 1e-9)
    cheaper_and_worse = [
        i for i in range(len(table)) if cost_usd[i] < cost_usd[chosen] and quality[i] < quality[chosen]
    ]
    assert (below is None) == (not cheaper_and_worse)
