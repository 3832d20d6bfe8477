"""Prompts whose answers can be checked: datasets/probes.jsonl, or a file of one's own in the same format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from router_gateway.core.checks import Check, parse_checks
from router_gateway.core.errors import ConfigError, DataError, RequestError
from router_gateway.evaluation.problems import Problems, shown
from router_gateway.evaluation.readers import json_lines
from router_gateway.evaluation.starter import ACTIONS, DIFFICULTIES, Action, Difficulty

_NAME = "probes.jsonl"
_SHARED = f"share/router-gateway/datasets/{_NAME}"
_FIELDS = frozenset({"id", "prompt", "domain", "action", "difficulty", "check"})
_PROMPT_CHARS_MAX = 20_000
_PROBES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One prompt with its labels; an answer is right when all `checks` pass. `digest` is of prompt and checks."""

    id: str
    prompt: str
    domain: str
    action: Action
    difficulty: Difficulty
    checks: tuple[Check, ...]
    digest: str

    def grade(self, answer: str) -> float | None:
        """1.0 or 0.0, None where a check cannot be decided. May take a second: belongs in a thread."""
        results = [check.passes(answer) for check in self.checks]
        if False in results:
            return 0.0
        return None if None in results else 1.0


def packaged_probes() -> Path:
    """The file of the checkout, or the one that the wheel installed. Raises ConfigError when there is neither."""
    checkout = Path(__file__).resolve().parents[2] / "datasets" / _NAME
    if checkout.is_file():
        return checkout
    try:
        files = distribution("router-gateway").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(_SHARED):
            return Path(str(file.locate())).resolve()
    raise ConfigError([f"{_NAME} is not installed"], hint="install router-gateway again, or name a file of your own")


def read_probes(path: Path) -> tuple[Probe, ...]:
    """All probes of a file in the format of datasets/README.md. Raises DataError with every bad line at once."""
    problems = Problems(str(path))
    probes: list[Probe] = []
    first: dict[tuple[str, str], str] = {}
    try:
        for where, row in json_lines(path, problems):
            before = problems.count
            _check_row(where, row, problems)
            checks = _checks(where, row.get("check"), problems)
            for name in ("id", "prompt"):
                other = first.setdefault((name, str(row.get(name))), where)
                if other != where:
                    problems.add(where, name, f"was given already at {other}")
            if len(probes) == _PROBES_MAX:
                problems.add(where, "", f"more than {_PROBES_MAX} probes")
                break
            if problems.count == before:
                labels = {name: row[name] for name in _FIELDS - {"check"}}
                probes.append(Probe(**labels, checks=checks, digest=_digest(row)))
    except OSError as error:
        raise DataError([f"{path}: {error.strerror or 'cannot be read'}"]) from error
    problems.raise_if_any()
    return tuple(probes)


def _check_row(where: str, row: Mapping[str, Any], problems: Problems) -> None:
    if unknown := sorted(row.keys() - _FIELDS):
        problems.add(where, "", f"unknown fields: {shown(', '.join(unknown))}")
    for name in ("id", "prompt", "domain"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            problems.add(where, name, "must be text and not empty")
    if len(str(row.get("prompt"))) > _PROMPT_CHARS_MAX:
        problems.add(where, "prompt", f"has more than {_PROMPT_CHARS_MAX} characters")
    for name, allowed in (("action", ACTIONS), ("difficulty", DIFFICULTIES)):
        if row.get(name) not in allowed:
            problems.add(where, name, f"{shown(row.get(name))} is none of {', '.join(allowed)}")


def _checks(where: str, given: Any, problems: Problems) -> tuple[Check, ...]:
    try:
        return parse_checks(given, param="check")
    except RequestError as error:
        problems.add(where, "", error.message)
        return ()


def _digest(row: Mapping[str, Any]) -> str:
    asked = json.dumps([row["prompt"], row["check"]], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(asked.encode("utf-8", "replace"), digest_size=16).hexdigest()
