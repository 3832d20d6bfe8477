"""The verb `train encoder`: an encoder of one's own, tuned on recorded outcomes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from router_gateway.core.types import Floats
    from router_gateway.evaluation.benchmark import Benchmark

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

Sources = Annotated[
    list[str],
    typer.Argument(help="FILE[:SPLIT] in the common schema or paretobandit[:val]; several are learned as one."),
]
Out = Annotated[Path, typer.Option(help="Folder for the encoder; must not exist yet.")]
Model = Annotated[str, typer.Option(help="What to start from: a local folder, or a name the model hub knows.")]
Device = Annotated[str, typer.Option(help="As torch names it; default: a GPU where there is one.")]
Epochs = Annotated[int, typer.Option(min=1, max=100, help="Times that every prompt is seen.")]
Batch = Annotated[int, typer.Option(min=2, max=4096, help="Prompts per step.")]
Rate = Annotated[float, typer.Option(help="Highest learning rate of the encoder's weights.")]
Kinds = Annotated[float, typer.Option(min=0, help="Weight of the loss that draws queries of one kind together.")]
Endpoints = Annotated[float, typer.Option(min=0, help="Weight of the loss that draws queries to who answers them.")]
Seed = Annotated[int, typer.Option(min=0, help="Another seed, another encoder.")]


class PoliciesByDefault(TyperGroup):
    """`train FILE` is `train policies FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["policies", *args]
        return super().parse_args(ctx, args)


def command(progress: Progress) -> Callable[..., None]:
    """The function that typer runs; `progress` draws its bar."""

    def encoder(
        sources: Sources,
        out: Out,
        model: Model = "all-MiniLM-L6-v2",
        device: Device = "",
        epochs: Epochs = 4,
        batch: Batch = 64,
        rate: Rate = 5e-5,
        endpoints_weight: Endpoints = 0.1,
        kinds_weight: Kinds = 0.2,
        seed: Seed = 0,
    ) -> None:
        """Tune an encoder end to end on recorded outcomes; writes an ordinary sentence-transformers folder."""
        from router_gateway.core.errors import ConfigError
        from router_gateway.embedding import pretrained
        from router_gateway.embedding.finetune import Tuning, tune
        from router_gateway.evaluation.fitting import read_source
        from router_gateway.evaluation.replay import query_ids, query_of

        if out.exists():
            raise ConfigError([f"--out {out}: is there already; an encoder is not written over another"])
        if not 0 < rate <= 0.01:
            raise ConfigError([f"--rate {rate}: must lie in (0, 0.01]"])
        tables = [table.deduplicated() for source in sources for table in read_source(source)]
        texts = [
            query_of(prompt, own).text
            for table in tables
            for prompt, own in zip(table.prompts, query_ids(table), strict=True)
        ]
        settings = Tuning(
            epochs=epochs,
            batch=batch,
            rate=rate,
            endpoints_weight=endpoints_weight,
            kinds_weight=kinds_weight,
            seed=seed,
        )
        name = pretrained.short_name(model)
        start = pretrained.local_folder(name) or pretrained.hub_name(name)
        with progress(f"Tuning on {len(texts)} prompts") as advance:
            tune(start, texts, _side_by_side(tables), out, tuning=settings, device=device or None, progress=advance)
        typer.echo(f"written: {out}")
        typer.echo(f"to use it, set `embedder: {{model: {out}}}` and fit the policies again: router-gateway train FILE")

    return encoder


def _side_by_side(tables: list[Benchmark]) -> Floats:
    """Outcomes of all tables, (Q, E): each table has endpoints of its own, known on its own prompts alone."""
    import numpy as np

    width = sum(len(table.endpoints) for table in tables)
    stacked, column = [], 0
    for table in tables:
        wide = np.full((len(table), width), np.nan, dtype=np.float32)
        wide[:, column : column + len(table.endpoints)] = table.quality
        stacked.append(wide)
        column += len(table.endpoints)
    return np.concatenate(stacked)
