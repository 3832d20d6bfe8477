"""A whole gateway of real parts, served over HTTP on loopback; only the models behind it are echoes.

Three endpoints: `small` (cheap, bad at hard questions), `mid` (the default) and `large` (dear, good at all).
A question that contains "contract" is hard, the others are easy.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import uvicorn
from openai import AsyncOpenAI
from sqlalchemy import func, select

from router_gateway import registry
from router_gateway.api.app import create_app
from router_gateway.api.auth import Authenticator
from router_gateway.api.metrics import PrometheusMeter
from router_gateway.api.parts import Parts
from router_gateway.config import Config
from router_gateway.core.experience import Experience
from router_gateway.core.judgement import JUDGING_TENANT
from router_gateway.core.money import NUSD_PER_USD
from router_gateway.core.protocols import Embedder, Rule
from router_gateway.core.types import Endpoint, NamedPolicy, Queries
from router_gateway.dispatch.echo import Echo, EchoUpstream
from router_gateway.dispatch.fallback import FallbackDispatcher
from router_gateway.dispatch.passthrough import PassthroughUpstream
from router_gateway.drafting import Drafting
from router_gateway.embedding.batcher import Batcher
from router_gateway.embedding.hashing import HashingEmbedder
from router_gateway.estimating import Estimates
from router_gateway.gateway import Gateway
from router_gateway.grading.grader import Grader
from router_gateway.grading.settings import Judging
from router_gateway.learning.live import LivePolicy
from router_gateway.ledger.budget_keeper import BudgetKeeper
from router_gateway.ledger.budgets import Budgets
from router_gateway.ledger.connections import reading
from router_gateway.ledger.keys import Keys
from router_gateway.ledger.ledger import Ledger
from router_gateway.ledger.reads import DecisionRecord
from router_gateway.ledger.tables import attempts, decisions, feedback
from router_gateway.lifecycle.rollout import Rollout
from router_gateway.lifecycle.settings import Lifecycle
from router_gateway.probing.onboarder import Onboarder
from router_gateway.routing.bound import CostBound
from router_gateway.routing.cost import TokenPriceCost
from router_gateway.routing.rules import Greedy
from router_gateway.saving import Saving
from tests.api.following import Workshop, following
from tests.databases import migrated_sqlite

EASY = "What is the sum of two and three?"
HARD = "Summarise the indemnity clause of this contract."
PROVIDER_KEYS = {"small": "sk-provider-small-0123456789", "large": "sk-provider-large-0123456789"}
BODY_BYTES_MAX = 12 * 1024 * 1024

_NO_JUDGE = Judging()
_EASY_TOPICS = ("sum of", "product of", "capital of", "colour of", "age of", "name of")
_HARD_TOPICS = ("indemnity clause", "liability clause", "warranty clause", "payment clause", "notice clause")


def endpoint(name: str, **changes: Any) -> Endpoint:
    """One of the pool's endpoints, or a plain one of another name."""
    usd_per_mtok, context, offers = {
        "small": ("0.40", 8_000, {"json"}),
        "mid": ("2.00", 64_000, {"json", "tools"}),
        "large": ("10.00", 1_000_000, {"json", "tools", "vision"}),
    }.get(name, ("1.00", 8_000, set()))
    price = Decimal(usd_per_mtok)
    plain = Endpoint(
        name=name,
        model=f"maker/{name}-model",
        provider="maker",
        price_input_usd_per_mtok=price / 4,
        price_output_usd_per_mtok=price,
        price_cached_input_usd_per_mtok=price / 4,
        price_cache_write_usd_per_mtok=price / 4,
        context_tokens_max=context,
        offers=frozenset(offers),
        first_token_timeout_s=20.0,
        timeout_s=30.0,
    )
    return replace(plain, **changes)


def experience(embedder: Embedder) -> Experience:
    """What the policy was fitted on: everybody answers easy questions, only `large` the hard ones."""
    easy = [f"What is the {topic} {thing}?" for topic in _EASY_TOPICS for thing in ("two and three", "a river")]
    hard = [
        f"Summarise the {topic} of this {thing}." for topic in _HARD_TOPICS for thing in ("contract", "old contract")
    ]
    quality = np.array([[0.9, 0.9, 0.95]] * len(easy) + [[0.1, 0.5, 0.95]] * len(hard))
    texts = tuple(easy + hard)
    queries = Queries(
        text=texts,
        embedding=embedder.embed(texts),
        tokens_input=np.full(len(texts), 12, dtype=np.int64),
        space=embedder.space,
    )
    return Experience.from_table(queries, ("small", "mid", "large"), quality)


@dataclass(kw_only=True)
class Site:
    """A running gateway and the handles a test pulls. `key` belongs to tenant "default" and may use everything."""

    url: str
    app: Any
    directory: Path
    key: str
    keys: Keys
    gateway: Gateway
    grader: Grader
    ledger: Ledger
    echo: EchoUpstream
    live: Mapping[str, LivePolicy]
    auth: Authenticator
    missing: list[str]
    rollout: Rollout
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        self.client = httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def sdk(self, **options: Any) -> AsyncOpenAI:
        """The official client, told not to retry."""
        http = httpx.AsyncClient(trust_env=False)
        settings = {"base_url": f"{self.url}/v1", "api_key": self.key, "max_retries": 0, "http_client": http}
        return AsyncOpenAI(**{**settings, **options})

    async def chat(
        self, text: str | None = None, *, path: str = "/v1/chat/completions", headers: Any = None, **members: Any
    ) -> httpx.Response:
        """One Chat Completions request; `text` is the only message unless `messages` is given."""
        body = {"model": "auto", "messages": [{"role": "user", "content": text}], **members}
        return await self.client.post(path, json=body, headers=headers)

    async def post(self, raw: bytes, *, path: str = "/v1/chat/completions", **headers: str) -> httpx.Response:
        """A body of any bytes."""
        return await self.client.post(path, content=raw, headers={"content-type": "application/json", **headers})

    async def record(self, decision_id: str | UUID) -> DecisionRecord:
        """The decision as the database has it once everything recorded so far has arrived there."""
        await asyncio.to_thread(self.grader.verifier.drain)
        if self.grader.judge is not None:
            await self.grader.judge.drain()
        assert await asyncio.to_thread(self.ledger.drain)
        found = await asyncio.to_thread(self.ledger.decision, UUID(str(decision_id)))
        assert found is not None
        return found

    async def record_of(self, response: httpx.Response) -> DecisionRecord:
        return await self.record(response.headers["x-router-decision-id"])

    async def rows(self) -> dict[str, int]:
        """Rows by table, everything recorded so far included."""
        assert await asyncio.to_thread(self.ledger.drain)
        with reading(self.ledger.engine) as connection:
            tables = (decisions, attempts, feedback)
            return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in tables}


@asynccontextmanager
async def running(
    directory: Path,
    *,
    echoes: Mapping[str, Echo] | None = None,
    endpoints: Sequence[Endpoint] | None = None,
    over_http: bool = False,
    embedder: Embedder | None = None,
    policies: Mapping[str, NamedPolicy] | None = None,
    rule: Rule | None = None,
    stream_ping_s: float = 15.0,
    routing_deadline_ms: float = 10_000.0,
    store_text: bool = False,
    ledger_options: Mapping[str, Any] | None = None,
    database_url: str | None = None,
    learns_output_tokens: bool = False,
    body_bytes_max: int = BODY_BYTES_MAX,
    requests_in_flight_max: int = 100,
    judging: Judging = _NO_JUDGE,
    lifecycle: Lifecycle | None = None,
) -> AsyncIterator[Site]:
    """Serve a gateway whose state is in `directory`. `over_http` asks the endpoints at their `base_url`.

    `database_url` is of a migrated database, None for one in `directory`; `ledger_options` are those of `Ledger.open`.
    """
    pool = tuple(endpoints or (endpoint("small"), endpoint("mid"), endpoint("large")))
    encoder = embedder or HashingEmbedder()
    options = {"directory": directory / "journal", "store_text": store_text, **(ledger_options or {})}
    ledger = Ledger.open(database_url or _database(directory), **options)
    if policies is None:
        learned = experience(HashingEmbedder())
        knn = registry.create("knn", {"k": 3, "prior_weight": 0.1}).fit(learned)
        average = registry.create("best_on_average").fit(learned)
        policies = {
            "knn": NamedPolicy(name="knn", version=1, policy=knn),
            "best_on_average": NamedPolicy(name="best_on_average", version=1, policy=average),
        }
    live = {name: LivePolicy(named) for name, named in policies.items()}
    cost = TokenPriceCost(endpoints=pool)
    budgets = BudgetKeeper(ledger.engine, bound=CostBound(endpoints={each.name: each for each in pool}), refresh_s=3600)
    if judging.enabled:
        limit_nusd = int(judging.usd_per_day * NUSD_PER_USD)
        Budgets(ledger.engine).set("tenant", JUDGING_TENANT, "day", limit_nusd)
    budgets.start()
    meter, echo, keys, missing = PrometheusMeter(pool), EchoUpstream(echoes), Keys(ledger.engine), []
    by_name = {each.name: each for each in pool}
    upstreams = {"openai": PassthroughUpstream(PROVIDER_KEYS) if over_http else echo}
    workshop = Workshop(endpoints=pool, live=live, cost=cost, rule=rule or Greedy(), space=encoder.space)
    routers = {name: workshop.router(policy, {}, None) for name, policy in live.items()}
    rollout = following(ledger, directory, routers, workshop, lifecycle or Lifecycle())
    gateway = Gateway(
        routers=routers,
        rollout=rollout,
        default_policy=next(iter(live)),
        batcher=Batcher(encoder),
        dispatcher=FallbackDispatcher(by_name, upstreams),
        ledger=ledger,
        cost=cost,
        meter=meter,
        routing_deadline_ms=routing_deadline_ms,
        learns_output_tokens=learns_output_tokens,
        budgets=budgets,
    )
    parts = Parts(
        gateway=gateway,
        grader=Grader.of(gateway, FallbackDispatcher(by_name, upstreams), judging),
        onboarder=Onboarder(gateway, teach=dict, prompt_margin=1.5),
        auth=Authenticator(find=keys.find),
        meter=meter,
        ready=lambda: [*([] if ledger.ready() else ["ledger"]), *missing],
        estimates=Estimates(lambda: _configured(directory)),
        drafts=Drafting(_configured(directory)),
        saving=Saving(_configured(directory)),
        body_bytes_max=body_bytes_max,
        requests_in_flight_max=requests_in_flight_max,
        stream_ping_s=stream_ping_s,
        started_at=int(datetime.now(UTC).timestamp()),
    )
    app = create_app(parts)
    async with serving(app) as url:
        site = Site(
            url=url,
            app=app,
            directory=directory,
            key=keys.create("test"),
            keys=keys,
            gateway=gateway,
            grader=parts.grader,
            ledger=ledger,
            echo=echo,
            live=live,
            auth=parts.auth,
            missing=missing,
            rollout=rollout,
        )
        async with site.client:
            yield site


def _configured(directory: Path) -> Config:
    """As much of a configuration as estimates from this gateway's ledger need."""
    price = {"price_input_usd_per_mtok": "0.5", "price_output_usd_per_mtok": "2.0"}
    pool = [{"name": "mid", "model": "maker/mid-model", "context_tokens_max": 64_000, **price}]
    url = f"sqlite:///{directory}/ledger.db"
    settings = {"ledger": {"url": url}, "embedder": {"kind": "hashing"}, "default_endpoint": "mid", "endpoints": pool}
    return Config(state_dir=directory, **settings)


class _Server(uvicorn.Server):
    """Stops when told to, rather than at the next of its ticks: there are hundreds of these."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.stop = asyncio.Event()

    async def main_loop(self) -> None:
        await self.stop.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with nullcontext():  # Ctrl-C belongs to pytest
            yield


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The application under uvicorn on a free loopback port, in this event loop; its base URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=5)
        server = _Server(config)
        running_server = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.stop.set()
            await running_server


def _database(directory: Path) -> str:
    path = directory / "ledger.db"
    return f"sqlite:///{path}" if path.exists() else migrated_sqlite(path)


def payloads(stream: str) -> list[Any]:
    """The JSON of every event of a stream, "[DONE]" as itself; comments are passed over."""
    data = [block[len("data: ") :] for block in stream.split("\n\n") if block.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]


def text_of(stream: str) -> str:
    chunks = [each for each in payloads(stream) if each != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for each in chunks for choice in each["choices"])


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error object of a response, which must have this status and OpenAI's shape to the letter."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["error"]
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert isinstance(body["error"]["message"], str)
    assert body["error"]["message"]
    assert isinstance(body["error"]["type"], str)
    return dict(body["error"])
