from decimal import Decimal

import numpy as np
import pytest

from router_gateway.evaluation.pricing import cost_model, list_prices, with_list_prices
from router_gateway.evaluation.protocols import DoesNotFit
from router_gateway.evaluation.sitting import Spec, sit
from router_gateway.evaluation.sweep import MeanCost

PRICES = {"small": (0.1, 0.4), "middle": (1.0, 3.0), "large": (2.5, 10.0)}
LENGTHS = {"sums": 10, "poems": 400, "laws": 100}


@pytest.fixture
def metered(world):
    """The made world with tokens: answers to a task have a length of its own, costs are tokens times list price."""

    def build(queries: int = 150):
        rows = []
        for row in world(queries):
            asked = len(row["prompt"].split()) + 10
            answered = LENGTHS[row["task"]] + int(row["sample_id"][1:]) % 7
            sent, got = PRICES[row["model"]]
            cost = (asked * sent + answered * got) * 1e-6
            rows.append(row | {"input_tokens": asked, "output_tokens": answered, "cost_usd": cost})
        return rows

    return build


def test_list_prices_are_found(prepared_of, metered):
    table = prepared_of(metered()).table
    for column, name in enumerate(table.endpoints):
        found = list_prices(table.tokens_input[:, column], table.tokens_output[:, column], table.cost_usd[:, column])
        assert found == pytest.approx(PRICES[name])


def test_costs_that_no_price_explains_have_none():
    tokens = np.arange(1.0, 9.0)
    noisy = tokens * 1e-6 * np.array([1, 1.2, 0.8, 1, 1.1, 0.9, 1, 1.3])
    assert list_prices(tokens, tokens[::-1], noisy) is None
    assert list_prices(np.full(8, np.nan), tokens, noisy) is None
    assert list_prices(tokens[:1], tokens[:1], noisy[:1]) is None


def test_configured_prices_stay(prepared_of, metered):
    prepared = prepared_of(metered())
    recovered = with_list_prices(prepared.endpoints[0], prepared.table, 0)
    assert recovered is not None
    assert recovered.price_output_usd_per_mtok == Decimal("0.4")
    assert with_list_prices(recovered, prepared.table, 2) is recovered


def test_a_learned_cost_tells_long_answers_from_short_ones(prepared_of, metered):
    prepared = prepared_of(metered())
    rows, columns = np.arange(len(prepared)), np.arange(3)
    learnable = np.zeros((len(prepared), 3), dtype=bool)
    learnable[:100] = True
    held = rows[100:]
    asked = prepared.asked(held, columns)
    truth = prepared.table.cost_usd[held]
    errors = {
        kind: np.abs(cost_model(kind, prepared, learnable, columns).expected_usd(asked) - truth).mean()
        for kind in ("mean", "learned")
    }
    assert errors["learned"] < 0.6 * errors["mean"]


def test_nothing_outside_train_is_used(prepared_of, metered):
    rows = metered()
    longer = [
        row | {"output_tokens": 9 * row["output_tokens"], "cost_usd": 9 * row["cost_usd"]}
        if int(row["sample_id"][1:]) >= 100
        else row
        for row in rows
    ]
    learnable = np.zeros((150, 3), dtype=bool)
    learnable[:100] = True
    one, other = prepared_of(rows, "one"), prepared_of(longer, "other")
    asked = one.asked(np.arange(100, 150), np.arange(3))
    known = cost_model("mean", one, learnable, np.arange(3))
    assert isinstance(known, MeanCost)
    np.testing.assert_array_equal(
        known.expected_usd(asked), cost_model("mean", other, learnable, np.arange(3)).expected_usd(asked)
    )


def test_a_policy_can_be_told_either(prepared_of, metered, world):
    prepared = prepared_of(metered(300))
    figures = {
        kind: sit(
            Spec(name="knn", label=kind, params={"k": 10}, cost=kind), prepared, protocol="pooled", seed=0, variants={}
        )["parts"][""]
        for kind in ("mean", "learned")
    }
    assert figures["mean"]["curve"] != figures["learned"]["curve"]
    assert figures["learned"]["gap_closed"] > 0.5
    spec = Spec(name="knn", label="knn@learned", cost="learned")
    with pytest.raises(DoesNotFit, match="recorded tokens"):
        sit(spec, prepared_of(world(60), "no tokens"), protocol="pooled", seed=0, variants={})
