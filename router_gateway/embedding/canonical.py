"""What every embedder does alike: the text it accepts and the precision it returns."""

from __future__ import annotations

import re

import numpy as np

from router_gateway.core.types import Floats

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def clean(text: str) -> str:
    """NUL and lone surrogates become U+FFFD: no tokenizer, digest or database accepts them all."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def through_float16(vectors: Floats) -> Floats:
    """float32 (Q, d) whose every component is a float16.

    The ledger stores float16; rounding here, once, makes what it stores exactly what the policy saw.
    A unit vector stays one within 1e-3.
    """
    return np.asarray(vectors).astype(np.float16).astype(np.float32)
