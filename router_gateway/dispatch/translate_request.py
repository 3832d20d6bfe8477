"""A Chat Completions body as arguments of litellm: an allow-list, because litellm's arguments are more than fields.

`litellm.acompletion(**body)` would let a client name `api_base`, `fallbacks` or `mock_response`, and
carry our key to a host of its choosing. So only OpenAI's own request fields pass; every other member
is refused by name, or left out by name when the operator prefers that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from router_gateway.core.errors import RequestError

TRANSLATED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "service_tier",
        "stop",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)
# Set by us for every call, or hints to OpenAI's own service (storage, its cache, abuse tracking) that
# change nothing about an answer: another provider has no use for them.
WITHOUT_EFFECT = frozenset(
    {
        "messages",
        "metadata",
        "model",
        "prompt_cache_key",
        "prompt_cache_retention",
        "routing",
        "safety_identifier",
        "session_id",
        "store",
        "stream",
        "stream_options",
    }
)
# What OpenAI documents as the value when a field is absent: stating it asks for nothing.
_DEFAULTS: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "service_tier": "auto",
    "temperature": 1,
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1,
}


_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_DROPPED_MAX = 20  # names reported


@dataclass(frozen=True, slots=True, kw_only=True)
class Translated:
    """`arguments` for litellm, and the names of the members left out because the provider lacks them."""

    arguments: dict[str, Any]
    dropped: tuple[str, ...]


def translated(values: Mapping[str, Any], supported: Collection[str], *, drop_params: bool, stream: bool) -> Translated:
    """The request for a provider that takes the fields `supported`.

    Raises RequestError (400, `unsupported_parameter`) naming the first member the provider cannot
    honour, unless `drop_params`. Usage is always asked for on a stream.
    """
    messages = values.get("messages")
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise RequestError("`messages` must be an array of objects", param="messages")
    arguments: dict[str, Any] = {}
    dropped: list[str] = []
    for name, value in values.items():
        if name in WITHOUT_EFFECT or value is None or (name in _DEFAULTS and value == _DEFAULTS[name]):
            continue
        if name in TRANSLATED and name in supported:
            arguments[name] = _copy(value)
        elif drop_params:
            dropped.append(_printable(name))
        else:
            shown = _printable(name)
            message = f"the model's provider does not support {shown!r}"
            raise RequestError(message, param=shown, code="unsupported_parameter")
    arguments["messages"] = _copy(messages)
    if stream:
        arguments |= {"stream": True, "stream_options": {"include_usage": True}}
    return Translated(arguments=arguments, dropped=tuple(dropped[:_DROPPED_MAX]))


def _copy(value: Any) -> Any:
    """For litellm, which rewrites what it is given; unlike `deepcopy`, as deep as JSON's parser goes."""
    return json.loads(json.dumps(value))


def _printable(name: str) -> str:
    """A member's name, fit for a header and a log line: it is the client's invention."""
    return name if _NAME.fullmatch(name) else "(unprintable)"
