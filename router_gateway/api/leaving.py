"""A client that leaves: what is done for it is cancelled."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

_UNWATCHED_S = 0.25
"""An answer that is there by then needs no task that watches the connection; who left is noticed then at the latest."""


class ClientGone(Exception):
    """The client closed the connection before the answer began; nobody is left to tell."""


class UntilGone:
    """A context whose body is cancelled when the client closes the connection; it ends with ClientGone then.

    `receive` is the request's, its body read already. A cancellation from elsewhere stays what it is.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None
        self._gone = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine
        self._task, self._cancelling = task, task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(_UNWATCHED_S, self._watch)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._gone and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise ClientGone

    def _watch(self) -> None:
        self._watcher = asyncio.ensure_future(self._cancel_when_gone())

    async def _cancel_when_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
