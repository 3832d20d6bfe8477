"""Work of seconds in a process of its own, so that requests under way lose nothing to it.

One at a time, nice to everybody else, and ended when it takes too long.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from router_gateway.core.errors import GatewayError, Overloaded

_NICENESS = 19
_WAITING_MAX = 8
_JOIN_S = 5.0

T = TypeVar("T")


class Apart:
    """`what` names the work in errors; it is ended after `limit_s` seconds."""

    def __init__(self, what: str, *, limit_s: float) -> None:
        self._what = what
        self._limit_s = limit_s
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._process: SpawnProcess | None = None
        self._ended = False

    def end(self) -> None:
        """Give up what is under way and take nothing more: whoever waits is told at once."""
        self._ended = True
        if self._process is not None and self._process.pid is not None:
            self._process.kill()

    async def run(self, work: Callable[..., T], *arguments: Any, patient: bool = False) -> T:
        """What `work` returns or raises; it must be a function of a module, and everything must bear pickling.

        Raises Overloaded while another one is under way (`patient`: while too many wait for their turn already) and
        after `end`, GatewayError when the process ends early or is too slow.
        """
        if self._turn.locked() and (not patient or self._waiting >= _WAITING_MAX):
            raise Overloaded(f"another {self._what} is under way")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._run(work, arguments)
        finally:
            self._turn.release()

    async def _run(self, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = self._process = context.Process(target=_do, args=(sender, work, arguments), daemon=True)
        try:
            if not self._ended:
                await asyncio.to_thread(process.start)
            sender.close()
            if self._ended:
                raise EOFError
            async with asyncio.timeout(self._limit_s):
                done, found = await _received(receiver)
        except TimeoutError:
            raise GatewayError(f"the {self._what} took longer than {self._limit_s:g} s and was ended") from None
        except EOFError:
            if self._ended:
                raise Overloaded(f"the gateway is stopping, and the {self._what} with it") from None
            raise GatewayError(f"the {self._what}'s process ended before it had an answer") from None
        finally:
            self._process = None
            receiver.close()
            if process.pid is not None:
                process.kill()
                await asyncio.to_thread(process.join, _JOIN_S)
        if done:
            answer: T = found
            return answer
        raise found


async def _received(receiver: Connection) -> Any:
    """What the process sends. Raises EOFError when it ends without a word."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(receiver.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(receiver.fileno())
    return await asyncio.to_thread(receiver.recv)


def _do(sender: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.nice(_NICENESS)
    said: tuple[bool, Any]
    try:
        said = (True, work(*arguments))
    except GatewayError as error:
        said = (False, error)
    except Exception as error:  # a bug's own words may quote what they should not
        said = (False, GatewayError(f"it failed: {type(error).__name__}"))
    with suppress(BrokenPipeError):  # nobody waits any more
        sender.send(said)
