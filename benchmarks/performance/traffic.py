"""The sections that send requests: throughput, added latency, and what routing costs in CPU time.

Everyone takes a turn in every round, and everyone else is stopped meanwhile, so that a ratio inside one round compares
the same minute of the same machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from performance.contenders import DIRECT, LITELLM, PINNED, PORTKEY, ROUTED, Contender
from performance.intervals import paired_difference, paired_ratio, summary
from performance.problems import BenchmarkError
from performance.texts import texts

Say = Callable[[str], None]

SCENARIOS = (("c1", 1, False), ("c16", 16, False), ("c64", 64, False), ("stream-c1", 1, True), ("stream-c16", 16, True))
DISTINCT = 12_000  # texts: more than the encoder's cache holds, so that none is still there when its turn comes again
_TOKENS = 100
_WARMUP_S = 0.4
_EVENTS = 52  # of a stream: 50 chunks, usage, [DONE]
SEQUENTIAL_ROUNDS, SEQUENTIAL_REQUESTS, SEQUENTIAL_WARMUPS = 7, 25, 15
_ADDED_REQUESTS = 1500
_ADDED_CONNECTIONS = 4
_ADDED_WARMUPS = 100
_LABELS = ("distinct", "repeated")
_LONG_S = 60.0


def prepare(contenders: Sequence[Contender]) -> None:
    """Write everyone's requests."""
    distinct = texts(DISTINCT, tokens=_TOKENS, seed=2)
    for contender in contenders:
        contender.prepare(distinct, label="distinct")
        contender.prepare(distinct, label="distinct", stream=True)
        contender.prepare(distinct[:1], label="repeated")
    pause_all(contenders)


def pause_all(contenders: Sequence[Contender]) -> None:
    """Stop everyone; `alone` lets one go on."""
    for contender in contenders:
        if contender.server is not None:
            contender.server.pause()


@contextmanager
def alone(contender: Contender) -> Iterator[None]:
    """Only this one runs."""
    if contender.server is None:
        yield
        return
    contender.server.resume()
    try:
        yield
    finally:
        contender.server.pause()


def throughput(contenders: Sequence[Contender], *, rounds: int, seconds: float, say: Say) -> dict[str, Any]:
    """Requests a second, latencies and CPU time at three loads, and bursts of 50 chunks at two."""
    runs: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name, _, _ in SCENARIOS}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for scenario, connections, stream in SCENARIOS:
            for contender in contenders:
                label = f"{contender.name} {scenario}"
                if label in failed:
                    continue
                try:
                    measured = _throughput_once(contender, connections, stream, seconds)
                except BenchmarkError as error:
                    failed[label] = str(error)
                    continue
                runs[scenario].setdefault(contender.name, []).append(measured)
                say(f"round {number + 1} {label}: {measured['rps']:,.0f} rps, p50 {measured['p50_ms']:.3f} ms")
    found: dict[str, Any] = {"failed": failed, "scenarios": {}, "ratios": {}}
    for scenario, by_name in runs.items():
        whole = {name: own for name, own in by_name.items() if len(own) == rounds}
        found["scenarios"][scenario] = {
            name: {key: summary([run[key] for run in own]) for key in own[0]} for name, own in whole.items()
        }
        found["ratios"][scenario] = _ratios(whole)
    return found


def sequential(contenders: Sequence[Contender], *, rounds: int = SEQUENTIAL_ROUNDS) -> dict[str, Any]:
    """What each adds to one request after another: 7 rounds in turn of 25 requests after 15 warm-ups; medians."""
    medians: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            with alone(contender):
                measured = contender.send(
                    "distinct",
                    connections=1,
                    seconds=_LONG_S,
                    requests_max=SEQUENTIAL_REQUESTS,
                    warmup_requests=SEQUENTIAL_WARMUPS,
                )
            medians[contender.name].append(measured.p50_us / 1e3)
    found: dict[str, Any] = {name: {"p50_ms": summary(own)} for name, own in medians.items()}
    if DIRECT in medians:
        for name, own in medians.items():
            found[name]["added_ms"] = paired_difference(own, medians[DIRECT])
    return found


def added_by_routing(contenders: Sequence[Contender], *, rounds: int, say: Say) -> dict[str, Any]:
    """CPU time of a request of 100 tokens through the same process, routed and pinned to one endpoint."""
    pair = [c for c in contenders if c.name in (ROUTED, PINNED)]
    if len(pair) != 2:
        return {}
    spent: dict[tuple[str, str], list[float]] = {(c.name, label): [] for c in pair for label in _LABELS}
    for number in range(rounds):
        for contender in pair:
            for label in _LABELS:
                spent[contender.name, label].append(cpu_us(contender, label, requests=_ADDED_REQUESTS))
        say(f"round {number + 1}: " + ", ".join(f"{a} {b} {own[-1]:.0f} us" for (a, b), own in spent.items()))
    return {
        label: {
            "routed_us": summary(spent[ROUTED, label]),
            "pinned_us": summary(spent[PINNED, label]),
            "added_us": paired_difference(spent[ROUTED, label], spent[PINNED, label]),
        }
        for label in _LABELS
    }


def cpu_us(contender: Contender, label: str, *, requests: int) -> float:
    """CPU time of one request in microseconds, what it leaves to be done later counted; after some that warm up."""
    server = contender.server
    if server is None:
        raise ValueError(f"{contender.name} has no process")
    with alone(contender):
        contender.send(label, connections=_ADDED_CONNECTIONS, seconds=_LONG_S, requests_max=_ADDED_WARMUPS)
        before = server.settled_cpu_s()
        measured = contender.send(label, connections=_ADDED_CONNECTIONS, seconds=_LONG_S, requests_max=requests)
        return 1e6 * (server.settled_cpu_s() - before) / measured.answered


def decisions(contenders: Sequence[Contender]) -> dict[str, int]:
    """What the gateway says of all it decided: a routed request that was not scored measures something else."""
    for contender in contenders:
        if contender.name == ROUTED:
            with alone(contender):
                return contender.decisions()
    return {}


def _throughput_once(contender: Contender, connections: int, stream: bool, seconds: float) -> dict[str, float]:
    with alone(contender):
        server = contender.server
        reached = contender.reached_upstream()
        before = server.settled_cpu_s() if server else 0.0
        measured = contender.send(
            "distinct", stream=stream, connections=connections, seconds=seconds, warmup_s=_WARMUP_S
        )
        after = server.settled_cpu_s() if server else 0.0
        rss_mib = server.rss_mib() if server else 0.0
        reached = contender.reached_upstream() - reached
    if reached < measured.answered:
        raise BenchmarkError(f"{measured.answered} answers, but the upstream was asked only {reached} times")
    if stream and abs(measured.events - _EVENTS * measured.requests) > _EVENTS * connections:
        raise BenchmarkError(f"{measured.events} events in {measured.requests} streams, not {_EVENTS} in each")
    return {
        "rps": measured.rps,
        "p50_ms": measured.p50_us / 1e3,
        "p99_ms": measured.p99_us / 1e3,
        "cpu_us": 1e6 * (after - before) / measured.answered,
        "rss_mib": rss_mib,
    }


def _ratios(whole: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """The gateway to each peer, round by round: throughput, and median latency."""
    found = {}
    for own in (ROUTED, PINNED):
        for peer in (LITELLM, PORTKEY):
            if own in whole and peer in whole:
                found[f"{own}/{peer}"] = {
                    key: paired_ratio([r[key] for r in whole[own]], [r[key] for r in whole[peer]])
                    for key in ("rps", "p50_ms", "p99_ms", "cpu_us")
                }
    return found
