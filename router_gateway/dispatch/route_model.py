"""Asks a hosted language model for the route of a conversation. Whatever goes wrong, no request fails for it.

Made for Arch-Router (Tran et al., 2025, arXiv 2506.16655), whose tags and answer it uses; any model that follows
instructions can take its place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Self
from uuid import UUID

from router_gateway.core.body import Body
from router_gateway.core.errors import ConfigError, UpstreamError
from router_gateway.core.route_question import OTHER, RouteQuestion
from router_gateway.core.types import Endpoint
from router_gateway.dispatch.circuit import Circuit
from router_gateway.dispatch.passthrough import PassthroughUpstream
from router_gateway.dispatch.upstream import Call, Upstream

log = logging.getLogger(__name__)

_ENDPOINT = "route model"  # what errors and secrets call it

_ANSWER_TOKENS_MAX = 64
_ANSWER_BYTES_MAX = 64 * 1024
_ROUTE = re.compile(r"""["']route["']\s*:\s*(["'])(.*?)\1""", re.DOTALL)
_TASK = """\
Choose the one route that fits what the user wants now, in the last turn of the conversation.

<routes>
{routes}
</routes>

<conversation>
{conversation}
</conversation>

Answer with JSON alone: {{"route": "name"}}, where the name is one of the routes. If none of them fits, or the user's \
wish is already met, answer {{"route": "other"}}."""


class RouteModel:
    """The model of one question, behind a circuit: after repeated failures it is left alone for a while.

    Lives on the event loop. It keeps nothing of what it was asked.
    """

    def __init__(self, question: RouteQuestion, upstream: Upstream, *, circuit: Circuit | None = None) -> None:
        self._question = question
        self._upstream = upstream
        self._circuit = circuit or Circuit()
        self._timeout_s = question.timeout_ms / 1e3
        self._endpoint = _endpoint(question, self._timeout_s)

    @classmethod
    def hosted(cls, question: RouteQuestion, environ: Mapping[str, str]) -> Self:
        """Reached over HTTP with the key that `environ` holds. Raises ConfigError where it holds none."""
        variable = question.api_key_env
        if variable and not environ.get(variable):
            raise ConfigError([f"asks.api_key_env: the environment variable {variable} is not set"])
        return cls(question, PassthroughUpstream({_ENDPOINT: environ[variable]} if variable else {}))

    async def route(self, query_id: UUID, conversation: Sequence[Mapping[str, str]]) -> str | None:
        """Name of the route, OTHER, or None when the model did not say in time or said nothing usable.

        conversation : messages of `role` and `content`, oldest first
        """
        entry = self._circuit.enter()
        if entry is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await self._ask(query_id, conversation)
        except Exception as error:  # a route is a hint: no request fails for want of one
            entry.failed()
            log.warning("the route model did not answer: %s", getattr(error, "code", type(error).__name__))
            return None
        except BaseException:  # the client went away
            entry.left()
            raise
        entry.succeeded()
        return named(answer, self._question.descriptions)

    async def aclose(self) -> None:
        """Release the connections."""
        await self._upstream.aclose()

    async def _ask(self, query_id: UUID, conversation: Sequence[Mapping[str, str]]) -> str:
        body = Body.of(
            {
                "model": self._question.model,
                "messages": [{"role": "user", "content": prompt(self._question.descriptions, conversation)}],
                "temperature": 0,
                "max_tokens": _ANSWER_TOKENS_MAX,
            }
        )
        call = Call(query_id=query_id, body=body, stream=False)
        reply = await self._upstream.open(self._endpoint, call, timeout_s=self._timeout_s)
        try:
            content = await reply.content()
        finally:
            await reply.aclose()
        if reply.status != 200 or len(content) > _ANSWER_BYTES_MAX:
            raise UpstreamError("the route model refused the question or talks too much")
        return _said(content)


def prompt(descriptions: Mapping[str, str], conversation: Sequence[Mapping[str, str]]) -> str:
    """The question as the model reads it."""
    routes = [{"name": name, "description": text} for name, text in descriptions.items()]
    return _TASK.format(
        routes=json.dumps(routes, ensure_ascii=False), conversation=json.dumps(list(conversation), ensure_ascii=False)
    )


def named(answer: str, names: Mapping[str, str]) -> str | None:
    """The route that an answer names, in JSON or nearly, with or without words around it; None for any other name."""
    found = _ROUTE.search(answer)
    if found is None:
        return None
    name = found[2].strip()
    if name in ("", OTHER):
        return OTHER
    return name if name in names else None


def _said(content: bytes) -> str:
    try:
        said = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = None
    if not isinstance(said, str):
        raise UpstreamError("the route model's answer is no chat completion")
    return said


def _endpoint(question: RouteQuestion, timeout_s: float) -> Endpoint:
    """What an upstream needs to be told of the model. It is not of the pool, so it has no price here."""
    free = Decimal(0)
    return Endpoint(
        name=_ENDPOINT,
        model=question.model,
        base_url=question.base_url,
        price_input_usd_per_mtok=free,
        price_output_usd_per_mtok=free,
        price_cached_input_usd_per_mtok=free,
        price_cache_write_usd_per_mtok=free,
        context_tokens_max=1,
        connect_timeout_s=timeout_s,
        first_token_timeout_s=timeout_s,
        timeout_s=timeout_s,
    )
