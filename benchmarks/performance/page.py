"""Writes the measured part of docs/performance.md, between two marks of a document that is otherwise kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from performance import tables
from performance.pictures import draw
from performance.problems import BenchmarkError

BEGIN = "<!-- performance: begin. Written by `make bench`; what is changed here is lost. -->"
END = "<!-- performance: end -->"


def write_page(results: dict[str, Any], page: Path) -> None:
    """Replace what is between the marks. Raises BenchmarkError where the document has not both, once and in order."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise BenchmarkError(f"{page}: the lines {BEGIN!r} and, after it, {END!r} must be there, once each")
    pictures = draw(results, page.parent / "images") if "http" in results else []
    inside = "\n\n".join([_how(results), *_sections(results, [os.path.relpath(p, page.parent) for p in pictures])])
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    partial = page.with_name(f".{page.name}.partial")
    partial.write_text(f"{before}{BEGIN}\n\n{inside}\n\n{END}{after}", encoding="utf-8")
    os.replace(partial, page)


def _how(results: dict[str, Any]) -> str:
    machine, versions = results["machine"], results["versions"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [
        f"Measured on {results['made']} with `{results['command']}`: {results['rounds']} rounds of "
        f"{results['seconds_per_run']:g} s for each load, {machine['cores']} cores ({machine['processor']}), "
        f"{results['pinning']}; the load average before was {machine['load_average_1_min']:g}.",
        f"Versions: {names}.",
    ]
    if "gateway" in results:
        own = results["gateway"]
        lines.append(
            f"The gateway: encoder `{own['embedder']}`, policy `{own['policy']}` fitted on {own['training_rows']:,} "
            f"prompts, rule `{own['rule']}`, {own['endpoints']} endpoints"
            + (" (encoder and policy are the defaults)." if own["is_default"] else " (not the default configuration).")
        )
    if results.get("decisions"):
        told = ", ".join(f"`{reason}` {count:,}" for reason, count in sorted(results["decisions"].items()))
        lines.append(f"Its decisions in this run, by reason: {told}.")
    lines += [f"Left out: {name}: {why[:200]}" for name, why in results.get("left_out", {}).items()]
    return "\n\n".join(lines)


def _sections(results: dict[str, Any], pictures: list[str]) -> list[str]:
    parts = ["## Goals", tables.goal_table(results)]
    if http := results.get("http"):
        parts += ["## Throughput and latency", tables.throughput_table(http), tables.latency_table(http)]
        parts += [f"- not measured: {what} ({why})" for what, why in http["failed"].items()]
        if any(http["ratios"].values()):
            parts.append(tables.ratio_table(http))
        parts += [tables.effort_table(results), *(f"![{Path(p).stem}]({p})" for p in pictures)]
    if found := results.get("sequential"):
        parts += ["## One request after another", tables.sequential_table(found)]
    if found := results.get("added_by_routing"):
        parts += ["## What routing costs", tables.added_table(found)]
    if found := results.get("parts"):
        parts += ["## Parts", tables.encoder_table(found["encoders"]), tables.ledger_table(found["ledger"])]
        parts.append(tables.import_table(found["imports"], found["empty_process_rss_mib"]))
    if found := results.get("decision"):
        parts += ["## One decision", _decision(found)]
    if found := results.get("scale"):
        parts += ["## Many rows", found.get("left_out") or tables.scale_table(found)]
    if own := results.get("gateway"):
        ready = own["ready_s"]
        parts.append(
            f"The gateway answered its first request {ready['median']:.2f} s after its start (lowest and highest of "
            f"{len(ready['rounds'])}: {min(ready['rounds']):.2f}, {max(ready['rounds']):.2f}), and "
            f"{own['first_ready_s']:.1f} s after its very first, in which the policy was fitted."
        )
    return parts


def _decision(found: dict[str, Any]) -> str:
    if "left_out" in found:
        return f"Left out: {found['left_out']}"
    told = found["settings"]
    head = (
        f"One text of about a hundred tokens, encoder `{told['encoder']}`, {told['endpoints']} endpoints, policies "
        f"fitted on {told['rows']:,} rows; one thread, no server. The default policy is `{found['default']}`."
    )
    return f"{head}\n\n{tables.decision_table(found)}"
