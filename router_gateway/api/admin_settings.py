"""/admin/api/settings: what is in force and because of whom; saved, with its history, and rolled back."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, ConfigDict

from router_gateway.api.admin_door import Asked, Note, Route, admin_only, listed
from router_gateway.core.errors import NotFound, RequestError
from router_gateway.ledger.saved_settings import Saved, SavedSettings
from router_gateway.lifecycle.rollout import Rollout

_ID_MAX = 2**62


class NewSettings(BaseModel):
    """What to save. In `changes` null lifts a saved setting; `base` is the id that the author saw, 0 = none."""

    model_config = ConfigDict(extra="forbid")

    changes: dict[str, Any]
    note: Note = ""
    base: int | None = None


class Back(BaseModel):
    """Why to go back."""

    model_config = ConfigDict(extra="forbid")

    note: Note = ""


@admin_only
async def get_settings(asked: Asked) -> dict[str, Any]:
    """The configuration in force in this process, what is saved, and by policy who says what; secrets are masked."""
    return _in_force(asked)


@admin_only
async def list_history(asked: Asked) -> dict[str, Any]:
    """What was saved, newest first: by whom, when and why; `?limit=`."""
    limit = asked.limit()
    rows = await asyncio.to_thread(lambda: SavedSettings(asked.database).history(limit=limit))
    return listed([_saved(row) for row in rows])


@admin_only
async def save_settings(asked: Asked) -> dict[str, Any]:
    """Save changes; this process follows at once, others within seconds."""
    body, rollout = await asked.body(NewSettings), _rollout(asked)
    changes = asked.parts.saving.check(body.changes)

    def work() -> Saved:
        row = SavedSettings(asked.database).save(changes, author=asked.author, note=body.note, base=body.base)
        rollout.refresh()
        return row

    row = await asyncio.to_thread(work)
    asked.did("settings.save", f"row {row.id}", note=body.note, changes=changes)
    return {"saved": _saved(row), **_in_force(asked)}


@admin_only
async def roll_back(asked: Asked) -> dict[str, Any]:
    """Save the state of an earlier row anew; `0` is the state before anything was saved."""
    body, rollout, said = await asked.body(Back), _rollout(asked), asked.path("id")
    if not (said.isascii() and said.isdigit() and int(said) < _ID_MAX):
        raise RequestError("`id` must be the id of a row of the history, or 0", param="id")

    def work() -> Saved:
        register = SavedSettings(asked.database)
        if int(said) and (state := register.at(int(said)).state):
            asked.parts.saving.check(state)  # of another version, or of a file that was changed since
        row = register.roll_back(int(said), author=asked.author, note=body.note)
        rollout.refresh()
        return row

    row = await asyncio.to_thread(work)
    asked.did("settings.roll_back", f"row {row.id}", note=body.note, restores=row.restores, changes=dict(row.changes))
    return {"saved": _saved(row), **_in_force(asked)}


def _in_force(asked: Asked) -> dict[str, Any]:
    saving, rollout = asked.parts.saving, asked.gateway.rollout
    saved = None if rollout is None else rollout.saved
    state = {} if saved is None else saved.state
    policies = {}
    for policy, router in asked.gateway.routers.items():
        changes = {} if rollout is None else rollout.live_changes.get(policy, {})
        policies[policy] = {"candidate": router.candidate, "settings": saving.told(state, changes)}
    return {
        "settings": saving.shown(state),
        "saved": None if saved is None else _saved(saved),
        "in_force": policies,
        "savable": saving.schema,
    }


def _saved(row: Saved) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at.isoformat(),
        "author": row.author,
        "note": row.note,
        "changes": dict(row.changes),
        "state": dict(row.state),
        "restores": row.restores,
    }


def _rollout(asked: Asked) -> Rollout:
    rollout = asked.gateway.rollout
    if rollout is None or rollout.settings is None:
        raise NotFound("this gateway follows no saved settings")
    return rollout


ROUTES: tuple[Route, ...] = (
    ("GET", "/settings", get_settings),
    ("POST", "/settings", save_settings),
    ("GET", "/settings/history", list_history),
    ("POST", "/settings/rollback/{id}", roll_back),
)
