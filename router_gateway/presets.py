"""Settings that together are a published system, under that system's name."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Somerstep et al., 2025, "CARROT: a cost aware rate optimal router" (arXiv 2502.03261): quality and cost are both
    # estimated for the query at hand, and the endpoint where quality less its price is highest answers.
    "carrot": {"policy": {"name": "knn"}, "cost_model": "learned", "rule": {"name": "greedy"}},
    # After ParetoBandit (Taberner-Miller, 2026, arXiv 2604.00136): quality and cost learned apart from what was chosen,
    # forgotten with time; doubt is explored, the rule's chances are exact. A budget in `pacing` moves the dial.
    "bandit": {
        "policy": {"name": "bandit"},
        "cost_model": "streaming",
        "rule": {"name": "inverse_gap", "gamma": 5_000.0},
        "optimism": 1.0,
        "learning": {"interval_s": 5.0, "rows_min": 1},
    },
}
"""By name, settings as a configuration file has them. What a file or the environment says goes before them."""


class PresetSource(PydanticBaseSettingsSource):
    """The settings of the preset that the sources before this one name; none for a name that is none."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """One setting; `__call__` is what is used."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        named = self.current_state.get("preset")
        return deepcopy(dict(PRESETS[named])) if isinstance(named, str) and named in PRESETS else {}
