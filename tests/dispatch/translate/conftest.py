"""A loopback server that speaks Anthropic's Messages wire: it checks requests as the real one does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.translate import LiteLLMUpstream
from router_gateway.dispatch.upstream import Call

KEY = "sk-ant-loopback-0123456789abcdef"
USAGE = {"input_tokens": 11, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 300}
FAILURES = {  # model name -> status, error type, message, headers
    "rate-limited": (429, "rate_limit_error", "Number of requests exceeds your limit", {"retry-after": "7"}),
    "overloaded": (529, "overloaded_error", "Overloaded", {}),
    "broken": (500, "api_error", "Internal server error", {}),
    "too-long": (400, "invalid_request_error", "prompt is too long: 213000 tokens > 200000 maximum", {}),
    "bad": (400, "invalid_request_error", f"messages.0: something is off for key {KEY}", {}),
    "missing": (404, "not_found_error", "model: missing", {}),
    "forbidden": (403, "permission_error", "not for you", {}),
    "too-big": (413, "request_too_large", "Request exceeds the maximum size", {}),
}


@dataclass
class AnthropicServer:
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def endpoint(self, model: str = "claude-loopback", **settings: Any) -> Endpoint:
        price = Decimal(1)
        return Endpoint(
            **{
                "name": "claude",
                "model": f"anthropic/{model}",
                "protocol": "litellm",
                "base_url": self.url,
                "price_input_usd_per_mtok": price,
                "price_output_usd_per_mtok": price,
                "price_cached_input_usd_per_mtok": price,
                "price_cache_write_usd_per_mtok": price,
                "context_tokens_max": 200_000,
                **settings,
            }
        )

    async def messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if request.headers.get("x-api-key") != KEY:
            return _error(401, "authentication_error", "invalid x-api-key")
        problem = _problem(request, body)
        if problem:
            return _error(400, "invalid_request_error", problem)
        if body["model"] in FAILURES:
            return _error(*FAILURES[body["model"]])
        if body["model"] == "silent":
            await self._until_hang_up(request)
            return web.Response()
        message = _answer(body)
        if not body.get("stream"):
            return web.json_response(message)
        return await self._stream(request, message, body["model"])

    async def _stream(self, request: web.Request, message: dict[str, Any], model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in _events(message):
            if model == "breaks-off" and event["type"] == "content_block_stop":
                request.transport.abort()
                break
            if model == "ends-early" and event["type"] == "content_block_stop":
                break
            if model == "fails-late" and event["type"] == "content_block_stop":
                event = {"type": "error", "error": {"type": "overloaded_error", "message": f"Overloaded {KEY}"}}
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            if event["type"] == "error":
                break
            if model == "endless" and event["type"] == "content_block_delta":
                await self._until_hang_up(request)
                break
        return response

    async def _until_hang_up(self, request: web.Request) -> None:
        async with asyncio.timeout(30):
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(0.01)
        self.hung_up.set()


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return web.json_response(error, status=status, headers=headers)


def _problem(request: web.Request, body: dict[str, Any]) -> str | None:
    """What the real server would refuse the request for."""
    if request.headers.get("anthropic-version") != "2023-06-01":
        return "anthropic-version: header is required"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    known = {"model", "max_tokens", "messages", "system", "stream", "temperature", "top_p", "top_k", "tools"}
    known |= {"tool_choice", "stop_sequences", "metadata", "thinking", "output_format", "output_config"}
    if set(body) - known:
        return f"{sorted(set(body) - known)[0]}: Extra inputs are not permitted"
    messages = body.get("messages")
    if not messages or messages[0]["role"] != "user":
        return "messages: first message must use the user role"
    for index, message in enumerate(messages):
        if message["role"] not in ("user", "assistant"):
            return f"messages.{index}.role: must be user or assistant"
        for block in message["content"] if isinstance(message["content"], list) else ():
            if block["type"] not in ("text", "image", "tool_use", "tool_result", "thinking"):
                return f"messages.{index}.content: unknown block"
    if any(not {"name", "input_schema"} <= set(tool) for tool in body.get("tools", ())):
        return "tools.0.custom.input_schema: Field required"
    return None


def _answer(body: dict[str, Any]) -> dict[str, Any]:
    """A tool call when tools are offered and no result is there yet; an echo otherwise."""
    content = body["messages"][-1]["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    results = [block for block in blocks if block["type"] == "tool_result"]
    if body.get("tools") and not results:
        call = {"type": "tool_use", "id": "toolu_1", "name": body["tools"][0]["name"], "input": {"city": "Oslo"}}
        answer, stop = [{"type": "text", "text": "Let me look."}, call], "tool_use"
    else:
        said = json.dumps([block["content"] for block in results]) if results else blocks[-1].get("text")
        answer, stop = [{"type": "text", "text": f"You said: {said}"}], "end_turn"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": answer,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 25},
    }


def _events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message in the order of events that the real server keeps."""
    start = {**message, "content": [], "stop_reason": None, "usage": {**USAGE, "output_tokens": 1}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty = {"type": "text", "text": ""}
            half = len(block["text"]) // 2
            deltas = [{"type": "text_delta", "text": text} for text in (block["text"][:half], block["text"][half:])]
        else:
            empty = {**block, "input": {}}
            spelled = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", spelled[:5], spelled[5:])]
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 25}})
    return [*events, {"type": "message_stop"}]


@pytest.fixture
async def anthropic() -> AsyncIterator[AnthropicServer]:
    server = AnthropicServer()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/messages", server.messages)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
async def upstream() -> AsyncIterator[LiteLLMUpstream]:
    upstream = LiteLLMUpstream({"claude": KEY})
    await upstream.load()
    yield upstream
    await upstream.aclose()


@pytest.fixture
def make_call() -> Callable[..., Call]:
    def make(*, wants_usage: bool = False, headers: dict[str, str] | None = None, **members: Any) -> Call:
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}], **members}
        return Call(
            query_id=uuid7(),
            body=Body.parse(json.dumps(body).encode()),
            stream=bool(members.get("stream")),
            wants_usage=wants_usage,
            headers=headers or {},
        )

    return make


@pytest.fixture
def key() -> str:
    return KEY
