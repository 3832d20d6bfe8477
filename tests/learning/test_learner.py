"""From rated answers in a real database to the policy in service."""

import logging
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sqlalchemy import text

from policies.linear import Linear
from router_gateway.core.errors import PolicyError
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Feedback
from router_gateway.learning.snapshots import Snapshots
from router_gateway.ledger.lessons import Lessons, Watermark
from router_gateway.ledger.retention import forget
from tests.learning.school import (
    ASKED,
    AT,
    OFFLINE,
    TEACHABLE,
    WORLD,
    compare,
    decide,
    enrolled,
    fitted,
    is_held_out,
    rate,
    school,
    scores,
    take_back,
)


def ledger_experience(ledger):
    return Lessons(ledger.engine).read(Watermark(), embedding_space=WORLD.space, rows_max=10_000).experience


@pytest.mark.parametrize("name", TEACHABLE)
def test_what_people_say_moves_the_policy_in_service(ledger, saved, name):
    enrolled(saved, name, extra={"output_tokens": {"a": 1}})
    learner, live = school(ledger.engine, saved, name)
    before = live[name].current()
    rate(ledger, 300, seed=7, quality=lambda cluster, endpoint: float(endpoint == 0))
    assert learner.step() == {name: "learned"}
    after = live[name].current()
    assert (before.version, after.version) == (1, 2)
    assert np.array_equal(scores(before.policy), scores(fitted(name)))  # requests under way keep what they began with
    quality = scores(after.policy)[0]
    assert quality[:, 0].mean() > scores(before.policy)[0][:, 0].mean()
    assert quality[:, 1:].mean() < scores(before.policy)[0][:, 1:].mean()
    loaded, manifest = Snapshots(saved).load(name)
    assert np.array_equal(scores(loaded.policy), scores(after.policy))
    assert manifest.provenance.observations == len(OFFLINE) + 300
    assert manifest.provenance.extra["output_tokens"] == {"a": 1}
    assert learner.step() == {name: "waiting"}
    assert learner.counts() == {(name, "current"): 2, (name, "learned"): 1, (name, "waiting"): 1}


@pytest.mark.parametrize("name", [n for n in TEACHABLE if n != "stack"])
def test_learning_in_pieces_is_learning_each_row_once(ledger, saved, name):
    enrolled(saved, name)
    learner, live = school(ledger.engine, saved, name, rows_max=40)
    rate(ledger, 100, seed=7)
    outcomes = [learner.step()[name] for _ in range(4)]
    assert outcomes == ["learned", "learned", "learned", "waiting"]
    taught = ledger_experience(ledger)
    pieces = [taught.select(np.arange(start, min(start + 40, 100))) for start in (0, 40, 80)]
    expected = fitted(name)
    for piece in pieces:
        expected.partial_fit(piece)
    np.testing.assert_allclose(scores(live[name].current().policy), scores(expected), atol=2e-3)


def test_a_policy_that_never_learned_is_fitted_on_the_ledger(ledger, saved):
    learner, live = school(ledger.engine, saved, "knn")
    assert learner.step() == {"knn": "waiting"}
    rate(ledger, 60, seed=7)
    assert learner.step() == {"knn": "learned"}
    assert live["knn"].current().version == 1
    assert np.array_equal(scores(live["knn"].current().policy), scores(fitted("knn", ledger_experience(ledger))))


def test_few_rows_are_waited_for(ledger, saved):
    enrolled(saved, "knn")
    learner, _ = school(ledger.engine, saved, "knn", rows_min=10)
    rate(ledger, 9, seed=7)
    assert learner.step() == {"knn": "waiting"}
    rate(ledger, 1, seed=8)
    assert learner.step() == {"knn": "learned"}
    assert Snapshots(saved).load("knn")[1].provenance.observations == len(OFFLINE) + 10


def test_a_policy_that_has_nothing_to_learn_saves_nothing(ledger, saved):
    enrolled(saved, "random", "knn")
    learner, live = school(ledger.engine, saved, "random", "knn")
    rate(ledger, 30, seed=7)
    assert learner.step() == {"random": "unchanged", "knn": "learned"}
    assert live["random"].current().version == 1
    assert learner.step() == {"random": "waiting", "knn": "waiting"}


def test_a_policy_that_refuses_is_told_of_once_and_keeps_nobody_from_learning(ledger, saved, caplog):
    enrolled(saved, "knn", "linear")
    learner, live = school(ledger.engine, saved, "linear", "knn")
    live["linear"].swap(_refusing(live["linear"].current()))
    with caplog.at_level(logging.WARNING):
        rate(ledger, 30, seed=7)
        assert learner.step() == {"linear": "unteachable", "knn": "learned"}
        rate(ledger, 30, seed=8)
        assert learner.step() == {"linear": "unteachable", "knn": "learned"}
    assert [r.message for r in caplog.records if "learns nothing" in r.message] == [
        "linear@1 learns nothing from the ledger: it is finished"
    ]
    assert live["linear"].current().version == 1


@dataclass(kw_only=True)
class Finished(Linear):
    def partial_fit(self, experience):
        raise PolicyError("it is finished")


def _refusing(named):
    policy = Finished()
    policy.model_ = named.policy.model_
    return replace(named, policy=policy)


def test_a_snapshot_that_predicts_worse_is_refused_and_an_honest_one_is_not(ledger, saved, caplog):
    enrolled(saved, "linear")
    learner, live = school(ledger.engine, saved, "linear", held_out_share=0.3)
    rate(ledger, 400, seed=6)
    assert learner.step() == {"linear": "learned"}
    # Lies about what is taught; what is held out tells the truth.
    _lie(ledger, count=250)
    before = scores(live["linear"].current().policy)
    with caplog.at_level(logging.WARNING):
        assert learner.step() == {"linear": "refused"}
    assert "answers worse" in caplog.text
    assert live["linear"].current().version == 2
    assert np.array_equal(scores(live["linear"].current().policy), before)
    assert learner.step() == {"linear": "waiting"}  # the same rows are not tried again


def _lie(ledger, *, count):
    """Rated answers: upside down where they are taught, true where they are held out."""
    queries, cluster = WORLD.queries(count, seed=9)
    for row in range(count):
        endpoint = row % len(WORLD.endpoints)
        query_id = decide(ledger, queries.embedding[row], WORLD.endpoints[endpoint])
        truth = WORLD.quality[cluster[row], endpoint]
        said = Feedback(id=uuid7(), query_id=query_id, at=AT, quality=truth, source="user")
        if not is_held_out(said, 0.3):
            said = Feedback(id=said.id, query_id=query_id, at=AT, quality=1 - truth, source="user")
        ledger.record_feedback(said)
    assert ledger.drain()


def test_held_out_rows_are_never_learned_from(ledger, saved):
    enrolled(saved, "knn")
    learner, _ = school(ledger.engine, saved, "knn", held_out_share=0.3)
    said = rate(ledger, 100, seed=7)
    assert learner.step() == {"knn": "learned"}
    held_out = sum(is_held_out(each, 0.3) for each in said)
    assert 10 < held_out < 50
    assert Snapshots(saved).load("knn")[1].provenance.observations == len(OFFLINE) + 100 - held_out


@pytest.mark.parametrize("name", ["knn", "bandit"])
def test_what_is_taken_back_counts_as_never_said(ledger, saved, name):
    enrolled(saved, name)
    learner, live = school(ledger.engine, saved, name)
    kept = rate(ledger, 50, seed=7)
    lies = rate(ledger, 50, seed=8, quality=lambda cluster, endpoint: 0.0)
    early = lies[:10]
    take_back(ledger, early)  # before it was learned
    assert learner.step() == {name: "learned"}
    take_back(ledger, [*early, *lies[10:]])  # afterwards; once more changes nothing
    assert learner.step() == {name: "refitted"}
    honest = fitted(name)
    honest.partial_fit(ledger_experience(ledger))
    assert len(ledger_experience(ledger)) == len(kept)
    assert np.array_equal(scores(live[name].current().policy), scores(honest))
    assert learner.step() == {name: "waiting"}
    assert Snapshots(saved).load(name)[1].provenance.observations == 50


def test_a_refit_forgets_rows_that_are_gone(ledger, saved):
    enrolled(saved, "knn")
    learner, live = school(ledger.engine, saved, "knn", rows_max=30)
    rate(ledger, 70, seed=7, quality=lambda cluster, endpoint: 0.0)
    rate(ledger, 5, seed=8)
    for _ in range(3):
        assert learner.step() == {"knn": "learned"}
    learner_short, live_short = school(ledger.engine, saved, "knn", history_rows_max=5)
    assert learner_short.step(refit=True) == {"knn": "refitted"}
    only_new = Lessons(ledger.engine).read(Watermark(feedback=70), embedding_space=WORLD.space, rows_max=100).experience
    expected = fitted("knn")
    expected.partial_fit(only_new)
    assert np.array_equal(scores(live_short["knn"].current().policy), scores(expected))
    # The other process follows by version.
    assert learner.step() == {"knn": "waiting"}
    assert live["knn"].current().version == live_short["knn"].current().version == 5


def test_a_tenant_that_is_forgotten_has_no_part_in_a_refit(ledger, saved):
    enrolled(saved, "bandit")
    learner, live = school(ledger.engine, saved, "bandit")
    rate(ledger, 40, seed=7, tenant="stays")
    rate(ledger, 40, seed=8, tenant="leaves", quality=lambda cluster, endpoint: 0.0)
    assert learner.step() == {"bandit": "learned"}
    assert forget(ledger.engine, "leaves", pause_s=0).rows["feedback"] == 40
    assert learner.step(refit=True) == {"bandit": "refitted"}
    stays = fitted("bandit").partial_fit(ledger_experience(ledger))
    assert len(ledger_experience(ledger)) == 40
    assert np.array_equal(scores(live["bandit"].current().policy), scores(stays))
    rate(ledger, 5, seed=9)
    assert learner.step() == {"bandit": "learned"}, "what comes afterwards is learned as ever"


def test_rows_that_come_where_others_were_deleted_are_learned(ledger, saved, caplog):
    enrolled(saved, "linear")
    learner, _ = school(ledger.engine, saved, "linear")
    rate(ledger, 30, seed=7)
    assert learner.step() == {"linear": "learned"}
    with ledger.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER feedback_no_delete"))
        else:
            connection.execute(text("ALTER TABLE feedback DISABLE TRIGGER USER"))
        connection.execute(text("DELETE FROM feedback WHERE seq > 10"))
    with caplog.at_level(logging.WARNING):
        assert learner.step() == {"linear": "waiting"}
        assert learner.step() == {"linear": "waiting"}
    assert len([r for r in caplog.records if "rows that are gone" in r.message]) == 1
    rate(ledger, 5, seed=8)
    assert learner.step() == {"linear": "learned"}
    assert Snapshots(saved).load("linear")[1].provenance.observations == len(OFFLINE) + 35


def test_a_refit_of_which_nothing_is_left_fails_loudly_and_what_serves_stays(ledger, saved):
    learner, live = school(ledger.engine, saved, "knn")
    said = rate(ledger, 10, seed=7)
    assert learner.step() == {"knn": "learned"}
    take_back(ledger, said)
    assert learner.step() == {"knn": "failed"}
    assert learner.counts()["knn", "failed"] == 1
    assert live["knn"].current().version == 1


def test_the_base_of_a_refit_outlives_the_versions_that_are_kept(ledger, saved):
    enrolled(saved, "best_on_average")
    learner, _ = school(ledger.engine, saved, "best_on_average", rows_max=1)
    rate(ledger, 15, seed=7)
    for _ in range(15):
        assert learner.step() == {"best_on_average": "learned"}
    versions = [manifest.version for manifest in Snapshots(saved).list("best_on_average")]
    assert versions == [1, *range(7, 17)]
    assert learner.step(refit=True) == {"best_on_average": "refitted"}


@pytest.mark.parametrize("name", [*TEACHABLE, "preference", "contrastive", "composed", "lexical", "profile"])
def test_comparisons_alone_harm_no_policy(ledger, saved, name):
    enrolled(saved, name)
    learner, live = school(ledger.engine, saved, name)
    said = rate(ledger, 8, seed=7)
    assert learner.step()[name] in ("learned", "unchanged")
    better, worse = WORLD.endpoints[2], WORLD.endpoints[0]
    for each in said:
        compare(ledger, each.query_id, better, worse)
    outcome = learner.step()[name]
    assert outcome == ("learned" if name == "preference" else outcome)
    assert outcome in ("learned", "unchanged")
    assert np.isfinite(scores(live[name].current().policy)).all()


def test_a_comparison_teaches_the_policy_that_reads_them(ledger, saved):
    enrolled(saved, "preference")
    learner, live = school(ledger.engine, saved, "preference")
    better, worse = WORLD.endpoints[2], WORLD.endpoints[0]
    before = live["preference"].current().policy.win_probability(ASKED, better, worse)
    said = rate(ledger, 30, seed=7)
    for each in said:
        compare(ledger, each.query_id, better, worse)
    assert learner.step() == {"preference": "learned"}
    after = live["preference"].current().policy.win_probability(ASKED, better, worse)
    assert after.mean() > before.mean() + 0.05
