"""One row for each system of the field: its paper's claim, and what our rendering of it closes of the gap here.

`make evaluate` runs it after a whole run: the figures come from docs/results/evaluation.json and go between the marks
of docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

BEGIN = "<!-- systems: begin. Written by `make evaluate`; what is changed here is lost. -->"
END = "<!-- systems: end -->"
SETS = ("cascades", "fourtier", "mmlu_pro", "seven_by_7b")
SYSTEMS = (
    ("RouterBench's KNN (Hu et al., 2024)", "not significantly above the zero router on most tasks", "knn"),
    ("kNN routing (Li, 2025)", "as good as or better than learned routers", "knn"),
    (
        "RouterDC (Chen et al., 2024)",
        "+2.76 points in distribution, +1.90 out of it, over the best alternative",
        "contrastive",
    ),
    ("CSCR (2025)", "AUDC .711 on RouterBench against .691 of a parametric softmax", "contrastive:loss=cost_bands"),
    ("CARROT (Somerstep et al., 2025)", "GPT-4o's quality on SPROUT at about 30 % of its cost", "knn@learned"),
    (
        "UniRoute, k-means (Jitkrittum et al., 2025)",
        "Area .712 against the zero router's .689 on RouterBench, endpoints unseen",
        "clusters",
    ),
    ("UniRoute, learned map", "Area .711, the same setting", "clusters:learned=true"),
    (
        "EmbedLLM, IRT-Router, LLM Bandit's first stage",
        "71.2 of 100 on LLMRouterBench (EmbedLLM) against 68.0 of the best single",
        "factors",
    ),
    ("ICL-Router (2025)", "76.3 against 73.2 of the best single, 8 models of 7–9B", "profile"),
    ("Lookahead (2025)", "40.8 against 37.9 of the best alternative (µ_n)", "lookahead"),
    (
        "RouteLLM's Bradley-Terry (Ong et al., 2024)",
        "up to 85 % of the cost saved at 95 % of the strong model's quality on MT-Bench",
        "preference",
    ),
    ("Composition of Experts (2024)", "Arena-Hard 59.4 at 31B active parameters", "composed"),
    ("ParetoBandit", "budget kept within 0.4 %; adapts to a failing model", "bandit"),
    ("Arch-Router (2025)", "93.2 % of written preferences followed", "routes"),
    ("ours: ridge on the vector", "", "linear"),
    ("ours: ridge on the words", "", "lexical"),
    ("ours", "", "stack"),
)


def main() -> None:
    """Rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results/evaluation.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    results = json.loads(arguments.results.read_text(encoding="utf-8"))
    before, found, rest = arguments.page.read_text(encoding="utf-8").partition(BEGIN)
    if not found:
        raise SystemExit(f"{arguments.page}: no line {BEGIN}")
    text = "\n".join(rows(results))
    arguments.page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def rows(results: Mapping[str, Any]) -> Iterator[str]:
    """The table's lines."""
    yield f"| system | its claim | here | {' | '.join(SETS)} |"
    yield "|---|---|---|" + "---|" * len(SETS)
    for system, claim, policy in SYSTEMS:
        if policy == "routes":
            yield f"| {system} | {claim} | `{policy}` | no routes are written for these sets | | | |"
            continue
        cells = " | ".join(_closed(results[name]["policies"].get(policy)) for name in SETS)
        yield f"| {system} | {claim} | `{policy}` | {cells} |"


def _closed(figures: Mapping[str, Any] | None) -> str:
    """Share of the gap closed, with its spread over seeds; in bold where the gain is above two of its own."""
    if figures is None:
        return "–"
    said = f"{100 * figures['gap_closed']:.1f} ± {100 * figures['gap_closed_sd']:.1f} %".replace("-", "−")
    return f"**{said}**" if figures["gain"] > 2 * figures["gain_sd"] else said


if __name__ == "__main__":
    main()
