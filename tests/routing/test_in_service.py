from dataclasses import dataclass, replace

import numpy as np
import pytest

from router_gateway.core.errors import BadScores
from router_gateway.core.types import NamedPolicy, Queries, Scores
from router_gateway.routing import in_service
from router_gateway.routing.in_service import InService, Roster


def fixed(*components):
    vector = np.array(components, dtype=np.float32)
    vector.flags.writeable = False
    return vector


VECTOR = fixed(1.0, 0.0)


@dataclass
class Counting:
    """Says how often it was asked."""

    asked: int = 0
    highest: float = 1000.0

    def score(self, queries):
        self.asked += 1
        quality = np.full((len(queries), 1), self.asked / self.highest, dtype=np.float32)
        return Scores(endpoints=("a",), quality=quality, stddev=np.zeros_like(quality))


def named(policy, version=1):
    return NamedPolicy(name="counting", version=version, policy=policy)


def asked(vector=VECTOR, tokens_input=5, route=None, earlier=None):
    return Queries(
        text=("x",),
        embedding=vector[None, :],
        tokens_input=np.array([tokens_input]),
        space="s",
        earlier=earlier,
        routes=(route,),
    )


def test_a_text_that_comes_again_is_scored_once():
    policy = Counting()
    known = InService(named(policy))
    first = known.score([VECTOR], known.named, asked())
    assert known.score([VECTOR], known.named, asked()) is first
    assert policy.asked == 1


@pytest.mark.parametrize(
    "other",
    [
        lambda: (fixed(1.0, 0.0), asked()),
        lambda: (VECTOR, asked(tokens_input=6)),
        lambda: (VECTOR, asked(route="code")),
        lambda: (VECTOR, asked(earlier=np.zeros((1, 1, 2), dtype=np.float32))),
    ],
)
def test_whatever_a_policy_may_look_at_makes_another_query(other):
    policy = Counting()
    known = InService(named(policy))
    known.score([VECTOR], known.named, asked())
    vector, query = other()
    assert known.score([vector], known.named, query).quality[0, 0] == np.float32(2 / 1000)


def test_a_vector_from_no_cache_is_not_remembered():
    policy = Counting()
    known = InService(named(policy))
    for _ in range(2):
        known.score([VECTOR.copy()], known.named, asked())
    assert policy.asked == 2
    assert not known._said


def batch_of(*vectors):
    return Queries(
        text=("x",) * len(vectors),
        embedding=np.stack(vectors),
        tokens_input=np.full(len(vectors), 5),
        space="s",
        routes=(None,) * len(vectors),
    )


def test_of_a_batch_only_what_is_new_is_scored():
    policy, new, written = Counting(), fixed(0.0, 1.0), np.array([0.6, 0.8], dtype=np.float32)
    known = InService(named(policy))
    first = known.score([VECTOR], known.named, asked())
    both = known.score([new, VECTOR, written], known.named, batch_of(new, VECTOR, written))
    assert policy.asked == 2
    np.testing.assert_array_equal(both.quality[:, 0], np.float32([2, 1, 2]) / np.float32(1000))
    assert known.score([new], known.named, asked(new)).quality[0, 0] == both.quality[0, 0]
    assert known.score([VECTOR], known.named, asked()) is first
    assert (policy.asked, len(known._said)) == (2, 2)
    again = known.score([VECTOR, new], known.named, batch_of(VECTOR, new))
    np.testing.assert_array_equal(again.quality[:, 0], np.float32([1, 2]) / np.float32(1000))
    assert policy.asked == 2


def test_another_version_is_asked_itself():
    old, new = Counting(), Counting()
    known = InService(named(old))
    known.score([VECTOR], known.named, asked())
    known.score([VECTOR], named(new, version=2), asked())
    assert (old.asked, new.asked) == (1, 1)


def test_scores_that_are_none_are_refused_and_not_remembered():
    policy = Counting(highest=0.5)
    known = InService(named(policy))
    for _ in range(2):
        with pytest.raises(BadScores):
            known.score([VECTOR], known.named, asked())
    assert policy.asked == 2


def test_memory_is_bounded_and_a_vector_cannot_be_mistaken_for_one_that_is_gone(monkeypatch):
    monkeypatch.setattr(in_service, "_SCORES_MAX", 10)
    policy = Counting()
    known = InService(named(policy))
    for number in range(100):
        vector = fixed(number, 1.0)  # its place in memory is free again at once
        known.score([vector], known.named, asked(vector))
        assert len(known._said) <= 10
    assert policy.asked == 100


def test_the_roster_follows_the_policy_in_service(bench):
    first, second = named(Counting()), named(Counting(), version=2)
    serving = [first]
    router = replace(bench.router([[0.5]], [0.1]), live=lambda: serving[-1])
    roster = Roster()
    known = roster.known(router)
    assert known.named is first
    assert roster.known(router) is known
    serving.append(second)
    assert roster.known(router).named is second
