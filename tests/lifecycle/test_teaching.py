"""Who is taught: what is live, in a folder of its own, so that its predecessor can come back as it was."""

import os
from contextlib import nullcontext
from datetime import UTC, datetime

import pytest

from router_gateway import config as configuration
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Attempt, Feedback, Query
from router_gateway.ledger.ledger import Ledger
from router_gateway.opening import open_rollout
from tests.databases import migrated_sqlite
from tests.e2e import world

LEARNING = {"rows_min": 1, "settle_s": 0, "held_out_share": 0}


@pytest.fixture
def brain(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.upper().startswith("ROUTER_GATEWAY__")]:
        monkeypatch.delenv(name)
    world.write_outcomes(tmp_path / "outcomes.jsonl")
    pool = [world.endpoint(name, "replay") for name in world.PRICES]
    path = world.write_config(tmp_path, pool, learning=LEARNING, embedder={"kind": "hashing"})
    brain = Brain(config=configuration.load(path), endpoints=build_endpoints(configuration.load(path)))
    brain.load(lambda _: nullcontext(lambda done, total: None))
    return brain


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.open(migrated_sqlite(tmp_path / "ledger.db"), directory=tmp_path / "journal")
    yield ledger
    ledger.close()


def rate(ledger, brain, router, text, quality):
    """Decide, answer and rate one question by the router that serves."""
    query = Query(id=uuid7(), text=text, tokens_input=10)
    vector = brain.embedder.embed([text])
    (decision,) = router.route([query], vector)
    ledger.record_decision(query, decision, requested_model="auto", embedding=vector[0])
    at = datetime.now(UTC)
    ledger.record_attempt(
        Attempt(query_id=query.id, number=1, at=at, endpoint=decision.endpoint, status=200, latency_ms=1.0)
    )
    ledger.record_feedback(Feedback(id=uuid7(), query_id=query.id, at=at, quality=quality, source="user"))
    assert ledger.drain()


def test_the_live_candidate_learns_and_its_predecessor_waits_as_it_was(brain, ledger):
    routers, learner = brain.routers(), brain.learner(ledger.engine)
    rollout = open_rollout(brain, ledger.engine, routers, learner)
    desk = rollout.desk
    hard = next(each.prompt for each in world.recorded() if each.difficulty == "hard")

    def versions():
        return routers["knn"].live().label, brain.snapshots.newest("knn"), desk.homes.of("twin").newest("knn")

    rate(ledger, brain, routers["knn"], hard, 0.2)
    assert learner.step()["knn"] == "learned"
    assert versions() == ("knn@2", 2, None)
    desk.draft("twin", policy="knn", snapshot="knn@1", author="me")
    desk.canary("twin", author="me")
    rollout.refresh()
    rate(ledger, brain, routers["knn"], hard, 0.3)
    assert learner.step()["knn"] == "learned", "the live policy goes on learning, the canary does not"
    assert versions() == ("knn@3", 3, 1)

    desk.promote("twin", to_live=True, author="me")
    rollout.refresh()
    assert versions() == ("knn@1", 3, 1)
    rate(ledger, brain, routers["knn"], hard, 0.4)
    assert learner.step()["knn"] == "learned"
    assert versions() == ("knn@2", 3, 2), "it has read on from where its snapshot stood"
    decision = routers["knn"].route([Query(id=uuid7(), text=hard, tokens_input=1)], brain.embedder.embed([hard]))[0]
    assert (decision.candidate, decision.policy) == ("twin", "knn@2")

    restarted = brain.routers()
    open_rollout(brain, ledger.engine, restarted, brain.learner(ledger.engine))
    assert (restarted["knn"].candidate, restarted["knn"].live().label) == ("twin", "knn@2")

    desk.rollback("twin", author="me")
    rollout.refresh()
    assert versions() == ("knn@3", 3, 2)
    assert routers["knn"].candidate is None
    rate(ledger, brain, routers["knn"], hard, 0.5)
    assert learner.step()["knn"] == "learned"
    assert versions() == ("knn@4", 4, 2)


def test_a_candidate_of_another_dial_scores_with_what_is_live_as_it_learns(brain, ledger):
    routers, learner = brain.routers(), brain.learner(ledger.engine)
    rollout = open_rollout(brain, ledger.engine, routers, learner)
    rollout.desk.draft("bold", policy="knn", changes={"worth_usd": 7.0, "rule": {"name": "greedy"}}, author="me")
    rollout.desk.canary("bold", author="me")
    rollout.refresh()
    tried = rollout.splits()["knn"].router
    assert (tried.worth_usd, tried.live().label) == (7.0, "knn@1")
    rate(ledger, brain, routers["knn"], world.recorded()[0].prompt, 0.2)
    assert learner.step()["knn"] == "learned"
    assert tried.live().label == routers["knn"].live().label == "knn@2"
    rollout.desk.promote("bold", to_live=True, author="me")
    rollout.refresh()
    assert (routers["knn"].worth_usd, routers["cheapest"].worth_usd) == (7.0, 0.02)
    rate(ledger, brain, routers["knn"], world.recorded()[1].prompt, 0.2)
    assert learner.step()["knn"] == "learned"
    assert routers["knn"].live().label == "knn@3"
