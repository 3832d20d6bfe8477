import json
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import SnapshotMismatch
from router_gateway.core.types import Query
from router_gateway.routing.lengths import FEATURES, CueMemory, Lengths, features

CUED = {
    "reasoning": "Solve it step by step.",
    "code": "Write a Python function that sorts.",
    "list": "Give me a list of rivers.",
    "choice": "Answer with the letter of the right option.",
    "short": "Reply with just the name.",
    "structured": "Return JSON.",
    "prose": "Write an essay on rivers.",
    "explain": "Explain tides.",
    "question": "Who was first?",
}


def query(text="", tokens_input=100):
    return Query(id=UUID(int=0), text=text, tokens_input=tokens_input)


def asked(count, *, seed=0):
    """Queries of many sizes with all mixes of cues."""
    rng = np.random.default_rng(seed)
    parts = list(CUED.values())
    texts = [" ".join(p for p, on in zip(parts, rng.random(len(parts)) < 0.3, strict=True) if on) for _ in range(count)]
    return [query(text, int(size)) for text, size in zip(texts, np.exp(rng.normal(5, 1, count)), strict=True)]


def weights_of(seed, intercept=4.0):
    rng = np.random.default_rng(seed)
    return np.r_[intercept, 0.2, 0.5 * rng.normal(size=len(FEATURES) - 2)]


@pytest.mark.parametrize(("name", "text"), CUED.items())
def test_each_cue_is_found_where_it_is_said_and_nowhere_in_plain_text(name, text):
    found, plain = features([query(text), query("The river flows to the sea.")])
    assert found[FEATURES.index(name)] == 1
    assert plain[2:].sum() == 0


def test_lettered_options_ask_for_a_choice():
    assert features([query("Which?\nA. one\nB. two")])[0, FEATURES.index("choice")] == 1


def test_the_prompts_size_enters_by_its_logarithm():
    assert features([query(tokens_input=0), query(tokens_input=99)])[:, 1].tolist() == pytest.approx([0, np.log(100)])


def test_a_long_text_is_searched_at_its_end_only():
    far, near = "step by step" + " x" * 3_000, " x" * 3_000 + "step by step"
    assert features([query(far), query(near)])[:, 2].tolist() == [0, 1]


def test_a_lognormal_truth_is_recovered():
    queries, truth = asked(4_000), {"a": weights_of(1), "b": weights_of(2, intercept=5.0)}
    noise = np.random.default_rng(3).normal(0, 0.5, (2, len(queries)))
    tokens = {n: np.exp(features(queries) @ w + r) for (n, w), r in zip(truth.items(), noise, strict=True)}
    lengths = Lengths.fit(queries, tokens, tokens_prior=300)
    for name, weights in truth.items():
        np.testing.assert_allclose(lengths.by_endpoint[name].weights, weights, atol=0.1)
        assert lengths.by_endpoint[name].smearing == pytest.approx(np.exp(0.5**2 / 2), rel=0.03)


@pytest.mark.parametrize("spread", [0.3, 0.8])
def test_smearing_makes_the_mean_right_where_exp_of_the_mean_is_not(spread):
    queries, weights = asked(6_000, seed=4), weights_of(5)
    noise = np.random.default_rng(6).normal(0, spread, len(queries))
    tokens = np.exp(features(queries) @ weights + noise)
    lengths = Lengths.fit(queries[:3_000], {"a": tokens[:3_000]}, tokens_prior=300)
    predicted = lengths.tokens(queries[3_000:], ["a"])[:, 0]
    ratio = predicted.mean() / tokens[3_000:].mean()
    assert ratio == pytest.approx(1, abs=0.08)
    assert ratio / lengths.by_endpoint["a"].smearing < 1 - 0.7 * (1 - np.exp(-(spread**2) / 2))


def test_it_predicts_better_than_a_constant():
    queries, weights = asked(2_000, seed=7), weights_of(8)
    tokens = np.exp(features(queries) @ weights + np.random.default_rng(9).normal(0, 0.3, len(queries)))
    lengths = Lengths.fit(queries[:1_000], {"a": tokens[:1_000]}, tokens_prior=300)
    error = tokens[1_000:] - lengths.tokens(queries[1_000:], ["a"])[:, 0]
    assert (error**2).mean() < 0.4 * tokens[1_000:].var()


def test_few_answers_lean_on_what_all_endpoints_have_in_common():
    queries, weights = asked(500, seed=10), weights_of(11)
    tokens = np.exp(features(queries) @ weights)
    few = np.where(np.arange(500) < 3, 2 * tokens, np.nan)  # three answers, each twice as long
    lengths = Lengths.fit(queries, {"a": tokens, "b": few}, tokens_prior=300)
    ratio = lengths.tokens(queries, ["b"])[:, 0] / tokens
    assert 1.2 < np.median(ratio) < 2.2
    np.testing.assert_array_equal(lengths.tokens(queries, ["never seen"]), lengths.tokens(queries, ["another"]))


def test_without_any_answer_every_request_gets_the_prior():
    nothing = Lengths.fit(asked(3), {"a": np.full(3, np.nan)}, tokens_prior=250)
    assert nothing.tokens(asked(5, seed=1), ["a", "b"]) == pytest.approx(np.full((5, 2), 250))
    assert nothing.tokens([], ["a"]).shape == (0, 1)


@given(size=st.integers(0, 10**9), text=st.text(max_size=200), seed=st.integers(0, 50))
def test_a_prediction_is_positive_and_never_far_beyond_what_was_seen(size, text, seed):
    queries = asked(30, seed=seed)
    tokens = np.random.default_rng(seed).integers(0, 4_000, 30).astype(float)
    lengths = Lengths.fit(queries, {"a": tokens}, tokens_prior=300)
    predicted = float(lengths.tokens([query(text, size)], ["a"])[0, 0])
    smearing = lengths.by_endpoint["a"].smearing
    assert 0 < max(tokens.min(), 1) * smearing * 0.999 <= predicted <= tokens.max() * smearing * 1.001


def test_a_batch_gives_the_bits_of_its_rows():
    queries = asked(50, seed=12)
    lengths = Lengths.fit(queries, {"a": np.arange(1.0, 51), "b": np.arange(50.0, 0, -1)}, tokens_prior=300)
    together = lengths.tokens(queries, ["a", "b"])
    alone = np.concatenate([lengths.tokens([q], ["a", "b"]) for q in queries])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("bad", [np.array([1.0, -1.0]), np.array([1.0, np.inf]), np.array([1.0])])
def test_impossible_counts_are_refused(bad):
    with pytest.raises(ValueError, match="'a'"):
        Lengths.fit(asked(2), {"a": bad}, tokens_prior=300)


def test_json_keeps_every_bit_and_another_version_is_refused():
    queries = asked(40, seed=13)
    lengths = Lengths.fit(queries, {"a": np.arange(40.0)}, tokens_prior=300)
    state = json.loads(json.dumps(lengths.to_json()))
    np.testing.assert_array_equal(
        Lengths.from_json(state).tokens(queries, ["a", "b"]), lengths.tokens(queries, ["a", "b"])
    )
    for broken in (
        {**state, "features": ["one"]},
        {**state, "pool": {"weights": [1.0], "smearing": 1.0}},
        {**state, "pool": {**state["pool"], "smearing": -1.0}},
        {**state, "range": [1.0]},
        {},
    ):
        with pytest.raises(SnapshotMismatch):
            Lengths.from_json(broken)


def test_cues_are_remembered_for_so_many_texts_and_are_the_same():
    memory = CueMemory(texts_max=4)
    texts = [query.text for query in asked(20, seed=14)]
    fresh = [CueMemory().read(text) for text in texts]
    assert [memory.read(text) for text in texts] == fresh
    assert [memory.read(text) for text in reversed(texts)] == fresh[::-1]
    assert len(memory) == 4
