"""A fitted policy as a folder of two files: numbers in `arrays.npz`, everything else in `state.json`."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Floats

FORMAT = 1
PolicyT = TypeVar("PolicyT")


def write_state(directory: Path, policy: Any, *, facts: Mapping[str, Any], arrays: Mapping[str, Floats]) -> None:
    """Write the hyperparameters of a dataclass, JSON-able `facts` and numeric `arrays` into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    state = {
        "format": FORMAT,
        "policy": type(policy).__name__,
        "parameters": dataclasses.asdict(policy),
        "facts": dict(facts),
    }
    (directory / "state.json").write_text(json.dumps(state, indent=1, allow_nan=False), encoding="utf-8")
    np.savez(directory / "arrays.npz", allow_pickle=False, **dict(arrays))


def read_state(
    directory: Path, policy: type[PolicyT], *, facts: Collection[str], arrays: Collection[str]
) -> tuple[PolicyT, dict[str, Any], dict[str, Floats]]:
    """The unfitted policy and what `write_state` wrote beside it, which must be the facts and arrays named.

    Raises SnapshotMismatch for anything else.
    """
    try:
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        if state["format"] != FORMAT or state["policy"] != policy.__name__:
            raise ValueError(f"it holds {state['policy']!r} in format {state['format']!r}")
        with np.load(directory / "arrays.npz", allow_pickle=False) as stored:
            numbers = {name: stored[name] for name in stored.files}
        if set(state["facts"]) != set(facts) or set(numbers) != set(arrays):
            raise ValueError(f"it holds {sorted([*state['facts'], *numbers])}")
        return policy(**state["parameters"]), state["facts"], numbers
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise SnapshotMismatch(
            f"{directory.name!r} is not a saved {policy.__name__} of format {FORMAT}: {error}",
            hint="load a folder written by this version, or fit the policy again",
        ) from error
