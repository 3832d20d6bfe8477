"""Connections to the gateway: one that was closed meanwhile costs nobody an error, and no change is made twice."""

import asyncio
from contextlib import asynccontextmanager

import httpx
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


class Late(httpx.AsyncHTTPTransport):
    """Its first connections take too long."""

    def __init__(self, late):
        super().__init__()
        self.late = late

    async def handle_async_request(self, request):
        if self.late:
            self.late -= 1
            raise httpx.ConnectTimeout("", request=request)
        return await super().handle_async_request(request)


@pytest.mark.parametrize(("late", "heard"), [(1, ["POST"]), (2, [])])
async def test_a_change_that_nobody_heard_of_is_asked_for_once_more(late, heard):
    async with asking() as (forgetful, admin), httpx.AsyncClient(transport=Late(late)) as slow:
        slow.base_url = admin.http.base_url
        waiting = AdminClient(http=slow, key="rg-test", cache=Cache()).send("POST", "/keys")
        if heard:
            assert await waiting == {"data": []}
        else:
            with pytest.raises(GatewayAway, match="takes too long"):
                await waiting
    assert forgetful.asked == heard


async def test_an_export_is_asked_for_once_more_too():
    async with asking() as (forgetful, admin), httpx.AsyncClient(transport=Late(1)) as slow:
        slow.base_url = admin.http.base_url
        patient = AdminClient(http=slow, key="rg-test", cache=Cache())
        for _ in range(2):  # the second time the server hangs up first
            answer = await patient.stream("/export", {})
            assert await answer.aread() == b'{"data": []}'
    assert forgetful.asked == ["GET", "GET", "GET"]
