from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_gateway.routing.newcomers import Newcomers, with_newcomers
from router_gateway.routing.rules import EpsilonGreedy, Greedy, InverseGap

SHAPE = (7, 4)
RULES = (Greedy(), EpsilonGreedy(epsilon=0.1), InverseGap(gamma=20.0))
masks = arrays(bool, SHAPE)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RULES), arrays(float, SHAPE, elements=st.floats(-1, 1)), masks, masks, masks)
def test_new_endpoints_get_exactly_their_share(rule, value, eligible, admitted, new):
    eligible = eligible | ~eligible.any(axis=1, keepdims=True)
    admitted &= eligible
    admitted = np.where(admitted.any(axis=1, keepdims=True), admitted, eligible)
    p = with_newcomers(rule, value, admitted=admitted, eligible=eligible, new=new, share=0.08)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(p)))
    assert (p >= 0).all()
    assert (p[~eligible] == 0).all()
    for row in range(len(p)):
        strangers, known = eligible[row] & new[row], eligible[row] & ~new[row]
        if strangers.any() and known.any():
            assert p[row][strangers] == pytest.approx(np.full(strangers.sum(), 0.08 / strangers.sum()))
            among = (admitted[row] & known) if (admitted[row] & known).any() else known
            alone = rule.probabilities(value[row : row + 1], among[None])[0]
            assert p[row][known] == pytest.approx(0.92 * alone[known])
        else:
            assert p[row] == pytest.approx(rule.probabilities(value[row : row + 1], admitted[row : row + 1])[0])


def test_the_router_logs_the_chance_that_a_newcomer_had(bench):
    """Columns are sorted by price inside; what comes out is in the pool's order, and the draws keep to it."""
    known = set("c")
    newcomers = Newcomers(share=0.2, names=lambda: known)
    router = bench.router([[0.9, 0.2, 0.9]] * 2, usd=(0.02, 0.01, 0.005), newcomers=newcomers)
    queries = [replace(bench.query(), id=UUID(int=i << 64 | 0x8 << 60 | i)) for i in range(1_000)]
    decisions = router.route(queries, bench.vectors(queries))
    assert {decision.probability for decision in decisions} == {(0.8, 0.0, 0.2)}
    for decision in decisions:
        assert (decision.endpoint, decision.propensity, decision.reason) in {
            ("a", 0.8, "scored"),
            ("c", 0.2, "explored"),
        }
    assert sum(decision.endpoint == "c" for decision in decisions) == pytest.approx(200, abs=40)
    known.clear()  # it is new no longer: the best and cheapest gets everything
    assert {decision.probability for decision in router.route(queries[:9], bench.vectors(queries[:9]))} == {(0, 0, 1.0)}


def test_the_guard_does_not_keep_newcomers_out(bench):
    from router_gateway.routing.guard import Guard

    newcomers = Newcomers(share=0.1, names=lambda: {"b"})
    router = bench.router(
        [[0.6, 0.5, 0.9]], usd=(0.01, 0.01, 0.01), stddev=(0.3,), guard=Guard(z=5.0), newcomers=newcomers
    )
    [decision] = router.route([bench.query()], bench.vectors([bench.query()]))
    assert decision.probability == pytest.approx((0.9, 0.1, 0.0))


def test_without_newcomers_nothing_changes_to_the_bit(bench):
    quality, usd = [[0.9, 0.7, 0.8], [0.2, 0.3, 0.3]], (0.02, 0.01, 0.005)
    off = bench.router(quality, usd=usd, rule=InverseGap(gamma=5.0))
    on = replace(off, newcomers=Newcomers(share=0.3, names=frozenset))
    queries = [bench.query(0), bench.query(1)]
    assert [d.probability for d in off.route(queries, bench.vectors(queries))] == [
        d.probability for d in on.route(queries, bench.vectors(queries))
    ]
