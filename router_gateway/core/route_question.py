"""What a language model is asked when it is to name a request's route."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

OTHER = "other"
"""The route of a request that belongs to none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteQuestion:
    """Which model behind which URL, and between what it is to choose.

    base_url : of an OpenAI-compatible server; `/chat/completions` follows it
    api_key_env : the environment variable that holds its key, or None
    timeout_ms : after which the route is found without it
    descriptions : by route name
    """

    base_url: str
    model: str
    api_key_env: str | None
    timeout_ms: float
    descriptions: Mapping[str, str]
