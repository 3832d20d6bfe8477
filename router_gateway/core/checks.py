"""Checks of an answer that need nobody's opinion: the exact words, a number, a choice, a pattern, a JSON schema.

A check is read from a JSON object, `{"kind": "number", "answer": 42}`, by `parse_check`; `passes` applies it to the
text of an answer. `passes` may take a second for a hostile pattern or schema, so it belongs in a thread. It blocks
nobody there: patterns run on RE2, whose time is linear in the text and which lets go of the interpreter meanwhile
(docs/adr/0016), schemas under a deadline (core/json_schema.py).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any, ClassVar, Protocol

from router_gateway.core.errors import RequestError
from router_gateway.core.json_schema import Schema, unfenced
from router_gateway.core.patterns import matches, pattern_of

ANSWER_CHARS_MAX = 100_000
"""Of a longer answer nothing is said: `passes` returns None."""

_STRING_CHARS_MAX = 2_000
_PATTERN_CHARS_MAX = 500
_ANSWERS_MAX = 100
_CHECKS_MAX = 10
_OPTIONS = 10
_NAME_CHARS_SHOWN = 64

_MARK = re.compile(r"####|\\boxed\{|answer(?: is|:|\s*=)", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]])[-+])?(?<![A-Za-z_\d/])"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?(?:/\d+(?!\d*/))?",
    re.IGNORECASE,
)
_LETTER = re.compile(r"\(([A-Z])\)|(?<![A-Za-z'])([A-Z])(?![A-Za-z'])")
_ENDS = " \t\n.,;:!?\"'`*_()[]{}\u201c\u201d\u2018\u2019\u00ab\u00bb"


class Check(Protocol):
    """Says of an answer's text whether it is right."""

    kind: ClassVar[str]

    def passes(self, answer: str) -> bool | None:
        """None where that cannot be decided within the bounds."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exact:
    """The answer is one of `answers`; case, spaces, and punctuation and emphasis at the ends do not count."""

    kind: ClassVar[str] = "exact"
    answers: tuple[str, ...]

    def passes(self, answer: str) -> bool | None:
        if len(answer) > ANSWER_CHARS_MAX:
            return None
        return normalised(answer) in {normalised(accepted) for accepted in self.answers}


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    r"""The number that the text ends on is within `tolerance` (absolute) of `answer`.

    That is the first number after the last "####", "\boxed{" or "answer is", else the last one of all. Thousands
    may be parted by commas; 3/4 is a number.
    """

    kind: ClassVar[str] = "number"
    answer: float
    tolerance: float = 0.0

    def passes(self, answer: str) -> bool | None:
        if len(answer) > ANSWER_CHARS_MAX:
            return None
        found = final_number(answer)
        return found is not None and math.isclose(found, self.answer, rel_tol=1e-9, abs_tol=self.tolerance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The letter that the text settles on is `answer`, one of the first `options` of the alphabet.

    That is the first after the last "answer is" and its like, else the one the text begins with ("B) Paris"), else
    the last that stands by itself.
    """

    kind: ClassVar[str] = "choice"
    answer: str
    options: int = _OPTIONS

    def passes(self, answer: str) -> bool | None:
        if len(answer) > ANSWER_CHARS_MAX:
            return None
        return final_letter(answer, self.options) == self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex:
    """RE2 finds `pattern` in the text, or, with `full`, the pattern is the whole text but for spaces at its ends."""

    kind: ClassVar[str] = "regex"
    pattern: str
    full: bool = False

    def passes(self, answer: str) -> bool | None:
        if len(answer) > ANSWER_CHARS_MAX:
            return None
        return matches(self.pattern, answer.strip() if self.full else answer, full=self.full)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchema:
    """The text, but for a code fence around it, is JSON that `schema` (draft 2020-12) allows."""

    kind: ClassVar[str] = "json_schema"
    schema: Schema = field(repr=False)

    def passes(self, answer: str) -> bool | None:
        return None if len(answer) > ANSWER_CHARS_MAX else self.schema.allows(unfenced(answer))


def parse_checks(value: Any, *, param: str) -> tuple[Check, ...]:
    """One check or a list of them. Raises RequestError naming the field, `param` being the name of the whole."""
    if not isinstance(value, list):
        return (parse_check(value, param=param),)
    if not 0 < len(value) <= _CHECKS_MAX:
        raise _wrong(param, f"a check or a list of 1 to {_CHECKS_MAX} of them")
    return tuple(parse_check(item, param=f"{param}[{index}]") for index, item in enumerate(value))


def parse_check(value: Any, *, param: str = "verify") -> Check:
    """The check that a JSON object describes. Raises RequestError naming the field; belongs in a thread for a schema.

    exact : `answer`, a string or a list of accepted ones
    number : `answer`, and `tolerance` (absolute, default 0)
    choice : `answer`, a letter, and `options`, how many letters there are (default 10)
    regex : `pattern` in RE2's syntax, and `full`
    json_schema : `schema`
    """
    if not isinstance(value, dict):
        raise _wrong(param, "an object with a `kind`")
    members = dict(value)
    kind = members.pop("kind", None)
    if not isinstance(kind, str) or kind not in _READERS:
        raise _wrong(f"{param}.kind", f"one of {', '.join(_READERS)}")
    check = _READERS[kind](members, param)
    for left in members:
        name = f"{param}.{left[:_NAME_CHARS_SHOWN]}"
        raise RequestError(f"`{name}` is not supported with kind {kind}", param=name, code="unsupported_parameter")
    return check


def normalised(text: str) -> str:
    """Without what exact answers may differ in."""
    folded = " ".join(unicodedata.normalize("NFKC", unfenced(text)).casefold().split())
    return folded.strip(_ENDS) or folded


def final_number(text: str) -> float | None:
    """The number that a text ends on (see Number), or None."""
    text = text.replace("\N{MINUS SIGN}", "-")
    marks = list(_MARK.finditer(text))
    after = _numbers(text[marks[-1].end() :]) if marks else []
    found = after[:1] or _numbers(text)[-1:]
    return found[0] if found else None


def final_letter(text: str, options: int) -> str | None:
    """The letter that a text settles on (see Choice), or None."""
    known = set(ascii_uppercase[:options])
    text = text.strip().strip("*_` ")
    if len(text) == 1:
        return text.upper() if text.upper() in known else None
    marks = list(_MARK.finditer(text))
    after = _letters(text[marks[-1].end() :], known) if marks else []
    if after:
        return after[0][1]
    letters = _letters(text, known)
    for start, letter, _ in letters[:1]:
        if start <= 1 and re.match(r"\(?[A-Z][).:](?:\s|$)", text):
            return letter
    alone = [letter for _, letter, article in letters if not article]
    return alone[-1] if alone else None


def _numbers(text: str) -> list[float]:
    values = []
    for found in _NUMBER.finditer(text):
        above, _, below = found.group().replace(",", "").partition("/")
        value = float(above) / (float(below) or math.nan) if below else float(above)
        if math.isfinite(value):
            values.append(value)
    return values


def _letters(text: str, known: set[str]) -> list[tuple[int, str, bool]]:
    """(place, letter, whether it may be an article or a pronoun) of each option that stands by itself."""
    found = []
    for match in _LETTER.finditer(text):
        letter = match.group(1) or match.group(2)
        word_follows = match.group(2) is not None and re.match(r" [a-z]", text[match.end() : match.end() + 2])
        if letter in known:
            found.append((match.start(), letter, letter in "AI" and bool(word_follows)))
    return found


def _exact(members: dict[str, Any], param: str) -> Exact:
    given = members.pop("answer", None)
    answers = given if isinstance(given, list) else [given]
    if not 0 < len(answers) <= _ANSWERS_MAX or not all(map(_is_short, answers)):
        words = f"a string of 1 to {_STRING_CHARS_MAX} characters, or a list of 1 to {_ANSWERS_MAX} of them"
        raise _wrong(f"{param}.answer", words)
    return Exact(answers=tuple(answers))


def _number(members: dict[str, Any], param: str) -> Number:
    answer = members.pop("answer", None)
    tolerance = members.pop("tolerance", 0.0)
    if not _is_number(answer):
        raise _wrong(f"{param}.answer", "a number")
    if not _is_number(tolerance) or tolerance < 0:
        raise _wrong(f"{param}.tolerance", "a number of at least 0")
    return Number(answer=float(answer), tolerance=float(tolerance))


def _choice(members: dict[str, Any], param: str) -> Choice:
    options = members.pop("options", _OPTIONS)
    if type(options) is not int or not 2 <= options <= len(ascii_uppercase):
        raise _wrong(f"{param}.options", f"an integer from 2 to {len(ascii_uppercase)}")
    answer = members.pop("answer", None)
    letters = ascii_uppercase[:options]
    if not isinstance(answer, str) or len(answer) != 1 or answer.upper() not in letters:
        raise _wrong(f"{param}.answer", f"a letter from A to {letters[-1]}")
    return Choice(answer=answer.upper(), options=options)


def _regex(members: dict[str, Any], param: str) -> Regex:
    pattern, full = members.pop("pattern", None), members.pop("full", False)
    if not isinstance(pattern, str) or not 0 < len(pattern) <= _PATTERN_CHARS_MAX:
        raise _wrong(f"{param}.pattern", f"a string of 1 to {_PATTERN_CHARS_MAX} characters")
    if not isinstance(full, bool):
        raise _wrong(f"{param}.full", "true or false")
    try:
        pattern_of(pattern)
    except ValueError as error:
        raise _wrong(f"{param}.pattern", f"a pattern in RE2's syntax: {error}") from None
    return Regex(pattern=pattern, full=full)


def _json_schema(members: dict[str, Any], param: str) -> JsonSchema:
    try:
        return JsonSchema(schema=Schema.parse(members.pop("schema", None)))
    except ValueError as error:
        raise RequestError(f"`{param}.schema`: {error}", param=f"{param}.schema") from None


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _STRING_CHARS_MAX


def _is_number(value: Any) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _wrong(param: str, words: str) -> RequestError:
    return RequestError(f"`{param}` must be {words}", param=param)


_READERS: Mapping[str, Callable[[dict[str, Any], str], Check]] = {
    Exact.kind: _exact,
    Number.kind: _number,
    Choice.kind: _choice,
    Regex.kind: _regex,
    JsonSchema.kind: _json_schema,
}
