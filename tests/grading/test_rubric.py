import pytest

from router_gateway.grading.rubric import conversation_text, pair_question, score_of, score_question, verdict_of


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ('{"why": "right", "score": 9}', 0.9),
        ('```json\n{"why": "so", "score": 7.5}\n```', 0.75),
        ('Perhaps "score": 3? No: {"score": "10"}', 1.0),
        ('{"score": 0}', 0.0),
        ('{"score": 11}', None),
        ('{"score": -1}', None),
        ("nine", None),
        ("", None),
    ],
)
def test_the_last_score_counts(said, score):
    assert score_of(said) == score


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ('{"better": "1"}', "first"),
        ('{"better": 2}', "second"),
        ('{"why": "better: none", "better": "Neither"}', "neither"),
        ('{"better": "1"} or rather {"better": "2"}', "second"),
        ('{"better": "3"}', None),
        ("the first", None),
    ],
)
def test_the_last_verdict_counts(said, verdict):
    assert verdict_of(said) == verdict


def test_the_question_holds_what_is_judged_between_its_marks_and_braces_are_harmless():
    asked = score_question("user: {x}?", "{answer} {0}", "=== m ===")
    assert "=== m === conversation\nuser: {x}?\n=== m ===" in asked
    assert "=== m === answer\n{answer} {0}\n=== m ===" in asked
    both = pair_question("c", "one", "two", "=== m ===")
    assert both.index("answer 1\none\n") < both.index("answer 2\ntwo\n")


def test_a_conversation_is_read_in_order_and_pictures_are_named():
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "a cat"},
        "nonsense",
    ]
    assert conversation_text(messages) == (
        "system: Be brief.\n\nuser: What is this?\n[image_url]\n\nassistant: \n[calls tools]\n\ntool: a cat"
    )
