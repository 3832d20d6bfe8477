"""Connections to the gateway: one that was closed meanwhile costs nobody an error, and no change is made twice."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from router_gateway.dashboard.cache import Cache
from router_gateway.dashboard.client import AdminClient, GatewayAway, open_pool


class Forgetful:
    """A server that answers the first request of each connection and hangs up at the next."""

    def __init__(self):
        self.asked, self.ends = [], []

    async def serve(self, reader, writer):
        self.ends.append(asyncio.current_task())
        first = True
        while head := await self._head(reader):
            self.asked.append(head.split(b" ", 1)[0].decode())
            if not first:
                break
            first = False
            writer.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"data": []}')
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    @staticmethod
    async def _head(reader):
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


@asynccontextmanager
async def asking():
    forgetful = Forgetful()
    server = await asyncio.start_server(forgetful.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_pool(f"http://127.0.0.1:{port}") as http:
        yield forgetful, AdminClient(http=http, key="rg-test", cache=Cache())
    await asyncio.gather(*forgetful.ends)


async def test_a_question_is_asked_once_more_on_a_new_connection():
    async with asking() as (forgetful, admin):
        assert await admin.data("/keys") == []
        assert await admin.data("/budgets") == []
    assert forgetful.asked == ["GET", "GET", "GET"]


async def test_a_change_is_never_made_twice():
    async with asking() as (forgetful, admin):
        await admin.data("/keys")
        with pytest.raises(GatewayAway):
            await admin.send("POST", "/keys")
    assert forgetful.asked == ["GET", "POST"]
