import asyncio

import pytest

from router_gateway.dashboard.cache import Cache

MINE = ("me", "/path", "")


class Gateway:
    """Counts how often it is asked; answers when `answering` is set."""

    def __init__(self) -> None:
        self.asked = 0
        self.answering = asyncio.Event()
        self.fails = False

    async def __call__(self) -> int:
        self.asked += 1
        await self.answering.wait()
        if self.fails:
            raise RuntimeError("away")
        return self.asked


async def test_many_tabs_ask_once():
    cache, gateway = Cache(), Gateway()
    gateway.answering.set()
    async with asyncio.TaskGroup() as group:
        tabs = [group.create_task(cache.get(MINE, gateway, fresh_s=60)) for _ in range(10)]
    assert [tab.result() for tab in tabs] == [1] * 10
    assert await cache.get(MINE, gateway, fresh_s=60) == 1
    assert await cache.get(MINE, gateway, fresh_s=0) == 2


async def test_who_wants_it_of_this_moment_does_not_wait_for_an_older_question():
    cache, gateway = Cache(), Gateway()
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        older = group.create_task(cache.get(MINE, gateway, fresh_s=60))
        await asyncio.sleep(0)
        newer = group.create_task(cache.get(MINE, gateway, fresh_s=0))
        while gateway.asked < 2:
            await asyncio.sleep(0)
        gateway.answering.set()
    assert older.result() == newer.result() == 2  # the second question was asked before either was answered
    assert await cache.get(MINE, gateway, fresh_s=60) == 2


async def test_nobody_is_shown_what_another_was_told():
    cache, gateway = Cache(), Gateway()
    gateway.answering.set()
    assert await cache.get(MINE, gateway, fresh_s=60) == 1
    assert await cache.get(("you", *MINE[1:]), gateway, fresh_s=60) == 2


async def test_an_answer_comes_even_if_who_asked_has_left():
    cache, gateway = Cache(), Gateway()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(cache.get(MINE, gateway, fresh_s=60))
        await asyncio.sleep(0)
        second = group.create_task(cache.get(MINE, gateway, fresh_s=60))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gateway.answering.set()
    assert first.cancelled()
    assert second.result() == 1
    assert gateway.asked == 1


async def test_a_failure_reaches_all_who_wait_and_is_not_kept():
    cache, gateway = Cache(), Gateway()
    gateway.fails = True
    gateway.answering.set()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="away"):
            await cache.get(MINE, gateway, fresh_s=60)
    assert gateway.asked == 2


async def test_after_a_change_the_gateway_is_asked_again():
    cache, gateway = Cache(), Gateway()
    gateway.answering.set()
    await cache.get(MINE, gateway, fresh_s=60)
    await cache.get(("me", "/other", ""), gateway, fresh_s=60)
    cache.forget("me", "/other")
    assert await cache.get(MINE, gateway, fresh_s=60) == 1
    cache.forget("me")
    assert await cache.get(MINE, gateway, fresh_s=60) == 3


async def test_it_keeps_no_more_than_it_may():
    cache, gateway = Cache(entries_max=3), Gateway()
    gateway.answering.set()
    for number in range(9):
        await cache.get(("me", f"/{number}", ""), gateway, fresh_s=60)
    assert await cache.get(("me", "/8", ""), gateway, fresh_s=60) == 9
    assert await cache.get(("me", "/0", ""), gateway, fresh_s=60) == 10
