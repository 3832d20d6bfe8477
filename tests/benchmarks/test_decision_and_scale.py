"""The two scripts on a small scale, with the real policies and the real indexes."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module", params=["decision", "index_scale"])
def script(request):
    """One script as a module: benchmarks/ is not on the path."""
    spec = importlib.util.spec_from_file_location(request.param, FOLDER / f"{request.param}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        yield module
    finally:
        del sys.modules[spec.name]


@pytest.mark.parametrize("script", ["decision"], indirect=True)
class TestDecision:
    def test_every_stage_of_every_policy_is_timed(self, script, tmp_path, capsys):
        file = tmp_path / "decision.json"
        small = ["--rows", "60", "--queries", "3", "--rounds", "2", "--endpoints", "3"]
        assert script.main([*small, "--policies", "linear", "knn", "--out", str(file)]) == 0
        told = json.loads(file.read_text())["policies"]
        assert list(told) == ["linear", "knn"]
        for row in told.values():
            stages = row["stages"]
            assert list(stages) == list(script.STAGES)
            assert all(0 < one["least_us"] <= one["p50_us"] <= one["p99_us"] for one in stages.values())
            assert stages["whole"]["least_us"] > stages["route"]["least_us"] > stages["score"]["least_us"]
            assert max(stages[part]["of_slowest"] for part in ("embed", "score", "rest")) == 1.0
            assert row["arrays_mib"] > 0
        assert "linear" in capsys.readouterr().out

    def test_texts_follow_their_seed_and_keep_to_their_subject(self, script):
        text, subject = script.texts(40, seed=3)
        assert (text, subject.tolist()) == (script.texts(40, seed=3)[0], script.texts(40, seed=3)[1].tolist())
        assert text != script.texts(40, seed=4)[0]
        own = [set(words.split()) for words in script._SUBJECTS]
        shared = [[len(set(one.split()) & words) for words in own] for one in text]
        assert np.argmax(shared, axis=1).tolist() == subject.tolist()

    def test_an_array_is_counted_once_and_a_view_as_its_base(self, script):
        whole = np.zeros(2**17)
        assert script.arrays_mib({"a": whole, "b": [whole, whole[:5]]}) == 1.0


@pytest.mark.parametrize("script", ["index_scale"], indirect=True)
class TestIndexScale:
    def test_exact_search_agrees_with_itself_and_lists_find_less(self, script, tmp_path):
        file = tmp_path / "scale.json"
        small = ["--rows", "600", "--width", "32", "--queries", "20", "--k", "20", "--out", str(file)]
        assert script.main(small) == 0
        told = json.loads(file.read_text())["rows"]["600"]
        assert told["flat"]["recall"] == told["flat"]["same_decision"] == 1.0
        assert told["ivf"]["recall"] < 1.0
        assert told["hnsw"]["recall"] > 0.9
        assert told["hnsw"]["index_mib"] > told["flat"]["index_mib"] > 600 * 32 * 2 / 2**20

    def test_flat_finds_what_a_sort_of_all_cosines_does(self, script):
        known = script.rows(500, width=16, endpoints=2, seed=0)
        index = script.flat(16, 500, 52)
        index.add(known.embedding)
        query = script.rows(1, width=16, endpoints=2, seed=1).embedding
        row, cosine = script.nearest(index, known.embedding, query, 20)
        exact = known.embedding @ query[0]
        assert row.tolist() == np.argsort(-exact, kind="stable")[:20].tolist()
        np.testing.assert_allclose(cosine, exact[row], rtol=1e-6)

    def test_the_same_rows_whatever_else_is_drawn(self, script):
        one, two = (script.rows(50, width=8, endpoints=3, seed=0) for _ in range(2))
        np.testing.assert_array_equal(one.embedding, two.embedding)
        assert (one.embedding[:5] != script.rows(50, width=8, endpoints=3, seed=1).embedding[:5]).any()
