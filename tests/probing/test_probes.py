import contextlib
import io
import json
import re
from collections import Counter

import pytest

from router_gateway.core.checks import Choice, Exact, Number
from router_gateway.core.errors import ConfigError, DataError
from router_gateway.evaluation.starter import read_starter
from router_gateway.probing import probes as module
from router_gateway.probing.probes import packaged_probes, read_probes
from tests.evaluation.test_starter import STARTER
from tests.probing.computed import COMPUTED
from tests.probing.replies import REPLIES

PRINTS = "What does this Python program print?"
ROW = {
    "id": "a",
    "prompt": "2 + 2?",
    "domain": "maths",
    "action": "calculate",
    "difficulty": "easy",
    "check": {"kind": "number", "answer": 4},
}


@pytest.fixture(scope="module")
def probes():
    return read_probes(packaged_probes())


def replies(probe):
    """A right and a wrong one."""
    check = probe.checks[0]
    if probe.id in COMPUTED and not isinstance(check, Number):
        right = str(COMPUTED[probe.id]())
        return right, right[::-1].swapcase() + "x7"
    if probe.id in REPLIES:
        return REPLIES[probe.id]
    match check:
        case Number():
            return f"The result is {check.answer:.12g}.", f"It is {check.answer + 1:.12g}"
        case Choice():
            letters = "ABCDEFGHIJ"[: check.options]
            return f"({check.answer})", letters[letters.index(check.answer) - 1]
        case Exact():
            return check.answers[0], f"not {check.answers[0]}"
    raise AssertionError(f"{probe.id}: say a right and a wrong reply in replies.py")


def test_there_are_enough_of_every_kind(probes):
    assert len(probes) >= 200
    assert {check.kind for probe in probes for check in probe.checks} == {
        "exact",
        "number",
        "choice",
        "regex",
        "json_schema",
    }
    assert min(Counter(probe.difficulty for probe in probes).values()) >= 40
    assert {probe.domain for probe in probes} == {prompt.domain for prompt in read_starter(STARTER)}


def test_no_probe_is_asked_twice_nor_is_it_a_starter_prompt(probes):
    def skeleton(text):
        return re.sub(r"\W+", " ", text.lower()).strip()

    asked = [skeleton(probe.prompt) for probe in probes]
    assert len(set(asked)) == len(asked)
    assert set(asked).isdisjoint(skeleton(prompt.prompt) for prompt in read_starter(STARTER))


def test_every_check_tells_right_from_wrong(probes):
    for probe in probes:
        right, wrong = replies(probe)
        assert probe.grade(right) == 1.0, probe.id
        assert probe.grade(wrong) == 0.0, probe.id
        assert probe.grade("") == 0.0, probe.id


def test_programs_print_what_the_probe_says(probes):
    """The answer is what the interpreter says."""
    programs = [probe for probe in probes if probe.prompt.startswith(PRINTS)]
    assert len(programs) >= 15
    for probe in programs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(probe.prompt.partition("\n\n")[2], {})
        assert probe.checks[0].answers == (printed.getvalue().strip(),), probe.id


def test_what_a_program_can_work_out_is_worked_out(probes):
    known = {probe.id: probe for probe in probes}
    assert set(COMPUTED) | set(REPLIES) <= set(known)
    for id_, compute in COMPUTED.items():
        check = known[id_].checks[0]
        if isinstance(check, Number):
            assert abs(float(compute()) - check.answer) <= 1e-6, id_
        elif isinstance(check, Exact):
            assert check.answers == (compute(),), id_
        else:  # a pattern, where capitals count
            assert check.full
            assert re.sub(r"\\(.)", r"\1", check.pattern) == compute(), id_


def test_the_digest_follows_prompt_and_check(tmp_path):
    def digest(**changes):
        path = tmp_path / "p.jsonl"
        path.write_text(json.dumps(ROW | changes) + "\n")
        return read_probes(path)[0].digest

    assert digest() == digest(id="b", difficulty="hard")
    assert len({digest(), digest(prompt="3 + 1?"), digest(check={"kind": "number", "answer": 5})}) == 3


def test_several_checks_must_all_pass(tmp_path):
    path = tmp_path / "p.jsonl"
    both = [{"kind": "regex", "pattern": "a"}, {"kind": "regex", "pattern": "b"}]
    path.write_text(json.dumps(ROW | {"check": both}) + "\n")
    [probe] = read_probes(path)
    assert [probe.grade(text) for text in ("ab", "a", "b")] == [1.0, 0.0, 0.0]
    assert probe.grade("a" * 200_000) is None


def test_all_bad_lines_are_reported_together(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [
        ROW,
        ROW,
        ROW | {"id": "c", "prompt": "x", "action": "sing", "mood": "good"},
        ROW | {"id": "d", "prompt": "y", "check": {"kind": "guess"}},
        ROW | {"id": "", "prompt": "z"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError) as caught:
        read_probes(path)
    told = [problem.removeprefix(f"{path}:") for problem in caught.value.problems]
    assert [problem.split(":")[0] for problem in told] == ["2", "2", "3", "3", "4", "5"]
    assert "check.kind" in told[4]


def test_a_missing_package_file_is_said(monkeypatch):
    monkeypatch.setattr(module, "_NAME", "absent.jsonl")
    monkeypatch.setattr(module, "_SHARED", "absent.jsonl")
    with pytest.raises(ConfigError, match="not installed"):
        packaged_probes()
