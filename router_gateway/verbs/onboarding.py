"""The verb `onboard`: place an endpoint that the policies do not know yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from router_gateway.core.errors import ConfigError, NotFound
from router_gateway.core.money import nusd_to_usd, usd_to_nusd

if TYPE_CHECKING:
    from router_gateway.config import Config
    from router_gateway.core.types import Endpoint
    from router_gateway.probing.asking import Prober, Tally
    from router_gateway.probing.placement import Plan, Standing
    from router_gateway.probing.probes import Probe
    from router_gateway.wiring import Built

Progress = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Given a label, a context manager whose value is called with (done, total)."""

INCOMPLETE = 3
"""Exit status when not all probes have an answer: the same command goes on where it stopped."""

Name = Annotated[str, typer.Argument(help="The endpoint, as the configuration names it.")]
Probes = Annotated[int, typer.Option("--probes", min=1, max=1_000, help="How many prompts to ask it.")]
MaxUsd = Annotated[
    float, typer.Option("--max-usd", min=0.0, help="What all answers may cost together; never exceeded.")
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", min=1, max=200_000, help="Output tokens of an answer, at most.")
]
HalfWidth = Annotated[float, typer.Option("--half-width", min=0.01, max=0.5, help="A wider interval is called wide.")]
File = Annotated[Path | None, typer.Option("--file", help="Probes of your own; default: those of the package.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose spend and decisions these are.")]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, max=64, help="Calls under way at the same time.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the probes and what they would cost; ask nothing.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", envvar="ROUTER_GATEWAY_CONFIG", help="Configuration file; default: ./gateway.yaml, if any."
    ),
]


def command(progress: Progress, source: Callable[[Path | None, bool], Path | None]) -> Callable[..., None]:
    """The function that typer runs; `progress` draws bars, `source` finds the configuration file."""

    def onboard(
        name: Name,
        probes: Probes = 40,
        max_usd: MaxUsd = 1.0,
        max_tokens: MaxTokens = 2_048,
        half_width: HalfWidth = 0.15,
        file: File = None,
        tenant: Tenant = "default",
        at_once: AtOnce = 4,
        dry_run: DryRun = False,
        config: ConfigFile = None,
    ) -> None:
        """Ask a new endpoint prompts whose answers can be checked, teach the policies, and say where it stands.

        Run again, it asks only what has no answer yet. Running gateways pick the new snapshot up.
        """
        from router_gateway import config as configuration
        from router_gateway.probing.probes import packaged_probes, read_probes
        from router_gateway.wiring import build

        loaded = configuration.load(source(config, False))
        endpoint = _endpoint(loaded, name)
        known = read_probes(file or packaged_probes())
        built = build(loaded, replay_url=None, progress=progress)
        prober = _prober(
            loaded, built, endpoint, max_usd=max_usd, tokens_max=max_tokens, tenant=tenant, at_once=at_once
        )
        session = _Session(config=loaded, built=built, prober=prober, half_width=half_width, progress=progress)
        complete = asyncio.run(session.run(known, probes, dry_run=dry_run))
        raise typer.Exit(0 if complete else INCOMPLETE)

    return onboard


@dataclass(kw_only=True)
class _Session:
    """One run of the verb."""

    config: Config
    built: Built
    prober: Prober
    half_width: float
    progress: Progress

    async def run(self, known: Sequence[Probe], n: int, *, dry_run: bool) -> bool:
        """Whether every probe has an answer in the end."""
        from router_gateway.brain import build_embedder
        from router_gateway.probing import placement

        gateway, endpoint = self.built.gateway, self.prober.endpoint
        try:
            encoder = build_embedder(self.config)
            made = await asyncio.to_thread(placement.plan, gateway.ledger, encoder, known, n, endpoint)
            left = await asyncio.to_thread(placement.waiting, gateway.ledger, endpoint, made.probes)
            self._say_plan(made, left)
            if dry_run:
                _show_probes(left, self.prober)
                return True
            with self.progress(f"Asking {endpoint.name}") as advance:
                tally = await self.prober.ask(left, advance)
            _say_tally(tally)
            await asyncio.to_thread(self._place, made)
            return tally.stopped is None and not tally.failed
        finally:
            await gateway.aclose()

    def _say_plan(self, made: Plan, left: Sequence[Probe]) -> None:
        stands_for = f"your {len(made.targets):,} newest requests" if made.own_traffic else "all probes there are"
        typer.echo(f"{len(made.probes)} probes, chosen to stand for {stands_for}; {len(left)} without an answer yet")
        if left:
            most = nusd_to_usd(sum(map(self.prober.most_nusd, left)))
            bound = nusd_to_usd(self.prober.max_nusd)
            expected = self.prober.expected_usd(left)
            typer.echo(f"they will cost about ${expected:.4f}, at most ${min(most, bound):.4f} (--max-usd {bound:g})")

    def _place(self, made: Plan) -> None:
        """Teach the policies what the ledger holds, and say where everybody stands."""
        from router_gateway.probing import placement
        from router_gateway.probing.interval import answers_needed

        gateway, name = self.built.gateway, self.prober.endpoint.name
        gateway.ledger.drain()
        outcomes = self.built.learner.step(rows_min=1)
        if not outcomes:
            typer.echo("another process is learning: it will take the answers in")
        for policy, outcome in outcomes.items():
            typer.echo(f"{gateway.router(policy).live().label}: {outcome}")
        live = gateway.router(None).live()
        found = placement.standings(gateway.ledger, gateway.endpoints, live, made)
        _show_standings(found, name, live.label)
        own = next(each for each in found if each.endpoint == name)
        if own.interval is not None and own.interval.half_width > self.half_width:
            more = answers_needed(own.interval.mean, self.half_width) / own.interval.effective * own.asked
            typer.echo(
                f"the interval is wide (± {own.interval.half_width:.2f}): about --probes {ceil(more)} would bring it "
                f"to ± {self.half_width:.2f}"
            )


def _endpoint(config: Config, name: str) -> Endpoint:
    from router_gateway.brain import build_endpoints
    from router_gateway.dispatch.endpoints import REPLAY

    pool = {endpoint.name: endpoint for endpoint in build_endpoints(config)}
    if name not in pool:
        raise NotFound(f"no endpoint {name!r} in the configuration; there are {', '.join(pool)}", param="name")
    if pool[name].base_url == REPLAY:
        raise ConfigError([f"endpoint {name} is replayed from recordings: there is nobody to ask"])
    return pool[name]


def _prober(
    config: Config, built: Built, endpoint: Endpoint, *, max_usd: float, tokens_max: int, tenant: str, at_once: int
) -> Prober:
    from router_gateway.probing.asking import Prober
    from router_gateway.routing.bound import CostBound

    pool = {each.name: each for each in built.gateway.endpoints}
    return Prober(
        gateway=built.gateway,
        endpoint=endpoint,
        bound=CostBound(endpoints=pool, prompt_margin=config.budgets.prompt_margin),
        max_nusd=usd_to_nusd(max_usd),
        tokens_max=tokens_max,
        tenant=tenant,
        at_once=at_once,
    )


def _show_probes(probes: Sequence[Probe], prober: Prober) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("probe", "domain", "difficulty", "check", "USD", "at most", title="Probes")
    for probe in probes:
        kinds = ", ".join(check.kind for check in probe.checks)
        expected, most = prober.expected_usd([probe]), nusd_to_usd(prober.most_nusd(probe))
        table.add_row(probe.id, probe.domain, probe.difficulty, kinds, f"{expected:.6f}", f"{most:.6f}")
    Console().print(table)


def _say_tally(tally: Tally) -> None:
    said = [f"{tally.graded} graded"]
    said += [f"{count} {what}" for count, what in ((tally.undecided, "undecided"), (tally.failed, "failed")) if count]
    typer.echo(f"{', '.join(said)}; spent ${nusd_to_usd(tally.spent_nusd):.6f}")
    if tally.cut:
        typer.echo(f"{tally.cut} answers were cut at --max-tokens and graded as they are: allow more for a fair grade")
    if tally.stopped is not None:
        typer.echo(f"stopped: {tally.stopped}; the same command goes on from here", err=True)


def _show_standings(found: Sequence[Standing], name: str, policy: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "endpoint",
        "probes right",
        "mean quality (95 %)",
        f"{policy} expects",
        "± doubt",
        "USD a probe",
        title="Standing",
    )
    for each in found:
        interval = each.interval
        table.add_row(
            each.endpoint + (" *" if each.endpoint == name else ""),
            f"{each.right:g} of {each.asked}" if each.asked else "-",
            "-" if interval is None else f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})",
            "-" if each.expected is None else f"{each.expected:.3f}",
            "-" if each.doubt is None else f"{each.doubt:.3f}",
            "-" if each.usd is None else f"{each.usd:.6f}",
        )
    Console(width=120).print(table)
