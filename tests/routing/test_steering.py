"""A pacer's word to the router: the dial, the optimism, and a coin in the rule's place."""

from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.types import Preferences
from router_gateway.routing.steering import COIN_RULE, Coin, Steering

HALF = Coin(sides=(("a", 0.5), ("c", 0.5)))


def steered(bench, router, steering, **changes):
    query = bench.query(**changes)
    return router.route([query], bench.vectors([query]), steering=steering)[0]


def test_dial_and_optimism_are_the_pacers_and_the_row_says_so(bench):
    router = bench.router([[0.5, 0.75]], [0.0, 0.3], stddev=(0.0, 0.2), worth_usd=10.0)
    thrifty = steered(bench, router, Steering(worth_usd=1.0, optimism=0.0))
    assert (thrifty.endpoint, thrifty.worth_usd) == ("a", 1.0)
    assert steered(bench, router, Steering(worth_usd=1.0, optimism=1.0)).endpoint == "b"
    own = steered(bench, router, Steering(worth_usd=1.0, optimism=0.0), preferences=Preferences(worth_usd=10.0))
    assert (own.endpoint, own.worth_usd) == ("b", 10.0)


def test_what_declines_records_the_pacers_dial_too(bench):
    router = bench.router([[0.5]], [0.1])
    assert router.decline(bench.query(), "pinned", steering=Steering(worth_usd=0.25, optimism=0.0)).worth_usd == 0.25


def test_the_coins_chances_are_exact_and_what_happens(bench):
    router = bench.router([[0.9, 0.8, 0.7]], [0.0, 0.0, 0.0])
    steering = Steering(worth_usd=1.0, optimism=0.0, coin=Coin(sides=(("a", 0.25), ("c", 0.75)), share=0.8))
    seen = [steered(bench, router, steering, id=UUID(int=n << 64 | n)) for n in range(1, 2_001)]
    assert seen[0].probability == pytest.approx((0.2 + 0.2, 0.0, 0.6))
    assert {d.rule for d in seen} == {COIN_RULE}
    share = np.mean([d.endpoint == "c" for d in seen])
    assert share == pytest.approx(0.6, abs=0.04)
    assert all(d.propensity == pytest.approx(d.probability[d.endpoints.index(d.endpoint)]) for d in seen)


def test_a_request_with_its_own_dial_is_not_flipped_for(bench):
    router = bench.router([[0.5, 0.6, 0.9]], [0.0, 0.0, 0.0])
    steering = Steering(worth_usd=1.0, optimism=0.0, coin=HALF)
    own = steered(bench, router, steering, preferences=Preferences(worth_usd=3.0))
    assert (own.endpoint, own.propensity, own.rule) == ("c", 1.0, "greedy")


def test_a_side_that_is_not_eligible_gives_its_chance_to_the_other(bench):
    router = bench.router([[0.5, 0.9, 0.6]], [0.0, 0.0, 0.0])
    coin = Steering(worth_usd=1.0, optimism=0.0, coin=HALF)
    assert steered(bench, router, coin, preferences=Preferences(allowed=("b", "c"))).probability == (0.0, 0.0, 1.0)
    neither = steered(bench, router, coin, preferences=Preferences(allowed=("b",)))
    assert (neither.endpoint, neither.propensity) == ("b", 1.0)
