import pytest

from router_gateway.ledger.hearing import Hearing


def word(quality, source="user", turn=None, judge=None):
    return {"quality": quality, "source": source, "turn": turn, "judge": judge}


def test_nobody_spoke():
    assert Hearing().quality([], "a") is None


def test_as_they_were_said_the_last_words_of_all_count_alike():
    said = [word(0.0), word(1.0), word(0.5, "judge", judge="j"), word(0.3, turn=2)]
    assert Hearing().quality(said, "a") == pytest.approx((1.0 + 0.5 + 0.3) / 3)


def test_where_the_truth_spoke_nobody_else_is_heard():
    hearing = Hearing(truth=frozenset({"label", "user"}))
    assert hearing.quality([word(0.9, "judge"), word(0.2, "label"), word(0.8, "implicit")], "a") == 0.2
    assert hearing.quality([word(0.9, "judge"), word(0.5, "implicit")], "a") == pytest.approx(0.7)


def test_a_judges_score_is_corrected_for_its_endpoint_and_no_other_word_is():
    heard = []

    def corrected(judge, endpoint, score):
        heard.append((judge, endpoint, score))
        return score - 0.2

    hearing = Hearing(corrected=corrected)
    said = [word(0.9, "judge", judge="j"), word(0.6, "judge", turn=1), word(0.3)]
    assert hearing.quality(said, "a") == pytest.approx((0.7 + 0.4 + 0.3) / 3)
    assert heard == [("j", "a", 0.9), (None, "a", 0.6)]
