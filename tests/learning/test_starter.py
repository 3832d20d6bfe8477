from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import yaml

from router_gateway import config as configuration
from router_gateway import registry
from router_gateway.brain import Brain, build_endpoints
from router_gateway.core.errors import ConfigError
from router_gateway.core.experience import Experience
from router_gateway.core.ids import uuid7
from router_gateway.core.types import Queries
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.embedding.static import StaticEmbedder
from router_gateway.evaluation.replay import query_of
from router_gateway.evaluation.starter import read_starter
from router_gateway.learning.starter import ASSET, StarterPrior
from router_gateway.probing.probes import packaged_probes, read_probes
from tests.evaluation.test_starter import STARTER

ABILITIES = {"weak": 0.6, "able": 0.9}


@pytest.fixture(scope="module")
def prior():
    return StarterPrior.read()


def test_the_mean_over_the_prompts_is_the_ability_that_was_declared(prior):
    ability = np.array([0.01, 0.3, 0.5, 0.9, 0.99])
    quality = prior.quality(ability)
    assert quality.mean(axis=0) == pytest.approx(ability, abs=1e-6)
    assert ((quality > 0) & (quality < 1)).all()
    assert (np.diff(quality, axis=1) > 0).all()  # who is abler is abler everywhere


def test_the_asset_is_small_and_says_whence_it_comes(prior):
    assert ASSET.stat().st_size < 400_000
    assert {source["licence"] for source in prior.provenance["sources"]} == {"Apache-2.0"}
    assert {source["name"] for source in prior.provenance["sources"]} == {
        "mmlu_pro",
        "fourtier",
        "paretobandit",
        "starter",
    }
    assert all(len(source["sha256"]) == 64 for source in prior.provenance["sources"])
    own = {prompt.prompt for prompt in read_starter(STARTER)}
    assert set(prior.texts) <= own  # nobody else's prompts are shipped


def test_what_is_written_is_read(prior, tmp_path):
    prior.write(tmp_path / "p.npz")
    again = StarterPrior.read(tmp_path / "p.npz")
    assert (again.texts, dict(again.provenance)) == (prior.texts, dict(prior.provenance))
    assert np.array_equal(again.quality(np.array([0.7])), prior.quality(np.array([0.7])))
    assert np.array_equal(again.prior(ABILITIES).coefficients, prior.prior(ABILITIES).coefficients)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="no starter prior"):
        StarterPrior.read(tmp_path / "p.npz")


def test_harder_looking_queries_gain_more_from_an_abler_endpoint(prior):
    """Judged on prompts that had no part in the prior, by labels that their author gave them."""
    embedder = StaticEmbedder()
    assert prior.space == embedder.space  # else nobody could start from it
    policy = registry.create("bandit", {}).start(prior.prior(ABILITIES))
    probes = read_probes(packaged_probes())
    scores = policy.score(_asked(embedder, *(probe.prompt for probe in probes))).align(tuple(ABILITIES))
    gain = scores.quality[:, 1] - scores.quality[:, 0]
    of = {level: gain[[probe.difficulty == level for probe in probes]] for level in ("easy", "medium", "hard")}
    assert of["easy"].mean() < of["medium"].mean() < of["hard"].mean()
    error = np.sqrt(sum(of[level].var() / len(of[level]) for level in ("easy", "hard")))
    assert of["hard"].mean() - of["easy"].mean() > 2 * error
    assert (gain > 0).all()


def test_a_declared_ability_is_worth_fifty_answers(prior):
    """As many answers that disagree move the estimate half way to what they say."""
    started = registry.create("bandit", {"gamma": 1.0, "alarm_outcomes": 0}).start(prior.prior({"a": 0.7}))
    typical = prior.prior({"a": 0.7}).queries
    scores = started.score(typical)
    assert scores.quality.mean() == pytest.approx(0.7, abs=0.01)
    assert 0.05 < scores.stddev.mean() < 0.25  # of the mean, and of how it differs from kind to kind
    rows = np.arange(0, 250, 5)
    bad = Experience(
        queries=typical,
        endpoints=("a",),
        query=rows,
        endpoint=np.zeros(50, dtype=np.int64),
        quality=np.zeros(50, dtype=np.float32),
        cost_usd=np.full(50, np.nan),
        propensity=np.ones(50, dtype=np.float32),
    )
    assert started.partial_fit(bad).score(typical).quality.mean() == pytest.approx(0.35, abs=0.06)


def test_what_is_observed_outweighs_what_was_declared(prior):
    embedder = HashingEmbedder()
    policy = registry.create("clusters", {}).fit(prior.experience({"a": 0.9, "b": 0.5}, embedder))
    texts = [prompt.prompt for prompt in read_starter(STARTER)][:200]
    asked = _asked(embedder, *texts)
    before = policy.score(asked).quality.mean(axis=0)
    rows = np.arange(200)
    truth = np.where(rows % 2 == 0, 0.3, 0.8).astype(np.float32)
    policy.partial_fit(
        Experience(
            queries=asked,
            endpoints=("a", "b"),
            query=rows,
            endpoint=rows % 2,
            quality=truth,
            cost_usd=np.full(200, np.nan),
            propensity=np.ones(200, dtype=np.float32),
        )
    )
    after = policy.score(asked).quality.mean(axis=0)
    assert before[0] > before[1]
    assert after[0] < after[1]


@pytest.fixture
def new_installation(tmp_path):
    def load(**more: object) -> Brain:
        prices = {"price_output_usd_per_mtok": 1, "context_tokens_max": 10_000, "base_url": "http://127.0.0.1:9/v1"}
        endpoints = [
            {"name": "weak", "model": "w", "price_input_usd_per_mtok": 0.1, "ability": 0.6, **prices},
            {"name": "able", "model": "a", "price_input_usd_per_mtok": 10, "ability": 0.9, **prices},
            {"name": "unknown", "model": "u", "price_input_usd_per_mtok": 1, **prices},
        ]
        settings = {
            "state_dir": str(tmp_path / "state"),
            "embedder": {"kind": "hashing"},
            "default_endpoint": "weak",
            "endpoints": endpoints,
        }
        file = tmp_path / "gateway.yaml"
        file.write_text(yaml.safe_dump(settings | more))
        config = configuration.load(file)
        made = Brain(config=config, endpoints=build_endpoints(config))
        made.load(lambda _: nullcontext(lambda *_: None))
        return made

    return load


def test_a_new_installation_routes_by_declared_ability(new_installation):
    brain = new_installation()
    router = brain.routers()["clusters"]
    query = query_of("Prove that the square root of 2 is irrational.", uuid7())
    vector = brain.embedder.embed([query.text])

    def chosen(worth_usd):
        return replace(router, worth_usd=worth_usd).route([query], vector)[0].endpoint

    assert chosen(1.0) == "able"
    assert chosen(1e-5) == "weak"
    assert brain.live["clusters"].current().label == "clusters@1"
    assert brain.never_trained() == ("unknown",)
    manifest = brain.snapshots.manifest("clusters", 1)
    assert manifest.provenance.extra["abilities"] == ABILITIES
    assert new_installation().live["clusters"].current().label == "clusters@1"  # it is not made anew


def test_the_bandit_starts_from_the_expectation_itself(new_installation):
    brain = new_installation(policy={"name": "bandit"}, embedder={"kind": "static"})
    assert brain.live["bandit"].current().version == 1
    assert brain.snapshots.manifest("bandit", 1).provenance.observations == 0
    query = query_of("What is 2 + 2?", uuid7())
    [decision] = brain.routers()["bandit"].route([query], brain.embedder.embed([query.text]))
    assert 0.6 < decision.quality[0] < decision.quality[1]  # an easy one
    assert decision.quality[1] == pytest.approx(0.9, abs=0.1)
    assert (decision.quality[2], decision.stddev[2]) == (0.5, 0.5)  # nothing was declared of it


def test_a_policy_that_cannot_start_from_abilities_leaves_the_others_alone(new_installation):
    brain = new_installation(other_policies=[{"name": "routes", "params": {}}, {"name": "best_on_average"}])
    assert brain.live["clusters"].current().version == 1
    assert brain.live["best_on_average"].current().version == 1


def _asked(embedder, *texts):
    return Queries(
        text=texts,
        embedding=embedder.embed(texts),
        tokens_input=np.full(len(texts), 20, dtype=np.int64),
        space=embedder.space,
    )
