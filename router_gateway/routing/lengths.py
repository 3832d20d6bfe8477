"""How many tokens an answer will have, from the request alone: a log-linear regression per endpoint."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import Any, Self

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Floats, Query

_TEXT_CHARS_MAX = 4_000  # of a request's tail that is searched for cues: bounds the time
_REMEMBERED_MAX = 32_768  # texts whose cues are kept, by digest: under 8 MB
_POOL_WEIGHT = 1.0  # how strongly an endpoint is held to what all have in common, in squared log tokens

_CUES: Mapping[str, re.Pattern[str]] = {
    "reasoning": re.compile(r"step[- ]by[- ]step|show your work|chain of thought|\breason(ing)?\b", re.I),
    "code": re.compile(r"```|\b(code|function|python|javascript|sql|program|implement|refactor)\b", re.I),
    "list": re.compile(r"\b(list|bullets?|bullet points|enumerate|steps)\b", re.I),
    "choice": re.compile(
        r"\b(answer|respond|reply|output)\b[^.\n]{0,40}\b(letter|option|choice)\b|^\(?[A-D][.):] ", re.I | re.M
    ),
    "short": re.compile(
        r"\b(one|single) (word|sentence|letter|number)\b|\b(only|just|brief(ly)?|concise(ly)?|short)\b", re.I
    ),
    "structured": re.compile(r"\b(json|yaml|xml|csv|table)\b", re.I),
    "prose": re.compile(r"\b(essay|story|article|poem|report|blog|email|letter to)\b", re.I),
    "explain": re.compile(r"\b(explain|describe|discuss|why|compare|summari[sz]e)\b", re.I),
    "question": re.compile(r"\?\s*$"),
}
FEATURES = ("one", "log_tokens_input", *_CUES)
"""Names of the columns of `features`."""


class CueMemory:
    """Cues of the texts last read, the longest unread forgotten first: a fit and what follows it read them once.

    A text is known by its digest; none is kept. Threads may share it.
    """

    def __init__(self, texts_max: int = _REMEMBERED_MAX) -> None:
        self._texts_max = texts_max
        self._kept: OrderedDict[bytes, tuple[bool, ...]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Texts kept."""
        return len(self._kept)

    def read(self, text: str) -> tuple[bool, ...]:
        """Whether each cue is in the text, in the order of `_CUES`."""
        tail = text[-_TEXT_CHARS_MAX:]
        digest = blake2b(tail.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        with self._lock:
            if (kept := self._kept.get(digest)) is not None:
                self._kept.move_to_end(digest)
                return kept
        cues = tuple(pattern.search(tail) is not None for pattern in _CUES.values())
        with self._lock:
            self._kept[digest] = cues
            if len(self._kept) > self._texts_max:
                self._kept.popitem(last=False)
        return cues


_MEMORY = CueMemory()


def features(queries: Sequence[Query]) -> Floats:
    """What is read off a request, float64 (Q, F): 1, log(1 + tokens_input), and a 0 or 1 for each textual cue."""
    rows = np.zeros((len(queries), len(FEATURES)))
    for row, query in zip(rows, queries, strict=True):
        row[:2] = 1.0, np.log1p(query.tokens_input)
        row[2:] = _MEMORY.read(query.text)
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One regression: weights (F,) of log tokens, and the smearing factor that turns exp(log) into a mean."""

    weights: Floats
    smearing: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Regressions of log output tokens, one per endpoint, each held to one over all endpoints.

        log T = f' w + r              f = `features`
        E[T]  = exp(f' w) · mean(exp(r))

    The last factor is Duan's smearing estimate (1983, "Smearing estimate: a nonparametric retransformation
    method"): exp of a mean is not the mean of exp, and no distribution of r need be assumed. The weights minimise
    sum r² + a |w - w_pool|², so few answers of a new endpoint go a long way; the pool itself is held to
    `tokens_prior` tokens whatever is asked. A prediction of log T stays within the range that was observed: outside
    it a straight line in the log would be off by orders of magnitude. After CARROT's cost side (Somerstep et al.,
    2025, arXiv 2502.03261), whose regressors read an embedding; the cues do as well without one.

    low, high : the range of log T observed
    """

    pool: Line
    low: float
    high: float
    by_endpoint: Mapping[str, Line]

    @classmethod
    def prior(cls, tokens_prior: float) -> Self:
        """Knows nothing: every answer has `tokens_prior` tokens."""
        weights = np.zeros(len(FEATURES))
        weights[0] = np.log(tokens_prior)
        return cls(pool=Line(weights=weights, smearing=1.0), low=weights[0], high=weights[0], by_endpoint={})

    @classmethod
    def fit(cls, queries: Sequence[Query], tokens_output: Mapping[str, Floats], *, tokens_prior: float) -> Self:
        """From recorded answers.

        tokens_output : by endpoint, (Q,), NaN where unknown; fewer than one token counts as one
        Raises ValueError when a column is not (Q,) or holds a negative or infinite count.
        """
        rows = features(queries)
        known: dict[str, tuple[Floats, Floats]] = {}
        for name, tokens in tokens_output.items():
            if tokens.shape != (len(queries),) or (tokens < 0).any() or np.isinf(tokens).any():
                raise ValueError(f"output tokens of {name!r} must be {len(queries)} non-negative numbers or NaN")
            seen = ~np.isnan(tokens)
            if seen.any():
                known[name] = rows[seen], np.log(np.maximum(tokens[seen], 1.0))
        nothing = cls.prior(tokens_prior)
        if not known:
            return nothing
        everything = np.concatenate([log for _, log in known.values()])
        low, high = float(everything.min()), float(everything.max())
        pool = _line(np.concatenate([f for f, _ in known.values()]), everything, nothing.pool, low, high)
        lines = {name: _line(*observed, pool, low, high) for name, observed in known.items()}
        return cls(pool=pool, low=low, high=high, by_endpoint=lines)

    def tokens(self, queries: Sequence[Query], endpoints: Sequence[str]) -> Floats:
        """Expected output tokens, float64 (Q, E) > 0; an endpoint without answers is taken for an average one."""
        lines = [self.by_endpoint.get(name, self.pool) for name in endpoints]
        weights = np.stack([line.weights for line in lines], axis=1)
        # One product per query, so that a batch gives the bits its rows would.
        log = np.matmul(features(queries)[:, None, :], weights)[:, 0]
        return np.asarray(np.exp(np.clip(log, self.low, self.high)) * [line.smearing for line in lines])

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON."""
        lines = {name: _line_to_json(line) for name, line in self.by_endpoint.items()}
        range_ = [float(self.low), float(self.high)]
        return {"features": list(FEATURES), "pool": _line_to_json(self.pool), "range": range_, "endpoints": lines}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises SnapshotMismatch for anything else, or for features of another version."""
        try:
            if tuple(state["features"]) != FEATURES:
                raise ValueError("it reads other features")
            low, high = state["range"]
            lines = {str(name): _line_from_json(line) for name, line in state["endpoints"].items()}
            return cls(pool=_line_from_json(state["pool"]), low=float(low), high=float(high), by_endpoint=lines)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SnapshotMismatch(
                f"not a saved model of answer lengths: {error}", hint="fit it again with this version"
            ) from error


def _line(rows: Floats, log: Floats, towards: Line, low: float, high: float) -> Line:
    gram = rows.T @ rows + _POOL_WEIGHT * np.eye(rows.shape[1])
    weights = np.linalg.solve(gram, rows.T @ log + _POOL_WEIGHT * towards.weights)
    smeared = np.exp(log - np.clip(rows @ weights, low, high)).sum()
    return Line(
        weights=weights, smearing=float((smeared + _POOL_WEIGHT * towards.smearing) / (len(log) + _POOL_WEIGHT))
    )


def _line_to_json(line: Line) -> dict[str, Any]:
    return {"weights": line.weights.tolist(), "smearing": line.smearing}


def _line_from_json(state: Mapping[str, Any]) -> Line:
    weights, smearing = np.array(state["weights"], dtype=np.float64), float(state["smearing"])
    if weights.shape != (len(FEATURES),) or not np.isfinite(weights).all() or not 0 < smearing < np.inf:
        raise ValueError("weights or smearing factor out of range")
    return Line(weights=weights, smearing=smearing)
