"""What tuning found, for people, for programs and for gateway.yaml."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from router_gateway.core.errors import ConfigError
from router_gateway.evaluation.tuning import Tuned


def lines(tuned: Tuned) -> list[str]:
    """The finding in words, the promise first, then estimates."""
    count = f"{tuned.queries_calibrated:,} calibration queries ({tuned.queries_fitted:,} others were learned from)"
    routed = f"routed       quality {tuned.quality:.4f}   {_usd(tuned.cost_usd)}"
    single = f"best single  quality {tuned.best_single_quality:.4f}   {_usd(tuned.best_single_cost_usd)}"
    notes = [f"note: {note}" for note in tuned.notes]
    if tuned.worth_usd is None:
        return [
            f"Not certified: {promised(tuned)}.",
            f"Tested on {count}; p = {tuned.p_value:.3g} at the dearest dial.",
            _what_would_help(tuned),
            f"{routed}   at the dearest dial",
            f"{single}   {tuned.best_single}",
            *notes,
        ]
    certified = f"{tuned.certificate.certified} of {tuned.dials} dials keep the promise; of these it is the cheapest."
    return [
        f"worth_usd = {tuned.worth_usd:.4g}: {promised(tuned)}.",
        f"Certified on {count}; p = {tuned.p_value:.3g}. {certified}",
        f"{routed}   {100 * tuned.saving:.1f} % less than the best single endpoint",
        f"{single}   {tuned.best_single}",
        "The promise holds for queries like these and for this policy as it is fitted now; the figures are estimates.",
        *notes,
    ]


def promised(tuned: Tuned) -> str:
    """The promise in words."""
    promise = tuned.promise
    what = {
        "best-single": f"{promise.floor:g} times that of {tuned.best_single}, the best single endpoint",
        "oracle": f"{promise.floor:g} times that of the best answer to each query",
        "absolute": f"{promise.floor:g}",
    }.get(promise.of, f"{promise.floor:g} times that of {promise.of}")
    return f"expected quality is at least {what}, with {100 * promise.confidence:.4g} % confidence"


def snippet(tuned: Tuned) -> str:
    """Settings for gateway.yaml; empty when nothing could be certified."""
    if tuned.worth_usd is None:
        return ""
    settings = {"policy": {"name": tuned.policy, "params": dict(tuned.params)}, "worth_usd": tuned.worth_usd}
    return f"# {promised(tuned)}\n" + yaml.safe_dump(settings, sort_keys=False)


def to_json(tuned: Tuned) -> dict[str, Any]:
    """Everything, as JSON values."""
    promise, certificate = tuned.promise, tuned.certificate
    return {
        "promise": {"floor": promise.floor, "of": promise.of, "confidence": promise.confidence},
        "certified": tuned.worth_usd is not None,
        "worth_usd": tuned.worth_usd,
        "p_value": tuned.p_value,
        "dials": tuned.dials,
        "dials_certified": certificate.certified,
        "queries_fitted": tuned.queries_fitted,
        "queries_calibrated": tuned.queries_calibrated,
        "queries_needed": certificate.queries_needed,
        "policy": {"name": tuned.policy, "params": dict(tuned.params)},
        "estimates": {
            "quality": tuned.quality,
            "cost_usd": tuned.cost_usd,
            "reference_quality": tuned.reference_quality,
            "saving": tuned.saving if tuned.best_single_cost_usd > 0 else None,
        },
        "best_single": {
            "endpoint": tuned.best_single,
            "quality": tuned.best_single_quality,
            "cost_usd": tuned.best_single_cost_usd,
        },
        "notes": list(tuned.notes),
    }


def write(tuned: Tuned, path: Path) -> None:
    """`to_json` as a file. Raises ConfigError where it cannot be written."""
    try:
        path.write_text(json.dumps(to_json(tuned), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or 'cannot be written'}"]) from error


def _what_would_help(tuned: Tuned) -> str:
    if (needed := tuned.certificate.queries_needed) is not None:
        return f"About {needed:,} calibration queries like these would do. Until then stay with {tuned.best_single}."
    share = tuned.quality / tuned.reference_quality if tuned.reference_quality > 0 else float("inf")
    what = f"{tuned.quality:.4f}" if tuned.promise.of == "absolute" else f"{share:.4f} times the reference"
    return f"More queries would not help: routing is at {what} here, even at the dearest dial."


def _usd(cost_usd: float) -> str:
    return f"{cost_usd:.3g} USD per request"
