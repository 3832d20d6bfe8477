"""A curve read between its points, and told in words."""

from __future__ import annotations

import pytest

from router_gateway.dashboard import readings
from router_gateway.dashboard.readings import change_in_words, coin_in_words


def figure(value, arm=0.01):
    return {"value": value, "low": value - arm, "high": value + arm}


def point(worth_usd, *, quality=0.8, cost=1e-3, quality_change=0.0, cost_change=0.0, over=0.02, refused=""):
    known = not refused
    return {
        "worth_usd": worth_usd,
        "refused": refused,
        "ess": 100.0 * worth_usd,
        "share": {"a": min(worth_usd, 1.0), "b": 1.0 - min(worth_usd, 1.0)},
        "quality": figure(quality) if known else None,
        "cost_usd": figure(cost, 1e-5) if known else None,
        "quality_change": figure(quality_change) if known else None,
        "cost_change": figure(cost_change) if known else None,
        "over_mix": figure(over) if known else None,
    }


LINE = [
    point(0.01, quality=0.7, cost=1e-4, quality_change=-0.1, cost_change=-0.9),
    point(0.1, quality=0.8, cost=1e-3),
    point(1.0, quality=0.85, cost=4e-3, quality_change=0.05, cost_change=3.0),
]


def test_at_a_point_it_is_what_was_computed():
    found = readings.read(LINE, 0.1)
    assert (found.quality.value, found.cost_usd.value, found.between) == (0.8, 1e-3, False)


def test_between_two_points_it_is_read_on_the_log_scale():
    found = readings.read(LINE, 0.1 * 10**0.5)
    assert found.between
    assert found.quality.value == pytest.approx(0.825)
    assert found.quality.low == pytest.approx(0.815)
    assert found.share["a"] == pytest.approx(0.55)
    assert found.ess == pytest.approx(55)


def test_beyond_its_ends_it_stays_level():
    assert readings.read(LINE, 1e-6).quality.value == 0.7
    assert readings.read(LINE, 1e6).quality.value == 0.85
    assert readings.read([], 0.1).refused


def test_next_to_a_refused_point_nothing_is_made_up():
    line = [LINE[0], point(0.1, refused="not identifiable: hardly ever logged")]
    assert readings.read(line, 0.02).quality.value == 0.7
    near = readings.read(line, 0.09)
    assert near.quality is None
    assert change_in_words(near, 0.1) == "At this dial nothing can be said: hardly ever logged."
    assert coin_in_words(near) == ""


@pytest.mark.parametrize(
    ("quality", "cost", "said"),
    [
        (
            -0.1,
            -0.31,
            "31.0 % cheaper (95 % interval 30.0 to 32.0 %), "
            "quality 10.0 points lower (95 % interval 9.0 to 11.0 points).",
        ),
        (-0.004, -0.31, "quality 0.4 points lower, which may be chance (95 % interval −1.4 to +0.6 points)"),
        (0.05, 3.0, "300.0 % dearer (95 % interval 299.0 to 301.0 %), quality 5.0 points higher"),
        (0.0, 0.001, "Cost about the same (+0.1 %, 95 % interval −0.9 to +1.1 %), quality about the same"),
    ],
)
def test_a_change_is_a_sentence_with_its_intervals(quality, cost, said):
    line = [point(0.01, quality_change=quality, cost_change=cost)]
    assert said in change_in_words(readings.read(line, 0.01), 0.5)


def test_the_live_dial_is_told_as_such():
    said = change_in_words(readings.read(LINE, 0.1), 0.1)
    assert said == (
        "This is the dial that is live: $1.00 for 1,000 requests, quality 80.0 % (95 % interval 79.0 to 81.0 %)."
    )


@pytest.mark.parametrize(
    ("over", "said"),
    [(0.02, "Routing brings +2.0 points more"), (-0.03, "A coin between endpoints would"), (0.0, "is not shown")],
)
def test_the_coin_is_named_when_it_is_better(over, said):
    assert said in coin_in_words(readings.read([point(0.01, over=over)], 0.01))
