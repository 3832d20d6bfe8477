"""/admin/api/lifecycle: candidates, their moves, what they show, and the audit trail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from router_gateway.api.admin_door import Asked, Note, Route, admin_only, listed
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.ledger.candidates import Transition
from router_gateway.ledger.shadows import Shadows
from router_gateway.lifecycle import telling
from router_gateway.lifecycle.rollout import Rollout

Name = Annotated[str, Field(min_length=1, max_length=100)]


class Draft(BaseModel):
    """A snapshot or parameters to fit a policy with, changes of dial, rule and guard, or both.

    policy : in whose place; the default one unless given. kind : the policy to fit, that one unless given
    """

    model_config = ConfigDict(extra="forbid")

    name: Name
    policy: Name | None = None
    snapshot: Name | None = None
    kind: Name | None = None
    params: dict[str, Any] | None = None
    changes: dict[str, Any] = Field(default_factory=dict)
    margins: dict[str, Any] = Field(default_factory=dict)
    note: Note = ""


class Move(BaseModel):
    """How to move it. `share` is for `canary`, `to_live` for `promote`."""

    model_config = ConfigDict(extra="forbid")

    note: Note = ""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    to_live: bool = False


@admin_only
async def list_candidates(asked: Asked) -> dict[str, Any]:
    """Every candidate with where it stands, newest first; `?policy=` narrows it."""
    rollout = _rollout(asked)
    policy = asked.request.query_params.get("policy")
    rows = await asyncio.to_thread(telling.candidates, rollout.desk, policy)
    return listed([{**row, "failing": rollout.failing.get(row["name"])} for row in rows])


@admin_only
async def get_candidate(asked: Asked) -> dict[str, Any]:
    """A candidate with its trail, and the policy and parameters that it scores with."""
    rollout, name = _rollout(asked), asked.path("name")

    def read() -> dict[str, Any]:
        one = telling.candidate(rollout.desk.register.named(name), rollout.desk.last(name))
        one |= telling.fitted(rollout.desk, name)
        return {**one, "failing": rollout.failing.get(name), "transitions": telling.trail(rollout.desk, name)}

    return await asyncio.to_thread(read)


@admin_only
async def get_evidence(asked: Asked) -> dict[str, Any]:
    """What a candidate shows now, or what its last move rested on."""
    rollout, shadows = _rollout(asked), Shadows(asked.database)
    return await asyncio.to_thread(telling.evidence, rollout.desk, rollout.judge, shadows, asked.path("name"))


@admin_only
async def list_transitions(asked: Asked) -> dict[str, Any]:
    """The audit trail, newest first; `?candidate=`, `?policy=` and `?limit=` narrow it."""
    rollout, given = _rollout(asked), asked.request.query_params
    limit = asked.limit()

    def read() -> list[dict[str, Any]]:
        rows = rollout.desk.register.trail(candidate=given.get("candidate"), policy=given.get("policy"), limit=limit)
        return [telling.transition(row) for row in rows]

    return listed(await asyncio.to_thread(read))


@admin_only
async def draft(asked: Asked) -> dict[str, Any]:
    """Register a candidate. One with parameters is `fitting` until it is a draft, or `failed`."""
    rollout, body = _rollout(asked), await asked.body(Draft)
    policy = body.policy or asked.gateway.default_policy
    if body.kind is not None or body.params is not None:
        return await _begin_fit(asked, rollout, body, policy)

    def work() -> dict[str, Any]:
        one = rollout.desk.draft(
            body.name,
            policy=policy,
            snapshot=body.snapshot,
            changes=body.changes,
            margins=body.margins,
            author=asked.author,
            note=body.note,
        )
        return telling.candidate(one, rollout.desk.last(one.name))

    drafted = await asyncio.to_thread(work)
    asked.did("candidate.draft", body.name, note=body.note, policy=drafted["policy"], changes=drafted["changes"])
    return drafted


async def _begin_fit(asked: Asked, rollout: Rollout, body: Draft, policy: str) -> dict[str, Any]:
    if body.snapshot is not None:
        raise RequestError("a candidate is a snapshot or is fitted, not both", param="snapshot")
    one = await asked.parts.drafts.begin(
        rollout.desk,
        body.name,
        body.kind or policy,
        body.params or {},
        policy=policy,
        changes=body.changes,
        margins=body.margins,
        author=asked.author,
        note=body.note,
    )
    return telling.candidate(one, await asyncio.to_thread(rollout.desk.last, one.name))


@admin_only
async def move(asked: Asked) -> dict[str, Any]:
    """Move a candidate: shadow, canary, promote, rollback or retire. This process follows at once."""
    rollout, body, verb = _rollout(asked), await asked.body(Move), asked.path("move")
    desk, name = rollout.desk, asked.path("name")
    told: dict[str, Any] = {"author": asked.author, "note": body.note}
    moves: dict[str, Callable[[], Transition]] = {
        "shadow": lambda: desk.shadow(name, **told),
        "canary": lambda: desk.canary(name, share=body.share, **told),
        "promote": lambda: desk.promote(name, to_live=body.to_live, **told),
        "rollback": lambda: desk.rollback(name, **told),
        "retire": lambda: desk.retire(name, **told),
    }
    if verb not in moves:
        raise NotFound(f"no move {verb[:50]!r}; there are {', '.join(moves)}", param="move")
    for field, only in (("share", "canary"), ("to_live", "promote")):
        if field in body.model_fields_set and verb != only:
            raise RequestError(f"`{field}` is for {only} alone", param=field)

    def work() -> dict[str, Any]:
        row = moves[verb]()
        rollout.refresh()
        return telling.transition(row)

    moved = await asyncio.to_thread(work)
    asked.did(f"candidate.{verb}", name, note=body.note, before=moved["before"], state=moved["state"])
    return moved


def _rollout(asked: Asked) -> Rollout:
    rollout = asked.gateway.rollout
    if rollout is None:
        raise NotFound("this gateway follows no candidates")
    return rollout


_PATH = "/lifecycle/candidates"
ROUTES: tuple[Route, ...] = (
    ("GET", _PATH, list_candidates),
    ("POST", _PATH, draft),
    ("GET", f"{_PATH}/{{name}}", get_candidate),
    ("GET", f"{_PATH}/{{name}}/evidence", get_evidence),
    ("POST", f"{_PATH}/{{name}}/{{move}}", move),
    ("GET", "/lifecycle/transitions", list_transitions),
)
