"""What an endpoint answered, kept in memory from its last byte until it is graded."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from router_gateway.dispatch.stream import DONE, data_of

log = logging.getLogger(__name__)

_BYTES_MAX = 4 * 1024 * 1024
"""An answer that takes more than this on the wire is not graded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A whole answer as it came. `bytes_held` is about what it takes in memory."""

    read: Callable[[], str | None]
    bytes_held: int

    def text(self) -> str | None:
        """Its words, None where there are none to grade. It takes a moment: to be called off the event loop."""
        return self.read()


class Listener:
    """Hears one answer as it passes and hands it on once it is whole; a broken or abandoned one it forgets.

    The request pays for keeping references to bytes that it sends anyway. Nothing here raises.
    """

    def __init__(self, deliver: Callable[[Said], None]) -> None:
        self._deliver = deliver
        self._events: list[bytes] = []
        self._bytes = 0

    def whole(self, payload: Mapping[str, Any], size: int) -> None:
        """An answer that came in one piece, of `size` bytes."""
        if size <= _BYTES_MAX:
            self._hand_on(lambda: text_of(payload), size)

    def events(self, batch: list[bytes]) -> None:
        """The next events of a stream; the answer is whole with `[DONE]`."""
        if self._bytes > _BYTES_MAX:
            return
        self._events += batch
        self._bytes += sum(map(len, batch))
        if self._bytes > _BYTES_MAX:
            self._events = []
        elif batch[-1] == DONE:
            events, self._events = self._events, []
            self._hand_on(lambda: streamed_text_of(events), self._bytes)

    def _hand_on(self, read: Callable[[], str | None], size: int) -> None:
        try:
            self._deliver(Said(read=read, bytes_held=size))
        except Exception as error:  # the answer is good: grading must not spoil it
            log.error("an answer is not graded: %s", type(error).__name__)


def text_of(payload: Mapping[str, Any]) -> str | None:
    """The words of the first choice. None where it calls tools instead of speaking."""
    return _text(choice.get("message") for choice in _first_choices(payload))


def streamed_text_of(events: list[bytes]) -> str | None:
    """The same of a stream's events."""
    chunks = (_parsed(data_of(event)) for event in events if event != DONE)
    return _text(choice.get("delta") for chunk in chunks for choice in _first_choices(chunk))


def _text(said: Iterator[Any]) -> str | None:
    pieces, calls = [], False
    for message in said:
        if isinstance(message, dict):
            pieces += _words(message.get("content"))
            calls = calls or bool(message.get("tool_calls") or message.get("function_call"))
    text = "".join(pieces)
    return None if calls and not text else text


def _words(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else []
    return [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _first_choices(payload: Any) -> Iterator[dict[str, Any]]:
    choices = payload.get("choices") if isinstance(payload, Mapping) else None
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict) and not choice.get("index"):
            yield choice


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
