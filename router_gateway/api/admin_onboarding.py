"""/admin/api/onboardings: place an endpoint with probes, and watch its estimate narrow; and how one is added."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any
from uuid import UUID

import yaml
from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api.admin_door import Asked, Route, admin_only, listed
from router_gateway.api.ask import AUTO
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.core.money import nusd_to_usd, usd_to_nusd
from router_gateway.dispatch.endpoints import REPLAY, EndpointSettings
from router_gateway.ledger.onboarding_rows import Step
from router_gateway.probing.onboarder import OVER, Wish

_LISTED_MAX = 20

Name = Annotated[str, Field(min_length=1, max_length=100)]


class Onboarding(BaseModel):
    """`budget_usd` bounds what all answers may cost together; `max_tokens` one answer."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Name
    probes: Annotated[int, Field(ge=1, le=1_000)] = 40
    budget_usd: Annotated[float, Field(gt=0, le=1_000, allow_inf_nan=False)] = 1.0
    max_tokens: Annotated[int, Field(ge=1, le=200_000)] = 2_048


@admin_only
async def start(asked: Asked) -> dict[str, Any]:
    """Begin to ask an endpoint of the pool its probes; the answer has the id to look at."""
    wish = await asked.body(Onboarding)
    endpoint = next((each for each in asked.gateway.endpoints if each.name == wish.endpoint), None)
    if endpoint is None:
        raise NotFound(f"no endpoint {wish.endpoint!r} in the pool", param="endpoint")
    onboarding_id = await asked.parts.onboarder.start(
        Wish(
            endpoint=endpoint,
            probes=wish.probes,
            budget_nusd=usd_to_nusd(wish.budget_usd),
            tokens_max=wish.max_tokens,
            tenant=asked.key.tenant,
            author=asked.author,
        )
    )
    asked.did("onboarding.start", endpoint.name, id=str(onboarding_id), **wish.model_dump(exclude={"endpoint"}))
    return await _told(asked, onboarding_id)


@admin_only
async def get_onboarding(asked: Asked) -> dict[str, Any]:
    """How far it is: probes asked and graded, money, and the estimate with its interval after every batch."""
    return await _told(asked, _id(asked))


@admin_only
async def list_onboardings(asked: Asked) -> dict[str, Any]:
    """The newest ones, newest first, without their steps."""
    rows = await asyncio.to_thread(asked.parts.onboarder.newest, min(asked.limit(_LISTED_MAX), _LISTED_MAX))
    return listed([_onboarding(*row) for row in rows])


@admin_only
async def stop(asked: Asked) -> dict[str, Any]:
    """Stop it: what is under way is finished and counts; one that is over stays as it is."""
    onboarding_id = _id(asked)
    await asked.parts.onboarder.stop(onboarding_id, asked.author)
    told = await _told(asked, onboarding_id)
    asked.did("onboarding.stop", told["endpoint"], note=asked.note, id=str(onboarding_id))
    return told


@admin_only
async def draft_endpoint(asked: Asked) -> dict[str, Any]:
    """Check what is to be added to `endpoints`, as the configuration would, and give the lines to paste."""
    asked.did_nothing()
    settings = await asked.body(EndpointSettings)
    taken = {AUTO, *asked.gateway.routers, *(each.name for each in asked.gateway.endpoints)}
    if settings.name in taken:
        raise RequestError(f"`name`: {settings.name!r} is taken by an endpoint, a policy or the alias", param="name")
    if settings.base_url == REPLAY and all(each.provider != REPLAY for each in asked.gateway.endpoints):
        raise RequestError('`base_url`: "replay" needs the section `replay`', param="base_url")
    given = settings.model_dump(mode="json", exclude_unset=True)
    lines = {name: given.pop(name) for name in ("name", "model", "base_url", "api_key_env") if name in given} | given
    variable = settings.api_key_env
    return {
        "object": "endpoint_draft",
        "name": settings.name,
        "yaml": yaml.safe_dump({"endpoints": [lines]}, sort_keys=False, allow_unicode=True),
        "api_key_is_set": None if variable is None else bool(os.environ.get(variable)),
        "needs_restart": True,
    }


def _id(asked: Asked) -> UUID:
    try:
        return UUID(asked.path("id"))
    except ValueError:
        raise RequestError("`id` is not a UUID", param="id") from None


async def _told(asked: Asked, onboarding_id: UUID) -> dict[str, Any]:
    state, steps = await asyncio.to_thread(asked.parts.onboarder.steps, onboarding_id)
    standings = [{**each, "usd_per_probe": each["usd"]} for each in steps[-1].found.get("standings", ())]
    return {
        **_onboarding(onboarding_id, state, steps),
        "taught": steps[-1].found.get("taught"),
        "standings": standings,
        "steps": [_step(step) for step in steps[1:]],
    }


def _onboarding(onboarding_id: UUID, state: str, steps: list[Step]) -> dict[str, Any]:
    first, last = steps[0], steps[-1]
    spent_nusd = int(last.found.get("spent_nusd", 0))
    return {
        "object": "onboarding",
        "id": str(onboarding_id),
        "endpoint": first.endpoint,
        "state": state,
        "author": first.author,
        "started_at": first.at.isoformat(),
        "ended_at": last.at.isoformat() if last.state in OVER else None,
        "probes": last.found.get("planned", first.found["probes"]),
        "budget_nusd": first.found["budget_nusd"],
        "budget_usd": nusd_to_usd(first.found["budget_nusd"]),
        "max_tokens": first.found["max_tokens"],
        "expected_usd": last.found.get("expected_usd"),
        "spent_nusd": spent_nusd,
        "spent_usd": nusd_to_usd(spent_nusd),
        "own_traffic": last.found.get("own_traffic"),
        **{name: last.found.get(name, 0) for name in ("answered", "graded", "undecided", "failed", "cut")},
        "why": last.found.get("stopped"),
        "interval": last.found.get("interval"),
    }


def _step(step: Step) -> dict[str, Any]:
    names = ("answered", "graded", "undecided", "failed", "spent_nusd", "interval", "expected", "doubt")
    return {"at": step.at.isoformat(), **{name: step.found.get(name) for name in names}}


ROUTES: tuple[Route, ...] = (
    ("POST", "/endpoints", draft_endpoint),
    ("GET", "/onboardings", list_onboardings),
    ("POST", "/onboardings", start),
    ("GET", "/onboardings/{id}", get_onboarding),
    ("DELETE", "/onboardings/{id}", stop),
)
