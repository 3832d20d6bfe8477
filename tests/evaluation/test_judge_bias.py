"""What a report says of judges whose faults are known."""

import json
from dataclasses import replace
from uuid import UUID

import numpy as np
import pytest

from router_gateway.evaluation.judge_bias import judge_report, proportion
from router_gateway.ledger.judged import Graded, Reading

QUALITY = {"small": 0.6, "large": 0.8}


def graded(count=1_000, *, labelled=0.2, seed=1, generous_to="large", per_doubling=0.0, judge="j"):
    """Answers of two endpoints; the judge gives one of them 0.1 too much, and so much for each doubling in length."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        endpoint = "small" if number % 2 else "large"
        truth = float(rng.random() < QUALITY[endpoint])
        doublings = float(rng.uniform(-2, 2))
        score = 0.3 + 0.4 * truth + 0.1 * (endpoint == generous_to) + per_doubling * doublings
        rows.append(
            Graded(
                query_id=UUID(int=number),
                endpoint=endpoint,
                truth=truth if rng.random() < labelled else None,
                judge=judge,
                score=float(np.clip(score + rng.normal(0, 0.05), 0, 1)),
                chars=round(400 * 2**doublings),
            )
        )
    return rows


def test_the_powered_means_hold_the_truth_and_the_judges_own_do_not():
    report = judge_report(graded(), [])
    by_name = {each.endpoint: each for each in report.endpoints}
    for name, quality in QUALITY.items():
        found = by_name[name]
        assert found.powered.low <= quality <= found.powered.high
        assert not found.judged.low <= quality <= found.judged.high
        assert found.powered.high - found.powered.low < 0.75 * (found.labels.high - found.labels.low)
    [apart] = report.differences
    assert (apart.endpoint, apart.other) == ("large", "small")
    assert apart.quality.low <= 0.2 <= apart.quality.high


def test_the_bias_of_a_judge_is_measured_by_endpoint():
    [bias] = judge_report(graded(4_000), []).judges
    # score less truth is 0.3 - 0.6 truth, and 0.1 more for `large`
    for name, expected in {"small": 0.3 - 0.6 * 0.6, "large": 0.4 - 0.6 * 0.8}.items():
        found = bias.bias_by_endpoint[name]
        assert found.low - 0.02 <= expected <= found.high + 0.02
    assert bias.scores == 4_000
    assert 0.9 < bias.correlation <= 1.0


def test_a_taste_for_length_shows_and_only_where_there_is_one():
    [fond] = judge_report(graded(4_000, per_doubling=0.05), []).judges
    assert fond.length.low <= 0.05 <= fond.length.high
    assert fond.length.low > 0.02
    [fair] = judge_report(graded(4_000), []).judges
    assert fair.length.low <= 0.0 <= fair.length.high


def test_labels_alone_count_also_where_no_judge_spoke_and_judges_also_without_labels():
    rows = [Graded(query_id=UUID(int=i), endpoint="a", truth=float(i % 2)) for i in range(20)]
    rows += [Graded(query_id=UUID(int=100 + i), endpoint="b", judge="j", score=0.5) for i in range(3)]
    report = judge_report(rows, [])
    a, b = report.endpoints
    assert (a.labels.value, a.judged, a.powered) == (0.5, None, None)
    assert (b.labels, b.judged.value, b.powered) == (None, 0.5, None)
    assert report.differences == ()
    [judge] = report.judges
    assert (judge.bias, judge.correlation, judge.length, judge.first) == (None, None, None, None)


def test_two_judges_of_one_answer_are_one_prediction_and_two_judges():
    rows = [
        row
        for i in range(40)
        for row in (
            Graded(query_id=UUID(int=i), endpoint="a", truth=float(i % 2), judge="j", score=0.4 + 0.4 * (i % 2)),
            Graded(query_id=UUID(int=i), endpoint="a", truth=float(i % 2), judge="k", score=0.2 + 0.4 * (i % 2)),
        )
    ]
    report = judge_report(rows, [])
    [a] = report.endpoints
    assert a.judged.value == pytest.approx(0.5)
    assert a.labels.labels == 40
    assert [judge.judge for judge in report.judges] == ["j", "k"]


def pair(number, scores, chars=(10, 20)):
    """Both readings of one pair: (a, b) and (b, a); `chars` of a and b."""
    a, b = chars
    there = Reading(
        query_id=UUID(int=number), judge="j", first="a", second="b", score=scores[0], first_chars=a, second_chars=b
    )
    return [there, replace(there, first="b", second="a", score=scores[1], first_chars=b, second_chars=a)]


def test_positions_and_contradictions_are_counted():
    readings = [
        *pair(1, (1.0, 0.0)),  # a both times: the shorter one
        *pair(2, (0.0, 1.0)),  # b both times: the longer one
        *pair(3, (1.0, 1.0)),  # whoever is first
        *pair(4, (0.5, 0.5)),  # neither, twice
        *pair(5, (1.0, 0.5)),  # of two minds
        pair(6, (1.0, 0.0))[0],  # read once only
    ]
    [bias] = judge_report([], readings).judges
    assert (bias.contradicted.value, bias.contradicted.count) == (2 / 5, 5)
    assert (bias.first.value, bias.first.count) == (6 / 8, 8)
    assert (bias.longer.value, bias.longer.count) == (1 / 2, 2)


def test_a_share_has_wilsons_interval():
    found = proportion(8, 10)
    assert (found.low, found.high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert proportion(0, 0) is None


def test_a_report_is_json():
    told = json.loads(json.dumps(judge_report(graded(), pair(1, (1.0, 0.0))).as_dict()))
    assert set(told) == {"judges", "endpoints", "differences"}
    assert told["endpoints"][0]["powered"]["labels"] > 0
