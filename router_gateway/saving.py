"""Settings that are safe to change while the gateway serves: what they may be, and who said what is in force.

They are saved in the ledger's database (ledger/saved_settings.py), go before the file and the environment, and are
followed by every process (lifecycle/rollout.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from router_gateway.brain import check_savable, with_changes
from router_gateway.config import ENV_PREFIX, Changes, Config, Savable
from router_gateway.core.errors import GatewayError, RequestError
from router_gateway.ledger.saved_settings import SavedSettings
from router_gateway.presets import PRESETS

_PACED = ("worth_usd", "optimism", "rule")
"""What a pacer moves, or counts on: saving them would change nothing that anybody sees."""


class Saving:
    """`config` is the configuration as it was read, without anything that is saved."""

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._sources = sources(config, environ)

    def check(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The changes as JSON values; None lifts a setting. Raises RequestError naming the first that is wrong."""
        if not changes:
            raise RequestError("`changes`: nothing is changed", param="changes")
        checked = check_savable(changes)
        pacing = self._config.pacing
        for name in sorted(name for name, value in checked.items() if value is not None):
            if name == "pacing_usd" and pacing is None:
                raise _refused(name, "the configuration has no `pacing`")
            if name in _PACED and pacing is not None:
                raise _refused(name, "`pacing` moves the dial here; save `pacing_usd`")
        return checked

    def shown(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration with `state` in force, for people: what is secret is masked."""
        return with_changes(self._config, state).shown()

    def told(self, state: Mapping[str, Any], candidate: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """By setting, the value in force under a saved state and a live candidate's changes, and because of whom."""
        told = {}
        for name in Savable.model_fields:
            because = "candidate" if name in candidate else "saved" if name in state else self._sources[name]
            laid = candidate if name in candidate else state
            told[name] = {"value": laid.get(name, self._configured(name)), "because": because}
        return told

    def _configured(self, name: str) -> Any:
        shown = self._config.shown()
        if name == "pacing_usd":
            return None if shown["pacing"] is None else shown["pacing"]["usd"]
        return shown[name]

    @property
    def schema(self) -> dict[str, Any]:
        """What may be saved, as a JSON Schema: a form can be drawn from it."""
        return Savable.model_json_schema()


def with_saved(config: Config, engine: Any) -> Config:
    """The configuration with what is saved in the ledger's database (an engine of ledger/) laid over it."""
    saved = SavedSettings(engine).newest()
    return config if saved is None else with_changes(config, saved.state)


def sources(config: Config, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """By setting that can be saved, who said what the configuration has: environment, file, preset or default."""
    preset = PRESETS.get(config.preset or "", {})
    in_environment = {variable.upper() for variable in environ}

    def source(name: str) -> str:
        section, _, member = name.partition("_") if name == "pacing_usd" else (name, "", "")
        variable = f"{ENV_PREFIX}{section}".upper()
        if any(each == variable or each.startswith(f"{variable}__{member}".upper()) for each in in_environment):
            return "environment"
        if section not in config.model_fields_set:
            return "default"
        return "preset" if section in preset and config.model_dump()[section] == _complete(section, preset) else "file"

    return {name: source(name) for name in Savable.model_fields}


def _complete(section: str, preset: Mapping[str, Any]) -> Any:
    """What a preset says of a section, with the defaults of what it does not say."""
    return Changes.model_validate({section: preset[section]}).model_dump()[section]


def _refused(name: str, why: str) -> GatewayError:
    return RequestError(f"`changes.{name}`: {why}", param=f"changes.{name}")
