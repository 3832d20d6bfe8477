"""Policies by name, for those that are built on others: the same entry points that the gateway uses.

Policies do not import each other, and the gateway's registry lies above them; an installed name is all they share.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from router_gateway.core.errors import BadParameters, DuplicatePolicy, UnknownPolicy
from router_gateway.core.experience import Experience

_GROUP = "router_gateway.policies"


def create(name: str, parameters: Mapping[str, Any]) -> Any:
    """An unfitted policy. Raises UnknownPolicy, DuplicatePolicy, BadParameters."""
    try:
        return policy_class(name)(**parameters)
    except (TypeError, ValueError) as error:
        raise BadParameters(f"{name}: {error}", hint=f"`router-gateway policies {name}` lists its parameters") from None


@cache
def policy_class(name: str) -> type[Any]:
    """The class registered as `name`. Raises UnknownPolicy, DuplicatePolicy."""
    targets = {point.value: point for point in entry_points(group=_GROUP, name=name)}
    if not targets:
        raise UnknownPolicy(
            f"no installed distribution registers a policy {name!r}", hint="`router-gateway policies` lists them"
        )
    if len(targets) > 1:
        raise DuplicatePolicy(f"policy {name!r} is registered as {' and as '.join(sorted(targets))}")
    found: type[Any] = next(iter(targets.values())).load()
    return found


def refitted(policy: Any, experience: Experience) -> Any:
    """A policy like this one, fitted one, that has learned from the outcomes of `experience` alone.

    By `refit`, where it has that: what it found in queries without looking at outcomes is then kept, not found again.
    """
    again = copy.deepcopy(policy)
    return again.refit(experience) if hasattr(again, "refit") else again.fit(experience)
