"""From figures to intervals, verdicts and the page."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("performance")


def test_ratios_are_paired_by_round():
    """A machine that is ten times slower in one round changes both of its runs, and not their ratio."""
    from performance.intervals import paired_ratio

    speed = np.array([1.0, 0.1, 3.0, 0.5, 1.7])
    found = paired_ratio((20 * speed).tolist(), (4 * speed).tolist())
    assert found["median"] == pytest.approx(5.0)
    assert (found["low"], found["high"]) == pytest.approx((5.0, 5.0))


def test_an_interval_holds_its_median_and_no_more_than_the_rounds():
    from performance.intervals import summary

    found = summary([3.0, 1.0, 2.0, 9.0, 4.0])
    assert found["median"] == 3.0
    assert 1.0 <= found["low"] <= found["median"] <= found["high"] <= 9.0
    assert found["rounds"] == [3.0, 1.0, 2.0, 9.0, 4.0]


def test_goals_are_judged_in_the_right_direction():
    from performance.goals import goals
    from performance.intervals import summary

    results = {
        "http": {
            "scenarios": {"c16": {"routed": {"rss_mib": summary([400.0])}}},
            "ratios": {
                "c1": {"routed/litellm": {"p50_ms": summary([0.04]), "rps": summary([1.0])}},
                "c16": {"routed/litellm": {"rps": summary([26.0])}, "routed/portkey": {"rps": summary([2.9])}},
            },
        },
        "start": {"routed": {"mapped": ["libtorch"]}},
        "parts": {"ledger": {"sqlite": {"rows_per_s": 21_000.0}}},
    }
    met = {goal.text: goal.met for goal in goals(results)}
    assert met["at least 25 times LiteLLM's throughput at 16 connections"] is True
    assert met["at most 1/20 of LiteLLM's median latency at one connection"] is True
    assert met["at least 3 times Portkey's throughput at 16 connections"] is False
    assert met["a worker under 350 MiB"] is False
    assert met["torch is not loaded (0: it is not)"] is False
    assert met["the ledger writes at least 20,000 rows a second to SQLite"] is True
    assert met["at least 50 times LiteLLM's 50-chunk streams at 16 connections"] is None  # not measured


def test_texts_are_distinct_and_as_long_as_asked():
    from performance.texts import _tokenizer, texts

    found = texts(300, tokens=100, seed=5)
    assert len(set(found)) == 300
    assert found == texts(300, tokens=100, seed=5)
    lengths = [len(ids) for ids in (encoding.ids for encoding in _tokenizer().encode_batch(found))]
    assert 98 <= np.median(lengths) <= 102


def test_a_page_without_its_marks_is_left_alone(tmp_path):
    from performance.page import BEGIN, END, write_page
    from performance.problems import BenchmarkError

    page = tmp_path / "page.md"
    for text in ("nothing", f"{END}\n{BEGIN}", BEGIN):
        page.write_text(text)
        with pytest.raises(BenchmarkError, match="must be there"):
            write_page({}, page)
        assert page.read_text() == text


def whole_run():
    """Results of a run as `make bench` keeps them, with a peer that failed at streams and one encoder missing."""
    from performance.intervals import summary

    def run(scale: float) -> dict:
        return {key: summary([scale, 2 * scale]) for key in ("rps", "p50_ms", "p99_ms", "cpu_us", "rss_mib")}

    names = ("direct", "floor", "routed", "pinned", "litellm")
    streamless = {name: run(i + 1.0) for i, name in enumerate((*names, "portkey"))}
    streams = {name: run(i + 1.0) for i, name in enumerate(names)}
    pair = {"routed/litellm": {key: summary([30.0, 31.0]) for key in ("rps", "p50_ms", "p99_ms", "cpu_us")}}
    stage = {"p50_us": 100.0, "p99_us": 200.0}
    timed = {"p50_ms": 0.1, "p99_ms": 0.2, "min_ms": 0.05, "texts": 3}
    encoder = {"space": "s", "load_s": 0.1, "rss_added_mib": 3.0, **{f"tokens_{n}": timed for n in (20, 100, 500)}}
    return {
        "command": "make bench", "made": "2026-01-01", "rounds": 2, "seconds_per_run": 1.5, "pinning": "pinned",
        "machine": {"cores": 2, "processor": "any", "load_average_1_min": 0.1}, "versions": {"python": "3.11"},
        "gateway": {
            "embedder": "static", "policy": "knn", "rule": "greedy", "endpoints": 11, "training_rows": 30_000,
            "is_default": True, "first_ready_s": 5.0, "ready_s": summary([1.0, 1.2, 1.1]),
        },
        "start": {name: {"ready_s": 1.0, "rss_mib": 100.0, "mapped": []} for name in names},
        "decisions": {"scored": 10_000, "pinned": 9_000}, "left_out": {},
        "http": {
            "failed": {"portkey stream-c1": "5 of 5 requests failed (status 500)"},
            "scenarios": {
                **dict.fromkeys(("c1", "c16", "c64"), streamless), **dict.fromkeys(("stream-c1", "stream-c16"), streams)
            },
            "ratios": {name: pair for name in ("c1", "c16", "c64", "stream-c1", "stream-c16")},
        },
        "sequential": {"routed": {"p50_ms": summary([0.3]), "added_ms": summary([0.25])}},
        "added_by_routing": {
            label: {key: summary([20.0]) for key in ("routed_us", "pinned_us", "added_us")}
            for label in ("distinct", "repeated")
        },
        "parts": {
            "encoders": {"static": encoder, "sentence": {"left_out": "no torch | here"}},
            "ledger": {"sqlite": {"rows": 10, "rows_per_s": 30_000.0, "cpu_us_per_row": 30.0, "append_us": 20.0}},
            "imports": {"router_gateway.cli": {"seconds": 0.1, "rss_added_mib": 10.0, "rss_mib": 24.0}},
            "empty_process_rss_mib": 14.0,
        },
        "decision": {
            "default": "knn", "settings": {"encoder": "static", "endpoints": 11, "rows": 30_000},
            "policies": {
                "knn": {
                    "stages": dict.fromkeys(("embed", "score", "rest", "whole", "together"), stage),
                    "arrays_mib": 1.0,
                },
            },
        },
        "scale": {"rows": {"10000": {"flat": {
            "p50_us": 90.0, "p99_us": 99.0, "recall": 1.0, "same_decision": 1.0, "build_s": 0.1, "index_mib": 5.0,
        }}}},
    }  # fmt: skip


def test_a_whole_run_becomes_a_page(tmp_path):
    from performance.page import BEGIN, END, write_page

    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{BEGIN}\nold\n{END}\n\nAfter\n")
    write_page(whole_run(), page)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nAfter\n")
    assert "old" not in text
    assert "not measured: portkey stream-c1 (5 of 5 requests failed (status 500))" in text
    assert "| `sentence` | left out: no torch / here |" in text
    assert "| **Router Gateway**, routing on / LiteLLM proxy | 30.5 (30.0 – 31.0) |" in text
    assert "**not met**" in text  # 30 times LiteLLM's streams are not 50
    for row in [line for line in text.splitlines() if line.startswith("| a decision") or line.startswith("| a worker")]:
        assert row.endswith("| met |")
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(widths) > 40
    for picture in ("throughput", "latency"):
        assert (tmp_path / "images" / f"performance-{picture}.png").stat().st_size > 10_000
    write_page(whole_run(), page)
    assert page.read_text() == text
