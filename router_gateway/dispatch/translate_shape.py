"""litellm's answers in OpenAI's exact shape: its extra members dropped, required nullable ones present."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router_gateway.core.money import nusd_to_usd
from router_gateway.core.types import Usage
from router_gateway.dispatch.usage import parse_cost, parse_usage, usage_object

# `reasoning_content` and `thinking_blocks` are no OpenAI members, but a client that sends the turn back
# must return them, or a model that thinks between tool calls loses its signature.
_SPOKEN = ("refusal", "reasoning_content", "thinking_blocks", "annotations", "audio", "function_call")


def completion(answer: Mapping[str, Any]) -> dict[str, Any]:
    """A `chat.completion` object. Usage comes as litellm counts it, cached and written tokens included."""
    body = {name: answer.get(name) for name in ("id", "object", "created", "model")}
    body["choices"] = [_choice(choice) for choice in answer.get("choices") or ()]
    usage = parse_usage(answer.get("usage"))
    if usage is not None:
        body["usage"] = usage_object(usage) | cost_member(answer.get("usage"))
    return body


def cost_member(reported: object) -> dict[str, float]:
    """`cost` in USD, as OpenRouter has it, where the provider said what the call cost."""
    cost = parse_cost(reported)
    return {} if cost is None else {"cost": nusd_to_usd(cost)}


def chunk(piece: Mapping[str, Any], *, wants_usage: bool) -> dict[str, Any] | None:
    """A `chat.completion.chunk`, or None when the piece says nothing (it only carried the usage)."""
    choices = [_delta_choice(choice) for choice in piece.get("choices") or ()]
    if not any(choice["delta"] or choice["finish_reason"] for choice in choices):
        return None
    return _chunk(piece, choices) | ({"usage": None} if wants_usage else {})


def usage_chunk(piece: Mapping[str, Any], usage: Usage, cost: Mapping[str, float]) -> dict[str, Any]:
    """The last chunk of a stream: no choices, the usage of the whole call and its `cost_member`."""
    return _chunk(piece, []) | {"usage": usage_object(usage) | dict(cost)}


def _chunk(piece: Mapping[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    named = {name: piece.get(name) for name in ("id", "created", "model")}
    return {**named, "object": "chat.completion.chunk", "choices": choices}


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    said = choice.get("message") or {}
    message: dict[str, Any] = {"role": "assistant", "content": said.get("content"), "refusal": None}
    message |= {name: said[name] for name in _SPOKEN if said.get(name)}
    if said.get("tool_calls"):
        message["tool_calls"] = [_tool_call(call) for call in said["tool_calls"]]
    return {
        "index": choice.get("index", 0),
        "message": message,
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason"),
    }


def _tool_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function.get("name"), "arguments": function.get("arguments") or ""},
    }


def _delta_choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    said = choice.get("delta") or {}
    delta = {name: said[name] for name in ("role", "content", *_SPOKEN) if said.get(name)}
    if said.get("tool_calls"):
        delta["tool_calls"] = [_tool_fragment(call) for call in said["tool_calls"]]
    return {
        "index": choice.get("index", 0),
        "delta": delta,
        "logprobs": choice.get("logprobs"),
        "finish_reason": choice.get("finish_reason"),
    }


def _tool_fragment(call: Mapping[str, Any]) -> dict[str, Any]:
    """`id`, `type` and the function's name come with the first fragment only."""
    function = call.get("function") or {}
    fragment: dict[str, Any] = {"index": call.get("index", 0)}
    if call.get("id"):
        fragment |= {"id": call["id"], "type": "function"}
    named = {"name": function["name"]} if function.get("name") else {}
    return fragment | {"function": {**named, "arguments": function.get("arguments") or ""}}
