"""Counting tokens on this machine: an estimate for pricing and context checks, never a bill.

The vocabulary is cl100k_base, read from the copy that litellm ships as package data. Neither litellm
is imported nor the network touched; without the file, or without tiktoken, characters are counted.
"""

from __future__ import annotations

import base64
import importlib.util
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

_VOCABULARY = "9b5ad71b2ce5302211f9c61530b329a4922fc6a4"  # what tiktoken calls the cached cl100k_base
# How cl100k_base cuts text into words before merging bytes; part of the vocabulary's definition.
_WORDS = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+"
    r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
# The same for ASCII, in the standard library's words: far quicker, and most of it is words that were seen before.
_ASCII_WORDS = re.compile(
    r"'(?:[sdmtSDMT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\nA-Za-z0-9]?+[A-Za-z]++|[0-9]{1,3}+"
    r"| ?[^\sA-Za-z0-9]++[\r\n]*+|\s++\Z|\s*[\r\n]|\s+(?!\S)|\s",
    re.ASCII,
)
_CONTROLS = re.compile(r"[\x1c-\x1f]")  # white space to the standard library, and not to the vocabulary
_WORDS_REMEMBERED_MAX = 100_000
_WORD_CHARS_MAX = 64
EXACT_CHARS_MAX = 8_000
_SAMPLES = 8
_CHARS_PER_SAMPLE = EXACT_CHARS_MAX // _SAMPLES
_CHARS_PER_TOKEN = 4

_lock = Lock()
_counter: Callable[[str], int] | None = None


def count_tokens(text: str) -> int:
    """Tokens of `text`; special tokens such as `<|endoftext|>` count as the ordinary text they are.

    Exact up to `EXACT_CHARS_MAX` characters. A longer text is extrapolated from eight evenly spread
    samples, the head and the tail among them, so that a call costs a few milliseconds at most.
    """
    count = _counter or _load()
    if len(text) <= EXACT_CHARS_MAX:
        return count(text)
    step = (len(text) - _CHARS_PER_SAMPLE) / (_SAMPLES - 1)
    starts = [round(i * step) for i in range(_SAMPLES)]
    sampled = sum(count(text[start : start + _CHARS_PER_SAMPLE]) for start in starts)
    return round(sampled * len(text) / EXACT_CHARS_MAX)


def warm_up() -> None:
    """Load the vocabulary now (a quarter of a second) rather than at the first request."""
    _load()


def _load() -> Callable[[str], int]:
    global _counter
    with _lock:
        if _counter is None:
            _counter = _by_vocabulary(vocabulary_path()) or estimate_tokens
        return _counter


def vocabulary_path() -> Path | None:
    """Where litellm keeps cl100k_base, or None; finding a top-level package does not import it."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers" / _VOCABULARY
    return path if path.is_file() else None


def _by_vocabulary(path: Path | None) -> Callable[[str], int] | None:
    if path is None or importlib.util.find_spec("tiktoken") is None:
        return None
    import tiktoken

    try:
        ranks = _ranks(path.read_bytes())
        encoding = tiktoken.Encoding("cl100k_base", pat_str=_WORDS, mergeable_ranks=ranks, special_tokens={})
    except (OSError, ValueError):  # unreadable or not the file we know: counting characters still serves
        return None

    return _Counter(encoding.encode_ordinary).count


class _Counter(dict[str, int]):
    """Tokens by word: words are merged each by itself, so a text has as many tokens as its words together.

    encode : a text's tokens by the vocabulary; replaces lone surrogates itself
    Threads may share it.
    """

    def __init__(self, encode: Callable[[str], Sequence[int]]) -> None:
        super().__init__()
        self._encode = encode

    def count(self, text: str) -> int:
        """Exactly as many as `encode` would give."""
        if not text.isascii() or _CONTROLS.search(text):
            return len(self._encode(text))
        return sum(map(self.__getitem__, _ASCII_WORDS.findall(text)))

    def __missing__(self, word: str) -> int:
        tokens = len(self._encode(word))
        if len(word) <= _WORD_CHARS_MAX:
            if len(self) >= _WORDS_REMEMBERED_MAX:
                self.clear()
            self[word] = tokens
        return tokens


def _ranks(vocabulary: bytes) -> dict[bytes, int]:
    """One `base64 rank` pair a line."""
    pairs = (line.split() for line in vocabulary.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def estimate_tokens(text: str) -> int:
    """Without a vocabulary: four characters a token, but one for each wide (CJK) character."""
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return wide + -(-(len(text) - wide) // _CHARS_PER_TOKEN)
