import math
import subprocess
import sys

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError, DataError
from router_gateway.embedding.finetune import Tuning, endpoints_loss, kinds_loss, success_loss, tune
from router_gateway.embedding.onnx import OnnxEmbedder
from router_gateway.embedding.pretrained import MINILM, local_folder
from router_gateway.embedding.sentence import SentenceTransformerEmbedder

torch = pytest.importorskip("torch")

RIVERS = [f"Which river flows through {city}?" for city in ("Paris", "Rome", "Vienna", "Cairo", "London", "Prague")]
SUMS = [f"What is {n} plus {n + 3}?" for n in (4, 17, 23, 31, 58, 76)]


def outcomes() -> np.ndarray:
    """One endpoint knows rivers, the other sums; a third is hardly known."""
    quality = np.zeros((12, 3), dtype=np.float32)
    quality[:6, 0] = quality[6:, 1] = 1.0
    quality[:, 2] = np.nan
    quality[0, 2] = 0.5
    return quality


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "mine"
    settings = Tuning(epochs=6, batch=12, rate=1e-4, kinds_weight=0.2, kinds=2)
    steps = []
    written = tune(
        local_folder(MINILM), RIVERS + SUMS, outcomes(), folder, tuning=settings, progress=lambda *s: steps.append(s)
    )
    assert written == folder
    assert steps == [(n, 6) for n in range(1, 7)]
    return folder


def separation(vectors: np.ndarray) -> float:
    """How much nearer the two kinds are to their own than to each other."""
    cosine = vectors @ vectors.T
    return float((cosine[:6, :6].mean() + cosine[6:, 6:].mean()) / 2 - cosine[:6, 6:].mean())


def test_it_is_an_ordinary_folder_that_both_kinds_of_embedder_load(tuned):
    ours, theirs = OnnxEmbedder(str(tuned), threads=1), SentenceTransformerEmbedder(str(tuned), threads=1)
    assert ours.space.startswith("mine@")
    np.testing.assert_allclose(ours.embed(RIVERS), theirs.embed(RIVERS), atol=2e-4)


def test_queries_that_the_same_endpoint_answers_come_together(tuned):
    before, after = OnnxEmbedder(threads=1), OnnxEmbedder(str(tuned), threads=1)
    assert separation(after.embed(RIVERS + SUMS)) > separation(before.embed(RIVERS + SUMS)) + 0.03


def test_the_same_seed_gives_the_same_encoder(tuned, tmp_path):
    settings = Tuning(epochs=6, batch=12, rate=1e-4, kinds_weight=0.2, kinds=2)
    torch.rand(3)  # what the caller draws does not matter, and is not disturbed
    state = torch.random.get_rng_state()
    again = tune(local_folder(MINILM), RIVERS + SUMS, outcomes(), tmp_path / "mine", tuning=settings)
    assert torch.equal(torch.random.get_rng_state(), state)
    one, two = (OnnxEmbedder(str(folder), threads=1).embed(RIVERS) for folder in (tuned, again))
    np.testing.assert_allclose(one, two, atol=1e-3)


def test_success_leaves_unknown_outcomes_out():
    logits = torch.tensor([[0.0, 100.0], [math.log(3.0), -100.0]])
    quality = torch.tensor([[1.0, math.nan], [0.5, math.nan]])
    # -log 1/2, and the mean of -log 3/4 and -log 1/4
    expected = (math.log(2) + (math.log(4 / 3) + math.log(4)) / 2) / 2
    assert float(success_loss(logits, quality)) == pytest.approx(expected, rel=1e-6)


def test_endpoints_are_contrasted_with_those_that_failed():
    similarity = torch.tensor([[2.0, 1.0, 0.0]])
    # the best (2.0) against the worst (0.0)
    one = endpoints_loss(similarity, torch.tensor([[1.0, 0.9, 0.0]]), kept=1)
    assert float(one) == pytest.approx(math.log1p(math.exp(-2.0)), rel=1e-6)
    # 0.9 is no failure: it is masked, and (1.0, 0.9) are both positives against 0.0
    two = endpoints_loss(similarity, torch.tensor([[1.0, 0.9, 0.0]]), kept=2)
    assert float(two) == pytest.approx((math.log1p(math.exp(-2.0)) + math.log1p(math.exp(-1.0))) / 2, rel=1e-6)


def test_endpoints_teach_nothing_where_all_are_good_or_unknown():
    similarity = torch.tensor([[2.0, 1.0], [1.0, 2.0]], requires_grad=True)
    loss = endpoints_loss(similarity, torch.tensor([[1.0, 0.9], [math.nan, math.nan]]), kept=2)
    assert loss.item() == 0.0
    loss.backward()
    assert torch.equal(similarity.grad, torch.zeros(2, 2))


def test_kinds_are_contrasted_with_other_kinds_only():
    vectors = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    loss = kinds_loss(vectors, torch.tensor([0, 0, 1]), temperature=0.5)
    # first: partner 0.6, other 0.0; second: partner 0.6, other 0.8; third has no partner
    each = [math.log1p(math.exp((0.0 - 0.6) / 0.5)), math.log1p(math.exp((0.8 - 0.6) / 0.5))]
    assert float(loss) == pytest.approx(sum(each) / 2, rel=1e-5)


@pytest.mark.parametrize(
    ("quality", "said"),
    [
        (np.ones((3, 2)), "2 texts"),
        (np.full((2, 2), np.nan), "fewer than two texts"),
        (np.array([[0.5, 1.5], [0, 1]]), r"\[0, 1\]"),
    ],
)
def test_outcomes_that_cannot_be_learned_are_refused(tmp_path, quality, said):
    with pytest.raises(DataError, match=said):
        tune(MINILM, ["a", "b"], quality, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="device cuda"):
        tune(MINILM, ["a", "b"], np.ones((2, 1)), tmp_path / "out", device="cuda")


def test_torch_is_not_imported_with_the_module():
    code = "import sys, router_gateway.embedding.finetune; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout == "False\n"
