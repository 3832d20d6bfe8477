"""What coding agents wrap around a user's words, and how it is taken off again.

Agents put reminders, directory listings and command output into user messages as XML-like blocks. They
are long, nearly the same in every request, and say nothing about how hard the question is.
"""

from __future__ import annotations

import re
from collections import Counter

BLOCKS = frozenset(
    {
        # Claude Code
        "system-reminder",
        "command-name",
        "command-message",
        "command-contents",
        "local-command-caveat",
        "local-command-stdout",
        "local-command-stderr",
        "bash-input",
        "bash-stdout",
        "bash-stderr",
        # Codex
        "environment_context",
        "user_instructions",
        # Cline, Roo Code, Kilo Code
        "environment_details",
        "file_content",
        # Copilot, Cursor and others
        "context",
        "editorcontext",
        "reminderinstructions",
        "environment_info",
        "workspace_info",
        "attachments",
        "attached_files",
        "additional_data",
        "open_and_recently_viewed_files",
        "project_layout",
        "user_info",
        "command_output",
        "tool_result",
        "function_results",
    }
)
"""Names of blocks that are removed with their content, whatever their case."""

WRAPPERS = frozenset({"command-args", "task", "user_message", "user_query", "userrequest", "feedback"})
"""Tags that enclose the user's own words: only the tags go."""

_MARK = re.compile(r"(?P<fence>^[ \t]*```)|<(?P<close>/?)(?P<name>[A-Za-z][\w-]{1,40})\b[^<>]{0,200}>", re.MULTILINE)


def without_boilerplate(text: str) -> str:
    """`text` without the blocks above, trimmed. A block that is never closed stays, as do code fences.

    One pass, linear in the text however its tags are nested: it comes from outside.
    """
    if "<" not in text:
        return text.strip()
    kept: list[str] = []
    position = 0
    for start, end in _spans(text):
        if end > position:  # spans within one already removed are passed over
            kept.append(text[position : max(start, position)])
            position = end
    kept.append(text[position:])
    return "".join(kept).strip()


def _spans(text: str) -> list[tuple[int, int]]:
    """Start and end of everything to remove, by start."""
    marks = list(_MARK.finditer(text))
    last_fence = max((index for index, mark in enumerate(marks) if mark["fence"]), default=-1)
    spans: list[tuple[int, int]] = []
    opened: list[tuple[str, int]] = []
    depth: Counter[str] = Counter()
    fenced = False
    for index, mark in enumerate(marks):
        if mark["fence"]:
            if not opened:  # quoted text is the user's; a fence inside a block is the block's
                fenced = not fenced and index < last_fence
            continue
        name = mark["name"].lower()
        if fenced:
            continue
        if name in WRAPPERS:
            spans.append(mark.span())
        elif name in BLOCKS and not mark["close"]:
            opened.append((name, mark.start()))
            depth[name] += 1
        elif depth[name]:
            while True:  # what was opened inside and not closed ends here too
                inner, start = opened.pop()
                depth[inner] -= 1
                if inner == name:
                    break
            spans.append((start, mark.end()))
    return sorted(spans)
