"""Real loopback servers whose misbehaviour is scripted byte by byte, and makers of endpoints and calls."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from decimal import Decimal

import pytest

from router_gateway.core.body import Body
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.connections import Connections
from router_gateway.dispatch.fallback import FallbackDispatcher
from router_gateway.dispatch.passthrough import PassthroughUpstream
from router_gateway.dispatch.upstream import Call

SECRET = "sk-super-secret-0123456789"
PROMPT = "the confidential prompt"


@dataclass
class Exchange:
    """One request as a scripted server received it, and the means to answer it."""

    path: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    @property
    def json(self):
        return json.loads(self.body)

    async def respond(self, body: bytes, *, status=200, kind="application/json", headers=()):
        lines = [f"HTTP/1.1 {status} x", f"content-type: {kind}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    async def respond_json(self, payload, **options):
        await self.respond(json.dumps(payload).encode(), **options)

    async def start_stream(self):
        await self.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes):
        await self.send(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end_stream(self):
        await self.send(b"0\r\n\r\n")

    async def stream(self, *pieces: bytes):
        await self.start_stream()
        for piece in pieces:
            await self.chunk(piece)
        await self.end_stream()

    async def send(self, data: bytes):
        self.writer.write(data)
        await self.writer.drain()

    def drop(self):
        self.writer.transport.abort()


@dataclass
class Scripted:
    base_url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    connections: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)


async def _read_request(reader, writer) -> Exchange | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    request_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Exchange(request_line.split()[1], headers, body, writer)


@pytest.fixture
async def serve():
    """`await serve(script)`: a server that awaits `script(exchange)` for every request."""
    servers, writers = [], []

    async def start(script) -> Scripted:
        scripted = Scripted()

        async def connection(reader, writer):
            scripted.connections += 1
            writers.append(writer)
            while exchange := await _read_request(reader, writer):
                scripted.exchanges.append(exchange)
                with suppress(ConnectionError):
                    await script(exchange)
            scripted.hung_up.set()
            writer.close()

        server = await asyncio.start_server(connection, "127.0.0.1", 0)
        servers.append(server)
        scripted.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return scripted

    yield start
    for server in servers:
        server.close()
    for writer in writers:
        writer.transport.abort()
    await asyncio.sleep(0)


@pytest.fixture
def deaf_url():
    """An address that never completes a connection: its queue of pending ones is full."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    for _ in range(8):
        filler = socket.socket()
        filler.settimeout(0.2)
        fillers.append(filler)
        try:
            filler.connect(listener.getsockname())
        except TimeoutError:
            break
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    for opened in (*fillers, listener):
        opened.close()


@pytest.fixture
async def passthrough():
    upstream = PassthroughUpstream({"a": SECRET})
    yield upstream
    await upstream.aclose()


@pytest.fixture
async def dispatch(passthrough):
    """`dispatch(endpoint, ...)`: a dispatcher over real HTTP."""

    def make(*endpoints, **options):
        return FallbackDispatcher({each.name: each for each in endpoints}, {"openai": passthrough}, **options)

    return make


def endpoint(base_url: str | None = None, name: str = "a", **changes) -> Endpoint:
    defaults = {
        "model": f"model-{name}",
        "price_input_usd_per_mtok": Decimal("1.00"),
        "price_output_usd_per_mtok": Decimal("4.00"),
        "price_cached_input_usd_per_mtok": Decimal("0.10"),
        "price_cache_write_usd_per_mtok": Decimal("1.25"),
        "context_tokens_max": 8000,
        "first_token_timeout_s": 10.0,
        "timeout_s": 20.0,
    }
    return Endpoint(name=name, base_url=base_url, **{**defaults, **changes})


def call(*, stream: bool = False, raw: bytes | None = None, headers=None, deadline_s=None, **members) -> Call:
    payload = {"model": "auto", "messages": [{"role": "user", "content": PROMPT}], "stream": stream, **members}
    options = members.get("stream_options")
    return Call(
        query_id=uuid7(),
        body=Body.parse(raw if raw is not None else json.dumps(payload).encode()),
        stream=stream,
        wants_usage=bool(options and options.get("include_usage")),
        deadline_s=deadline_s,
        headers=headers or {},
    )


def sse(*payloads) -> bytes:
    return b"".join(b"data: " + json.dumps(payload).encode() + b"\n\n" for payload in payloads)


def delta(finish_reason=None, **members):
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": members, "finish_reason": finish_reason}],
    }


def usage_chunk(**counts):
    return {"object": "chat.completion.chunk", "choices": [], "usage": counts}


def whole(text="hello", **counts):
    message = {"role": "assistant", "content": text}
    counts = counts or {"prompt_tokens": 100, "completion_tokens": 20}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts}


def error(code, message="no", type="invalid_request_error"):
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


ROLE = delta(role="assistant", content="")
DONE = b"data: [DONE]\n\n"
GOOD_STREAM = (
    sse(ROLE),
    sse(delta(content="Hel"), delta(content="lo")),
    sse(delta("stop")),
    sse(usage_chunk(prompt_tokens=100, completion_tokens=20)) + DONE,
)


async def good_stream(exchange):
    await exchange.stream(*GOOD_STREAM)


async def good_whole(exchange):
    await exchange.respond_json(whole())


async def events_of(answer) -> AsyncGenerator[bytes]:
    """The events of an answer or a reply one by one, however they came."""
    async with aclosing(answer.batches()) as batches:
        async for batch in batches:
            assert batch
            for event in batch:
                yield event


async def collect(answer) -> list[bytes]:
    return [event async for event in events_of(answer)]


def text_of(events: list[bytes]) -> str:
    payloads = [json.loads(event[6:]) for event in events if not event.startswith(b"data: [DONE]")]
    deltas = [choice["delta"] for payload in payloads for choice in payload["choices"]]
    return "".join(each.get("content") or "" for each in deltas)


def answering(status, payload, **options):
    async def script(exchange):
        await exchange.respond_json(payload, status=status, **options)

    return script


async def stream_then_drop(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE, delta(content="some words came")))
    await asyncio.sleep(0.05)
    exchange.drop()


async def stream_then_wait(exchange):
    await exchange.start_stream()
    await exchange.chunk(sse(ROLE, delta(content="some words came")))


@pytest.fixture
def attempts():
    return []


@pytest.fixture
async def connections():
    opened = Connections()
    yield opened
    await opened.aclose()
