"""Token counts: as an upstream reports them, and as we count them when it does not.

OpenAI's numbers nest (`prompt_tokens` includes cached reads and cache writes, `completion_tokens`
includes reasoning); `Usage` keeps five disjoint classes, because each has its own price. Some upstreams also say what
the call cost: that is kept beside our own computation and never in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from router_gateway.core.body import Body
from router_gateway.core.money import usd_to_nusd
from router_gateway.core.types import Usage
from router_gateway.dispatch.tokens import count_tokens

__all__ = [
    "count_request_tokens",
    "count_tokens",
    "header_cost_nusd",
    "parse_cost",
    "parse_usage",
    "usage_object",
]

_TOKENS_MAX = 10**9  # beyond it a number is garbage, not a count
_TOKENS_PER_MESSAGE = 4  # role and separators
_TOKENS_PER_ATTACHMENT = 765  # a 1024x1024 image in high detail, by OpenAI's published tile arithmetic
_COST_HEADER = "x-litellm-response-cost"  # of a LiteLLM proxy, in USD
_TICKS_PER_NUSD = 10  # xAI counts in 1e-10 USD
_COST_USD_MAX = 1_000_000  # a call that costs more is a mistake of whoever says so
_DEFINITIONS = ("tools", "functions", "response_format")


def parse_usage(reported: object) -> Usage | None:
    """An OpenAI `usage` object as disjoint classes, or None when it is no such object.

    Details that contradict the totals are cut to fit, so no class is ever negative. Some providers
    leave reasoning out of `completion_tokens`; they are known by a `total_tokens` that adds it on top.
    """
    if not isinstance(reported, dict):
        return None
    prompt = _count(reported.get("prompt_tokens"))
    completion = _count(reported.get("completion_tokens", 0))
    if prompt is None or completion is None:
        return None
    prompt_details = _object(reported.get("prompt_tokens_details"))
    cached = _first(prompt_details.get("cached_tokens"), reported.get("prompt_cache_hit_tokens"))
    written = _first(prompt_details.get("cache_write_tokens"), prompt_details.get("cache_creation_tokens"))
    reasoning = _first(_object(reported.get("completion_tokens_details")).get("reasoning_tokens"))
    if reasoning and _count(reported.get("total_tokens")) == prompt + completion + reasoning:
        completion += reasoning
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    reasoning = min(reasoning, completion)
    return Usage(
        tokens_input=prompt - cached - written,
        tokens_cached_input=cached,
        tokens_cache_write=written,
        tokens_output=completion - reasoning,
        tokens_reasoning=reasoning,
    )


def parse_cost(reported: object) -> int | None:
    """What a `usage` object says the call cost, in nano-dollars, or None where it does not say.

    OpenRouter has `cost` in USD, Perplexity `cost.total_cost`, xAI `cost_in_usd_ticks`.
    """
    usage = _object(reported)
    cost = usage.get("cost")
    said = _usd(cost.get("total_cost") if isinstance(cost, dict) else cost)
    if said is None and (ticks := _count(usage.get("cost_in_usd_ticks"))) is not None:
        return (ticks + _TICKS_PER_NUSD // 2) // _TICKS_PER_NUSD
    return said


def header_cost_nusd(headers: Mapping[str, str]) -> int | None:
    """The same of a response's headers: a LiteLLM proxy says the cost there."""
    said = headers.get(_COST_HEADER)
    if said is None:
        return None
    try:
        return _usd(Decimal(said.strip()))
    except InvalidOperation:
        return None


def _usd(value: object) -> int | None:
    """Nano-dollars of a number of dollars that can be a call's cost, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    return usd_to_nusd(value) if 0 <= value <= _COST_USD_MAX else None


def usage_object(usage: Usage) -> dict[str, Any]:
    """The OpenAI `usage` object that `parse_usage` reads back as `usage`."""
    return {
        "prompt_tokens": usage.tokens_prompt,
        "completion_tokens": usage.tokens_completion,
        "total_tokens": usage.tokens_prompt + usage.tokens_completion,
        "prompt_tokens_details": {
            "cached_tokens": usage.tokens_cached_input,
            "cache_write_tokens": usage.tokens_cache_write,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.tokens_reasoning},
    }


def count_request_tokens(body: Body) -> int:
    """Prompt tokens of a whole Chat Completions request, approximately; tolerant of any JSON.

    Counted are the text of every message, tool calls, tool definitions and response schemas as JSON,
    4 tokens a message, and 765 for each image or other attachment (their base64 is not text).
    """
    pieces: list[str] = []
    tokens_fixed = 0
    for message in _list(body.get("messages")):
        if not isinstance(message, dict):
            continue
        tokens_fixed += _TOKENS_PER_MESSAGE
        if len(message) == 2 and isinstance(said := message.get("content"), str) and "role" in message:
            pieces.append(said)  # most of them, and there is nothing else to look for
            continue
        pieces += _texts(message)
        tokens_fixed += _TOKENS_PER_ATTACHMENT * _attachments(message.get("content"))
    pieces += [_dumps(body[name]) for name in _DEFINITIONS if body.get(name)]
    return tokens_fixed + count_tokens("\n".join(pieces))  # joined: one bound on the cost of counting


def _texts(message: dict[str, Any]) -> Iterator[str]:
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _list(content):
        if isinstance(part, dict):
            yield from _strings(part.get(name) for name in ("text", "refusal"))
    yield from _strings(message.get(name) for name in ("name", "refusal", "reasoning_content"))
    for name in ("tool_calls", "function_call"):
        if message.get(name):
            yield _dumps(message[name])


def _attachments(content: object) -> int:
    return sum(isinstance(part, dict) and part.get("type") not in ("text", "refusal") for part in _list(content))


def _strings(values: Iterable[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _dumps(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _count(value: object) -> int | None:
    if type(value) is int:  # as nearly always
        return value if 0 <= value <= _TOKENS_MAX else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _TOKENS_MAX:
        return None
    return value


def _first(*values: object) -> int:
    """The first value that is a count, else 0."""
    for value in values:
        if value is not None and (count := _count(value)) is not None:
            return count
    return 0
