"""Which part of a conversation is embedded. Live requests and recorded prompts are read alike.

Messages come in OpenAI's shape, or with Anthropic's content blocks. Nothing here raises on an odd shape:
validation is done elsewhere, and what is not understood is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router_gateway.embedding.boilerplate import without_boilerplate
from router_gateway.embedding.canonical import clean

_OBJECT = (dict, Mapping)  # a dict is known at once, an abstract class asks around
_SHORT_BYTES = 20  # "yes", "fix it", "continue please"; a Chinese character counts three


def query_text(messages: Sequence[Mapping[str, Any]], *, chars_max: int = 4000) -> str:
    """The text to embed: the newest user turn, its last `chars_max` characters.

    Agents' boilerplate and tool results are left out. A turn is all that the user said since the assistant
    last spoke; one too short to mean anything by itself ("continue") has the turn before in front of it.
    NUL and lone surrogates come out as U+FFFD. Empty when the user said nothing.
    """
    pieces: list[str] = []  # newest first
    untouched = ""
    for message in reversed(messages if isinstance(messages, (list, Sequence)) else ()):
        role = message.get("role") if isinstance(message, _OBJECT) else None
        if role == "assistant" and not _is_short(pieces):
            break
        if role != "user":
            continue
        content = message.get("content")
        said = content if isinstance(content, str) else "\n".join(_texts(content))
        untouched = untouched or said.strip()
        meant = without_boilerplate(said)
        if meant:
            pieces.append(meant[-chars_max:])
            if sum(map(len, pieces)) >= chars_max:
                break
    # When there is nothing but boilerplate, it was the question.
    text = "\n".join(reversed(pieces)) or untouched
    return clean(text[-chars_max:])


def said_by_both(messages: Sequence[Mapping[str, Any]], *, chars_max: int = 8_000) -> list[dict[str, str]]:
    """What user and assistant said, as `role` and `content`: the newest messages that fit, the last one at least."""
    said: list[dict[str, str]] = []  # newest first
    left = chars_max
    for message in reversed(messages if isinstance(messages, (list, Sequence)) else ()):
        role = message.get("role") if isinstance(message, _OBJECT) else None
        if role not in ("user", "assistant"):
            continue
        text = clean("\n".join(_texts(message.get("content"))).strip())
        if said and len(text) > left:
            break
        if text:
            said.append({"role": role, "content": text[-chars_max:]})
            left -= len(text)
    return said[::-1]


def earlier_turns(messages: Sequence[Mapping[str, Any]], *, turns_max: int) -> tuple[str, ...]:
    """Up to `turns_max` user turns before the newest, oldest first: each the text that was embedded in its day."""
    turns: list[str] = []  # newest first
    end = _answered_before(messages, len(messages)) if isinstance(messages, (list, Sequence)) else 0
    while end and len(turns) < turns_max:
        if text := query_text(messages[:end]):
            turns.append(text)
        end = _answered_before(messages, end)
    return tuple(reversed(turns))


def _answered_before(messages: Sequence[Mapping[str, Any]], end: int) -> int:
    """Where the answer stands that the last user turn of `messages[:end]` follows; 0 when it follows none."""
    roles = [message.get("role") if isinstance(message, _OBJECT) else None for message in messages[:end]]
    while roles and roles.pop() != "user":
        continue
    while roles and roles[-1] != "assistant":
        roles.pop()
    return max(len(roles) - 1, 0)


def parts_of(content: object, *, depth: int = 1) -> Iterator[Mapping[str, Any]]:
    """The parts of a content list; at depth 2 also those within them, as in a tool result with a picture."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, _OBJECT):
            yield part
            if depth > 1:
                yield from parts_of(part.get("content"), depth=depth - 1)


def _is_short(pieces: list[str]) -> bool:
    return sum(len(piece.encode("utf-8", "replace")) for piece in pieces) < _SHORT_BYTES


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in parts_of(content):
        text = part.get("text")
        if part.get("type") in ("text", "input_text") and isinstance(text, str):
            yield text
