"""Sessions and the brake on wrong keys, by a clock of the test's own."""

import httpx
import pytest

from router_gateway.dashboard.cache import Cache
from router_gateway.dashboard.client import AdminClient
from router_gateway.dashboard.session import Brake, Sessions


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sessions(clock):
    return Sessions(clock=clock, sessions_max=3)


def begin(sessions, name="ann", role="viewer"):
    admin = AdminClient(http=httpx.AsyncClient(), key=f"rg-{name}", cache=Cache())
    return sessions.begin(admin, name=name, role=role)


def test_a_session_ends_when_nobody_is_there(sessions, clock):
    token = begin(sessions)
    clock.now_s = sessions.idle_s - 1
    session = sessions.of(token)
    assert (session.name, session.role) == ("ann", "viewer")
    sessions.touch(session)
    clock.now_s = 2 * sessions.idle_s - 2
    assert sessions.of(token) is session
    clock.now_s = 2 * sessions.idle_s
    assert sessions.of(token) is None
    assert session.ended
    sessions.touch(session)
    assert sessions.of(token) is None, "over is over"


def test_a_session_ends_after_its_whole_time_though_somebody_is_there(sessions, clock):
    token = begin(sessions)
    while clock.now_s < sessions.whole_s:
        sessions.touch(sessions.of(token))
        clock.now_s += sessions.idle_s / 2
    assert sessions.of(token) is None


def test_tokens_are_long_differ_and_are_kept_as_digests(sessions):
    tokens = {begin(sessions) for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) >= 43 for token in tokens)
    assert not any(token in repr(sessions) for token in tokens)
    assert "rg-ann" not in repr(sessions)
    assert sessions.of("made up") is None
    assert sessions.of("") is None
    assert sessions.of(None) is None


def test_beyond_the_bound_the_oldest_session_ends(sessions):
    first, *others = [begin(sessions) for _ in range(4)]
    assert sessions.of(first) is None
    assert all(sessions.of(token) for token in others)
    sessions.end(others[0])
    assert sessions.of(others[0]) is None


def test_what_one_person_is_told_is_never_another_persons():
    admin = AdminClient(http=httpx.AsyncClient(), key="rg-service", cache=Cache())
    ann, bob = admin.acting_for("ann@example.com"), admin.acting_for("bob@example.com")
    assert len({admin._owner, ann._owner, bob._owner}) == 3
    assert (b"x-router-actor", b"ann@example.com") in ann._headers()
    assert b"x-router-actor" not in dict(admin._headers())
    assert "rg-service" not in repr(ann)


def test_wrong_keys_have_to_wait_from_one_address_and_from_all(clock):
    brake = Brake(tries=3, tries_all=5, window_s=60, clock=clock)
    for _ in range(3):
        assert brake.wait_s("a") == 0
        brake.failed("a")
    assert brake.wait_s("a") == 60
    assert brake.wait_s("b") == 0
    for address in "bc":
        brake.failed(address)
    assert brake.wait_s("d") == 60, "five from all together"
    clock.now_s = 61
    assert brake.wait_s("a") == 0
