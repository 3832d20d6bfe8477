"""An endpoint's answer once its first content is there: from here on there is no other endpoint."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import orjson

from router_gateway.core.errors import UpstreamError, UpstreamTimeout
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.stream import StreamTap, error_code, generated_text
from router_gateway.dispatch.trial import CLIENT_CLOSED, Trial
from router_gateway.dispatch.upstream import BrokenAnswer, Reply, Upstream
from router_gateway.dispatch.usage import count_tokens, parse_cost, parse_usage

_HELD_BACK_MAX = 256  # events without content before the batch with the first


class Answer:
    """What the client gets. `content` for a whole answer (or a 400-class refusal); else iterate `batches`.

    `payload` is `content` parsed. Whoever holds a streamed answer calls `aclose` in the end: it cancels
    an upstream that is still answering, and is harmless otherwise.
    """

    def __init__(self, trial: Trial, reply: Reply, *, content: bytes | None, payload: dict[str, Any] | None) -> None:
        self.endpoint: Endpoint = trial.endpoint
        self.status: int = reply.status
        self.headers: Mapping[str, str] = reply.headers
        self.content = content
        self.payload = payload

    @property
    def streamed(self) -> bool:
        return self.content is None

    def batches(self) -> AsyncIterator[list[bytes]]:
        """Complete server-sent events, `[DONE]` included, once; those that came together in one list.

        Raises UpstreamError when the upstream fails half way; the events before it are out already.
        """
        raise UpstreamError(f"endpoint {self.endpoint.name}: this answer is no stream")

    async def aclose(self) -> None:
        """Stop the upstream if it is still answering, and record the attempt; idempotent."""


class StreamedAnswer(Answer):
    """An answer that is still coming. `held` are the events until the first content, and what came with it."""

    def __init__(self, trial: Trial, reply: Reply) -> None:
        super().__init__(trial, reply, content=None, payload=None)
        self._trial = trial
        self._reply = reply
        self._source = reply.batches()
        choices = trial.call.body.get("n")
        self._tap = StreamTap(
            source=f"endpoint {trial.endpoint.name}",
            wants_usage=trial.call.wants_usage,
            choices=choices if isinstance(choices, int) else 1,
        )
        self._held: list[bytes] = []
        self._failure: UpstreamError | None = None

    async def hold(self) -> None:
        """Read until the first content is there. Raises UpstreamError when none comes."""
        events_read = 0
        while True:
            batch = await anext(self._source, None)
            events_read += len(batch or ())
            self._held += self._passed(batch or [])
            if self._tap.has_content:
                self._trial.first_byte()
                return
            if self._failure is not None:
                raise self._failure
            if batch is None or self._tap.done or events_read >= _HELD_BACK_MAX:
                raise UpstreamError(f"endpoint {self.endpoint.name}: the stream holds no content")

    async def batches(self) -> AsyncIterator[list[bytes]]:
        try:
            batch: list[bytes] | None = self._held
            self._held = []
            while batch is not None:
                if self._tap.done:
                    self.conclude()  # before [DONE] is sent: clients hang up on it
                yield batch
                batch = await self._next()
        except UpstreamError as error:
            self.conclude(error)
            raise
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        try:
            self.conclude(CLIENT_CLOSED)
        finally:
            close = getattr(self._source, "aclose", None)
            if close is not None:
                with suppress(RuntimeError):  # another task is reading: closing the reply ends that
                    await close()
            await self._reply.aclose()

    def conclude(self, error: BaseException | str | None = None) -> None:
        """Record the attempt with what has been streamed so far."""
        if not self._trial.concluded:
            usage = self._tap.usage
            tokens_output = 0 if usage else self._tap.tokens_output_estimate()
            cost_nusd = self._tap.provider_cost_nusd
            self._trial.conclude(error, usage=usage, tokens_output=tokens_output, provider_cost_nusd=cost_nusd)

    async def _next(self) -> list[bytes] | None:
        """The next events to send, or None at the end."""
        while self._failure is None:
            try:
                async with asyncio.timeout_at(self._trial.until_s):
                    batch = await anext(self._source, None)
            except (TimeoutError, UpstreamError) as error:
                if self._tap.done:
                    return None  # after [DONE] nothing can go wrong any more
                raise error if isinstance(error, UpstreamError) else self._trial.timed_out() from None
            if batch is None:
                owed = self._tap.close()
                return None if owed is None else [owed]
            if passed := self._passed(batch):
                return passed
        raise self._failure

    def _passed(self, batch: list[bytes]) -> list[bytes]:
        """What of a batch goes to the client; a failure within it waits until that is sent."""
        unread = self._tap.skim(batch)
        passed = batch[:unread]
        try:
            for event in batch[unread:]:
                if not self._tap.done and (kept := self._tap.feed(event)) is not None:
                    passed.append(kept)
        except UpstreamError as error:
            self._failure = error
        return passed


async def begin(trial: Trial, upstream: Upstream) -> Answer:
    """Send the call and return at the first content, for a stream, or with the whole answer.

    Raises UpstreamError for what another endpoint may cure. Whatever is raised has been recorded.
    """
    reply: Reply | None = None
    answer: StreamedAnswer | None = None
    try:
        try:
            async with asyncio.timeout_at(trial.first_until_s):
                reply = await upstream.open(trial.endpoint, trial.call, timeout_s=trial.remaining_s)
                trial.headed(reply.status, reply.headers)
                if reply.status != 200 or not trial.call.stream:
                    return await _whole(trial, reply)
                answer = StreamedAnswer(trial, reply)
                await answer.hold()
                return answer
        except TimeoutError:
            raise trial.timed_out() from None
    except BaseException as error:
        try:
            (answer or trial).conclude(error)
        finally:
            if opened := answer or reply:
                await opened.aclose()
        raise


async def _whole(trial: Trial, reply: Reply) -> Answer:
    if reply.status == 200:
        trial.first_byte()
    try:
        content = await reply.content()
        payload = _payload(trial.endpoint.name, content)
    except UpstreamTimeout:
        raise
    except UpstreamError as error:
        raise BrokenAnswer(error.message) if reply.status == 200 else error from None
    await reply.aclose()
    answer = Answer(trial, reply, content=content, payload=payload)
    if reply.status != 200:
        trial.conclude(error_code(payload) or "invalid_request")
        return answer
    if payload.get("error"):
        raise UpstreamError(f"endpoint {trial.endpoint.name}: answered with an error ({error_code(payload)})")
    if not isinstance(payload.get("choices"), list):
        raise UpstreamError(f"endpoint {trial.endpoint.name}: answered with no choices")
    usage = parse_usage(payload.get("usage"))
    trial.conclude(
        usage=usage,
        tokens_output=0 if usage else count_tokens(generated_text(payload)),
        provider_cost_nusd=parse_cost(payload.get("usage")),
    )
    return answer


def _payload(endpoint: str, content: bytes) -> dict[str, Any]:
    try:
        payload = orjson.loads(content)
    except orjson.JSONDecodeError:  # or JSON only to a more tolerant reader: NaN, a lone surrogate
        payload = _tolerantly(content)
    if not isinstance(payload, dict):
        raise UpstreamError(f"endpoint {endpoint}: answered with something that is no JSON object")
    return payload


def _tolerantly(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
