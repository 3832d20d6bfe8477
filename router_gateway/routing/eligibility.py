"""Which endpoints may take which query: bool Q×E, one filter at a time so that a refusal can say why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache

import numpy as np

from router_gateway.core.errors import NoEligibleEndpoint
from router_gateway.core.types import Bools, Endpoint, Query

_OUTPUT_TOKENS_RESERVED = 256
"""Room kept for an answer when the client sets no limit."""

_WHY = {
    "pinned": "the model named is not in the pool",
    "tenant": "this key may use none of the endpoints that remain",
    "preferences": "`routing` (allowed_models, ignore, region, data_collection) excludes every endpoint",
    "capability": "no endpoint offers what the request needs",
    "context": "the request is longer than the context of every endpoint that remains",
}
_PARAM = {"pinned": "model", "tenant": "model", "preferences": "routing", "capability": None, "context": "messages"}


def eligible_endpoints(queries: Sequence[Query], endpoints: Sequence[Endpoint]) -> Mapping[str, Bools]:
    """Filters in the order they apply, each bool (Q, E); a query's candidates are the AND of all.

    Filters that keep everything from nobody are one and the same array.
    """
    everything = _everything(len(queries), len(endpoints))
    filters = {
        name: np.array([[passes(query, endpoint) for endpoint in endpoints] for query in queries], dtype=bool)
        if any(map(asks, queries))
        else everything
        for name, (asks, passes) in _FILTERS.items()
    }
    needed, room = list(map(_tokens_needed, queries)), [endpoint.context_tokens_max for endpoint in endpoints]
    fits = max(needed, default=0) <= min(room, default=0)
    filters["context"] = everything if fits else np.array(needed)[:, None] <= np.array(room)[None, :]
    return filters


def eligible_row(query: Query, endpoints: Sequence[Endpoint]) -> list[bool]:
    """What `candidates` says of one query, without a table: for a query that nobody scores."""
    needed = _tokens_needed(query)
    row = [needed <= endpoint.context_tokens_max for endpoint in endpoints]
    for asks, passes in _FILTERS.values():
        if asks(query):
            row = [may and passes(query, endpoint) for may, endpoint in zip(row, endpoints, strict=True)]
    if not any(row):
        candidates(eligible_endpoints([query], endpoints), [query])  # raises, and says why
    return row


def candidates(filters: Mapping[str, Bools], queries: Sequence[Query]) -> Bools:
    """The AND of all filters; raises NoEligibleEndpoint naming the filter that took a query's last candidate."""
    everything = _everything(len(queries), next(iter(filters.values())).shape[1])
    remaining = everything
    for mask in filters.values():
        if mask is not everything:
            remaining = remaining & mask
    if remaining is everything and remaining.shape[1]:
        return remaining
    if not remaining.any(axis=1).all():
        refused = int(remaining.any(axis=1).argmin())
        raise _refusal(filters, refused, queries[refused])
    return remaining


def sole_cause(filters: Mapping[str, Bools], row: int) -> str | None:
    """The filter that left query `row` a single candidate, or None when there are several."""
    remaining = np.ones_like(next(iter(filters.values()))[row])
    for name, mask in filters.items():
        before = remaining.sum()
        remaining = remaining & mask[row]
        if remaining.sum() == 1 and before > 1:
            return name
    return None


def _refusal(filters: Mapping[str, Bools], row: int, query: Query) -> NoEligibleEndpoint:
    remaining = np.ones_like(next(iter(filters.values()))[row])
    name = ""
    for name, mask in filters.items():  # noqa: B007 - the filter at which it broke off is the answer
        remaining = remaining & mask[row]
        if not remaining.any():
            break
    message = _WHY[name]
    if name == "capability":
        message += f": {', '.join(sorted(query.needs))}"
    if name == "context":
        message += f" ({query.tokens_input} tokens)"
    code = {"context": "context_length_exceeded", "capability": "unsupported_parameter"}.get(name)
    return NoEligibleEndpoint(message, param=_PARAM[name], code=code)


def _wishes(query: Query) -> bool:
    wish = query.preferences
    return bool(wish.allowed or wish.ignore or wish.deny_data_collection) or wish.region is not None


def _preferred(query: Query, endpoint: Endpoint) -> bool:
    wish = query.preferences
    return (
        (not wish.allowed or _matches(wish.allowed, endpoint))
        and not (wish.ignore and _matches(wish.ignore, endpoint))
        and (wish.region is None or wish.region == endpoint.region)
        and not (wish.deny_data_collection and endpoint.collects_data)
    )


def _tokens_needed(query: Query) -> int:
    return query.tokens_input + (query.tokens_output_max or _OUTPUT_TOKENS_RESERVED)


@lru_cache(maxsize=64)
def _everything(queries: int, endpoints: int) -> Bools:
    every = np.ones((queries, endpoints), dtype=bool)
    every.flags.writeable = False  # many decisions share it
    return every


def _matches(globs: tuple[str, ...], endpoint: Endpoint) -> bool:
    return any(_matches_one(glob, endpoint.name) or _matches_one(glob, endpoint.model) for glob in globs)


@lru_cache(maxsize=4096)
def _matches_one(glob: str, name: str) -> bool:
    return fnmatchcase(name, glob)


_FILTERS: Mapping[str, tuple[Callable[[Query], bool], Callable[[Query, Endpoint], bool]]] = {
    "pinned": (lambda q: q.pinned is not None, lambda q, e: q.pinned is None or q.pinned == e.name),
    "tenant": (lambda q: bool(q.tenant_allows), lambda q, e: not q.tenant_allows or _matches(q.tenant_allows, e)),
    "preferences": (_wishes, _preferred),
    "capability": (lambda q: bool(q.needs), lambda q, e: q.needs <= e.offers),
}
"""In the order they apply: whether a query asks for it at all, and whether an endpoint passes. Context comes last."""
