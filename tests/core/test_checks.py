"""What the checks take for right, and that nothing a client writes makes them slow or reach out."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_gateway.core.checks import ANSWER_CHARS_MAX, parse_check, parse_checks
from router_gateway.core.errors import RequestError
from router_gateway.core.patterns import pattern_of

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("check", "answer", "passes"),
    [
        ({"kind": "exact", "answer": "Canberra"}, "  **canberra**.\n", True),
        ({"kind": "exact", "answer": "Canberra"}, "It is Canberra", False),
        ({"kind": "exact", "answer": ["UK", "United Kingdom"]}, "united   kingdom!", True),
        ({"kind": "exact", "answer": "C++"}, "C", False),
        ({"kind": "exact", "answer": "?!"}, "...", False),
        ({"kind": "exact", "answer": "x = 1"}, "```python\nx = 1\n```", True),
        ({"kind": "number", "answer": 72}, "48/2 = 24, and 48+24 = 72.", True),
        ({"kind": "number", "answer": 1234.5}, "That makes $1,234.50", True),
        ({"kind": "number", "answer": -3}, "x = \N{MINUS SIGN}3", True),
        ({"kind": "number", "answer": 5}, "It is between 3-5", True),
        ({"kind": "number", "answer": 0.75}, "The answer is 3/4, see step 2.", True),
        ({"kind": "number", "answer": 18}, "So 9 * 2\n#### 18\n(page 4)", True),
        ({"kind": "number", "answer": 7}, "\\boxed{7} as in chapter 3", True),
        ({"kind": "number", "answer": 3.14, "tolerance": 0.01}, "about 3.1416", True),
        ({"kind": "number", "answer": 3.14}, "about 3.1416", False),
        ({"kind": "number", "answer": 2}, "H2O", False),
        ({"kind": "number", "answer": 6.02e23}, "6.02e23", True),
        ({"kind": "number", "answer": 0}, "1/0", False),
        ({"kind": "number", "answer": 0.5}, ".5", True),
        ({"kind": "number", "answer": 1}, "9" * 5_000, False),
        ({"kind": "choice", "answer": "b"}, "b", True),
        ({"kind": "choice", "answer": "B"}, "B) Paris, since A is in Spain", True),
        ({"kind": "choice", "answer": "C"}, "A looks right at first. The correct answer is (C).", True),
        ({"kind": "choice", "answer": "D"}, "I think that A gas rises, so **D**", True),
        ({"kind": "choice", "answer": "A"}, "I am not sure", False),
        ({"kind": "choice", "answer": "B"}, "Answer: **A**, not B", False),
        ({"kind": "choice", "answer": "C", "options": 4}, "Vitamin E? Then C", True),
        ({"kind": "regex", "pattern": "(?i)\\bcanberra\\b"}, "CANBERRA!", True),
        ({"kind": "regex", "pattern": "\\d{4}-\\d{2}", "full": True}, " 2024-05\n", True),
        ({"kind": "regex", "pattern": "\\d{4}-\\d{2}", "full": True}, "on 2024-05", False),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "Ada", "age": 36}', True),
        ({"kind": "json_schema", "schema": PERSON}, '```json\n{"name": "Ada"}\n```', True),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "ada"}', False),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "Ada", "age": -1}', False),
        ({"kind": "json_schema", "schema": PERSON}, '{"name": "Ada", "town": "London"}', False),
        ({"kind": "json_schema", "schema": PERSON}, "Sure! Here is Ada.", False),
        ({"kind": "json_schema", "schema": {"uniqueItems": True}}, "[1, 1.0]", False),
        ({"kind": "json_schema", "schema": {"uniqueItems": True}}, '[1, true, "1", [1], {"a": 1}]', True),
        ({"kind": "json_schema", "schema": {"uniqueItems": False}}, "[1, 1]", True),
    ],
)
def test_what_passes(check: dict, answer: str, passes: bool):
    assert parse_check(check).passes(answer) is passes


@pytest.mark.parametrize(
    ("check", "param"),
    [
        ("exact", "verify"),
        ([], "verify"),
        ({}, "verify.kind"),
        ({"kind": "vibes"}, "verify.kind"),
        ({"kind": ["exact"]}, "verify.kind"),
        ({"kind": "exact"}, "verify.answer"),
        ({"kind": "exact", "answer": []}, "verify.answer"),
        ({"kind": "exact", "answer": ["a", 1]}, "verify.answer"),
        ({"kind": "exact", "answer": "x" * 2_001}, "verify.answer"),
        ({"kind": "exact", "answer": "a", "fuzzy": True}, "verify.fuzzy"),
        ({"kind": "number", "answer": "4"}, "verify.answer"),
        ({"kind": "number", "answer": True}, "verify.answer"),
        ({"kind": "number", "answer": 10**400}, "verify.answer"),
        ({"kind": "number", "answer": float("nan")}, "verify.answer"),
        ({"kind": "number", "answer": 4, "tolerance": -1}, "verify.tolerance"),
        ({"kind": "choice", "answer": "AB"}, "verify.answer"),
        ({"kind": "choice", "answer": "E", "options": 4}, "verify.answer"),
        ({"kind": "choice", "answer": "A", "options": 27}, "verify.options"),
        ({"kind": "regex", "pattern": "("}, "verify.pattern"),
        ({"kind": "regex", "pattern": "(a)\\1"}, "verify.pattern"),
        ({"kind": "regex", "pattern": "a" * 501}, "verify.pattern"),
        ({"kind": "regex", "pattern": "((a{1,100}){1,100}){1,100}"}, "verify.pattern"),
        ({"kind": "regex", "pattern": "a", "full": "yes"}, "verify.full"),
        ({"kind": "json_schema"}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"type": "person"}}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"$ref": "https://example.com/s.json"}}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"$ref": "file:///etc/passwd"}}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"patternProperties": {"(a+)+$": {}}}}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"items": {"pattern": "("}}}, "verify.schema"),
        ({"kind": "json_schema", "schema": {"enum": ["x" * 20_000]}}, "verify.schema"),
        ([{"kind": "exact", "answer": "a"}, {"kind": "number"}], "verify[1].answer"),
        ([{"kind": "exact", "answer": "a"}] * 11, "verify"),
    ],
)
def test_a_wrong_check_is_refused_by_name(check: object, param: str):
    with pytest.raises(RequestError) as caught:
        parse_checks(check, param="verify")
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message


def test_a_schema_too_deep_is_refused_without_recursion():
    schema: dict = {}
    for _ in range(5_000):
        schema = {"not": schema}
    with pytest.raises(RequestError, match="nested"):
        parse_check({"kind": "json_schema", "schema": schema})


def test_a_list_of_checks_and_one_alone():
    one = {"kind": "regex", "pattern": "a"}
    assert parse_checks(one, param="p") == parse_checks([one], param="p")
    assert [check.kind for check in parse_checks([one, {"kind": "exact", "answer": "a"}], param="p")] == [
        "regex",
        "exact",
    ]


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "exact", "answer": "a"},
        {"kind": "number", "answer": 1},
        {"kind": "choice", "answer": "A"},
        {"kind": "regex", "pattern": "a"},
        {"kind": "json_schema", "schema": {}},
    ],
)
def test_of_a_huge_answer_nothing_is_said(check: dict):
    assert parse_check(check).passes("a" * (ANSWER_CHARS_MAX + 1)) is None


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "^(\\w+\\s?)*$", "(x+x+)+y", "(.*)*b$"])
def test_patterns_that_keep_a_backtracking_engine_busy_for_ever_are_quick(pattern: str):
    started = time.perf_counter()
    assert parse_check({"kind": "regex", "pattern": pattern}).passes("a" * 50_000 + "!") is False
    assert time.perf_counter() - started < 2.0


def test_a_match_lets_other_threads_run():
    """It would stop the event loop of the gateway otherwise."""
    pattern = pattern_of("((a{1,10}){1,10}){1,10}$")  # the slowest that RE2 takes: about a second for 50,000 characters
    thread = threading.Thread(target=pattern.search, args=("a" * 20_000 + "b",))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns > 10


def test_a_schema_that_would_take_ages_is_left_undecided(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("router_gateway.core.json_schema._DEADLINE_S", 0.05)
    tree = {"$defs": {"t": {"anyOf": [{"items": {"$ref": "#/$defs/t"}, "type": "array", "minItems": 99}] * 3}}}
    check = parse_check({"kind": "json_schema", "schema": {**tree, "$ref": "#/$defs/t"}})
    answer = "[" * 30 + "]" * 30
    assert check.passes(answer) is None


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/nobody"}])
def test_references_that_lead_nowhere_are_left_undecided(schema: dict):
    assert parse_check({"kind": "json_schema", "schema": schema}).passes("{}") is None


def test_json_nested_too_deep_to_read_is_no_answer():
    assert parse_check({"kind": "json_schema", "schema": {}}).passes("[" * 90_000) is False


TEXTS = st.text(st.characters(), max_size=60)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
KINDS = st.sampled_from(["exact", "number", "choice", "regex", "json_schema"])
MEMBERS = ["answer", "tolerance", "options", "pattern", "full", "schema"]
LIKELY = st.builds(lambda kind, rest: {"kind": kind, **rest}, KINDS, st.dictionaries(st.sampled_from(MEMBERS), JSON))
KEYWORDS = ["type", "enum", "items", "properties", "required", "pattern", "$ref", "uniqueItems", "not"]
SCHEMAS = st.builds(
    lambda members: {"kind": "json_schema", "schema": members}, st.dictionaries(st.sampled_from(KEYWORDS), JSON)
)


@settings(max_examples=150, deadline=None)
@given(JSON | LIKELY | SCHEMAS, TEXTS)
def test_whatever_a_client_writes_is_a_check_or_refused_by_name(value, answer):
    checks, refused = (), None
    try:
        checks = parse_checks(value, param="verify")
    except RequestError as error:
        refused = error
    assert refused is None or (refused.param or "").startswith("verify")
    assert {check.passes(answer) for check in checks} <= {True, False, None}
