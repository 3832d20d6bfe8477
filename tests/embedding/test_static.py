import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_gateway.core.errors import ConfigError
from router_gateway.embedding import sketch
from router_gateway.embedding.static import CHARS_MAX, TABLE, StaticEmbedder, Table

QUESTION = "How do I sort a list in Python by two keys?"
PROMPTS = [
    json.loads(line)["prompt"]
    for line in Path(__file__).parents[2].joinpath("datasets", "starter.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture(scope="module")
def static():
    embedder = StaticEmbedder()
    embedder.load()
    return embedder


def test_nothing_heavy_is_imported_and_nothing_read_before_first_use():
    code = (
        "import sys; from router_gateway.embedding.static import StaticEmbedder; one = StaticEmbedder();"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'tokenizers', 'huggingface_hub'};"
        "print(one.loaded, sorted(heavy & set(sys.modules))); one.embed(['x']);"
        "print(one.loaded, sorted(heavy & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "False []\nTrue ['tokenizers']\n"


def test_space_and_width(static):
    assert static.space == f"static/{Table.read(TABLE).digest}/256+256/{CHARS_MAX}/f16"
    assert static.width == 512


def test_the_package_stays_small():
    assert TABLE.stat().st_size < 4.5e6


def test_vectors_are_unit_float32_and_exactly_float16(static):
    vectors = static.embed(PROMPTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (len(PROMPTS), 512))
    assert np.array_equal(vectors, vectors.astype(np.float16).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


def meaning(vectors):
    """The half that is the table's, to unit length."""
    half = vectors[:, : vectors.shape[1] - sketch.WIDTH]
    return half / np.linalg.norm(half, axis=1, keepdims=True)


def test_the_halves_weigh_the_same(static):
    vectors = static.embed(PROMPTS)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, :256], axis=1) ** 2, 0.5, atol=1e-3)


def test_meaning_is_there(static):
    question, paraphrase, unrelated = meaning(
        static.embed([QUESTION, "sorting Python lists on a primary and a secondary key", "a recipe for lentil soup"])
    )
    assert question @ paraphrase > 0.6
    assert question @ unrelated < 0.3


def test_neighbours_are_those_of_the_transformer(static, encoder):
    """Far beyond chance, which would keep 10 of 299 neighbours: 3.3 %."""
    near = []
    for vectors in (meaning(static.embed(PROMPTS[:300])), encoder.embed(PROMPTS[:300])):
        close = vectors @ vectors.T
        np.fill_diagonal(close, -1.0)
        near.append(np.argsort(-close, axis=1)[:, :10])
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)]) > 0.3


@given(st.lists(st.text(max_size=40), max_size=6))
def test_a_vector_does_not_depend_on_its_neighbours(static, texts):
    together = static.embed(texts)
    assert together.shape == (len(texts), 512)
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(static.embed([text])[0], vector)


def test_threads_may_share_it(static):
    alone = static.embed(PROMPTS[:50])
    fresh = StaticEmbedder()
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(fresh.embed, [PROMPTS[:50]] * 8):
            assert np.array_equal(vectors, alone)


def test_only_the_tail_counts(static):
    ending = "The quick brown fox. " * (CHARS_MAX // 21 + 1)
    one, two = static.embed(["Alpha " + ending, "Something else entirely! " * 40 + ending])
    assert np.array_equal(one, two)


@pytest.mark.parametrize("text", ["", " ", "\x00", "a\x00b", "\ud800", "x\udfffy", "🙂" * 9, "\n" * 20_000, "é" * 9000])
def test_odd_texts_have_unit_vectors(static, text):
    assert abs(float(np.linalg.norm(static.embed([text])[0])) - 1.0) < 1e-3


def small(tmp_path: Path, **changed: object) -> Path:
    told = {
        "rows": np.array([[0, 0], [3, 4], [-3, -4]], dtype=np.int8),
        "scale": np.ones(2, dtype=np.float32),
        "vocabulary": np.frombuffer(b"[UNK]\nup\ndown", dtype=np.uint8),
    }
    np.savez(tmp_path / "table.npz", **(told | changed))
    return tmp_path / "table.npz"


def test_another_table_is_another_space(static, tmp_path):
    own = StaticEmbedder(small(tmp_path))
    np.testing.assert_allclose(
        meaning(own.embed(["Up", "up down", "down down!"])), [[0.6, 0.8], [1, 0], [-0.6, -0.8]], atol=1e-3
    )
    assert own.space.split("/")[2] == "2+256"
    assert own.space.split("/")[1] != static.space.split("/")[1]
    scaled = small(tmp_path, scale=np.array([1, 2], dtype=np.float32))
    assert StaticEmbedder(scaled).space != own.space


def test_a_written_table_is_read_back(tmp_path):
    table = Table.read(TABLE)
    table.write(tmp_path / "again.npz")
    assert Table.read(tmp_path / "again.npz").digest == table.digest


@pytest.mark.parametrize(
    "changed",
    [
        {"rows": np.zeros((3, 2))},
        {"rows": np.zeros(3, dtype=np.int8)},
        {"scale": np.ones(3, dtype=np.float32)},
        {"vocabulary": np.frombuffer(b"[UNK]\nup", dtype=np.uint8)},
    ],
)
def test_a_table_whose_parts_do_not_fit_is_refused(tmp_path, changed):
    with pytest.raises(ConfigError, match=r"table\.npz is not a table of tokens: shapes do not fit"):
        StaticEmbedder(small(tmp_path, **changed)).load()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"words"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "table.npz").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a table of tokens"):
        StaticEmbedder(tmp_path / "table.npz").load()
    with pytest.raises(ConfigError, match="is not a table of tokens"):
        StaticEmbedder(tmp_path / "none.npz").load()
