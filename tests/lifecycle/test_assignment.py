"""Who sees a candidate."""

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.ids import uuid7
from router_gateway.core.types import Query
from router_gateway.lifecycle.assignment import CONTROLS_MAX, Shares, unit

shares = st.floats(0.001, 0.99)


def query(session=None):
    return Query(id=uuid7(), text="hello", tokens_input=1, session=session)


def test_a_session_goes_before_the_key_and_the_key_before_the_query():
    key, other = uuid4(), uuid4()
    assert unit(query("s"), key, "a") == unit(query("s"), other, "a") == unit(query("s"), None, "a")
    assert unit(query(), key, "a") == unit(query(), key, "a") != unit(query(), other, "a")
    one, another = query(), query()
    assert unit(one, None, "a") == unit(one, None, "a") != unit(another, None, "a")
    assert unit(query("s"), None, "a") != unit(query("t"), None, "a")


def test_another_salt_shuffles_everybody():
    sides = [[Shares(canary=0.5).side(unit(query(f"s{i}"), None, salt)) for i in range(400)] for salt in ("a", "b")]
    agreed = sum(x == y for x, y in zip(*sides, strict=True))
    assert 150 < agreed < 250


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25])
def test_the_canary_gets_its_share(share):
    split = Shares(canary=share)
    sides = [split.side(unit(query(f"session {i}"), None, "salt")) for i in range(20_000)]
    assert sides.count("canary") / 20_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 20_000) ** 0.5)
    control = min(1 - share, 9 * share)
    assert sides.count("control") / 20_000 == pytest.approx(control, abs=4 * (control * (1 - control) / 20_000) ** 0.5)


@given(shares, shares, st.text(max_size=20))
def test_who_is_in_the_canary_stays_there_as_it_grows(one, other, session):
    small, large = sorted((one, other))
    digits = unit(query(session), None, "salt")
    if Shares(canary=small).side(digits) == "canary":
        assert Shares(canary=large).side(digits) == "canary"


@given(shares)
def test_sides_never_overlap_and_a_block_takes_them_as_they_come(share):
    split = Shares(canary=share)
    assert split.canary + split.control <= 1 + 1e-12
    ours, theirs = split.group
    assert min(ours, theirs) == 1
    assert theirs <= CONTROLS_MAX
    if share <= 0.5:  # no more of the control than comes, so that none of the candidate's sessions is left over
        assert theirs * split.canary <= split.control * (1 + 1e-6)


def test_strange_sessions_are_assigned_like_any():
    assert len(unit(query("\ud800\0ü"), None, "salt")) == 16
