"""The whole loop over real HTTP: asked, decided, answered, rated, learned from, and then decided otherwise."""

import asyncio
import copy
from datetime import UTC, datetime

import numpy as np
import pytest

from router_gateway import registry
from router_gateway.core.types import NamedPolicy
from router_gateway.dispatch.echo import Echo
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.learning.learner import of
from router_gateway.learning.manifest import Provenance
from router_gateway.learning.settings import Learning
from router_gateway.learning.snapshots import Snapshots
from tests.api.building import HARD, experience, running


async def test_feedback_changes_the_next_decision(tmp_path):
    async with running(tmp_path) as site:
        # 1. A hard question goes to the dear endpoint, which does badly at it today, as users say.
        decision_ids = []
        for _ in range(8):
            response = await site.chat(HARD)
            assert response.headers["x-router-model"] == "large"
            decision_ids.append(response.headers["x-router-decision-id"])
        # 2. The default endpoint, asked by name, does well.
        for _ in range(8):
            response = await site.chat(HARD, routing={"allowed_models": ["mid"]})
            assert response.headers["x-router-model"] == "mid"
            decision_ids.append(response.headers["x-router-decision-id"])
        for index, decision_id in enumerate(decision_ids):
            said = await site.client.post(
                "/v1/feedback", json={"decision_id": decision_id, "verdict": "bad" if index < 8 else "good"}
            )
            assert said.status_code == 200
        assert await site.rows() == {"decisions": 16, "attempts": 16, "feedback": 16}

        # 3. What the ledger kept is what there is to learn.
        space = site.gateway.router(None).space
        learned, watermark = await asyncio.to_thread(site.ledger.experience_since, 0, embedding_space=space)
        assert watermark == 16
        assert set(learned.endpoints) == {"mid", "large"}
        by_name = {name: learned.quality[learned.endpoint == i] for i, name in enumerate(learned.endpoints)}
        assert by_name["large"].tolist() == [0.0] * 8
        assert by_name["mid"].tolist() == [1.0] * 8
        assert (learned.propensity == 1.0).all()
        assert (learned.cost_usd > 0).all()
        nothing_new, same = await asyncio.to_thread(site.ledger.experience_since, watermark, embedding_space=space)
        assert (len(nothing_new), same) == (0, watermark)

        # 4. A copy learns; the policy in service does not move until it is swapped.
        foretold = {"model": "auto", "messages": [{"role": "user", "content": HARD}]}
        before = (await site.client.post("/v1/routing/decide", json=foretold)).json()
        serving = site.live["knn"].current()
        taught = copy.deepcopy(serving.policy).partial_fit(learned)
        unmoved = (await site.client.post("/v1/routing/decide", json=foretold)).json()
        assert unmoved["candidates"] == before["candidates"]
        site.live["knn"].swap(NamedPolicy(name="knn", version=serving.version + 1, policy=taught))

        # 5. The same question is scored and decided otherwise.
        after = await site.chat(HARD, routing={"explain": True})
        assert after.headers["x-router-policy"] == "knn@2"
        assert after.headers["x-router-model"] == "mid"
        quality = {c["endpoint"]: c["quality"] for c in after.json()["routing"]["candidates"]}
        earlier = {c["endpoint"]: c["quality"] for c in before["candidates"]}
        assert quality["large"] < earlier["large"]
        assert quality["mid"] > earlier["mid"]


async def test_the_learner_closes_the_loop_and_the_decision_names_its_snapshot(tmp_path):
    settings = Learning(rows_min=1, settle_s=0, held_out_share=0)
    async with running(tmp_path) as site:
        live = {"knn": site.live["knn"]}
        embedder = HashingEmbedder()
        snapshots = Snapshots(tmp_path / "snapshots")
        provenance = Provenance.of(experience(embedder), created=datetime.now(UTC))
        snapshots.save(live["knn"].current(), provenance)
        learner = of(live, snapshots, site.ledger.engine, settings, embedder.space, registry.create)
        said = []
        for model, verdict in [("large", "bad")] * 8 + [("mid", "good")] * 8:
            response = await site.chat(HARD, routing={"allowed_models": [model]})
            assert response.headers["x-router-policy"] == "knn@1"
            decision_id = response.headers["x-router-decision-id"]
            told = await site.client.post("/v1/feedback", json={"decision_id": decision_id, "verdict": verdict})
            said.append(told.json()["id"])
        await site.rows()
        assert await asyncio.to_thread(learner.step) == {"knn": "learned"}

        after = await site.chat(HARD, routing={"explain": True})
        assert after.headers["x-router-model"] == "mid"
        assert after.headers["x-router-policy"] == "knn@2"
        assert (await site.record_of(after)).decision.policy == "knn@2"

        for feedback_id in said:  # all of it was a misunderstanding
            assert (await site.client.delete(f"/v1/feedback/{feedback_id}")).status_code == 200
        await site.rows()
        assert await asyncio.to_thread(learner.step) == {"knn": "refitted"}
        again = await site.chat(HARD)
        assert again.headers["x-router-model"] == "large"
        assert again.headers["x-router-policy"] == "knn@3"


async def test_an_answer_by_fallback_teaches_about_who_answered_and_weighs_nothing(tmp_path):
    async with running(tmp_path) as site:
        site.echo.echoes["large"] = Echo(failure="refused")
        response = await site.chat(HARD)
        assert response.headers["x-router-model"] == "mid"
        decision_id = response.headers["x-router-decision-id"]
        await site.client.post("/v1/feedback", json={"decision_id": decision_id, "score": 0.5})
        await site.rows()
        learned, _ = await asyncio.to_thread(site.ledger.experience_since)
        assert learned.endpoints == ("mid",)
        assert learned.quality.tolist() == [0.5]
        assert learned.propensity.tolist() == [0.0]


async def test_the_vector_that_decided_is_the_vector_that_teaches(tmp_path):
    async with running(tmp_path) as site:
        response = await site.chat(HARD)
        decision_id = response.headers["x-router-decision-id"]
        await site.client.post("/v1/feedback", json={"decision_id": decision_id, "score": 1})
        await site.rows()
        learned, _ = await asyncio.to_thread(site.ledger.experience_since)
        embedding = learned.queries.embedding
        known = site.live["knn"].current().policy
        scored = known.score(learned.queries)
        decision = (await site.record(decision_id)).decision
        assert np.linalg.norm(embedding, axis=1) == pytest.approx(1, abs=1e-3)
        assert tuple(scored.quality[0].tolist()) == decision.quality
