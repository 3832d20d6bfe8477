import subprocess
import sys

import numpy as np
import pytest

from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.evaluation.embeddings import Encoder, default_cache, embed_cached
from router_gateway.evaluation.vectors import VectorStore

HASHING = Encoder(kind="hashing")
TEXTS = [f"prompt number {i} asks about topic {i % 7}" for i in range(40)]


def test_vectors_are_the_embedders_and_the_second_time_all_are_known(tmp_path):
    expected = HashingEmbedder().embed(TEXTS)
    first = embed_cached(HASHING, TEXTS, folder=tmp_path)
    second = embed_cached(HASHING, TEXTS[::-1], folder=tmp_path)
    assert (first.fresh, second.fresh) == (40, 0)
    assert first.space == HashingEmbedder().space
    np.testing.assert_array_equal(first.embedding, expected)
    np.testing.assert_array_equal(second.embedding, expected[::-1])


def test_a_text_given_twice_is_embedded_once(tmp_path):
    done = []
    result = embed_cached(
        HASHING, ["a", "b", "a"], folder=tmp_path, advance=lambda now, total: done.append((now, total))
    )
    assert result.fresh == 2
    np.testing.assert_array_equal(result.embedding[0], result.embedding[2])
    assert done[0] == (0, 2)
    assert done[-1] == (2, 2)


def test_no_texts_give_no_rows(tmp_path):
    assert embed_cached(HASHING, [], folder=tmp_path).embedding.shape == (0, HashingEmbedder().width)


def test_worker_processes_give_the_same_vectors(tmp_path):
    texts = [f"{text} {n}" for n in range(6) for text in TEXTS]
    result = embed_cached(HASHING, texts, folder=tmp_path, workers=2)
    assert result.fresh == len(texts)
    np.testing.assert_array_equal(result.embedding, HashingEmbedder().embed(texts))


KILLED = """
import os, signal, sys
from pathlib import Path
from router_gateway.evaluation.embeddings import Encoder, embed_cached

def advance(done, total):
    if done >= 64:
        os.kill(os.getpid(), signal.SIGKILL)

texts = [f"prompt {i}" for i in range(150)]
embed_cached(Encoder(kind="hashing"), texts, folder=Path(sys.argv[1]), advance=advance)
"""


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path):
    ended = subprocess.run([sys.executable, "-P", "-c", KILLED, str(tmp_path)], timeout=120, check=False)
    assert ended.returncode == -9
    kept = len(VectorStore(tmp_path, HashingEmbedder().space, HashingEmbedder().width))
    assert kept == 64
    texts = [f"prompt {i}" for i in range(150)]
    again = embed_cached(HASHING, texts, folder=tmp_path)
    assert again.fresh == 150 - kept
    np.testing.assert_array_equal(again.embedding, HashingEmbedder().embed(texts))


def test_the_default_folder_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "router-gateway" / "vectors"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "router-gateway" / "vectors"


def test_an_encoder_is_built_by_kind():
    assert HASHING.build().space == HashingEmbedder().space
    with pytest.raises(TypeError):
        Encoder("sentence")  # type: ignore[misc]
