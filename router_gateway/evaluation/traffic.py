"""Sends a benchmark's prompts through a running gateway with the openai SDK and collects what came back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from router_gateway.core.errors import UpstreamError
from router_gateway.core.types import Ints
from router_gateway.evaluation.benchmark import Benchmark

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One answered request: its decision, who answered, the text, and the usage the client was told."""

    decision_id: UUID
    endpoint: str
    reason: str
    text: str
    tokens_prompt: int
    tokens_completion: int
    streamed: bool


async def send_all(
    base_url: str,
    api_key: str,
    prompts: Sequence[str],
    *,
    concurrency: int = 8,
    model: str = "auto",
    advance: Callable[[int, int], None] | None = None,
) -> list[Sent]:
    """Send each prompt as one user message, every second one streamed; results in the prompts' order."""
    from openai import AsyncOpenAI

    results: list[Sent | None] = [None] * len(prompts)
    waiting = iter(enumerate(prompts))
    done = 0

    async def work(client: AsyncOpenAI) -> None:
        nonlocal done
        for index, prompt in waiting:  # one iterator shared by all workers
            results[index] = await _send(client, model, prompt, streamed=index % 2 == 1)
            done += 1
            if advance is not None:
                advance(done, len(prompts))

    async with AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0) as client, asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(prompts))):
            group.create_task(work(client))
    return [sent for sent in results if sent is not None]


def chosen_endpoints(table: Benchmark, sent: Sequence[Sent]) -> Ints:
    """int64 (Q,), the position in `table.endpoints` of the endpoint that answered each prompt."""
    position = {name: i for i, name in enumerate(table.endpoints)}
    return np.array([position[answer.endpoint] for answer in sent], dtype=np.int64)


async def _send(client: AsyncOpenAI, model: str, prompt: str, *, streamed: bool) -> Sent:
    messages: Any = [{"role": "user", "content": prompt}]
    chat = client.chat.completions.with_raw_response
    if not streamed:
        raw = await chat.create(model=model, messages=messages)
        whole = raw.parse()
        return _sent(raw.headers, whole.choices[0].message.content or "", whole.usage, streamed=False)
    options: Any = {"include_usage": True}
    raw_stream = await chat.create(model=model, messages=messages, stream=True, stream_options=options)
    pieces, usage = [], None
    async for chunk in raw_stream.parse():
        pieces += [choice.delta.content or "" for choice in chunk.choices]
        usage = chunk.usage or usage
    return _sent(raw_stream.headers, "".join(pieces), usage, streamed=True)


def _sent(headers: Any, text: str, usage: Any, *, streamed: bool) -> Sent:
    if usage is None:
        raise UpstreamError("an answer came without usage")
    return Sent(
        decision_id=UUID(headers["x-router-decision-id"]),
        endpoint=headers["x-router-model"],
        reason=headers["x-router-reason"],
        text=text,
        tokens_prompt=usage.prompt_tokens,
        tokens_completion=usage.completion_tokens,
        streamed=streamed,
    )
