"""New connections are taken many at a time, and taken again once there are descriptors for them."""

import asyncio
import errno
import socket
import time
from contextlib import closing, contextmanager

import pytest
import uvloop

from router_gateway.verbs import accepting
from router_gateway.verbs.accepting import AT_ONCE, Acceptor

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


class Greeter(asyncio.Protocol):
    """Notes when it met its client."""

    def __init__(self, met):
        self._met = met

    def connection_made(self, transport):
        self._met.append(time.monotonic())
        transport.write(b"hello")
        transport.close()


@contextmanager
def listening():
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        yield listener


def clients(listener, count):
    return [socket.create_connection(listener.getsockname(), timeout=10) for _ in range(count)]


async def turns(count, *, busy_s=0.0):
    """So many turns of the event loop, each kept busy for a while."""
    for _ in range(count):
        time.sleep(busy_s)
        await asyncio.sleep(0)


@pytest.mark.parametrize("make_loop", LOOPS.values(), ids=LOOPS)
def test_a_busy_loop_takes_all_who_wait_within_few_turns(make_loop):
    async def scenario():
        met = []
        with listening() as listener:
            waiting = clients(listener, 3 * AT_ONCE)
            acceptor = Acceptor(listener, lambda: Greeter(met))
            seen = []
            for _ in range(20):
                await turns(1, busy_s=0.002)
                seen.append(len(met))
            acceptor.close()
            await acceptor.wait_closed()
            for client in waiting:
                with closing(client):
                    assert await asyncio.get_running_loop().run_in_executor(None, client.recv, 5) == b"hello"
        assert seen[-1] == 3 * AT_ONCE
        assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= AT_ONCE

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scenario())


async def test_where_others_listen_too_it_takes_one_in_a_turn():
    met = []
    with listening() as listener:
        acceptor = Acceptor(listener, lambda: Greeter(met), at_once=1)
        waiting = clients(listener, 3)
        most = 0
        for _ in range(40):
            before = len(met)
            await turns(1, busy_s=0.001)
            most = max(most, len(met) - before)
        acceptor.close()
        for client in waiting:
            client.close()
    assert (len(met), most) == (3, 1)


async def test_who_waits_for_its_end_waits_for_connections_that_are_being_begun():
    met = []
    with listening() as listener:
        acceptor = Acceptor(listener, lambda: Greeter(met))
        with closing(clients(listener, 1)[0]):
            async with asyncio.timeout(30):
                while not acceptor._beginning:
                    await asyncio.sleep(0)
            acceptor.close()
            await acceptor.wait_closed()
            assert met


async def test_a_protocol_that_cannot_be_made_ends_its_connection():
    def cannot():
        raise ValueError("no")

    heard = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: heard.append(context))
    with listening() as listener:
        acceptor = Acceptor(listener, cannot)
        with closing(clients(listener, 1)[0]) as client:
            client.settimeout(30)
            assert await loop.run_in_executor(None, client.recv, 1) == b""
        acceptor.close()


async def test_once_closed_it_takes_nobody():
    met = []
    with listening() as listener:
        acceptor = Acceptor(listener, lambda: Greeter(met))
        acceptor.close()
        with closing(clients(listener, 1)[0]):
            await turns(20, busy_s=0.001)
    assert not met


class Exhausted:
    """A listening socket whose first calls find no descriptor left."""

    def __init__(self, listener, times, error):
        self._listener, self.times, self._error = listener, times, error

    def accept(self):
        if self.times:
            self.times -= 1
            raise OSError(self._error, "cannot")
        return self._listener.accept()

    def __getattr__(self, name):
        return getattr(self._listener, name)


async def test_without_descriptors_it_pauses_says_so_and_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.05)
    met = []
    with listening() as listener:
        exhausted = Exhausted(listener, 2, errno.EMFILE)
        acceptor = Acceptor(exhausted, lambda: Greeter(met))
        with closing(clients(listener, 1)[0]):
            async with asyncio.timeout(30):
                while not met:
                    await asyncio.sleep(0.01)
        acceptor.close()
    assert exhausted.times == 0
    assert [record.message for record in caplog.records] == [
        "no connection can be taken (cannot); trying again in 0.05 s"
    ] * 2


async def test_closing_during_a_pause_ends_it(monkeypatch):
    monkeypatch.setattr(accepting, "_PAUSE_S", 0.05)
    met = []
    with listening() as listener:
        exhausted = Exhausted(listener, 1, errno.EMFILE)
        acceptor = Acceptor(exhausted, lambda: Greeter(met))
        with closing(clients(listener, 1)[0]):
            async with asyncio.timeout(30):
                while exhausted.times:
                    await asyncio.sleep(0.01)
            acceptor.close()
            await asyncio.sleep(0.2)
    assert not met


async def test_a_connection_that_is_gone_before_it_is_taken_holds_up_no_other():
    met = []
    with listening() as listener:
        exhausted = Exhausted(listener, 1, errno.ECONNABORTED)
        acceptor = Acceptor(exhausted, lambda: Greeter(met))
        with closing(clients(listener, 1)[0]):
            async with asyncio.timeout(30):
                while not met:
                    await asyncio.sleep(0.01)
        acceptor.close()
