import json
import re
from collections import Counter
from pathlib import Path

import pytest

from router_gateway.core.errors import DataError
from router_gateway.evaluation.starter import ACTIONS, DIFFICULTIES, Answer, grade, read_starter

STARTER = Path(__file__).parents[2] / "datasets" / "starter.jsonl"
ROW = {"id": "a", "prompt": "2 + 2?", "domain": "maths", "action": "calculate", "difficulty": "easy", "answer": None}


@pytest.fixture(scope="module")
def starter():
    return read_starter(STARTER)


def test_starter_is_large_and_broad(starter):
    assert len(starter) >= 600
    assert len({p.domain for p in starter}) >= 12
    assert {p.action for p in starter} == set(ACTIONS)
    assert {p.difficulty for p in starter} == set(DIFFICULTIES)


def test_starter_repeats_no_prompt(starter):
    """Not even with other numbers in it."""
    skeletons = Counter(re.sub(r"[\W\d_]+", " ", p.prompt.lower()).strip() for p in starter)
    assert [text for text, count in skeletons.items() if count > 1] == []


def test_starter_values_answer_themselves(starter):
    """A reply that is the recorded value must be right, an empty one wrong."""
    for p in starter:
        if p.answer is None or p.answer.kind == "regex":
            continue
        value = "\n".join(p.answer.value) if isinstance(p.answer.value, tuple) else str(p.answer.value)
        assert grade(p.answer, value) == 1.0, p.id
    for p in starter:
        assert grade(p.answer, "") in (None, 0.0), p.id


def write(tmp_path, *rows):
    path = tmp_path / "s.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_reads_prompts_and_answers(tmp_path):
    answer = {"kind": "contains", "value": ["a", "b"], "tolerance": None}
    first, second = read_starter(write(tmp_path, ROW, "", ROW | {"id": "b", "answer": answer}))
    assert first.prompt == "2 + 2?"
    assert first.answer is None
    assert second.answer == Answer(kind="contains", value=("a", "b"))


def test_all_bad_lines_are_reported_together(tmp_path):
    def with_answer(**answer):
        return ROW | {"id": str(answer), "answer": answer}

    path = write(
        tmp_path,
        ROW,
        ROW,
        "{broken",
        ROW | {"id": "c", "action": "sing", "difficulty": 3, "mood": "good"},
        {key: ROW[key] for key in ("id", "prompt")} | {"id": 4},
        with_answer(kind="guess", value="a"),
        with_answer(kind="number", value="1"),
        with_answer(kind="regex", value="(("),
        with_answer(kind="exact", value="a", tolerance=1),
        with_answer(value=1),
    )
    with pytest.raises(DataError) as caught:
        read_starter(path)
    problems = [p.replace(str(path), "F") for p in caught.value.problems]
    assert [p[: p.index(":", p.index(":", 2) + 1)] for p in problems] == [
        "F:2: id",
        "F:3: not valid JSON",
        "F:4: unknown fields",
        "F:4: action",
        "F:4: difficulty",
        "F:5: answer",
        "F:5: id",
        "F:5: domain",
        "F:5: action",
        "F:5: difficulty",
        "F:6: answer.kind",
        "F:7: answer.value",
        "F:8: answer.value",
        "F:9: answer.tolerance",
        "F:10: answer",
    ]


def test_a_file_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_starter(tmp_path / "absent.jsonl")


def test_no_answer_has_no_grade():
    assert grade(None, "anything") is None


@pytest.mark.parametrize(
    ("value", "tolerance", "reply", "right"),
    [
        (79, 0, "79", True),
        (79, 0, "The result is 79.", True),
        (79, 0, "First 80, then 79", True),
        (79, 0, "79, not 80", False),
        (1234567, 0, "about 1,234,567 people", True),
        (12, 0, "1,2", False),
        (-3, 0, "x = -3", True),
        (-3, 0, "x = \u22123", True),
        (3, 0, "8-3", True),
        (0.3, 0, "0.30000000000000004", True),
        (10, 0.5, "10.5", True),
        (10, 0.5, "10.51", False),
        (1500, 0, "1.5e3", True),
        (0.5, 0, ".5", True),
        (5, 0, "no number", False),
        (5, 0, "9" * 400, False),
    ],
)
def test_numbers(value, tolerance, reply, right):
    assert grade(Answer(kind="number", value=value, tolerance=tolerance), reply) == float(right)


@pytest.mark.parametrize(
    ("reply", "right"),
    [("Paris", True), ('  "paris."\n', True), ("Let me think.\n\n**Paris**", True), ("Not Paris", False), ("", False)],
)
def test_exact(reply, right):
    assert grade(Answer(kind="exact", value="Paris"), reply) == float(right)


def test_regex_and_contains():
    regex = Answer(kind="regex", value=r"\bconflict\b")
    assert grade(regex, "409 Conflict") == 1.0
    assert grade(regex, "conflicting") == 0.0
    both = Answer(kind="contains", value=("class A", "def b"))
    assert grade(both, "CLASS   A:\n  def b(self)") == 1.0
    assert grade(both, "class A") == 0.0


def test_long_replies_are_graded_by_their_end():
    assert grade(Answer(kind="contains", value="start"), "start" + "." * 200_000) == 0.0
    assert grade(Answer(kind="number", value=7), "x" * 200_000 + " 7") == 1.0
