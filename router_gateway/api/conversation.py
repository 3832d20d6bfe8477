"""What routing reads off a conversation: the text to embed, the capabilities asked for, the session.

Messages come in OpenAI's shape, or with Anthropic's content blocks. Nothing here raises on an odd shape:
validation is done elsewhere, and what is not understood is passed over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from router_gateway.api.boilerplate import without_boilerplate
from router_gateway.embedding.canonical import clean

_SHORT_BYTES = 20  # "yes", "fix it", "continue please"; a Chinese character counts three
_IMAGE_PARTS = frozenset({"image", "image_url", "input_image"})
_AUDIO_PARTS = frozenset({"input_audio", "audio"})


class Fields(Protocol):
    """A body, as `Body` or as a plain mapping."""

    def get(self, key: str, /) -> Any: ...


def query_text(messages: Sequence[Mapping[str, Any]], *, chars_max: int = 4000) -> str:
    """The text to embed: the newest user turn, its last `chars_max` characters.

    Agents' boilerplate and tool results are left out. A turn is all that the user said since the assistant
    last spoke; one too short to mean anything by itself ("continue") has the turn before in front of it.
    NUL and lone surrogates come out as U+FFFD. Empty when the user said nothing.
    """
    pieces: list[str] = []  # newest first
    untouched = ""
    for message in reversed(messages if isinstance(messages, Sequence) else ()):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role == "assistant" and not _is_short(pieces):
            break
        if role != "user":
            continue
        said = "\n".join(_texts(message.get("content")))
        untouched = untouched or said.strip()
        meant = without_boilerplate(said)
        if meant:
            pieces.append(meant[-chars_max:])
            if sum(map(len, pieces)) >= chars_max:
                break
    # When there is nothing but boilerplate, it was the question.
    text = "\n".join(reversed(pieces)) or untouched
    return clean(text[-chars_max:])


def needs(body: Fields) -> frozenset[str]:
    """Capabilities that the request needs of an endpoint: any of "tools", "json", "vision", "audio"."""
    parts = [part for message in _messages(body) for part in _parts(message.get("content"), depth=2)]
    kinds = {kind for part in parts if isinstance(kind := part.get("type"), str)}
    found = set()
    if body.get("tools") or body.get("functions") or kinds & {"tool_use", "tool_result"}:
        found.add("tools")
    if any(message.get("role") in ("tool", "function") or message.get("tool_calls") for message in _messages(body)):
        found.add("tools")
    wanted = body.get("response_format")
    if isinstance(wanted, Mapping) and wanted.get("type") in ("json_object", "json_schema"):
        found.add("json")
    if kinds & _IMAGE_PARTS:
        found.add("vision")
    modalities = body.get("modalities")
    if kinds & _AUDIO_PARTS or (isinstance(modalities, list) and "audio" in modalities):
        found.add("audio")
    return frozenset(found)


def in_tool_loop(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the conversation ends with a tool's result: the model that asked for it must go on."""
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    if not isinstance(last, Mapping):
        return False
    if last.get("role") in ("tool", "function"):
        return True
    return any(part.get("type") == "tool_result" for part in _parts(last.get("content")))


def session_key(*, tenant: str, headers: Mapping[str, str], body: Fields, explicit: str | None = None) -> str:
    """Which conversation a request belongs to: 32 hex digits, never shared between tenants.

    The first that is there: `explicit` (the body's `routing.session_id`), `x-session-id` or
    `x-model-affinity`, `session_id`, `x-claude-code-session-id`, `conversation`, `previous_response_id`,
    `prompt_cache_key`, `safety_identifier`, `user`, `metadata.user_id`; else what a conversation starts
    with: system prompt, tools and first user message. `x-conversation-id` tells apart conversations that
    agree in it. `headers` has its names in lower case. Only a digest is kept: some of these name people.
    """
    identity = explicit or next(_identities(headers, body), None)
    said = ["named", identity] if identity else ["opening", *_opening(body)]
    whole = [tenant, headers.get("x-conversation-id"), *said]
    return hashlib.blake2b(_canonical(whole), digest_size=16).hexdigest()


def _identities(headers: Mapping[str, str], body: Fields) -> Iterator[str]:
    conversation, metadata = body.get("conversation"), body.get("metadata")
    candidates = (
        headers.get("x-session-id"),
        headers.get("x-model-affinity"),
        body.get("session_id"),
        headers.get("x-claude-code-session-id"),
        conversation.get("id") if isinstance(conversation, Mapping) else conversation,
        body.get("previous_response_id"),
        body.get("prompt_cache_key"),
        body.get("safety_identifier"),
        body.get("user"),
        metadata.get("user_id") if isinstance(metadata, Mapping) else None,
    )
    return (candidate for candidate in candidates if isinstance(candidate, str) and candidate)


def _opening(body: Fields) -> list[Any]:
    messages = _messages(body)
    system = [message.get("content") for message in messages if message.get("role") in ("system", "developer")]
    first = next((message.get("content") for message in messages if message.get("role") == "user"), None)
    return [body.get("system"), system, body.get("tools"), first]


def _canonical(value: Any) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except RecursionError:  # nested past all reason: such requests then share a session
        return b"nested"


def _is_short(pieces: list[str]) -> bool:
    return sum(len(piece.encode("utf-8", "replace")) for piece in pieces) < _SHORT_BYTES


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in _parts(content):
        text = part.get("text")
        if part.get("type") in ("text", "input_text") and isinstance(text, str):
            yield text


def _parts(content: object, *, depth: int = 1) -> Iterator[Mapping[str, Any]]:
    """The parts of a content list; at depth 2 also those within them, as in a tool result with a picture."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, Mapping):
            yield part
            if depth > 1:
                yield from _parts(part.get("content"), depth=depth - 1)


def _messages(body: Fields) -> list[Mapping[str, Any]]:
    messages = body.get("messages")
    return [m for m in messages if isinstance(m, Mapping)] if isinstance(messages, list) else []
