"""RouterBench's own files (arXiv 2403.12031): one pickled frame, wide, a row per prompt.

Columns: `sample_id`, `prompt`, `eval_name`, the oracle's choice, and for every model its score under the
model's name, `model|model_response` and `model|total_cost` (USD).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from router_gateway.core.errors import DataError
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.outcomes import OutcomeTable
from router_gateway.evaluation.pickled_frame import read_pickled_columns
from router_gateway.evaluation.problems import Problems

_ABOUT = ("sample_id", "prompt", "eval_name")
_ORACLE = "oracle_model_to_route_to"
_RESPONSE = "|model_response"
_COST = "|total_cost"


def read_routerbench(path: str | Path, *, responses: bool = False) -> Benchmark:
    """The outcomes of `routerbench_0shot.pkl` or `routerbench_5shot.pkl`, or of a frame of the same layout.

    `eval_name` becomes the task; no split is defined; a missing score leaves its cell NaN. Answers are kept
    only if asked for: they are most of the file. Raises DataError for a file that is no such frame, that asks
    for any name a frame does not need (the name is told), or whose rows are wrong, as `file:row n: field: what`.
    """
    path = Path(path)
    columns = read_pickled_columns(path)
    models = [name.removesuffix(_COST) for name in columns if name.endswith(_COST)]
    wanted = (*_ABOUT, *models)
    if missing := [name for name in wanted if name not in columns]:
        raise DataError([f"{path}: {name}: the column is missing" for name in missing])
    if not models:
        raise DataError([f"{path}: no column ends in {_COST}, so no model has outcomes"])
    problems = Problems(str(path))
    table = OutcomeTable(problems)
    known = {*_ABOUT, _ORACLE, *(model + suffix for model in models for suffix in ("", _RESPONSE, _COST))}
    table.ignore([name for name in columns if name not in known])
    answers = {model: columns.get(model + _RESPONSE) for model in models} if responses else {}
    for number in range(len(columns["sample_id"])):
        about = {
            "dataset": "routerbench",
            "task": columns["eval_name"][number],
            "sample_id": _identifier(columns["sample_id"][number]),
            "prompt": _prompt(columns["prompt"][number]),
        }
        for model in models:
            if (score := _present(columns[model][number])) is None:
                continue
            told = answers.get(model)
            outcome = {
                "model": model,
                "score": score,
                "cost_usd": _present(columns[model + _COST][number]),
                "response": None if told is None else told[number],
            }
            table.add(f"row {number + 1}", about | outcome)
    return table.build()


def _present(cell: Any) -> Any:
    return None if isinstance(cell, float) and math.isnan(cell) else cell


def _identifier(cell: Any) -> Any:
    return str(cell) if isinstance(cell, int) else cell


def _prompt(cell: Any) -> Any:
    """A conversation's turns become one text."""
    if isinstance(cell, (list, tuple)) and all(isinstance(turn, str) for turn in cell):
        return "\n".join(cell)
    return cell
