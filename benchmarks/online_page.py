"""Tables of `make online`, from docs/results/online.json and budget.json, between the marks of docs/online.md."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

BEGIN = "<!-- online: begin. Written by `make online`; what is changed here is lost. -->"
END = "<!-- online: end -->"


def write_page(results: Path, console: Console) -> None:
    """Print the tables, and put them in the page where there is one."""
    text = "\n".join(_tables(results))
    console.print(text, markup=False)
    page = results.parent / "online.md"
    if page.is_file():
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


def _tables(results: Path) -> Iterator[str]:
    online = _read(results / "online.json")
    yield from _compared(online.get("compared", []))
    yield from _events(online.get("events", []))
    yield from _months(_read(results / "budget.json").get("months", []))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _compared(rows: list[dict[str, Any]]) -> Iterator[str]:
    for known in (True, False):
        for budget in dict.fromkeys(row["budget"] for row in rows):
            own = [row for row in rows if row["known"] == known and row["budget"] == budget]
            if not own:
                continue
            yield f"## {'Offline part known' if known else 'Cold start'}, {budget} budget\n"
            yield "| | reward | spend / budget | above zero router at equal spend | gateway less this | regret | ms |"
            yield "| --- | --: | --: | --: | --: | --: | --: |"
            for name in dict.fromkeys(row["learner"] for row in own):
                reward = _by_seed(own, name, "reward")
                spend = _by_seed(own, name, "spend_of_budget")
                over = _by_seed(own, name, "over_zero_at_spend")
                ms = _by_seed(own, name, "decide_ms").mean() + _by_seed(own, name, "learn_ms").mean()
                less = "" if name == "gateway" else _interval(_gained(own, name), sign=True)
                regret = f"{_by_seed(own, name, 'regret_to_oracle').mean():.0f}"
                paid = f"{spend.mean():.3f} ({spend.min():.2f} to {spend.max():.2f})"
                yield (
                    f"| {name} | {_interval(reward)} | {paid} | {_interval(over, sign=True)} | {less} | {regret} "
                    f"| {ms:.2f} |"
                )
            zero = {row["seed"]: row["zero_at_budget"] for row in own}  # of the stream, whoever was asked
            yield f"\nZero router at the budget: {np.mean(list(zero.values())):.4f}.\n"


def _events(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "## Half way through\n"
    heads = (
        "",
        "",
        "recovered in (median)",
        "of seeds",
        "reward of the next 200",
        "reward after",
        "spend / budget after",
    )
    yield f"| {' | '.join(heads)} |"
    yield "| --- | --- | --: | --: | --: | --: | --: |"
    for event in dict.fromkeys(row["event"] for row in rows):
        for name in dict.fromkeys(row["learner"] for row in rows):
            own = [row for row in rows if row["event"] == event and row["learner"] == name]
            took = [row["recovered_after"] for row in own]
            known = [t for t in took if t is not None]
            median = float(np.median([np.inf if t is None else t for t in took]))
            shown = f"{median:.0f}" if np.isfinite(median) else "never"
            yield (
                f"| {event} | {name} | {shown} | {len(known)} of {len(took)} "
                f"| {_interval(_column(own, 'reward_next_200'))} | {_interval(_column(own, 'reward_after'))} "
                f"| {_column(own, 'spend_of_budget_after').mean():.3f} |"
            )
    yield ""


def _months(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        return
    yield "## A month with a daily budget\n"
    yield "| month | requests | spend / budget | quality | step rule's quality | its spend / the pacer's |"
    yield "| --: | --: | --: | --: | --: | --: |"
    for row in rows:
        yield (
            f"| {row['seed']} | {row['requests']:,} | {row['spend_of_budget']:.4f} | {row['quality']:.4f} "
            f"| {row['step_quality']:.4f} | {row['step_spend_of_paced']:.3f} |"
        )
    yield ""


def _column(rows: Iterable[dict[str, Any]], key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([row[key] for row in rows], dtype=np.float64)


def _by_seed(rows: list[dict[str, Any]], name: str, key: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    return _column(sorted((row for row in rows if row["learner"] == name), key=lambda row: int(row["seed"])), key)


def _gained(rows: list[dict[str, Any]], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The gateway's reward less this learner's, over the seeds that both were asked on."""
    ours, theirs = ({row["seed"]: row["reward"] for row in rows if row["learner"] == who} for who in ("gateway", name))
    return np.array([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())], dtype=np.float64)


def _interval(values: np.ndarray[Any, np.dtype[np.float64]], *, sign: bool = False) -> str:
    """Mean and half a 95 % interval over seeds (normal); empty where there are none."""
    if not len(values):
        return ""
    half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{values.mean():{'+' if sign else ''}.4f} ± {half:.4f}"
