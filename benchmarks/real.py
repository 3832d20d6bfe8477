"""`make real`: recorded answers of nine real models behind a real gateway, and what routing buys.

Fits KNN on the `train` split of the outcome table, starts the gateway and replay endpoints that answer with
the recorded texts and token counts, sends `test` prompts through the openai SDK (half of them streamed), and
compares: the ledger's total with the recorded costs to the nano-dollar, the live decisions with the same
`Router.route` offline, and the routed quality and cost with the baselines. Writes docs/results/real.json.

The dial is chosen inside `train` by cross-validation: the cheapest one at which routing is as good as the best
single endpoint, which is what an operator who must not lose quality would ask for.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import Progress

from router_gateway import config as configuration
from router_gateway import registry
from router_gateway.brain import Brain, build_endpoints
from router_gateway.config import Config
from router_gateway.core.errors import GatewayError
from router_gateway.core.money import usd_to_nusd
from router_gateway.core.types import Decision, Floats, Ints, NamedPolicy
from router_gateway.evaluation import fitting
from router_gateway.evaluation.benchmark import Benchmark
from router_gateway.evaluation.comparison import compare, table
from router_gateway.evaluation.replay import route_offline
from router_gateway.evaluation.traffic import Sent, chosen_endpoints, send_all
from router_gateway.opening import database
from router_gateway.routing.router import Router
from router_gateway.routing.rules import Greedy

_POLICY = {"name": "knn", "params": {}}
_FOLDS = 5
_WORTH_USD = np.geomspace(1e-4, 1.0, 25)
_RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results" / "real.json"


def main() -> int:
    arguments, console = _arguments(), Console()
    source = Path(arguments.data)
    if not source.is_file():
        console.print(
            f"[red]{source} is not there.[/red] `make real` needs the outcome table cascades.parquet; "
            "name the file with ARGS='--data FILE'. `make demo-traffic` works without it."
        )
        return 2
    whole = fitting.read_source(str(source))[0]
    train, test = whole.split("train").deduplicated(), whole.split("test").deduplicated()
    trained_on = set(train.prompts)
    test = test.select(np.array([prompt not in trained_on for prompt in test.prompts]))
    with tempfile.TemporaryDirectory() as folder, Progress(console=console) as progress:
        settings = _settings(whole, train, source, Path(folder))
        file = Path(folder) / "gateway.yaml"
        brain = _write_and_load(settings, file)
        worth_usd = _choose_dial(brain, train, progress)
        settings["worth_usd"] = worth_usd
        brain = _write_and_load(settings, file)
        rows = np.sort(np.random.default_rng(arguments.seed).permutation(len(test))[: arguments.prompts])
        sample = test.select(rows)
        with _gateway(file) as (base_url, key):
            task = progress.add_task("Requests through the gateway", total=len(sample))
            sent = asyncio.run(send_all(base_url, key, sample.prompts, advance=_advance(progress, task)))
        live = _live_decisions(brain.config, sent)
        picked = chosen_endpoints(sample, sent)
        exact = _ledger_is_exact(brain.config, sample, picked, console)
        brain.load(_bar(progress))
        router = brain.routers()["knn"]
        task = progress.add_task("Embedding the test split", total=len(test))
        embedding = fitting.embed_all(brain.embedder, test.prompts, _advance(progress, task))
        offline = route_offline(router, sample, embedding[rows], ids=[answer.decision_id for answer in sent])
        parity = all(_same(a, b) for a, b in zip(live, offline.decisions, strict=True))
        all_test = route_offline(router, test, embedding)
    best_single = train.endpoints[int(train.mean_quality().argmax())]
    served = compare(sample, picked, best_single=best_single, seed=arguments.seed)
    routed = compare(test, all_test.chosen, best_single=best_single, seed=arguments.seed)
    console.print(table(served, title=f"{len(sample)} test prompts through the gateway"))
    console.print(table(routed, title=f"The whole test split ({len(test)} prompts), same decisions, offline"))
    console.print(f"dial chosen inside train: worth_usd = {worth_usd:.6g}")
    console.print(f"ledger exact to the nano-dollar: {exact}; live and offline decisions identical: {parity}")
    _write(arguments, source, worth_usd, served.to_json(), routed.to_json(), exact=exact, parity=parity)
    above = routed.gain.value > 0
    if not above:
        console.print("[red]routed is not above the zero router at equal cost[/red]")
    return 0 if exact and parity and above else 1


def _settings(whole: Benchmark, train: Benchmark, source: Path, folder: Path) -> dict[str, Any]:
    """The gateway's configuration: the table's models behind replay endpoints at their recorded prices."""
    best = train.endpoints[int(train.mean_quality().argmax())]
    return {
        "state_dir": str(folder / "state"),
        "server": {"port": 0, "routing_deadline_ms": 60_000},
        "policy": _POLICY,
        "rule": {"name": "greedy"},
        "worth_usd": 0.01,
        "learn_output_tokens": False,  # decisions must not depend on the order of the traffic
        "training": {"outcomes": f"{source}:train"},
        "replay": {"outcomes": str(source)},
        "default_endpoint": best,
        "endpoints": [
            {
                "name": name,
                "model": name,
                "base_url": "replay",
                "price_input_usd_per_mtok": price_input,
                "price_output_usd_per_mtok": price_output,
                "context_tokens_max": 128_000,
            }
            for name, price_input, price_output in _list_prices(whole)
        ],
    }


def _list_prices(whole: Benchmark) -> Iterator[tuple[str, float, float]]:
    """USD per million tokens of each endpoint, recovered from recorded tokens and costs; they must be exact."""
    for column, name in enumerate(whole.endpoints):
        tokens = np.column_stack([whole.tokens_input[:, column], whole.tokens_output[:, column]])
        cost = whole.cost_usd[:, column]
        known = np.isfinite(tokens).all(axis=1) & np.isfinite(cost)
        solution: Floats = np.linalg.lstsq(tokens[known], cost[known] * 1e6, rcond=None)[0]
        prices = np.round(solution, 4)
        if not np.allclose(tokens[known] @ prices * 1e-6, cost[known], rtol=1e-9):
            raise SystemExit(f"{name}: recorded costs are not tokens times one list price")
        yield name, float(prices[0]), float(prices[1])


def _write_and_load(settings: dict[str, Any], file: Path) -> Brain:
    file.write_text(yaml.safe_dump(settings))
    loaded = configuration.load(file)
    return Brain(config=loaded, endpoints=build_endpoints(loaded))


def _choose_dial(brain: Brain, train: Benchmark, progress: Progress) -> float:
    """The smallest `worth_usd` at which routing is as good as the best single endpoint, by folds inside train.

    Where none is that good, the one with the highest quality.
    """
    task = progress.add_task("Embedding the train split", total=len(train))
    embedding = fitting.embed_all(brain.embedder, train.prompts, _advance(progress, task))
    fold = np.random.default_rng(0).permutation(len(train)) % _FOLDS
    task = progress.add_task("Choosing the dial inside train", total=_FOLDS * len(_WORTH_USD))
    quality = np.zeros((_FOLDS, len(_WORTH_USD)))
    best_single = np.zeros(_FOLDS)
    for k in range(_FOLDS):
        fit, held = train.select(fold != k), train.select(fold == k)
        policy = registry.create("knn", _POLICY["params"])  # type: ignore[arg-type]
        policy.fit(fitting.experience_of(fit, embedding[fold != k], brain.embedder.space))
        cost = type(brain.cost)(endpoints=brain.endpoints)
        fitting.learn_lengths(cost, fit)
        best_single[k] = held.mean_quality()[fit.mean_quality().argmax()]
        named = NamedPolicy(name="knn", version=0, policy=policy)
        for j, worth_usd in enumerate(_WORTH_USD):
            router = Router(
                endpoints=brain.endpoints,
                default_endpoint=brain.endpoints[0].name,
                live=lambda named=named: named,  # type: ignore[misc]
                cost=cost,
                rule=Greedy(),
                space=brain.embedder.space,
                worth_usd=float(worth_usd),
            )
            chosen = route_offline(router, held, embedding[fold == k]).chosen
            quality[k, j] = held.quality[np.arange(len(held)), chosen].mean()
            progress.advance(task)
    good_enough = quality.mean(axis=0) >= best_single.mean()
    return float(_WORTH_USD[good_enough.argmax() if good_enough.any() else quality.mean(axis=0).argmax()])


@contextmanager
def _gateway(file: Path) -> Iterator[tuple[str, str]]:
    """A real gateway process with its replay endpoints; yields base URL and API key as it prints them."""
    command = [str(Path(sys.executable).parent / "router-gateway"), "serve", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if "Ctrl-C" in line:
                break
        url, key = re.search(r"ready: (\S+)", printed), re.search(r"API key: (\S+)", printed)
        if url is None or key is None:
            raise SystemExit(f"the gateway did not start: exit status {process.wait()}")
        try:
            yield url[1], key[1]
        finally:
            process.terminate()
            process.wait(timeout=60)


def _live_decisions(loaded: Config, sent: list[Sent]) -> list[Decision]:
    """The decisions as the ledger has them, in the order of `sent`."""
    from router_gateway.ledger.reads import read_decision

    with database(loaded) as engine:
        records = [read_decision(engine, answer.decision_id) for answer in sent]
    missing = sum(record is None for record in records)
    if missing:
        raise SystemExit(f"{missing} decisions are not in the ledger")
    return [record.decision for record in records if record is not None]


def _ledger_is_exact(loaded: Config, sample: Benchmark, picked: Ints, console: Console) -> bool:
    from router_gateway.ledger.reports import usage

    with database(loaded) as engine:
        rows = usage(engine, group_by="endpoint")
    spent = sum(row.cost_nusd for row in rows)
    recorded = sum(usd_to_nusd(float(c)) for c in sample.cost_usd[np.arange(len(sample)), picked])
    console.print(f"ledger {spent} nano-dollars, recorded {recorded} nano-dollars, {len(sample)} requests")
    return spent == recorded


def _same(live: Decision, offline: Decision) -> bool:
    """Endpoint, order, scores, prices and probabilities, bit for bit."""
    names = ("endpoint", "order", "propensity", "quality", "stddev", "cost_usd", "probability", "reason")
    return all(getattr(live, name) == getattr(offline, name) for name in names)


def _write(
    arguments: argparse.Namespace,
    source: Path,
    worth_usd: float,
    served: dict[str, Any],
    routed: dict[str, Any],
    *,
    exact: bool,
    parity: bool,
) -> None:
    packages = ("router-gateway", "onnxruntime", "faiss-cpu", "numpy", "litellm")
    result = {
        "command": "make real",
        "set": source.name,
        "seed": arguments.seed,
        "policy": _POLICY,
        "worth_usd": worth_usd,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "split": "test, whole, offline",
        **routed,
        "through_http": served,
        "ledger_exact": exact,
        "parity": parity,
    }
    _RESULTS.parent.mkdir(parents=True, exist_ok=True)
    _RESULTS.write_text(json.dumps(result, indent=2) + "\n")


def _advance(progress: Progress, task: Any) -> Any:
    return lambda done, total: progress.update(task, completed=done, total=total)


def _bar(progress: Progress) -> Any:
    @contextmanager
    def bar(label: str) -> Iterator[Any]:
        yield _advance(progress, progress.add_task(label, total=None))

    return bar


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="../shared/data/cascades.parquet", help="outcomes in the common schema")
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
