"""Prompts written for this project (datasets/starter.jsonl), and what their checkable answers are worth."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from router_gateway.core.errors import DataError
from router_gateway.evaluation.problems import Problems, shown
from router_gateway.evaluation.readers import json_lines

Action = Literal[
    "generate", "explain", "debug", "classify", "extract", "summarise", "translate", "rewrite", "calculate", "plan",
    "compare", "answer",
]  # fmt: skip
Difficulty = Literal["easy", "medium", "hard"]
AnswerKind = Literal["exact", "number", "regex", "contains"]

ACTIONS: tuple[str, ...] = get_args(Action)
DIFFICULTIES: tuple[str, ...] = get_args(Difficulty)
REPLY_CHARS_MAX = 100_000
"""A longer reply is graded by its end, where answers stand."""
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-+\u2212])?"  # a sign, unless it is the minus of "5-3" or the dash of a range
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{1,3})?"
)
_QUOTES = "\"'`* \u201c\u201d\u2018\u2019"
_FIELDS = frozenset({"id", "prompt", "domain", "action", "difficulty", "answer"})
_ANSWER_FIELDS = frozenset({"kind", "value", "tolerance"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a right reply says.

    exact : the whole reply, or its last line, is `value` (case, outer quotes and full stop aside)
    number : the last number of the reply is `value`, give or take `tolerance`
    regex : `value` is found somewhere in the reply, whatever the case
    contains : `value`, or every one of several, is found in the reply (case and kind of white space aside)
    """

    kind: AnswerKind
    value: str | float | tuple[str, ...]
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StarterPrompt:
    """One prompt with its labels; `answer` is None where quality is a matter of judgement."""

    id: str
    prompt: str
    domain: str
    action: Action
    difficulty: Difficulty
    answer: Answer | None


def read_starter(path: str | Path) -> tuple[StarterPrompt, ...]:
    """All prompts of a file in the format of datasets/README.md. Raises DataError with every bad line at once."""
    path = Path(path)
    problems = Problems(str(path))
    prompts: list[StarterPrompt] = []
    first: dict[str, str] = {}
    try:
        for where, row in json_lines(path, problems):
            before = problems.count
            _check_row(where, row, problems)
            answer = _answer(where, row.get("answer"), problems)
            if isinstance(id_ := row.get("id"), str) and (other := first.setdefault(id_, where)) != where:
                problems.add(where, "id", f"{shown(id_)} was given already at {other}")
            if problems.count == before:
                prompts.append(StarterPrompt(**{name: row[name] for name in _FIELDS - {"answer"}}, answer=answer))
    except OSError as error:
        raise DataError([f"{path}: {error.strerror or 'cannot be read'}"]) from error
    problems.raise_if_any()
    return tuple(prompts)


def _check_row(where: str, row: Mapping[str, Any], problems: Problems) -> None:
    if unknown := sorted(row.keys() - _FIELDS):
        problems.add(where, "", f"unknown fields: {shown(', '.join(unknown))}")
    if "answer" not in row:
        problems.add(where, "answer", "missing (null where there is none)")
    for name in ("id", "prompt", "domain"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            problems.add(where, name, "must be text and not empty")
    for name, allowed in (("action", ACTIONS), ("difficulty", DIFFICULTIES)):
        if row.get(name) not in allowed:
            problems.add(where, name, f"{shown(row.get(name))} is none of {', '.join(allowed)}")


def _answer(where: str, given: Any, problems: Problems) -> Answer | None:
    if given is None:
        return None
    if not isinstance(given, dict) or given.keys() - _ANSWER_FIELDS or not {"kind", "value"} <= given.keys():
        problems.add(where, "answer", "must be null or have kind, value and perhaps tolerance")
        return None
    kind, value, tolerance = given["kind"], given["value"], given.get("tolerance", 0.0)
    if kind not in get_args(AnswerKind):
        problems.add(where, "answer.kind", f"{shown(kind)} is none of {', '.join(get_args(AnswerKind))}")
        return None
    if tolerance is None:
        tolerance = 0.0
    if not _is_number(tolerance) or tolerance < 0 or (tolerance and kind != "number"):
        problems.add(where, "answer.tolerance", "must be a number, not negative, and stand with a number")
        return None
    if what := _wrong_value(kind, value):
        problems.add(where, "answer.value", what)
        return None
    return Answer(kind=kind, value=tuple(value) if isinstance(value, list) else value, tolerance=float(tolerance))


def _wrong_value(kind: str, value: Any) -> str | None:
    if kind == "number":
        return None if _is_number(value) else "must be a finite number"
    texts = value if kind == "contains" and isinstance(value, list) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        return "must be text and not empty"
    if kind == "regex":
        try:
            re.compile(value)
        except re.error as error:
            return f"is no regular expression: {error.msg}"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def grade(answer: Answer | None, reply: str) -> float | None:
    """1.0 for a right reply, 0.0 for a wrong one, None where there is nothing to check against."""
    if answer is None:
        return None
    reply = reply[-REPLY_CHARS_MAX:]
    return float(_GRADERS[answer.kind](answer, reply))


def _exact(answer: Answer, reply: str) -> bool:
    lines = [line for line in reply.splitlines() if line.strip()] or [""]
    return _plain(str(answer.value)) in (_plain(reply), _plain(lines[-1]))


def _number(answer: Answer, reply: str) -> bool:
    found = _NUMBER.findall(reply)
    if not found:
        return False
    wanted = float(str(answer.value))
    last = float(found[-1].replace(",", "").replace("\u2212", "-"))
    # a binary fraction must not fail at the edge of its tolerance
    return abs(last - wanted) <= answer.tolerance + 1e-9 * max(1.0, abs(wanted))


def _regex(answer: Answer, reply: str) -> bool:
    return re.search(str(answer.value), reply, re.IGNORECASE) is not None


def _contains(answer: Answer, reply: str) -> bool:
    values = answer.value if isinstance(answer.value, tuple) else (str(answer.value),)
    text = _spaced(reply)
    return all(_spaced(value) in text for value in values)


_GRADERS = {"exact": _exact, "number": _number, "regex": _regex, "contains": _contains}


def _spaced(text: str) -> str:
    return " ".join(text.casefold().split())


def _plain(text: str) -> str:
    return _spaced(text).strip(_QUOTES).rstrip(".!").strip(_QUOTES)
