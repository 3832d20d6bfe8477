"""Work in a process of its own: what it returns, what it raises, and what ends it."""

import asyncio
import operator
import os
import time

import pytest

from router_gateway import registry
from router_gateway.core.apart import Apart
from router_gateway.core.errors import GatewayError, Overloaded, UnknownPolicy


async def test_it_is_done_elsewhere_and_out_of_the_way():
    apart = Apart("sum", limit_s=60)
    assert await apart.run(operator.mul, 21, 2) == 42
    assert await apart.run(os.getpid) != os.getpid()
    assert await apart.run(os.nice, 0) >= 10


async def test_what_it_raises_is_raised_here_and_the_next_is_done():
    apart = Apart("sum", limit_s=60)
    with pytest.raises(UnknownPolicy, match="nobody") as error:
        await apart.run(registry.create, "nobody")
    assert "Installed: " in error.value.hint
    with pytest.raises(GatewayError, match="KeyError") as bug:
        await apart.run(operator.getitem, {}, "a secret")
    assert "secret" not in bug.value.message
    with pytest.raises(GatewayError, match="sum's process ended before"):
        await apart.run(os._exit, 3)
    assert await apart.run(operator.mul, 1, 2) == 2


async def test_one_at_a_time_and_no_longer_than_the_limit():
    apart = Apart("sum", limit_s=0.5)
    first = asyncio.ensure_future(apart.run(time.sleep, 600))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="another sum is under way"):
        await apart.run(operator.mul, 1, 2)
    with pytest.raises(GatewayError, match=r"longer than 0\.5 s"):
        await first


async def test_who_is_patient_gets_a_turn():
    apart = Apart("sum", limit_s=60)
    found = await asyncio.gather(*(apart.run(operator.mul, number, 2, patient=True) for number in range(3)))
    assert found == [0, 2, 4]
    many = [asyncio.ensure_future(apart.run(operator.mul, 1, 2, patient=True)) for _ in range(20)]
    done = await asyncio.gather(*many, return_exceptions=True)
    assert sum(isinstance(each, Overloaded) for each in done) >= 10, "a queue has an end"
    assert 2 in done


async def test_when_it_ends_whoever_waits_is_told_at_once_and_nothing_more_is_taken():
    apart = Apart("sum", limit_s=600)
    under_way = asyncio.ensure_future(apart.run(time.sleep, 600))
    waiting = asyncio.ensure_future(apart.run(time.sleep, 600, patient=True))
    await asyncio.sleep(0)
    apart.end()
    for each in (under_way, waiting, apart.run(operator.mul, 1, 2)):
        with pytest.raises(Overloaded, match="the gateway is stopping, and the sum with it"):
            await each
