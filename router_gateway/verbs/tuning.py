"""The verb `tune`: the cheapest dial that keeps a quality floor, guaranteed by calibration data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from router_gateway.config import Config
    from router_gateway.evaluation.tuning import Setting

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

NOT_CERTIFIED = 3
"""Exit status when no dial can be promised to keep the floor."""

Source = Annotated[str, typer.Argument(help="Outcomes: FILE[:SPLIT] in the common schema, or paretobandit:val.")]
Floor = Annotated[float, typer.Option(help="Least quality, as a share of the reference's.")]
Of = Annotated[str, typer.Option(help="best-single, oracle, absolute (the floor is a quality) or an endpoint.")]
Confidence = Annotated[float, typer.Option(help="With which the floor must hold.")]
Policy = Annotated[str | None, typer.Option(help="Policy to fit; default: the configured one, else knn.")]
FitOn = Annotated[str | None, typer.Option(help="Outcomes to fit on; default: a part of SOURCE.")]
FitShare = Annotated[float, typer.Option(help="The part of SOURCE to fit on; the rest calibrates.")]
Seed = Annotated[int, typer.Option(help="Of the split of SOURCE. Choose it before you look.")]
Out = Annotated[Path | None, typer.Option(help="Write the finding to this JSON file.")]
Cache = Annotated[Path | None, typer.Option(help="Folder for vectors; default: the user's cache folder.")]
Embedder = Annotated[
    str, typer.Option(help="Without --config: static (a table), onnx (a transformer), onnx-int8, sentence, hashing.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", "-c", help="Decide as this configuration does, at its prices.")
]


def command(progress: Progress) -> Callable[..., None]:
    """The function that typer runs; `progress` draws its bars."""

    def tune(
        source: Source,
        quality_floor: Floor = 0.95,
        of: Of = "best-single",
        confidence: Confidence = 0.9,
        policy: Policy = None,
        fit_on: FitOn = None,
        fit_share: FitShare = 0.5,
        seed: Seed = 0,
        out: Out = None,
        cache: Cache = None,
        config: ConfigFile = None,
        embedder: Embedder = "static",
    ) -> None:
        """Pick the cheapest dial that keeps a quality floor, guaranteed by calibration data (status 3: none does)."""
        from router_gateway import config as configuration
        from router_gateway.evaluation import tuning_report
        from router_gateway.evaluation.conformal import Promise
        from router_gateway.evaluation.embeddings import default_cache
        from router_gateway.evaluation.tuning import tune_source

        promise = Promise(floor=quality_floor, of=of, confidence=confidence)
        setting = _recorded(policy, embedder) if config is None else _configured(configuration.load(config), policy)
        found = tune_source(
            source,
            promise,
            setting,
            cache=cache or default_cache(),
            progress=progress,
            fit_on=fit_on,
            fit_share=fit_share,
            seed=seed,
        )
        typer.echo("\n".join(tuning_report.lines(found)))
        if found.worth_usd is not None:
            typer.echo(f"\n{tuning_report.snippet(found)}", nl=False)
        if out is not None:
            tuning_report.write(found, out)
        if found.worth_usd is None:
            raise typer.Exit(NOT_CERTIFIED)

    return tune


def _recorded(policy: str | None, embedder: str) -> Setting:
    """Greedily among the endpoints of the outcomes, at their mean costs."""
    from router_gateway.evaluation.embeddings import Encoder
    from router_gateway.evaluation.tuning import Setting

    return Setting(encoder=Encoder.named(embedder), policy=policy or "clusters")


def _configured(config: Config, policy: str | None) -> Setting:
    """As the gateway of this configuration decides."""
    from router_gateway.brain import build_cost, build_endpoints, build_guard, build_rule
    from router_gateway.evaluation.embeddings import Encoder
    from router_gateway.evaluation.tuning import Setting

    name = policy or config.policy.name
    return Setting(
        encoder=Encoder(kind=config.embedder.kind, model=config.embedder.model),
        pool=build_endpoints(config),
        cost=partial(build_cost, config),
        default_endpoint=config.default_endpoint,
        policy=name,
        params=next((choice.params for choice in config.policies if choice.name == name), {}),
        rule=build_rule(config),
        guard=build_guard(config),
        optimism=config.optimism,
    )
