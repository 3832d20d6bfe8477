"""What the gateway is meant to reach, beside what it reached."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from performance.contenders import LITELLM, PORTKEY, ROUTED


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One bound; `measured` is None where this run did not look."""

    text: str
    form: str
    measured: float | None
    low: float | None = None
    high: float | None = None
    met: bool | None = None


def goals(results: dict[str, Any]) -> list[Goal]:
    """All goals, judged by medians."""
    return list(_against_peers(results)) + list(_on_its_own(results))


def _against_peers(results: dict[str, Any]) -> Iterator[Goal]:
    litellm, portkey = f"{ROUTED}/{LITELLM}", f"{ROUTED}/{PORTKEY}"
    for text, scenario, pair, key, bound, better in (
        ("at least 25 times LiteLLM's throughput at 16 connections", "c16", litellm, "rps", 25, operator.ge),
        ("at most 1/20 of LiteLLM's median latency at one connection", "c1", litellm, "p50_ms", 1 / 20, operator.le),
        (
            "at least 50 times LiteLLM's 50-chunk streams at 16 connections",
            "stream-c16",
            litellm,
            "rps",
            50,
            operator.ge,
        ),
        ("at least 3 times Portkey's throughput at 16 connections", "c16", portkey, "rps", 3, operator.ge),
    ):
        found = _at(results, "http", "ratios", scenario, pair, key)
        yield _judged(text, "{:.3f} ×" if key == "p50_ms" else "{:.1f} ×", found, bound, better)


def _on_its_own(results: dict[str, Any]) -> Iterator[Goal]:
    at_most, at_least = operator.le, operator.ge
    for text, form, path, bound, better in (
        (
            "at most 0.44 ms added, one request after another",
            "{:.3f} ms",
            ("sequential", ROUTED, "added_ms"),
            0.44,
            at_most,
        ),
        (
            "routing adds at most 300 µs of CPU to a request of 100 tokens",
            "{:.0f} µs",
            ("added_by_routing", "distinct", "added_us"),
            300,
            at_most,
        ),
        (
            "and at most 50 µs to a repeated text",
            "{:.0f} µs",
            ("added_by_routing", "repeated", "added_us"),
            50,
            at_most,
        ),
        ("a worker under 350 MiB", "{:.0f} MiB", ("http", "scenarios", "c16", ROUTED, "rss_mib"), 350, at_most),
        ("ready in under 3 s, its policy fitted before", "{:.2f} s", ("gateway", "ready_s"), 3, at_most),
        (
            "the ledger writes at least 20,000 rows a second to SQLite",
            "{:,.0f}",
            ("parts", "ledger", "sqlite", "rows_per_s"),
            20_000,
            at_least,
        ),
    ):
        yield _judged(text, form, _at(results, *path), bound, better)
    policy = _at(results, "decision", "default")
    whole = _at(results, "decision", "policies", policy, "stages", "whole") if policy else None
    for text, key, bound in (
        ("a decision, text to choice, in 250 µs (median)", "p50_us", 250.0),
        ("and in 600 µs (p99)", "p99_us", 600.0),
    ):
        yield _judged(text, "{:.0f} µs", _at(whole or {}, key), bound, at_most)
    mapped = _at(results, "start", ROUTED, "mapped")
    torch = None if mapped is None else float("libtorch" in mapped)
    yield _judged("torch is not loaded (0: it is not)", "{:.0f}", torch, 0, operator.eq)


def _at(results: dict[str, Any], *path: str) -> Any:
    found: Any = results
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _judged(text: str, form: str, found: Any, bound: float, better: Callable[[float, float], bool]) -> Goal:
    if found is None:
        return Goal(text=text, form=form, measured=None)
    if isinstance(found, dict):
        median = found["median"]
        return Goal(
            text=text, form=form, measured=median, low=found["low"], high=found["high"], met=better(median, bound)
        )
    return Goal(text=text, form=form, measured=found, met=better(found, bound))
