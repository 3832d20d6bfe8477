"""What the parts of a gateway count themselves, exposed where it is scraped."""

from __future__ import annotations

from router_gateway.api.metrics import PrometheusMeter
from router_gateway.core.protocols import Embedder
from router_gateway.embedding.cache import CachingEmbedder
from router_gateway.gateway import Gateway
from router_gateway.grading.grader import Grader
from router_gateway.learning.learner import Learner
from router_gateway.learning.pupil import changes_of
from router_gateway.ledger.pace_keeper import PaceKeeper
from router_gateway.lifecycle.rollout import Rollout


def watch(meter: PrometheusMeter, gateway: Gateway, embedder: Embedder, learner: Learner, grader: Grader) -> None:
    """Expose ledger, circuits, learner, caches and budgets; each is read when it is scraped."""
    ledger, budgets = gateway.ledger, gateway.budgets
    meter.watch("router_ledger_queue_depth", "Rows not yet in the database", lambda: ledger.counters.rows_waiting)
    meter.watch_counts("router_ledger_dropped", "Rows lost; must stay 0", (), lambda: {(): ledger.counters.rows_lost})
    meter.watch_counts(
        "router_ledger_sync_errors", "Failed syncs of the journal; must stay 0", (), lambda: {(): ledger.sync_errors}
    )
    meter.watch("router_ledger_disk_full", "1 while the journal's disk lacks room", lambda: ledger.disk_is_full)
    meter.watch_circuits(gateway.dispatcher.circuit_states)
    meter.watch_counts("router_learner_steps", "Steps of the learner", ("policy", "outcome"), learner.counts)
    if budgets is not None:
        meter.watch_gauges(
            "router_budget_remaining_ratio",
            "Least part that is left of any budget of a scope",
            ("scope",),
            lambda: {(scope,): ratio for scope, ratio in budgets.remaining_ratios().items()},
        )
    if gateway.rollout is not None:
        _watch_rollout(meter, gateway.rollout)
    meter.watch_counts("router_verifications", "Answers that were checked", ("outcome",), grader.verifier.counts)
    if grader.judge is not None:
        meter.watch_counts("router_judgements", "Answers drawn for a judge", ("outcome",), grader.judge.counts)
    meter.watch_counts(
        "router_endpoint_changes",
        "Endpoints whose answers a policy found changed",
        ("policy", "model"),
        lambda: {
            (name, endpoint): float(found)
            for name, router in gateway.routers.items()
            for endpoint, found in changes_of(router.live()).items()
        },
    )
    if gateway.pacer is not None:
        _watch_pacer(meter, gateway.pacer)
    if isinstance(embedder, CachingEmbedder):
        meter.watch_counts(
            "router_cache_requests",
            "Look-ups in a cache",
            ("kind", "outcome"),
            lambda: {("embedding", "hit"): embedder.hits, ("embedding", "miss"): embedder.misses},
        )


def _watch_pacer(meter: PrometheusMeter, pacer: PaceKeeper) -> None:
    meter.watch("router_pacing_spent_usd", "Spent of the paced budget in this period", lambda: pacer.account.spent_usd)
    meter.watch("router_pacing_planned_usd", "What the plan would have spent by now", lambda: pacer.account.planned_usd)
    meter.watch("router_pacing_worth_usd", "Where the dial stands", lambda: pacer.steering.worth_usd)
    meter.watch("router_pacing_floor", "1 while a coin flip decides", lambda: float(pacer.floor_taken[0]))
    meter.watch_counts(
        "router_pacing_floor_taken", "How often a coin took over", (), lambda: {(): float(pacer.floor_taken[1])}
    )


def _watch_rollout(meter: PrometheusMeter, rollout: Rollout) -> None:
    """Canaries by the policy that they would replace, and what candidates miss here."""

    def shares() -> dict[tuple[str, ...], float]:
        splits = rollout.splits()
        return {(policy,): splits[policy].shares.canary if policy in splits else 0.0 for policy in rollout.routers}

    meter.watch_gauges("router_canary_share", "Share of the traffic that a candidate serves", ("policy",), shares)
    meter.watch("router_candidates_failing", "Candidates that cannot serve here", lambda: len(rollout.failing))
    shadowing = rollout.shadowing
    meter.watch_counts(
        "router_shadow_dropped", "Requests that shadows passed over", (), lambda: {(): shadowing.dropped}
    )
