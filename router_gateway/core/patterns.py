"""Regular expressions from clients: compiled by RE2, which matches in time linear in the text (docs/adr/0016)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_BYTES_MAX = 1 << 20
"""Of a compiled pattern. It bounds the time for each character of text, too."""


def matches(pattern: str, text: str, *, full: bool = False) -> bool:
    """Whether the pattern is in the text, or with `full` is all of it. Half a character (a surrogate) reads as "?"."""
    compiled, readable = pattern_of(pattern), text.encode("utf-8", "replace").decode("utf-8")
    return bool(compiled.fullmatch(readable) if full else compiled.search(readable))


@lru_cache(maxsize=256)
def pattern_of(pattern: str) -> Any:
    """RE2's compiled pattern. Raises ValueError, saying why, for one that it does not take."""
    import re2

    options = re2.Options()
    options.max_mem = _BYTES_MAX
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character") from None
    except re2.error as error:
        said = error.args[0] if error.args else ""
        raise ValueError(said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)) from None
