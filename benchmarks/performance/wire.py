"""The requests: chat completions as an SDK writes them, ready to be sent, in files for the load generator."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = "/v1/chat/completions"
_OUTPUT_TOKENS_MAX = 50


def body(model: str, text: str, *, stream: bool = False) -> bytes:
    """The JSON of one completion; a stream asks for its usage, as every gateway that counts must."""
    asked: dict[str, object] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": _OUTPUT_TOKENS_MAX,
        "temperature": 0.2,
    }
    if stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(asked, ensure_ascii=False, separators=(",", ":")).encode()


def request(port: int, content: bytes, headers: Mapping[str, str]) -> bytes:
    """One whole HTTP/1.1 request."""
    lines = [
        f"POST {PATH} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        "Accept: application/json",
        "User-Agent: OpenAI/Python 2.54.0",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(content)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def write_requests(
    path: Path, texts: Sequence[str], *, port: int, model: str, headers: Mapping[str, str], stream: bool
) -> Path:
    """A file for load.c: one request for each text."""
    with path.open("wb") as file:
        for text in texts:
            whole = request(port, body(model, text, stream=stream), headers)
            file.write(b"%d\n" % len(whole))
            file.write(whole)
    return path
