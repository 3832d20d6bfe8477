"""A small provider on loopback. The first part of the path says how it behaves: /good/v1, /limited/v1, …"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# A prompt of 100 tokens: 30 read from a cache, 20 written to it; 50 generated, 10 of them reasoning.
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 50,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 20},
    "completion_tokens_details": {"reasoning_tokens": 10},
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Canberra"}'}}
WORDS = [f"word{i} " for i in range(40)]
BEHAVIOURS = ("good", "judging", "limited", "html", "refusing", "dying", "slow")
_PAUSE_S = 0.1


@dataclass
class Provider:
    """`bodies` are the requests received, by behaviour."""

    url: str
    bodies: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {name: [] for name in BEHAVIOURS})
    hung_up: Counter[str] = field(default_factory=Counter)

    def base_url(self, behaviour: str) -> str:
        return f"{self.url}/{behaviour}/v1"


@contextmanager
def providing() -> Iterator[Provider]:
    """The provider, in a thread."""
    provider = Provider("")

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            behaviour = self.path.split("/")[1]
            provider.bodies[behaviour].append(body)
            try:
                getattr(self, behaviour)(body)
            except ConnectionError:
                provider.hung_up[behaviour] += 1

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield provider
        server.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def good(self, body: dict[str, Any]) -> None:
        """Asks for the first tool it is given; once it has the result, or without tools, it says what it heard."""
        last = body["messages"][-1]
        if body.get("tools") and last["role"] != "tool":
            message, reason = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}, "tool_calls"
        else:
            said = '{"heard": true}' if body.get("response_format") else f"heard: {last['content']}"
            message, reason = {"role": "assistant", "content": said}, "stop"
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            self._json(200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})
            return
        self._start_stream()
        calls = [{"index": 0, **call} for call in message.get("tool_calls", ())]
        self._chunk({"role": "assistant", **({"tool_calls": calls} if calls else {"content": message["content"]})})
        self._chunk({}, reason)
        self._event({**_head("chat.completion.chunk"), "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def judging(self, body: dict[str, Any]) -> None:
        """Reads answers, and likes whatever it reads."""
        choice = {"index": 0, "message": {"role": "assistant", "content": '{"why": "nice", "score": 8}'}}
        self._json(200, {**_head("chat.completion"), "choices": [choice], "usage": USAGE})

    def limited(self, body: dict[str, Any]) -> None:
        error = {"message": "slow down", "type": "requests", "param": None, "code": "rate_limit_exceeded"}
        self._json(429, {"error": error}, ("retry-after", "7"))

    def html(self, body: dict[str, Any]) -> None:
        self._respond(200, b"<html>a login page</html>", "text/html")

    def refusing(self, body: dict[str, Any]) -> None:
        error = {"message": "temperature is too hot", "type": "invalid_request_error", "param": "temperature"}
        self._json(400, {"error": {**error, "code": "too_hot"}})

    def dying(self, body: dict[str, Any]) -> None:
        """Three words of a stream, then the connection is gone."""
        self._start_stream()
        self._chunk({"role": "assistant", "content": ""})
        for word in WORDS[:3]:
            self._chunk({"content": word})

    def slow(self, body: dict[str, Any]) -> None:
        """Forty words, ten a second."""
        self._start_stream()
        self._chunk({"role": "assistant", "content": ""})
        for word in WORDS:
            self._chunk({"content": word})
            time.sleep(_PAUSE_S)
        self._chunk({}, "stop")
        self._event({**_head("chat.completion.chunk"), "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _json(self, status: int, payload: object, *headers: tuple[str, str]) -> None:
        self._respond(status, json.dumps(payload).encode(), "application/json", *headers)

    def _respond(self, status: int, content: bytes, kind: str, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (("content-type", kind), ("content-length", str(len(content))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _start_stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()  # HTTP/1.0: the stream ends when the connection does

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        self._event({**_head("chat.completion.chunk"), "choices": [choice]})

    def _event(self, payload: object) -> None:
        self.wfile.write(b"data: " + json.dumps(payload).encode() + b"\n\n")

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1, "model": "lab-model-2026"}
