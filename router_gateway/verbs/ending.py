"""Ctrl-C and SIGTERM until uvicorn takes them: nothing that says "end" is lost."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

_told = False


def take_signals() -> None:
    """Have either raise KeyboardInterrupt, wherever the interpreter happens to be, and `told` answer True.

    In a finalizer or a weak reference's callback the exception is printed and lost, and a start ends in thousands of
    those: whoever goes on to wait or to serve asks `told`, or `check`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)


def check() -> None:
    """Raise the KeyboardInterrupt that was lost, if one was."""
    if _told:
        raise KeyboardInterrupt


def told() -> bool:
    """Whether this process was told to end since `take_signals`."""
    return _told


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    global _told
    _told = True
    raise KeyboardInterrupt
