"""What a text looks like, whatever it says: length, lines, digits, signs, how it begins and ends."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from router_gateway.core.types import Floats

_CHARACTERS_MAX = 8_000  # of a longer text the first and the last half of this many are looked at
_END = 80
_OPTION = re.compile(r"^\(?[A-J][.):]", re.M)
_SIGNS = '$\\":,'
LOOKS = ("characters", "lines", "asks", "questions", "digits", "capitals", "signs", "words", "word", "code", "options")
"""Names of the first columns; then the share of each of a few signs, and the codes of the first and last character."""

WIDTH = 1 + len(LOOKS) + len(_SIGNS) + 2


def looks(texts: Sequence[str], tokens_input: Sequence[int]) -> Floats:
    """float32 (Q, WIDTH), log tokens first; a row does not depend on the others."""
    rows = np.zeros((len(texts), WIDTH), dtype=np.float32)
    for row, text, tokens in zip(rows, texts, tokens_input, strict=True):
        row[0] = np.log1p(tokens)
        if text:
            row[1:] = _of(text)
    return rows


def _of(text: str) -> list[float]:
    length = len(text)
    if length > _CHARACTERS_MAX:
        text = text[: _CHARACTERS_MAX // 2] + text[-_CHARACTERS_MAX // 2 :]
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    count = np.bincount(np.minimum(codes, 127), minlength=128)
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
        *[count[ord(sign)] / size for sign in _SIGNS],
        float(codes[0]),
        float(codes[-1]),
    ]
