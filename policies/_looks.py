"""What a text looks like, whatever it says: length, lines, digits, signs, words, how it begins and ends."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Self

import numpy as np

from router_gateway.core.types import Bools, Floats, Ints

_CHARACTERS_MAX = 8_000  # of a longer text the first and the last half of this many are looked at
_END = 80
_OPTION = re.compile(r"^\(?[A-J][.):]", re.M)
_CHOICE = re.compile(r"\([A-J]\)")
_BULLET = re.compile(r"^\s*[-*•]\s", re.M)
_NUMBERED = re.compile(r"^\s*\d+[.):]\s", re.M)
_SIGNS = '$\\":,'
_LONG, _SHORT = 9, 3  # letters of a long word, at least; of a short one, at most
_DEVIATIONS_MAX = 5.0
_REMEMBERED_MAX = 32_768  # texts, under half a kilobyte each

LOOKS = (
    *("characters", "lines", "asks", "questions", "digits", "capitals", "signs", "words", "word", "code", "options"),
    *("numbers", "number", "numbers_a_word", "distinct", "letters", "longest", "scatter", "long", "short", "names"),
    *("sentences", "words_a_sentence", "choices", "bullets", "numbered", "line", "longest_line", "last_line"),
    *("foreign", "operators", "brackets", "ends_asking"),
)
"""Names of the columns; then the share of each of a few signs, and the codes of the first and last character."""

WIDTH = 1 + len(LOOKS) + len(_SIGNS) + 2

_LETTER = np.array([chr(code).isalpha() or code == 127 for code in range(128)])  # 127 stands for all beyond ASCII
_DIGIT = np.array([chr(code).isdigit() for code in range(128)])
_kept: OrderedDict[bytes, Floats] = OrderedDict()
_lock = Lock()


def looks(texts: Sequence[str], tokens_input: Sequence[int]) -> Floats:
    """float32 (Q, WIDTH), log tokens first; a row does not depend on the others."""
    rows = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text, tokens in zip(rows, texts, tokens_input, strict=True):
        row[0] = np.log1p(tokens)
        if text:
            row[1:] = _remembered(text)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """Looks in units in which they differ among known texts: less their mean, by their deviation, at most five.

    An empty text is the zero vector; where no text was known, every text is, and has no components.

    centre, spread : float64 (k,), k = WIDTH - 1 or 0
    """

    centre: Floats
    spread: Floats

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """By these texts, none of them empty."""
        if not texts:
            return cls(centre=np.zeros(0), spread=np.zeros(0))
        seen = looks(texts, [0] * len(texts))[:, 1:].astype(np.float64)
        return cls(centre=seen.mean(axis=0), spread=seen.std(axis=0) + 1e-6)

    def vectors(self, texts: Sequence[str]) -> Floats:
        """float32 (Q, k); a text's vector does not depend on the other texts."""
        vectors = np.zeros((len(texts), len(self.centre)), dtype=np.float32)
        if vectors.size:
            own = (looks(texts, [0] * len(texts))[:, 1:] - self.centre) / self.spread
            there = np.array([bool(text) for text in texts])
            vectors[there] = own[there].clip(-_DEVIATIONS_MAX, _DEVIATIONS_MAX)
        return vectors


def _remembered(text: str) -> Floats:
    """`_of`, kept: fits of several policies read one history, and several policies score one request. No text is."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    with _lock:
        if (row := _kept.get(digest)) is not None:
            _kept.move_to_end(digest)
            return row
    row = np.array(_of(text), dtype=np.float32)
    with _lock:
        _kept[digest] = row
        while len(_kept) > _REMEMBERED_MAX:
            _kept.popitem(last=False)
    return row


def _of(text: str) -> list[float]:
    length = len(text)
    if length > _CHARACTERS_MAX:
        text = text[: _CHARACTERS_MAX // 2] + text[-_CHARACTERS_MAX // 2 :]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    low = np.minimum(codes, 127)
    count = np.bincount(low, minlength=128)
    size = len(codes)
    digits, capitals = int(count[48:58].sum()), int(count[65:91].sum())
    spaces = int(count[:33].sum())
    signs = int(count[33:127].sum()) - digits - capitals - int(count[97:123].sum())
    return [
        np.log1p(length),
        np.log1p(count[10]),
        text[-_END:].count("?"),
        count[63],
        digits / size,
        capitals / size,
        signs / size,
        np.log1p(spaces + 1),
        size / (spaces + 1),
        float("```" in text),
        len(_OPTION.findall(text)),
        *_words(text, low),
        *_lines(text),
        int((codes > 127).sum()) / size,
        sum(int(count[ord(sign)]) for sign in "+-*/=^<>") / size,
        int(count[40] + count[91] + count[123]) / size,
        float(text.rstrip().endswith("?")),
        *[count[ord(sign)] / size for sign in _SIGNS],
        float(codes[0]),
        float(codes[-1]),
    ]


def _words(text: str, low: Ints) -> list[float]:
    """From "numbers" to "words_a_sentence"; low (n,), the characters' codes, 127 for all beyond ASCII."""
    starts, letters = _runs(_LETTER[low])
    _, figures = _runs(_DIGIT[low])
    words = max(len(letters), 1)
    if not len(letters):
        letters = np.zeros(1, dtype=np.int64)
    split = text.lower().split()
    sentences = text.count(". ") + text.count("? ") + text.count("! ")
    return [
        np.log1p(len(figures)),
        np.log1p(figures.max(initial=0)),
        len(figures) / words,
        len(set(split)) / max(len(split), 1),
        letters.mean(),
        np.log1p(letters.max()),
        letters.std(),
        (letters >= _LONG).mean(),
        (letters <= _SHORT).mean(),
        int(((low[starts] >= 65) & (low[starts] <= 90)).sum()) / words,
        np.log1p(sentences),
        words / (sentences + 1),
    ]


def _lines(text: str) -> list[float]:
    """From "choices" to "last_line"."""
    lengths = [len(line) for line in text.split("\n")]
    return [
        len(_CHOICE.findall(text)),
        len(_BULLET.findall(text)),
        len(_NUMBERED.findall(text)),
        np.log1p(sum(lengths) / len(lengths)),
        np.log1p(max(lengths)),
        np.log1p(lengths[-1]),
    ]


def _runs(inside: Bools) -> tuple[Ints, Ints]:
    """Where runs of True start, and how long they are."""
    edge = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0, append=0))
    return edge[::2], edge[1::2] - edge[::2]
