"""Recorded outcomes as what the replay server plays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from router_gateway.core.types import Endpoint
from router_gateway.dispatch.replay import Recording, RecordingTable
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.fitting import of_pool, read_source, with_tokens


def recordings_of(source: str, endpoints: Sequence[Endpoint]) -> RecordingTable:
    """Every recorded cell of `source` for this pool; token counts price to the recorded cost where it has none."""
    models = {endpoint.name: endpoint.model for endpoint in endpoints}
    table = RecordingTable(tuple(models.values()))
    for part in read_source(source):
        _add(table, with_tokens(of_pool(part, endpoints, source), endpoints), models)
    return table


def _add(table: RecordingTable, part: Benchmark, models: dict[str, str]) -> None:
    observed = ~np.isnan(part.quality) & ~np.isnan(part.tokens_input) & ~np.isnan(part.tokens_output)
    for row, column in zip(*np.nonzero(observed), strict=True):
        latency_ms = part.latency_ms[row, column]
        table.add(
            models[part.endpoints[column]],
            part.prompts[row],
            Recording(
                text=_text(part, int(row), int(column)),
                tokens_input=int(part.tokens_input[row, column]),
                tokens_output=int(part.tokens_output[row, column]),
                latency_ms=0.0 if np.isnan(latency_ms) else float(latency_ms),
            ),
        )


def _text(part: Benchmark, row: int, column: int) -> str:
    answer = None if part.responses is None else part.responses[row, column]
    if answer is not None:
        return str(answer)
    return f"The recorded answer to this prompt was rated {part.quality[row, column]:.2f}; its text was not kept."
