"""The tables of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from performance.contenders import ALL, DIRECT
from performance.goals import goals
from performance.traffic import SCENARIOS

LABELS = {
    "direct": "the upstream itself",
    "floor": "pass-through floor (ASGI + aiohttp)",
    "routed": "**Router Gateway**, routing on",
    "pinned": "Router Gateway, one endpoint asked for",
    "litellm": "LiteLLM proxy",
    "portkey": "Portkey gateway",
}
_NONE = "–"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column left, the others right."""
    rule = "|---|" + "---:|" * (len(heads) - 1)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)])


def goal_table(results: dict[str, Any]) -> str:
    """Goals and what they came to."""
    rows = []
    for goal in goals(results):
        if goal.measured is None:
            rows.append([goal.text, _NONE, "not measured"])
            continue
        between = f" ({goal.form.format(goal.low)} – {goal.form.format(goal.high)})" if goal.low is not None else ""
        rows.append([goal.text, goal.form.format(goal.measured) + between, "met" if goal.met else "**not met**"])
    return table(["goal, with routing, authentication and ledger on", "measured", ""], rows)


def throughput_table(http: dict[str, Any]) -> str:
    """Requests a second by load."""
    heads = ["requests a second", *(_load(connections, stream) for _, connections, stream in SCENARIOS)]
    return table(heads, _by_contender(http, [(name, "rps", "{:,.0f}") for name, _, _ in SCENARIOS]))


def latency_table(http: dict[str, Any]) -> str:
    """p50 and p99 by load, without streams."""
    loads = [(name, connections) for name, connections, stream in SCENARIOS if not stream]
    heads = ["p50 / p99 in ms", *(_load(connections, False) for _, connections in loads)]
    rows = []
    for name in ALL:
        cells = []
        for scenario, _ in loads:
            own = http["scenarios"][scenario].get(name)
            cells.append(f"{own['p50_ms']['median']:.3f} / {own['p99_ms']['median']:.2f}" if own else _NONE)
        if set(cells) != {_NONE}:
            rows.append([LABELS[name], *cells])
    return table(heads, rows)


def effort_table(results: dict[str, Any]) -> str:
    """CPU time for a request and a stream, memory, time to the first answer."""
    http = results["http"]
    columns = [("c16", "cpu_us", "{:,.0f}"), ("stream-c16", "cpu_us", "{:,.0f}"), ("c64", "rss_mib", "{:,.0f}")]
    rows = []
    for name, row in zip(_named(http), _by_contender(http, columns), strict=True):
        if name != DIRECT:
            ready = results.get("start", {}).get(name)
            rows.append([*row, f"{ready['ready_s']:.2f}" if ready else _NONE])
    return table(
        [
            "",
            "CPU µs a request (16 conn.)",
            "CPU µs a stream (16 conn.)",
            "MiB resident (after 64 conn.)",
            "s to ready",
        ],
        rows,
    )


def ratio_table(http: dict[str, Any]) -> str:
    """Paired ratios of throughput to each peer, with intervals."""
    pairs = sorted({pair for own in http["ratios"].values() for pair in own})
    rows = []
    for pair in pairs:
        own, peer = pair.split("/")
        found = [http["ratios"][name].get(pair) for name, _, _ in SCENARIOS]
        rows.append([f"{LABELS[own]} / {LABELS[peer]}", *(_ratio(each and each["rps"]) for each in found)])
    return table(["times as many requests a second", *(_load(c, stream) for _, c, stream in SCENARIOS)], rows)


def sequential_table(found: dict[str, Any]) -> str:
    """Median latency and what it is above the upstream's."""
    rows = []
    for name in [n for n in ALL if n in found]:
        own, added = found[name]["p50_ms"], found[name].get("added_ms")
        rows.append(
            [LABELS[name], f"{own['median']:.3f}", _spread(added, "{:.3f}") if added and name != DIRECT else _NONE]
        )
    return table(["one request after another", "median ms", "added ms"], rows)


def added_table(found: dict[str, Any]) -> str:
    """CPU time of one request, routed and not."""
    rows = [
        [f"{label} text", *(_spread(own[key], "{:.0f}") for key in ("routed_us", "pinned_us", "added_us"))]
        for label, own in found.items()
    ]
    return table(["CPU µs a request of 100 tokens", "routed", "one endpoint asked for", "added"], rows)


def encoder_table(found: dict[str, Any]) -> str:
    """Time for one text by length."""
    rows = []
    for kind, own in found.items():
        if "left_out" in own:
            rows.append([f"`{kind}`", "left out: " + own["left_out"].replace("|", "/"), "", "", "", ""])
            continue
        times = [f"{own[f'tokens_{n}']['p50_ms']:.3f} / {own[f'tokens_{n}']['min_ms']:.3f}" for n in (20, 100, 500)]
        rows.append([f"`{kind}`", *times, f"{own['load_s']:.2f}", f"{own['rss_added_mib']:.0f}"])
    return table(["p50 / fastest in ms", "20 tokens", "100", "500", "s to load", "MiB"], rows)


def ledger_table(found: dict[str, Any]) -> str:
    """Rows a second, and what an append costs."""
    rows = []
    for name, own in found.items():
        if "left_out" in own:
            rows.append([name, "left out: " + own["left_out"].replace("|", "/"), "", ""])
        else:
            rows.append([name, f"{own['rows_per_s']:,.0f}", f"{own['cpu_us_per_row']:.0f}", f"{own['append_us']:.0f}"])
    return table(["ledger", "rows a second written", "CPU µs a row", "µs an append to the journal"], rows)


def decision_table(found: dict[str, Any]) -> str:
    """p50 and p99 of one decision by policy; stages as decision.py names them."""
    stages = {
        "embed": "the vector",
        "score": "the policy",
        "rest": "the rest of routing",
        "whole": "text to choice",
        "together": "policy and routing, eight together, each",
    }
    rows = []
    for name, own in found["policies"].items():
        cells = [f"{own['stages'][s]['p50_us']:.0f} / {own['stages'][s]['p99_us']:.0f}" for s in stages]
        rows.append([f"`{name}`", *cells, f"{own['arrays_mib']:.1f}"])
    return table(["p50 / p99 in µs", *stages.values(), "MiB of arrays"], rows)


def scale_table(found: dict[str, Any]) -> str:
    """Indexes of knn by the number of rows."""
    rows = [
        [
            f"`{kind}`, {int(count):,} rows",
            f"{own['p50_us']:,.0f} / {own['p99_us']:,.0f}",
            f"{own['recall']:.3f}",
            f"{own['same_decision']:.3f}",
            f"{own['build_s']:,.1f}",
            f"{own['index_mib']:,.0f}",
        ]
        for count, kinds in found["rows"].items()
        for kind, own in kinds.items()
    ]
    return table(["nearest neighbours", "p50 / p99 in µs", "recall", "same decision", "s to build", "MiB"], rows)


def import_table(found: dict[str, Any], empty_mib: float) -> str:
    """Time and memory of imports, above an empty interpreter."""
    rows = [[f"`{name}`", f"{own['seconds']:.2f}", f"{own['rss_mib'] - empty_mib:.0f}"] for name, own in found.items()]
    return table(["import", "s", "MiB"], rows)


def _named(http: dict[str, Any]) -> list[str]:
    return [name for name in ALL if any(name in own for own in http["scenarios"].values())]


def _by_contender(http: dict[str, Any], columns: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    rows = []
    for name in _named(http):
        cells = []
        for scenario, key, form in columns:
            own = http["scenarios"].get(scenario, {}).get(name)
            cells.append(form.format(own[key]["median"]) if own else _NONE)
        rows.append([LABELS[name], *cells])
    return rows


def _load(connections: int, stream: bool) -> str:
    return f"{'streams, ' if stream else ''}{connections} conn."


def _ratio(found: dict[str, Any] | None) -> str:
    return _NONE if found is None else _spread(found, "{:.1f}")


def _spread(found: dict[str, Any], form: str) -> str:
    return f"{form.format(found['median'])} ({form.format(found['low'])} – {form.format(found['high'])})"
