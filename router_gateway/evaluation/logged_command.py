"""`router-gateway evaluate` on exported ledgers: a table on the terminal and logged.json in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from router_gateway.core.protocols import Rule
from router_gateway.evaluation.command import Options, Progress, chosen_specs
from router_gateway.evaluation.logged import read_logged
from router_gateway.evaluation.logged_values import LoggedResult, Value, judge_logged
from router_gateway.evaluation.offpolicy import Estimate
from router_gateway.routing.rules import Greedy

if TYPE_CHECKING:
    from rich.table import Table


def evaluate_logged(
    sources: Sequence[str], policies: tuple[str, ...], *, out: Path, progress: Progress, rule: Rule | None = None
) -> list[LoggedResult]:
    """Judge policies on every log, greedily and, where it differs, under `rule`; writes logged.json into `out`.

    Raises UnknownPolicy and BadParameters before any work is done, DataError for files with anything wrong in them.
    """
    specs = chosen_specs(Options(policies=policies))
    rules = [Greedy(), *([rule] if rule is not None and rule != Greedy() else [])]
    results = []
    for source in sources:
        outcomes = read_logged(source)
        with progress(f"Judging {len(specs)} policies on {Path(source).name}"):
            results.append(judge_logged(Path(source).stem, outcomes, specs, rules))
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps([result.to_json() for result in results], indent=1, allow_nan=False)
    (out / "logged.json").write_text(text + "\n", encoding="utf-8")
    return results


def tables(results: Sequence[LoggedResult]) -> list[Table]:
    """One per log: doubly robust values with their 95 % intervals, SNIPS beside them, and what supports them."""
    from rich.table import Table

    drawn = []
    for result in results:
        asked = f"{result.asked} decisions of {result.sessions} sessions"
        table = Table(
            title=f"{result.name}: {asked} asked about, {result.learned} learned from",
            caption="\n".join([*result.notes, *_warnings(result)]),
        )
        table.add_column("", no_wrap=True)
        for heading in ("worth USD", "quality, DR", "SNIPS", "USD/1,000", "net", "ESS", "max weight"):
            table.add_column(heading, justify="right")
        for value in result.values:
            label = value.policy if value.policy == value.rule else f"{value.policy}, {value.rule}"
            dial = f"{value.worth_usd:.3g}" if np.isfinite(value.worth_usd) else "any"
            if value.refused:
                table.add_row(label, dial, value.refused)
                continue
            table.add_row(
                label,
                dial,
                _cell(value.quality, "dr"),
                _cell(value.quality, "snips"),
                _cell(value.cost_usd, "dr", scale=1000, digits=4),
                _cell(value.net, "dr"),
                f"{value.overlap.ess:.0f}",
                f"{value.overlap.weight_max:.1f}",
            )
        drawn.append(table)
    return drawn


def _warnings(result: LoggedResult) -> list[str]:
    suspicious: list[Value] = [value for value in result.values if value.warning and not value.refused]
    return list(dict.fromkeys(f"{value.policy}, {value.rule}: {value.warning}" for value in suspicious))


def _cell(estimates: Mapping[str, Estimate], name: str, *, scale: float = 1.0, digits: int = 3) -> str:
    one = estimates[name]
    value, low, high = (f"{scale * number:.{digits}f}" for number in (one.value, one.low, one.high))
    return f"{value} ({low} to {high})"
