from dataclasses import replace

import numpy as np
import pytest

from router_gateway.core.experience import Experience
from router_gateway.core.types import Queries, Scores
from router_gateway.learning.gate import Judgement, judge


class Fixed:
    """Expects the same of an endpoint whatever is asked."""

    def __init__(self, **quality):
        self.quality = quality

    def score(self, queries):
        row = np.array(list(self.quality.values()), dtype=np.float32)
        quality = np.tile(row, (len(queries), 1))
        return Scores(endpoints=tuple(self.quality), quality=quality, stddev=np.zeros_like(quality))


def rows(*outcomes):
    """(query, endpoint 0 or 1, quality, propensity) each."""
    query, endpoint, quality, propensity = map(np.array, zip(*outcomes, strict=True))
    count = int(query.max()) + 1
    queries = Queries(
        text=("",) * count,
        embedding=np.eye(max(count, 2), dtype=np.float32)[:count],
        tokens_input=np.ones(count, dtype=np.int64),
        space="s",
    )
    return Experience(
        queries=queries,
        endpoints=("a", "b"),
        query=query.astype(np.int64),
        endpoint=endpoint.astype(np.int64),
        quality=quality.astype(np.float32),
        cost_usd=np.full(len(query), np.nan),
        propensity=propensity.astype(np.float32),
    )


def test_the_statistic_by_hand():
    held_out = rows((0, 0, 1.0, 0.5), (1, 1, 0.0, 0.25), (2, 0, 0.5, 0.0))
    found = judge(Fixed(a=0.5, b=0.5), Fixed(a=0.75, b=1.0), held_out)
    # differences: (0.25² - 0.5²) = -0.1875 with weight 2, (1 - 0.25) = 0.75 with weight 4; the third has no propensity
    worse = (2 * -0.1875 + 4 * 0.75) / 6
    assert found.worse == pytest.approx(worse)
    assert found.stderr == pytest.approx(np.hypot(2 * (-0.1875 - worse), 4 * (0.75 - worse)) / 6)
    assert found.rows == 2


def test_rows_of_one_query_are_one_piece_of_evidence():
    once = [(q, 0, float(q % 2), 1.0) for q in range(40)]
    apart = judge(Fixed(a=0.5, b=0.5), Fixed(a=0.8, b=0.5), rows(*once))
    repeated = judge(Fixed(a=0.5, b=0.5), Fixed(a=0.8, b=0.5), rows(*once * 9))
    assert repeated.worse == pytest.approx(apart.worse)
    assert repeated.stderr == pytest.approx(apart.stderr)
    assert repeated.rows == 9 * apart.rows


def test_a_tiny_propensity_counts_twenty_times_at_most():
    found = judge(Fixed(a=0.0, b=0.0), Fixed(a=1.0, b=0.0), rows((0, 0, 0.0, 1e-6), (1, 1, 0.0, 1.0)))
    assert found.worse == pytest.approx(20 / 21)


def test_nothing_to_judge_by_refuses_nothing():
    nothing = judge(Fixed(a=0.0), Fixed(a=1.0), rows((0, 0, 0.0, 0.0)))
    assert nothing == Judgement(worse=0.0, stderr=0.0, rows=0)
    assert not nothing.refuses(z=0.0, rows_min=0)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [({}, True), ({"worse": 0.019}, False), ({"worse": -0.5}, False), ({"rows": 19}, False), ({"stderr": 0.0}, True)],
)
def test_refused_is_what_is_worse_beyond_noise_on_enough_rows(changes, refused):
    found = replace(Judgement(worse=0.021, stderr=0.01, rows=20), **changes)
    assert found.refuses(z=2.0, rows_min=20) is refused


def test_an_equal_policy_passes_almost_always():
    refused = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        held_out = rows(*((q, q % 2, float(rng.random() < 0.5), 0.5) for q in range(100)))
        shift = 0.1 * rng.choice([-1, 1])  # as far from the truth as the other
        refused += judge(Fixed(a=0.5 - shift, b=0.5), Fixed(a=0.5 + shift, b=0.5), held_out).refuses(z=2, rows_min=20)
    assert refused <= 12  # 2.3 % are expected, 4.6 of 200
