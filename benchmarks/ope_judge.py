"""What `make ope` counts: what each estimator said of a drawn log, and how often that covers the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from ope_world import SESSION, World, as_ledger, draw
from scipy.stats import beta

from router_gateway.core.types import Floats, Ints
from router_gateway.evaluation.audit_result import Gains
from router_gateway.evaluation.audit_standing import compare
from router_gateway.evaluation.logged_models import cross_fitted
from router_gateway.evaluation.offpolicy import Log, estimate, overlap
from router_gateway.evaluation.paired import Paired

ESTIMATORS = ("ips", "snips", "dr", "switch")


def with_replacement(own: World, logger: str, seed: int, requests: int, resamples: int) -> dict[str, dict[str, Any]]:
    """By target: what each estimator said of one log, whether that covers, and how long the interval is."""
    rng = np.random.default_rng([seed, requests])
    rows = own.sessions[rng.integers(0, len(own.sessions), requests // SESSION)].ravel()
    log = draw(own, logger, rows, rng, seed=seed, resamples=resamples)
    return _judged(own, log, rows, own.model[rows])


def as_audited(own: World, logger: str, seed: int, requests: int, resamples: int) -> dict[str, dict[str, Any]]:
    """Likewise, as `audit` does it: the outcome model fitted out of fold, and gains over what needs no router.

    As many requests again, of other sessions, are learned from: which single endpoint is best, and the model's half.
    """
    rng = np.random.default_rng([seed, requests, 1])
    rows = own.sessions[rng.permutation(len(own.sessions))[: 2 * requests // SESSION]].ravel()
    whole = draw(own, logger, rows, rng, seed=seed, resamples=1)
    outcomes = as_ledger(own, rows, whole)
    learned, asked = np.arange(len(rows))[: len(rows) // 2], np.arange(len(rows))[len(rows) // 2 :]
    cluster = np.unique(whole.cluster[asked], return_inverse=True)[1]
    log = Log(
        action=whole.action[asked],
        propensity=whole.propensity[asked],
        probability=whole.probability[asked],
        cluster=cluster,
        resamples=resamples,
        seed=seed,
    )
    quality, cost_usd = cross_fitted(outcomes, learned, asked, cluster, seed=seed)
    paired = Paired(
        log=log,
        quality=outcomes.quality[asked],
        cost_usd=outcomes.cost_usd[asked],
        quality_model=quality,
        cost_model=cost_usd,
        worth_usd=outcomes.worth_usd[asked],
    )
    found = _judged(own, log, rows[asked], quality)
    for name, target in own.targets.items():
        gains = compare(outcomes, learned, asked, paired, target[rows[asked]], outcomes.worth_usd).gains
        if gains is not None:
            found[name] |= {"gains": _gains(own, target, gains)}
    return found


def _gains(own: World, target: Floats, gains: Gains) -> dict[str, Any]:
    """Whether the intervals of the gains cover the true ones, and whether "worth it" would be said without reason."""
    names = own.prepared.table.endpoints
    single = np.eye(len(names))[names.index(gains.best_single)]
    net = own.value(target, price=True) - own.value(np.broadcast_to(single, target.shape), price=True)
    corners = [np.broadcast_to(np.eye(len(names))[names.index(name)], target.shape) for name in gains.mix]
    points = sorted((own.usd(corner), own.value(corner)) for corner in corners)
    coin = own.value(target) - float(np.interp(own.usd(target), *np.array(points).T))
    over, mixed = gains.net_over_best_single, gains.quality_at_equal_cost
    return {
        "net_over_best_single": (over.value - net, over.low <= net <= over.high),
        "quality_at_equal_cost": (mixed.value - coin, mixed.low <= coin <= mixed.high),
        "wrongly_worth_it": over.low > 0 and net <= 0,
        "worth_it": over.low > 0,
        "net": net,
    }


def _judged(own: World, log: Log, rows: Ints, model: Floats) -> dict[str, dict[str, Any]]:
    reward = own.quality[rows, log.action]
    found: dict[str, dict[str, Any]] = {}
    for name, target in own.targets.items():
        seen = overlap(log, target[rows])
        if seen.refusal:
            found[name] = {"refused": seen.refusal}
            continue
        truth = own.value(target)
        estimates = estimate(log, target[rows], reward, model, bounds=(0.0, 1.0))
        found[name] = {
            each: (one.value - truth, one.low <= truth <= one.high, one.high - one.low)
            for each, one in estimates.items()
        } | {"ess": seen.ess}
    return found


def summary(logs: list[dict[str, dict[str, Any]]], target: str) -> dict[str, Any]:
    """Over the seeds: coverage with its interval, bias in standard errors, length, and DR's length by IPS's."""
    said = [log[target] for log in logs if "refused" not in log[target]]
    told: dict[str, Any] = {"seeds": len(logs), "refused": len(logs) - len(said)}
    if not said:
        return told | {"refusal": logs[0][target]["refused"]}
    told |= {"ess_mean": float(np.mean([one["ess"] for one in said]))}
    for name in ESTIMATORS:
        error, covered, length = (
            np.array(each, dtype=float) for each in zip(*(one[name] for one in said), strict=True)
        )
        told[name] = {
            "coverage": _share(covered),
            "bias": float(error.mean()),
            "bias_stderr": float(error.std(ddof=1) / np.sqrt(len(error))),
            "rmse": float(np.sqrt((error**2).mean())),
            "length_mean": float(length.mean()),
        }
    if kept := [one["gains"] for one in said if "gains" in one]:
        told["gains"] = _gains_summary(kept)
    ratio = np.log([one["dr"][2] / one["ips"][2] for one in said])
    arm = 1.96 * ratio.std(ddof=1) / np.sqrt(len(ratio))
    told["dr_length_by_ips"] = {
        "geometric_mean": float(np.exp(ratio.mean())),
        "low": float(np.exp(ratio.mean() - arm)),
        "high": float(np.exp(ratio.mean() + arm)),
    }
    return told


def _gains_summary(kept: list[dict[str, Any]]) -> dict[str, Any]:
    told: dict[str, Any] = {"logs": len(kept), "true_net_gain_mean": float(np.mean([one["net"] for one in kept]))}
    for name in ("net_over_best_single", "quality_at_equal_cost"):
        error, covered = (np.array(each, dtype=float) for each in zip(*(one[name] for one in kept), strict=True))
        told[name] = {"coverage": _share(covered), "bias": float(error.mean())}
    for name in ("worth_it", "wrongly_worth_it"):
        told[name] = _share(np.array([one[name] for one in kept], dtype=float))
    return told


def _share(covered: Floats) -> dict[str, float]:
    """With Clopper and Pearson's 95 % interval."""
    hits, count = int(covered.sum()), len(covered)
    low = float(beta.ppf(0.025, hits, count - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, count - hits)) if hits < count else 1.0
    return {"share": hits / count, "low": low, "high": high}
