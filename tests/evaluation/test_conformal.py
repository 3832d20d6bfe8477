"""The test behind `tune`, in worlds whose truth is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import RequestError
from router_gateway.evaluation.conformal import Promise, certify, p_value, queries_needed

LEVEL = 0.1
DRAWS = 2000
FOUR_SD = 4 * np.sqrt(LEVEL * (1 - LEVEL) / DRAWS)


def paired(rng, n, *, floor, gap):
    """Router and reference answer alike seven times in ten; E[margin] = gap."""
    best = rng.random(n) < 0.8
    differs = rng.random(n) < 0.3
    mean = (floor * 0.8 + gap - 0.7 * 0.8) / 0.3  # of the router where it differs
    assert 0 <= mean <= 1
    routed = np.where(differs, rng.random(n) < mean, best)
    return routed - floor * best


def rare_disasters(rng, n, *, floor, gap):
    """Nearly always a little better, seldom much worse: the shape that fools a normal approximation."""
    chance, loss = 0.02, floor
    gain = (gap + chance * loss) / (1 - chance)
    return np.where(rng.random(n) < chance, -loss, gain)


def graded(rng, n, *, floor, gap):
    """Scores anywhere between 0 and 1, unpaired."""
    return np.clip(rng.random(n) * 2 * (0.4 * floor + gap), 0, 1) - floor * rng.random(n) * 0.8


WORLDS = [paired, rare_disasters, graded]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("n", [10, 100, 1000])
@pytest.mark.parametrize("floor", [0.95, 0.8])
def test_a_dial_just_short_of_the_floor_is_seldom_certified(world, n, floor):
    rng = np.random.default_rng(n)
    wrong = sum(p_value(world(rng, n, floor=floor, gap=0.0), floor=floor, level=LEVEL) <= LEVEL for _ in range(DRAWS))
    assert wrong / DRAWS <= LEVEL + FOUR_SD


def test_a_normal_approximation_would_be_fooled():
    """So that the test above could fail: the same worlds, and a p-value that is only valid for many queries."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(DRAWS):
        margin = rare_disasters(rng, 100, floor=0.95, gap=0.0)
        error = max(margin.std(ddof=1), 1e-12) / 10
        wrong += margin.mean() / error > 1.2816
    assert wrong / DRAWS > LEVEL + FOUR_SD


@pytest.mark.parametrize("world", [paired, graded])
def test_a_dial_clearly_above_the_floor_is_certified(world):
    rng = np.random.default_rng(1)
    found = [p_value(world(rng, 3000, floor=0.95, gap=0.04), floor=0.95, level=LEVEL) for _ in range(200)]
    assert np.mean(np.array(found) <= LEVEL) > 0.9


def test_it_needs_far_less_than_hoeffdings_bound():
    """The margin of two routers that mostly agree has a small variance and a wide range."""
    rng = np.random.default_rng(2)
    margins = [paired(rng, 1500, floor=0.95, gap=0.03) for _ in range(200)]
    ours = [p_value(m, floor=0.95, level=LEVEL) <= LEVEL for m in margins]
    hoeffding = [m.mean() > 0 and np.exp(-2 * 1500 * (m.mean() / 1.95) ** 2) <= LEVEL for m in margins]
    assert np.mean(ours) > 0.8
    assert np.mean(hoeffding) < 0.2


def test_testing_in_order_seldom_certifies_any_broken_dial():
    """Thirty dials of falling quality, answering the same queries; from the twelfth on the floor is broken."""
    rng = np.random.default_rng(3)
    promise = Promise(floor=0.9, confidence=1 - LEVEL)
    skill = 0.8 * (0.9 + np.linspace(0.1, -0.1, 30))
    broken = int((skill < 0.8 * 0.9).argmax())
    wrong = useful = 0
    for _ in range(500):
        luck = rng.random(800)
        certificate = certify((luck < skill[:, None]).astype(np.float32), (luck < 0.8).astype(float), promise)
        wrong += certificate.certified > broken
        useful += certificate.certified > 0
        assert len(certificate.p_values) == min(certificate.certified + 1, 30)
    assert wrong / 500 <= LEVEL + 4 * np.sqrt(LEVEL * (1 - LEVEL) / 500)
    assert useful > 450


def test_testing_stops_at_the_first_dial_that_fails():
    good, bad = np.ones(500), np.zeros(500)
    certificate = certify(np.stack([good, bad, good]), np.ones(500), Promise(floor=0.9))
    assert certificate.certified == 1
    assert certificate.p_values[1] == 1.0


def test_two_bets_by_hand():
    """floor 1, level e⁻²: prior variance 1, so λ_1 = √(2·2 / (2·1)) and then √(4 / (2·σ²)), both capped at 3/4."""
    level = float(np.exp(-2))
    assert p_value(np.array([0.5, 1.0]), floor=1.0, level=level) == pytest.approx(1 / (1.375 * 1.75))
    assert p_value(np.array([0.5, -1.0]), floor=1.0, level=level) == pytest.approx(1 / 1.375)
    # 100 queries: λ_1 = √(4 / 100) = 0.2; the margin 0.5 is 0.25 from the running mean 0.25, σ² = (1 + 0.0625) / 2
    second = np.sqrt(4 / (100 * (1 + 0.25**2) / 2))
    margin = np.concatenate([[0.5, 1.0], np.zeros(98)])
    assert p_value(margin, floor=1.0, level=level) == pytest.approx(1 / (1.1 * (1 + second)))


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=40),
    st.floats(0.01, 3),
    st.sampled_from([0.01, 0.1, 0.5]),
    st.integers(0, 1000),
)
def test_a_p_value_is_one(routed, floor, level, seed):
    reference = np.random.default_rng(seed).random(len(routed))
    p = p_value(np.array(routed) - floor * reference, floor=floor, level=level)
    assert 0.0 <= p <= 1.0
    assert p_value(-floor * np.ones(len(routed)), floor=floor, level=level) == 1.0


def test_no_queries_prove_nothing_and_no_floor_needs_no_proof():
    assert p_value(np.zeros(0), floor=0.5, level=LEVEL) == 1.0
    assert p_value(np.zeros(1), floor=0.0, level=LEVEL) == 0.0
    everything = certify(np.zeros((4, 3)), np.ones(3), Promise(floor=0.0))
    assert everything.certified == 4


def test_too_few_queries_are_said_to_be_too_few_and_how_many_would_do():
    """Even a router that equals the reference needs many: with few, rare disasters cannot be told from none."""
    promise = Promise(floor=0.95)
    few = certify(np.ones((1, 20)), np.ones(20), promise)
    assert few.certified == 0
    assert few.queries_needed is not None
    assert 20 < few.queries_needed < 200
    many = np.ones(int(1.5 * few.queries_needed))
    assert certify(many[None, :], many, promise).certified == 1


@pytest.mark.parametrize("gap", [0.02, 0.05])
def test_what_is_said_to_be_needed_is_about_right(gap):
    """Of samples three times as large most are certified, of samples a third as large few."""
    rng = np.random.default_rng(4)
    needed = queries_needed(paired(rng, 20_000, floor=0.95, gap=gap), floor=0.95, level=LEVEL)
    assert needed is not None

    def share(n):
        found = [p_value(paired(rng, n, floor=0.95, gap=gap), floor=0.95, level=LEVEL) for _ in range(200)]
        return np.mean(np.array(found) <= LEVEL)

    assert share(3 * needed) > 0.8
    assert share(needed // 3) < 0.4


def test_no_number_of_queries_would_do_where_the_floor_is_not_kept():
    assert queries_needed(np.array([0.1, -0.2]), floor=0.9, level=LEVEL) is None
    assert certify(np.zeros((2, 50)), np.ones(50), Promise(floor=0.5)).queries_needed is None


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"floor": -0.1}, "quality_floor"),
        ({"floor": float("nan")}, "quality_floor"),
        ({"floor": float("inf")}, "quality_floor"),
        ({"floor": 1.1, "of": "oracle"}, "quality_floor"),
        ({"floor": 1.1, "of": "absolute"}, "quality_floor"),
        ({"floor": 0.9, "confidence": 1.0}, "confidence"),
        ({"floor": 0.9, "confidence": 0.0}, "confidence"),
        ({"floor": 0.9, "confidence": float("nan")}, "confidence"),
    ],
)
def test_a_promise_nobody_can_mean_is_refused(settings, param):
    with pytest.raises(RequestError) as refused:
        Promise(**settings)
    assert refused.value.param == param


def test_better_than_one_endpoint_may_be_asked_for():
    assert Promise(floor=1.05, of="small").level == pytest.approx(0.1)
