"""What the gateway promises of time and of its end, with a ledger and endpoints of the real kind."""

import asyncio
import threading
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import numpy as np
import pytest
from starlette.requests import Request

from router_gateway.api.auth import Authenticator
from router_gateway.core.errors import LedgerFull, LedgerUnavailable
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Feedback, NamedPolicy, Query, Scores
from router_gateway.ledger.keys import Keys
from router_gateway.routing.together import TOGETHER_MAX
from tests.api.building import EASY, endpoint, running
from tests.dispatch.conftest import good_whole, serve  # noqa: F401 - a fixture: upstreams whose answers are scripted


@pytest.fixture
async def start(tmp_path):
    async with AsyncExitStack() as stack:

        async def make(**changes):
            return await stack.enter_async_context(running(tmp_path, **changes))

        yield make


async def test_deciding_counts_against_the_deadline_of_a_request(start):
    site = await start()
    await site.chat(EASY, routing={"deadline_ms": 60_000})
    (_, call), *_ = site.echo.calls
    assert 0 < call.deadline_s < 60


async def test_a_tool_result_does_not_wait_for_a_database_that_hangs(start):
    site = await start()
    record = await site.record_of(await site.chat(EASY, model="large"))
    pool = site.ledger.engine.pool
    with_nothing_left = [site.ledger.engine.connect() for _ in range(pool.size() + pool._max_overflow)]
    site.gateway.routing_deadline_ms = 50.0
    query = Query(id=uuid7(), text=EASY, tokens_input=1, session=record.session)
    try:
        async with asyncio.timeout(15):  # the pool itself would wait for 30 s
            assert (await site.gateway.holds(query)).held == "large"
    finally:
        for connection in with_nothing_left:
            connection.close()


async def test_the_ledger_is_closed_even_when_nothing_else_can_be(start):
    site = await start()

    async def cannot():
        raise RuntimeError("a connection that will not close")

    site.echo.aclose = cannot
    with pytest.raises(RuntimeError, match="will not close"):
        await site.gateway.aclose()
    del site.echo.aclose
    said = Feedback(id=uuid7(), query_id=uuid7(), at=datetime.now(UTC), quality=1.0, source="user")
    with pytest.raises(LedgerFull, match="closed"):
        site.ledger.record_feedback(said)


async def test_an_endpoints_name_comes_before_another_ones_model_id(start):
    site = await start(endpoints=[endpoint("small", model="large"), endpoint("mid"), endpoint("large")])
    assert (await site.chat(EASY, model="large")).headers["x-router-model"] == "large"


async def test_of_endpoints_with_one_model_id_a_key_gets_the_one_it_may_use(start):
    site = await start(endpoints=[endpoint("small", model="llama"), endpoint("mid"), endpoint("large", model="llama")])
    key = site.keys.create("restricted", allows=("large",))
    response = await site.chat(EASY, model="llama", headers={"authorization": f"Bearer {key}"})
    assert response.headers["x-router-model"] == "large"


async def test_an_outage_is_waited_for_once_in_a_while_and_not_by_every_request(start):
    site = await start()
    keys, asked, away = Keys(site.ledger.engine), 0, False

    def find(secret):
        nonlocal asked
        asked += 1
        if away:
            raise LedgerUnavailable("the database is away")
        return keys.find(secret)

    authenticate = Authenticator(find=find, remember_s=1.0)
    request = Request({"type": "http", "headers": [(b"x-api-key", site.key.encode())]})
    known = await authenticate(request)
    away = True
    await asyncio.sleep(1.05)
    assert [await authenticate(request) for _ in range(3)] == [known] * 3
    assert asked == 2


@pytest.mark.parametrize(
    ("said", "told"), [("logit_bias,seed", "logit_bias,seed"), ("(unprintable)", "(unprintable)"), ("a; b=<c>", None)]
)
async def test_the_client_is_told_what_was_left_out_of_its_request(start, serve, said, told):  # noqa: F811
    async def leaves_out(exchange):
        choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
        await exchange.respond_json({"choices": [choice]}, headers=[("x-router-dropped-params", said)])

    upstream = await serve(leaves_out)
    site = await start(endpoints=[endpoint("small", base_url=upstream.base_url)], over_http=True)
    response = await site.chat(EASY)
    assert response.status_code == 200
    assert response.headers.get("x-router-dropped-params") == told


class Watched:
    """A policy that remembers which threads it ran in and takes `pause_s` for it."""

    def __init__(self):
        self.threads = []
        self.sizes = []
        self.pause_s = 0.0

    def score(self, queries):
        self.threads.append(threading.get_ident())
        self.sizes.append(len(queries))
        time.sleep(self.pause_s)
        shape = (len(queries), 1)
        return Scores(endpoints=("small",), quality=np.full(shape, 0.5, "f4"), stddev=np.zeros(shape, "f4"))


async def test_a_policy_that_proved_quick_runs_on_the_loop_until_it_is_slow_once(start):
    policy = Watched()
    site = await start(policies={"watched": NamedPolicy(name="watched", version=1, policy=policy)})
    here = threading.get_ident()
    assert (await site.chat(EASY)).headers["x-router-reason"] == "scored"
    assert policy.threads[0] != here
    for _ in range(1_000):  # on a busy machine not every run counts
        await site.chat(EASY)
        if policy.threads[-1] == here:
            break
    assert policy.threads[-1] == here
    policy.pause_s = 0.1
    await site.chat(EASY)
    site.gateway.routing_deadline_ms = 50.0
    late = await site.chat(EASY)
    assert policy.threads[-1] != here
    assert late.headers["x-router-reason"] == "fallback:error"


async def test_requests_that_come_together_are_decided_together_each_for_itself(start, serve, monkeypatch):  # noqa: F811
    upstream = await serve(good_whole)
    policy = Watched()
    site = await start(
        endpoints=[endpoint("small", base_url=upstream.base_url), endpoint("mid", base_url=upstream.base_url)],
        policies={"watched": NamedPolicy(name="watched", version=1, policy=policy)},
        over_http=True,
    )
    for number in range(1_000):  # on a busy machine not every run counts
        await site.chat(f"once {number}")
        if policy.threads[-1] == threading.get_ident():
            break
    assert set(policy.sizes) == {1}
    embed, gate, arrived = site.gateway.batcher.embed_one, asyncio.Event(), []

    async def embed_and_wait(text):
        vector = await embed(text)
        arrived.append(text)
        if len(arrived) == 20:
            gate.set()
        await gate.wait()
        return vector

    monkeypatch.setattr(site.gateway.batcher, "embed_one", embed_and_wait)
    allowed = [{"allowed_models": ["small"]}, {"allowed_models": ["nobody"]}] * 10
    answers = await asyncio.gather(*(site.chat(f"{EASY} {i}", routing=wish) for i, wish in enumerate(allowed)))
    assert [answer.status_code for answer in answers] == [200, 400] * 10
    assert len({answer.headers["x-router-decision-id"] for answer in answers}) == 20
    gate.clear()
    arrived.clear()
    policy.sizes.clear()
    answers = await asyncio.gather(*(site.chat(f"{EASY} again {i}") for i in range(20)))
    assert {answer.headers["x-router-reason"] for answer in answers} == {"scored"}
    assert policy.sizes == [TOGETHER_MAX, TOGETHER_MAX, 20 - 2 * TOGETHER_MAX]
