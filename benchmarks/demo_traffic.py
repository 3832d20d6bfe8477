"""`make demo-traffic`: held-out prompts of the demo's data through the running gateway, and what routing bought.

The demo's policy was fitted on the package's `val` part; these prompts are of its `test_holdout` part. Each
answer's recorded quality is sent back as feedback, so that `router-gateway report` has something to show.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

import httpx
import numpy as np
from rich.console import Console
from rich.progress import Progress

from router_gateway import config as configuration
from router_gateway.core.errors import GatewayError
from router_gateway.core.types import Floats
from router_gateway.evaluation.comparison import compare, table
from router_gateway.evaluation.packaged import read_paretobandit
from router_gateway.evaluation.traffic import Sent, chosen_endpoints, send_all
from router_gateway.opening import open_keys

_FEEDBACK_AT_ONCE = 8


def main() -> int:
    arguments = _arguments()
    console = Console()
    holdout = read_paretobandit("test_holdout").deduplicated()
    rows = np.random.default_rng(arguments.seed).permutation(len(holdout))[: arguments.prompts]
    sample = holdout.select(np.sort(rows))
    trained_on = read_paretobandit("val")
    best_single = trained_on.endpoints[int(trained_on.mean_quality().argmax())]
    with open_keys(configuration.load(None)) as keys:
        key = keys.create("demo traffic")
    with Progress(console=console) as progress:
        task = progress.add_task("Requests", total=len(sample))
        sent = _send(arguments, key, sample.prompts, lambda done, total: progress.update(task, completed=done))
        picked = chosen_endpoints(sample, sent)
        rating = progress.add_task("Feedback", total=len(sent))
        quality = sample.quality[np.arange(len(sent)), picked]
        asyncio.run(_rate(arguments.base_url, key, sent, quality, lambda: progress.advance(rating)))
    result = compare(sample, picked, best_single=best_single, seed=arguments.seed)
    console.print(table(result, title=f"{len(sent)} held-out prompts through the gateway (recorded quality and cost)"))
    return 0


def _send(
    arguments: argparse.Namespace, key: str, prompts: Sequence[str], advance: Callable[[int, int], None]
) -> list[Sent]:
    try:
        return asyncio.run(
            send_all(arguments.base_url, key, prompts, concurrency=arguments.concurrency, advance=advance)
        )
    except ExceptionGroup as group:
        sys.exit(f"error: {group.exceptions[0]}\nIs the demo running? Start it with `make run`.")


async def _rate(base_url: str, key: str, sent: list[Sent], quality: Floats, advance: Callable[[], None]) -> None:
    limit = asyncio.Semaphore(_FEEDBACK_AT_ONCE)
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, timeout=30) as client:

        async def rate(answer: Sent, score: float) -> None:
            body = {"decision_id": str(answer.decision_id), "score": score, "source": "label"}
            async with limit:
                (await client.post(f"{base_url}/feedback", json=body)).raise_for_status()
            advance()

        async with asyncio.TaskGroup() as group:
            for answer, score in zip(sent, quality, strict=True):
                group.create_task(rate(answer, float(score)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", default="http://127.0.0.1:8080/v1")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GatewayError as error:
        sys.exit(f"error: {error.message} {error.hint or ''}")
