import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.evaluation.perturb import PERTURBATIONS, lower_case, politeness, prefix, typos

TEXT = "Explain which numbers between seven and nineteen cannot be written as products of smaller numbers."


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_a_change_changes_and_can_be_repeated(name):
    change = PERTURBATIONS[name]
    assert change(TEXT) != TEXT
    assert change(TEXT) == change(TEXT)


@given(st.text())
def test_typos_only_move_letters(text):
    changed = typos(text)
    assert len(changed) == len(text)
    assert sorted(changed) == sorted(text)


def test_typos_touch_a_tenth_of_the_long_words():
    words = [f"word{'abcdefghij'[i % 10]}xyz" for i in range(100)]
    changed = typos(" ".join(words)).split(" ")
    differing = [(a, b) for a, b in zip(words, changed, strict=True) if a != b]
    assert 0 < len(differing) <= 10
    assert all(a[0] == b[0] and a[-1] == b[-1] for a, b in differing)


def test_short_words_are_spelled_as_they_were():
    assert typos("is it so? no, 12 of us do") == "is it so? no, 12 of us do"


@given(st.text())
def test_the_question_stays_in_the_text(text):
    assert text in politeness(text)
    assert prefix(text).endswith(text)
    assert lower_case(text) == text.lower()
