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
    everything = np.ones((len(queries), len(endpoints)), dtype=bool)

    def table(asks: Callable[[Query], bool], passes: Callable[[Query, Endpoint], bool]) -> Bools:
        if not any(asks(query) for query in queries):
            return everything
        return np.array([[passes(query, endpoint) for endpoint in endpoints] for query in queries], dtype=bool)

    return {
        "pinned": table(lambda q: q.pinned is not None, lambda q, e: q.pinned is None or q.pinned == e.name),
        "tenant": table(
            lambda q: bool(q.tenant_allows), lambda q, e: not q.tenant_allows or _matches(q.tenant_allows, e)
        ),
        "preferences": table(_wishes, _preferred),
        "capability": table(lambda q: bool(q.needs), lambda q, e: q.needs <= e.offers),
        "context": _fits_context(queries, endpoints, everything),
    }


def candidates(filters: Mapping[str, Bools], queries: Sequence[Query]) -> Bools:
    """The AND of all filters; raises NoEligibleEndpoint naming the filter that took a query's last candidate."""
    remaining, *others = filters.values()
    for mask in others:
        if mask is not remaining:
            remaining = remaining & mask
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


def _fits_context(queries: Sequence[Query], endpoints: Sequence[Endpoint], everything: Bools) -> Bools:
    needed = [query.tokens_input + (query.tokens_output_max or _OUTPUT_TOKENS_RESERVED) for query in queries]
    room = [endpoint.context_tokens_max for endpoint in endpoints]
    if max(needed, default=0) <= min(room, default=0):
        return everything
    return np.asarray(np.array(needed)[:, None] <= np.array(room)[None, :])


def _matches(globs: tuple[str, ...], endpoint: Endpoint) -> bool:
    return any(_matches_one(glob, endpoint.name) or _matches_one(glob, endpoint.model) for glob in globs)


@lru_cache(maxsize=4096)
def _matches_one(glob: str, name: str) -> bool:
    return fnmatchcase(name, glob)
