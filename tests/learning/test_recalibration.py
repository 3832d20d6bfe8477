"""Judges' scores less the judges' bias: the fit by itself, and what a policy learns of it."""

from uuid import UUID

import numpy as np
import pytest

from router_gateway.core.ids import uuid7
from router_gateway.core.judgement import Judgement
from router_gateway.core.types import Feedback
from router_gateway.learning.recalibration import JudgeCorrection, Recalibration, hearing_of
from router_gateway.ledger.decided import read_decided
from router_gateway.ledger.hearing import Hearing
from router_gateway.ledger.judged import Graded
from tests.learning.school import AT, SETTINGS, WORLD, decide, enrolled, school, scores


def pairs(count, *, judge="j", endpoint="a", score=lambda truth: truth, seed=1):
    truths = np.random.default_rng(seed).random(count)
    return [
        Graded(query_id=UUID(int=i), endpoint=endpoint, truth=float(y), judge=judge, score=float(score(y)))
        for i, y in enumerate(truths)
    ]


def test_without_pairs_a_score_is_what_it_was():
    assert Recalibration().corrected("j", "a", 0.7) == 0.7
    others = Recalibration.of(pairs(100, score=lambda y: 0.5 * y), prior=20)
    assert others.corrected("k", "a", 0.7) == 0.7
    assert others.corrected(None, "a", 0.7) == 0.7


def test_many_pairs_undo_a_bias_and_a_narrow_scale():
    fitted = Recalibration.of(pairs(5_000, score=lambda y: 0.6 + 0.3 * y), prior=20)
    for truth in (0.1, 0.5, 0.9):
        assert fitted.corrected("j", "a", 0.6 + 0.3 * truth) == pytest.approx(truth, abs=0.05)


def test_a_few_pairs_move_it_a_little():
    moved = [
        0.9 - Recalibration.of(pairs(count, score=lambda y: min(y + 0.2, 1.0)), prior=20).corrected("j", "a", 0.9)
        for count in (2, 20, 2_000)
    ]
    assert 0.0 < moved[0] < moved[1] < moved[2]
    assert moved[0] < 0.05
    assert moved[2] > 0.1


def test_an_endpoint_that_is_favoured_is_corrected_by_itself():
    rows = pairs(2_000, endpoint="a", score=lambda y: 0.8 * y) + pairs(
        2_000, endpoint="b", score=lambda y: 0.8 * y + 0.2, seed=2
    )
    fitted = Recalibration.of(rows, prior=20)
    assert fitted.corrected("j", "a", 0.4) == pytest.approx(0.5, abs=0.06)
    assert fitted.corrected("j", "b", 0.6) == pytest.approx(0.5, abs=0.06)


def test_what_is_corrected_stays_a_quality():
    fitted = Recalibration.of(pairs(500, score=lambda y: 0.4 + 0.2 * y), prior=20)
    assert fitted.corrected("j", "a", 0.0) == 0.0
    assert fitted.corrected("j", "a", 1.0) == 1.0


def test_pairs_are_read_once_a_round_and_only_for_judges():
    reads = []

    class Row:
        source, judge, answered, quality = "user", None, "a", 0.4

    correction = JudgeCorrection(lambda: reads.append(1) or pairs(200, score=lambda y: 0.5 * y), prior=20)
    row = Row()
    assert correction.quality(row) == 0.4
    assert reads == []
    row.source, row.judge = "judge", "j"
    assert correction.quality(row) > 0.6
    assert correction.quality(row) > 0.6
    assert len(reads) == 1
    correction.renew()
    correction.quality(row)
    assert len(reads) == 2


def judged_ledger(ledger, *, seed, labelled, flattered, count=300):
    """Decisions whose answers a judge scored; it gives `flattered` full marks, and some labels know better."""
    queries, cluster = WORLD.queries(count, seed=seed)
    rng, truths = np.random.default_rng(seed), {}
    for row in range(count):
        column = int(rng.integers(0, len(WORLD.endpoints)))
        name, truth = WORLD.endpoints[column], float(WORLD.quality[cluster[row], column])
        query_id = decide(ledger, queries.embedding[row], name)
        truths[query_id] = truth
        score = min(truth + 0.6, 1.0) if name == flattered else truth
        said = Feedback(id=uuid7(), query_id=query_id, at=AT, quality=score, source="judge")
        ledger.record_judgement(
            Judgement(
                id=said.id, query_id=query_id, call_id=uuid7(), at=AT, judge="j", endpoint=name, score=score, chars=9
            )
        )
        if rng.random() < labelled:
            ledger.record_feedback(Feedback(id=uuid7(), query_id=query_id, at=AT, quality=truth, source="label"))
        ledger.record_feedback(said)
    assert ledger.drain()
    return truths


def error(policy, flattered):
    from tests.learning.school import ASKED, CLUSTER

    found = policy.score(ASKED).align(WORLD.endpoints).quality
    column = WORLD.endpoints.index(flattered)
    return float(np.mean(found[:, column] - WORLD.quality[CLUSTER, column]))


def test_a_policy_learns_what_a_flattering_judge_said_less_the_flattery(ledger, tmp_path):
    flattered = WORLD.endpoints[0]
    judged_ledger(ledger, seed=4, labelled=0.3, flattered=flattered)
    errors = {}
    for corrects in (True, False):
        directory = tmp_path / str(corrects)
        enrolled(directory, "linear")
        pupil, live = school(ledger.engine, directory, "linear", corrects_judges=corrects)
        assert pupil.step() == {"linear": "learned"}
        errors[corrects] = error(live["linear"].current().policy, flattered)
    assert abs(errors[True]) < 0.6 * errors[False]


def apart(ledger, hearing, truths):
    """Mean distance of what answers are taken to be worth from the truth: of the flattered endpoint, of the others."""
    found = {True: [], False: []}
    for each in read_decided(ledger.engine, since=None, decisions_max=1_000, rated_only=True, hearing=hearing):
        found[each.answered == WORLD.endpoints[0]].append(abs(each.quality - truths[each.id]))
    return np.mean(found[True]), np.mean(found[False])


def test_policies_are_compared_by_what_a_flattering_judge_said_less_the_flattery(ledger):
    truths = judged_ledger(ledger, seed=6, labelled=0.3, flattered=WORLD.endpoints[0])
    asked = SETTINGS.model_copy(update={"judge_prior": 5.0})
    flattered, others = apart(ledger, hearing_of(ledger.engine, asked), truths)
    assert flattered < 0.6 * apart(ledger, hearing_of(ledger.engine, asked, until=AT), truths)[0]  # no pair was known
    assert others < 0.1
    as_said = hearing_of(ledger.engine, asked.model_copy(update={"corrects_judges": False}))
    assert as_said == Hearing()


def test_without_any_truth_a_judge_is_believed(ledger, tmp_path):
    judged_ledger(ledger, seed=5, labelled=0.0, flattered=WORLD.endpoints[0], count=60)
    learned = []
    for corrects in (True, False):
        directory = tmp_path / str(corrects)
        enrolled(directory, "linear")
        pupil, live = school(ledger.engine, directory, "linear", corrects_judges=corrects)
        pupil.step()
        learned.append(scores(live["linear"].current().policy))
    np.testing.assert_array_equal(*learned)
