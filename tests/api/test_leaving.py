import asyncio

import pytest

from router_gateway.api.leaving import ClientGone, UntilGone


class Client:
    """The receiving side of a request: its body has been read."""

    def __init__(self):
        self.left = asyncio.Event()
        self.asked = asyncio.Event()

    async def __call__(self):
        self.asked.set()
        await self.left.wait()
        return {"type": "http.disconnect"}


async def test_a_client_that_leaves_ends_the_body():
    client, cleaned = Client(), False
    client.left.set()
    with pytest.raises(ClientGone):  # noqa: PT012 - the cleaning up counts
        async with UntilGone(client):
            try:
                await asyncio.Event().wait()
            finally:
                cleaned = True
    assert cleaned
    assert asyncio.current_task().cancelling() == 0


async def test_what_is_done_at_once_is_not_watched_over():
    client = Client()
    async with UntilGone(client):
        pass
    await asyncio.sleep(0.05)
    assert not client.asked.is_set()


async def test_a_client_that_stays_changes_nothing_and_is_no_longer_listened_to():
    client = Client()
    async with UntilGone(client):
        await client.asked.wait()
    client.left.set()
    await asyncio.sleep(0)
    assert asyncio.current_task().cancelling() == 0


async def test_a_cancellation_from_elsewhere_stays_one():
    client = Client()

    async def work():
        async with UntilGone(client):
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await client.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_bodys_own_error_comes_through():
    with pytest.raises(ValueError, match="mine"):
        async with UntilGone(Client()):
            raise ValueError("mine")


async def test_a_timeout_within_is_still_a_timeout():
    with pytest.raises(TimeoutError):
        async with UntilGone(Client()), asyncio.timeout(0.05):
            await asyncio.Event().wait()
