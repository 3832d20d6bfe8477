"""Asking through the real gateway parts; the endpoint is a server on loopback."""

import asyncio
from contextlib import nullcontext
from dataclasses import replace

import pytest

from router_gateway import config as configuration
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.tables import attempts, decisions, feedback
from router_gateway.probing import placement
from router_gateway.probing.asking import Prober, feedback_id
from router_gateway.probing.probes import packaged_probes, read_probes
from router_gateway.routing.bound import CostBound
from router_gateway.wiring import build
from tests.e2e import quiz, world

PROBES = read_probes(packaged_probes())[:12]


def tally_of(tmp_path, pupil, probes=PROBES, *, limit_nusd=None, max_nusd=10**9, tokens_max=50):
    """What came of asking, and the rows of the ledger; `limit_nusd` is a budget for everybody."""
    pool = [world.endpoint("newcomer", pupil.base_url)]
    written = world.write_config(
        tmp_path, pool, default_endpoint="newcomer", training={"outcomes": None}, embedder={"kind": "hashing"}
    )
    built = build(configuration.load(written), replay_url=None, progress=lambda _: nullcontext(lambda *_: None))
    gateway = built.gateway
    if limit_nusd is not None:
        Budgets(gateway.ledger.engine).set("gateway", "", "day", limit_nusd)
        gateway.budgets.refresh()
    [endpoint] = gateway.endpoints
    bound = CostBound(endpoints={"newcomer": endpoint})
    prober = Prober(
        gateway=gateway, endpoint=endpoint, bound=bound, max_nusd=max_nusd, tokens_max=tokens_max, at_once=3
    )

    async def run():
        try:
            tally = await prober.ask(placement.waiting(gateway.ledger, endpoint, probes))
            gateway.ledger.drain()
            left = placement.waiting(gateway.ledger, endpoint, probes)
            made = placement.plan(gateway.ledger, HashingEmbedder(), probes, len(probes), endpoint)
            [standing] = placement.standings(gateway.ledger, [endpoint], gateway.router(None).live(), made)
            return tally, left, standing
        finally:
            await gateway.aclose()

    found = asyncio.run(run())
    rows = world.LedgerRows(f"sqlite:///{tmp_path}/state/ledger.db")
    return *found, rows


def test_probes_are_graded_and_never_asked_again(tmp_path):
    with quiz.taking(0.5) as pupil:
        tally, left, standing, rows = tally_of(tmp_path, pupil)
        assert (tally.graded, tally.failed, tally.stopped, left) == (12, 0, None, [])
        assert len(pupil.asked) == 12
        known = sum(probe.prompt in pupil.right for probe in PROBES)
        assert (standing.right, standing.asked, standing.expected) == (known, 12, None)
        assert standing.usd * 1e9 * 12 == pytest.approx(tally.spent_nusd)
        assert tally.spent_nusd == sum(row["cost_nusd"] for row in rows.all(attempts))
        assert all(row["embedding"] is not None for row in rows.all(decisions))
        changed = replace(PROBES[0], digest="0" * 32)
        assert tally_of(tmp_path, pupil, [*PROBES, changed])[0].graded == 1
        assert len(pupil.asked) == 13


def test_an_endpoint_that_fails_is_left_alone_after_three_calls(tmp_path):
    with quiz.taking(0.5) as pupil:
        pupil.refuses = True
        tally, left, standing, rows = tally_of(tmp_path, pupil)
        assert tally.graded == 0
        assert 3 <= tally.failed <= 5  # two more may be under way
        assert "in a row failed" in tally.stopped
        assert len(left) == 12
        assert standing.interval is None
        assert rows.all(feedback) == []
        pupil.refuses = False
        assert tally_of(tmp_path, pupil)[0].graded == 12


def test_a_reasoner_is_asked_in_its_own_words(tmp_path):
    with quiz.taking(0.5, reasoner=True) as pupil:
        tally, left, _, _ = tally_of(tmp_path, pupil)
        assert (tally.graded, left) == (12, [])
        assert sum("max_completion_tokens" in body for body in pupil.bodies) == 12


def test_money_is_bounded_by_the_option_and_by_budgets(tmp_path):
    with quiz.taking(0.5) as pupil:
        tally, left, _, rows = tally_of(tmp_path, pupil, max_nusd=2_000_000)
        assert "--max-usd" in tally.stopped
        assert 0 < tally.graded < 12
        assert len(left) == 12 - tally.graded
        assert sum(row["cost_nusd"] for row in rows.all(attempts)) <= 2_000_000
        tally, _, _, _ = tally_of(tmp_path, pupil, limit_nusd=1)
        assert tally.graded == 0
        assert "budget" in tally.stopped


def test_grades_stand_under_names_of_their_own(tmp_path):
    endpoint = configuration.load(
        world.write_config(tmp_path, [world.endpoint("medium", "http://localhost:1/v1")], training={"outcomes": None})
    ).endpoints[0]
    built = endpoint.build()
    assert feedback_id(built, PROBES[0]) == feedback_id(built, PROBES[0])
    others = {
        feedback_id(built, PROBES[1]),
        feedback_id(replace(built, name="x"), PROBES[0]),
        feedback_id(replace(built, model="y"), PROBES[0]),
    }
    assert len(others | {feedback_id(built, PROBES[0])}) == 4
