"""Queries that come together are decided in one batch, each as if it had come alone."""

import asyncio
import time
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np
import pytest

from policies.clusters import Clusters
from policies.knn import KNN
from router_gateway.core.errors import NoEligibleEndpoint
from router_gateway.core.protocols import Policy
from router_gateway.core.types import NamedPolicy, Preferences, Queries, Scores
from router_gateway.routing.guard import Guard
from router_gateway.routing.in_service import Roster
from router_gateway.routing.rules import InverseGap
from router_gateway.routing.steering import Steering
from router_gateway.routing.together import TOGETHER_MAX, Asked, Turns, decide
from router_gateway.testing import specialists


@dataclass
class Listening:
    """Notes how many queries it was asked at a time."""

    policy: Policy

    def __post_init__(self) -> None:
        self.heard: list[int] = []

    def score(self, queries: Queries) -> Scores:
        self.heard.append(len(queries))
        return self.policy.score(queries)


def quick(router):
    """What is known of its policy, once that has proved quick."""
    known = Roster().known(router)
    while not known.pace.quick:
        known.pace.run(lambda: None)
    return known


@pytest.fixture
def listening(bench):
    """A router whose policy notes what it is asked; rows 0 to 29 of its table, three endpoints."""
    quality = np.random.default_rng(3).random((30, 3)).tolist()
    router = bench.router(quality, [0.1, 0.2, 0.3])
    policy = Listening(router.live().policy)
    named = NamedPolicy(name="listening", version=1, policy=policy)
    return replace(router, live=lambda: named), policy


def asked(bench, query):
    return Asked(query=query, vector=bench.vectors([query])[0])


async def all_at_once(turns, known, *requests):
    """What becomes of (router, asked, steering) that come in one turn: decisions and errors."""
    return await asyncio.gather(*(turns.decide(r, known, a, s) for r, a, s in requests), return_exceptions=True)


def facts(decision):
    return replace(decision, at=None)


@pytest.mark.parametrize("make", [KNN, Clusters])
async def test_together_each_is_decided_as_alone(bench, make):
    world = specialists(seed=1)
    policy, names = make().fit(world.experience(200, seed=2)), world.endpoints
    asked_of, _ = world.queries(20, seed=3)
    named = NamedPolicy(name="real", version=1, policy=policy)
    router = bench.router(
        [[0.5] * len(names)],
        np.linspace(0.01, 0.3, len(names)),
        names=names,
        live=lambda: named,
        space=world.space,
        rule=InverseGap(gamma=20.0),
        guard=Guard(z=1.0),
        optimism=0.3,
    )
    known, turns = quick(router), Turns()
    queries = [bench.query(row, id=UUID(int=7919 * row), tokens_input=100 + row) for row in range(20)]
    each = [Asked(query=q, vector=v) for q, v in zip(queries, asked_of.embedding, strict=True)]
    together = await all_at_once(turns, known, *((router, one, None) for one in each))
    alone = [decide(router, known, [one], None)[0] for one in each]
    assert [facts(d) for d in together] == [facts(d) for d in alone]
    assert len({d.endpoint for d in together}) > 1


async def test_a_policy_is_asked_once_for_those_of_a_turn_but_not_for_too_many(bench, listening):
    router, policy = listening
    known, turns = quick(router), Turns()
    requests = [(router, asked(bench, bench.query(row)), None) for row in range(2 * TOGETHER_MAX + 3)]
    await all_at_once(turns, known, *requests)
    assert policy.heard == [TOGETHER_MAX, TOGETHER_MAX, 3]
    await all_at_once(turns, known, *requests[:2])
    assert policy.heard[3:] == [2]


async def test_between_two_batches_others_have_a_turn(bench, listening):
    router, policy = listening
    known, turns, seen = quick(router), Turns(), []
    loop = asyncio.get_running_loop()

    async def look():
        for _ in range(4):
            seen.append(len(policy.heard))
            await asyncio.sleep(0)

    looking = loop.create_task(look())
    await all_at_once(turns, known, *((router, asked(bench, bench.query(row)), None) for row in range(25)))
    await looking
    assert len(policy.heard) == 4
    assert {1, 2} & set(seen)


async def test_what_no_endpoint_can_take_is_refused_alone(bench, listening):
    router, _ = listening
    known, turns = quick(router), Turns()
    queries = [
        bench.query(0),
        bench.query(1, preferences=Preferences(ignore=("*",))),
        bench.query(2, tokens_input=10**6),
        bench.query(3),
    ]
    found = await all_at_once(turns, known, *((router, asked(bench, q), None) for q in queries))
    assert [facts(found[i]) for i in (0, 3)] == [
        facts(decide(router, known, [asked(bench, queries[i])], None)[0]) for i in (0, 3)
    ]
    assert isinstance(found[1], NoEligibleEndpoint)
    assert found[1].param == "routing"
    assert isinstance(found[2], NoEligibleEndpoint)
    assert found[2].param == "messages"


async def test_a_policy_that_fails_on_one_query_fails_that_one(bench, listening):
    router, _ = listening
    known, turns = quick(router), Turns()
    queries = [bench.query(0), bench.query(99), bench.query(1)]  # nobody has taught it the second one
    found = await all_at_once(turns, known, *((router, asked(bench, q), None) for q in queries))
    assert isinstance(found[1], KeyError)
    assert [found[0].query_id, found[2].query_id] == [queries[0].id, queries[2].id]


async def test_whoever_left_is_not_asked_for(bench, listening):
    router, policy = listening
    known, turns = quick(router), Turns()
    tasks = [
        asyncio.ensure_future(turns.decide(router, known, asked(bench, bench.query(row)), None)) for row in range(3)
    ]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert policy.heard == [2]
    assert found[2].query_id == bench.query(2).id


async def test_another_dial_or_another_router_is_another_batch(bench, listening):
    router, policy = listening
    known, turns = quick(router), Turns()
    dear, cheap = Steering(worth_usd=100.0, optimism=0.0), Steering(worth_usd=0.001, optimism=0.0)
    saved = replace(router, worth_usd=7.0)
    one = asked(bench, bench.query(0))
    found = await all_at_once(
        turns, known, (router, one, dear), (router, one, cheap), (router, one, dear), (saved, one, None)
    )
    assert [d.worth_usd for d in found] == [100.0, 0.001, 100.0, 7.0]
    assert policy.heard == [2, 1, 1]


class Failing:
    """Scores nothing and raises what it is given, after a while."""

    def __init__(self, error, pause_s=0.0):
        self.error, self.pause_s, self.asked = error, pause_s, 0

    def score(self, queries):
        self.asked += 1
        time.sleep(self.pause_s)
        raise self.error


def failing(router, error, pause_s=0.0):
    policy = Failing(error, pause_s)
    named = NamedPolicy(name="failing", version=1, policy=policy)
    return replace(router, live=lambda: named), policy


class Panic(BaseException):
    """As an extension module may raise."""


@pytest.mark.parametrize(
    ("error", "told"), [(StopIteration(), RuntimeError), (Panic("no"), RuntimeError), (ValueError("no"), ValueError)]
)
async def test_whatever_a_policy_raises_everybody_hears_of_it_and_the_next_are_decided(bench, listening, error, told):
    good, _ = listening
    bad, _ = failing(good, error)
    known, turns = quick(bad), Turns()
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: heard.append(context))
    requests = [(bad, asked(bench, bench.query(row)), None) for row in range(TOGETHER_MAX + 5)]
    async with asyncio.timeout(30):
        found = await all_at_once(turns, known, *requests)
        assert {type(each) for each in found} == {told}
        after = await all_at_once(turns, quick(good), (good, asked(bench, bench.query(0)), None))
    assert after[0].query_id == bench.query(0).id
    assert bool(heard) is isinstance(error, Panic)


async def test_what_has_turned_out_slow_is_asked_here_no_more(bench, listening):
    router, policy = failing(listening[0], ValueError("late"), pause_s=0.06)
    known, turns = quick(router), Turns()
    requests = [(router, asked(bench, bench.query(row)), None) for row in range(3 * TOGETHER_MAX)]
    assert await all_at_once(turns, known, *requests) == [None] * len(requests)
    assert policy.asked == 1
