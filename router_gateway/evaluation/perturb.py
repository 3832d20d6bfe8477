"""The same question put differently, to see whether a router still sends it to the same endpoint.

Each change is a function of the text alone, so that a run can be repeated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

import numpy as np

_WORD = re.compile(r"[A-Za-z]{5,}")
_TYPO_SHARE = 0.1  # of the words long enough to misspell
_POLITE = (
    "Please help me with the following. ",
    "Could you answer this for me, please? ",
    "Hello! I would like to ask: ",
)
_THANKS = (" Thank you very much!", " Thanks in advance.", " I appreciate your help.")
_PREFIX = ("Read carefully and respond.\n\n", "Here is my next question.\n\n", "Consider the text below.\n\n")


def typos(text: str) -> str:
    """Two neighbouring inner letters change places in one long word of ten, at least in one."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    draws = np.random.default_rng(_number(text)).random((len(words), 2))
    chosen = np.argsort(draws[:, 0])[: max(1, round(_TYPO_SHARE * len(words)))]
    letters = list(text)
    for i in chosen:
        start, end = words[i].span()
        at = start + 1 + int(draws[i, 1] * (end - start - 3))
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def lower_case(text: str) -> str:
    """No capitals, as people type in a hurry."""
    return text.lower()


def politeness(text: str) -> str:
    """A courtesy before and after."""
    return _POLITE[_number(text) % len(_POLITE)] + text + _THANKS[_number(text) // 7 % len(_THANKS)]


def prefix(text: str) -> str:
    """A sentence in front that says nothing."""
    return _PREFIX[_number(text) % len(_PREFIX)] + text


PERTURBATIONS: dict[str, Callable[[str], str]] = {
    "typos": typos,
    "lower_case": lower_case,
    "politeness": politeness,
    "prefix": prefix,
}


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
