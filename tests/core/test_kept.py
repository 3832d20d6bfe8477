"""Answers that are kept: until when, and how many."""

import asyncio

import pytest

from router_gateway.core.kept import Kept


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


async def test_an_answer_is_given_again_with_its_age_until_it_is_too_old():
    clock, asked = Clock(), []
    kept = Kept(clock=clock)

    async def compute():
        asked.append(clock.now_s)
        return {"answer": len(asked)}

    first = await kept.get("k", 60, compute)
    assert (first["answer"], first["age_s"]) == (1, 0.0)
    clock.now_s += 59
    again = await kept.get("k", 60, compute)
    assert (again["answer"], again["age_s"], again["computed_at"]) == (1, 59.0, first["computed_at"])
    assert (await kept.get("other", 60, compute))["answer"] == 2
    clock.now_s += 2
    assert (await kept.get("k", 60, compute))["answer"] == 3
    clock.now_s += 1
    assert (await kept.get("k", 0, compute))["answer"] == 4, "who wants it fresh gets it fresh"


async def test_only_so_many_are_kept():
    kept, asked = Kept(2, clock=Clock()), []

    async def compute():
        asked.append(1)
        return {}

    for key in ("a", "b", "a", "c", "a", "b"):  # b was the longest unasked when c came
        await kept.get(key, 60, compute)
    assert len(asked) == 4


async def test_who_asks_meanwhile_waits_for_the_same_answer_even_if_the_first_hangs_up():
    kept, go, asked = Kept(), asyncio.Event(), []

    async def compute():
        asked.append(1)
        await go.wait()
        return {"answer": 42}

    first = asyncio.ensure_future(kept.get("k", 60, compute))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(kept.get("k", 60, compute))
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert (await second)["answer"] == 42
    assert len(asked) == 1


async def test_a_failure_is_everybodys_who_waited_and_is_not_kept():
    kept = Kept()

    async def fail():
        raise ValueError("no")

    async def compute():
        return {}

    with pytest.raises(ValueError, match="no"):
        await kept.get("k", 60, fail)
    assert "computed_at" in await kept.get("k", 60, compute)
