r"""Server-sent events: bytes to complete events, and what the gateway reads off them in passing.

Events are forwarded as the upstream wrote them. Only two things are normalised: line ends (CRLF and CR
become LF) and blocks without data (comments, keep-alives), which are left out.
"""

from __future__ import annotations

import json
import re
from typing import Any

from router_gateway.core.errors import UpstreamError, UpstreamRateLimited
from router_gateway.core.types import Usage
from router_gateway.dispatch.tokens import count_tokens
from router_gateway.dispatch.usage import parse_cost, parse_usage

DONE = b"data: [DONE]\n\n"
EVENT_BYTES_MAX = 16 * 1024 * 1024  # an image in base64 fits, a runaway upstream does not
_BOM = b"\xef\xbb\xbf"
# Members that matter after the first content. Inside a JSON string the quotes would be escaped.
_NOTEWORTHY = re.compile(rb'"(?:usage|finish_reason|error)"\s*:\s*[^n\s]')
_SAMPLE_BYTES_MAX = 64 * 1024
_SAFE_CODE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class EventSplitter:
    """Cuts a byte stream into events, however it is chunked. An event ends with a blank line.

    `source` names the endpoint in errors.
    """

    def __init__(self, *, source: str, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._source = source
        self._event_bytes_max = event_bytes_max
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._started = False
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes. Raises UpstreamError when one exceeds the bound."""
        chunk = self._line_feeds(chunk)
        if not chunk:
            return []
        boundary = b"\n\n" in chunk or (chunk[:1] == b"\n" and self._pending and self._pending[-1][-1:] == b"\n")
        self._pending.append(chunk)
        self._pending_bytes += len(chunk)
        events: list[bytes] = []
        if boundary or not self._started:
            *blocks, rest = self._join().split(b"\n\n")
            events = [event for block in blocks if (event := _event(block))]
            self._pending = [rest] if rest else []
            self._pending_bytes = len(rest)
        if self._pending_bytes > self._event_bytes_max:
            raise UpstreamError(f"{self._source}: an event exceeds {self._event_bytes_max} bytes")
        return events

    def close(self) -> list[bytes]:
        """What the stream ended with: an event whose blank line never came."""
        event = _event(b"".join(self._pending))
        self._pending, self._pending_bytes = [], 0
        return [event] if event else []

    def _join(self) -> bytes:
        joined = b"".join(self._pending)
        if not self._started and not _BOM.startswith(joined[:3]):
            self._started = True
        elif not self._started and joined.startswith(_BOM):
            self._started = True
            joined = joined[len(_BOM) :]
        return joined

    def _line_feeds(self, chunk: bytes) -> bytes:
        if self._after_cr and chunk:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
        if b"\r" not in chunk:
            return chunk
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _event(block: bytes) -> bytes | None:
    block = block.strip(b"\n")
    return block + b"\n\n" if block.startswith(b"data:") or b"\ndata:" in block else None


def data_of(event: bytes) -> bytes:
    """The data of one complete event, its `data:` lines joined by line feeds."""
    block = event.rstrip(b"\n")
    if b"\n" not in block:
        return block.removeprefix(b"data:").strip()
    lines = (line for line in block.split(b"\n") if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


class StreamTap:
    """Reads a Chat Completions stream event by event, as it passes.

    `usage` and `provider_cost_nusd` are what the upstream reported so far; `has_content` turns true with the first
    delta that carries more than a role; `done` with `[DONE]`. `choices` is how many answers were asked for (`n`);
    `source` names the endpoint in errors.
    """

    def __init__(self, *, source: str, wants_usage: bool, choices: int = 1) -> None:
        self._source = source
        self.usage: Usage | None = None
        self.provider_cost_nusd: int | None = None
        self.has_content = False
        self.done = False
        self._wants_usage = wants_usage
        self._choices = choices
        self._finished: set[int] = set()
        self._sample: list[bytes] = []
        self._sample_bytes = 0
        self._bytes = 0

    def feed(self, event: bytes) -> bytes | None:
        """The event to forward, or None for a usage chunk that the client did not ask for.

        Raises UpstreamError for an in-band error, and for anything but chunks before the first content.
        """
        data = data_of(event)
        if data.startswith(b"[DONE]"):
            self.done = True
            return DONE
        self._remember([event], len(event))
        if self.has_content and not _NOTEWORTHY.search(data):
            return event
        chunk = self._parse(data)
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._in_band(chunk)
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._read(choice)
        usage = parse_usage(chunk.get("usage"))
        if usage is not None:
            self.usage = usage
            self.provider_cost_nusd = parse_cost(chunk.get("usage"))
            if not choices and not self._wants_usage:
                return None
        return event

    def skim(self, batch: list[bytes]) -> int:
        """How many events at the head of `batch` may pass unread: after the first content, with nothing noteworthy.

        A look at all of them together costs what a look at one does.
        """
        if not self.has_content or self.done:
            return 0
        joined = b"".join(batch)
        if joined.count(b"\n") != 2 * len(batch):  # an event of several lines has to be put together
            return 0
        noteworthy = _NOTEWORTHY.search(joined)
        found = (noteworthy.start() if noteworthy else -1, joined.find(b"[DONE]"))
        unread = min((place for place in found if place >= 0), default=len(joined))
        count = end = 0
        while count < len(batch) and end + len(batch[count]) <= unread:
            end += len(batch[count])
            count += 1
        self._remember(batch[:count], end)
        return count

    def close(self) -> bytes | None:
        """The stream has ended: the `[DONE]` it owes, or None if it was sent.

        Raises UpstreamError when the stream broke off: no `[DONE]`, and not every choice had finished.
        """
        if self.done:
            return None
        if len(self._finished) < self._choices:
            raise UpstreamError(f"{self._source}: the stream broke off before the answer was finished")
        self.done = True
        return DONE

    def tokens_output_estimate(self) -> int:
        """Tokens of the text streamed so far, counted; beyond the first 64 KiB of events, extrapolated."""
        text = "".join(generated_text(_lenient(data_of(event))) for event in self._sample)
        if not text:
            return 0
        return round(count_tokens(text) * self._bytes / self._sample_bytes)

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise UpstreamError(f"{self._source}: the stream holds an event that is not JSON") from None
        if not isinstance(chunk, dict):
            raise UpstreamError(f"{self._source}: the stream holds an event that is not a JSON object")
        return chunk

    def _in_band(self, chunk: dict[str, Any]) -> UpstreamError:
        code = error_code(chunk)
        if code in ("429", "rate_limit_exceeded", "rate_limit_error"):
            return UpstreamRateLimited(f"{self._source}: the stream reported a rate limit")
        return UpstreamError(f"{self._source}: the stream reported an error ({code or 'no code'})")

    def _remember(self, events: list[bytes], size: int) -> None:
        self._bytes += size
        if self._sample_bytes < _SAMPLE_BYTES_MAX:
            self._sample += events
            self._sample_bytes += size

    def _read(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role"):
            self.has_content = True
        if choice.get("finish_reason"):
            self.has_content = True
            self._finished.add(index if isinstance(index := choice.get("index"), int) else 0)


def error_code(payload: object) -> str | None:
    """The code of an OpenAI-shaped error, else its type, if short enough to be a code and no prose."""
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    fields = error if isinstance(error, dict) else payload
    for name in ("code", "type"):
        value = fields.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and _SAFE_CODE.fullmatch(str(value)):
            return str(value)
    return None


def generated_text(payload: object) -> str:
    """Every piece of generated text in a chunk or a whole completion, tool calls included."""
    choices = payload.get("choices") if isinstance(payload, dict) else None
    pieces: list[str] = []
    for choice in choices if isinstance(choices, list) else ():
        said = (choice.get("delta") or choice.get("message")) if isinstance(choice, dict) else None
        if isinstance(said, dict):
            pieces += _pieces(said)
    return "".join(pieces)


def _pieces(said: dict[str, Any]) -> list[str]:
    pieces = [said.get(name) for name in ("content", "reasoning_content", "reasoning", "refusal")]
    calls = said.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            pieces += [function.get("name"), function.get("arguments")]
    return [piece for piece in pieces if isinstance(piece, str)]


def _lenient(data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
