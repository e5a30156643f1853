"""What `bench.reports` measured, as Markdown: beside SQL by hand over the same files, and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import orjson

from bench import report


def reports(result: report.Result) -> str:
    """The table of `bench.reports`: beside SQL by hand over the same files, and PostgreSQL."""
    options, rival = result["options"], result.get("postgres", {})
    rows = []
    ways = ("warm", "cold", "loaded")
    for name in result["warm"]["http"]:
        for way in ways:
            own, floor = (result[way][kind][name] for kind in ("http", "floor"))
            seconds = own.get("median_s")
            times = None if seconds is None else round(seconds / floor["median_s"], 2)
            postgres_s = rival.get(name, {}).get("median_s") if way == "warm" else None
            rows.append([f"{name}, {way}", seconds, own.get("worst_s"), floor["median_s"], times, postgres_s])
    same = options["postgres_events"] == options["events"]
    scaled = "" if same else f" ({options['postgres_events']:,} events)"
    head = [
        f"{options['events']:,} events, seconds",
        "Mixdown",
        "worst",
        "DuckDB by hand, same files",
        "times",
        f"PostgreSQL, `jsonb`{scaled}",
    ]
    warm = result["warm"]
    differing = [
        name for name, found in warm["http"].items() if found.get("digest") != warm["floor"][name]["digest"]
    ]
    failed = "".join(
        f" The {name} while events came in was refused: {found['missing']}."
        for name, found in result["loaded"]["http"].items()
        if "missing" in found
    )
    met = result["loaded"]["http"]["load"]
    words = (
        f"Medians of {options['rounds']}. Loaded: {met['records_s']:,.0f} events/s came in meanwhile. All "
        f"processes of the server held {result['memory_mib']:,} MiB at the end. Before the load all figures "
        f"of both were the same{', but for ' + ', '.join(differing) if differing else ''}.{failed}"
    )
    return "\n\n".join(
        [
            f"{report.facts(result['machine'])}.{report.databases(result['machine'])}",
            report.table(head, rows),
            words,
        ]
    )


def save(name: str, result: report.Result) -> Path:
    """Keep a result as bench/results/NAME.json and its table as NAME.md; the first of them."""
    path = report.RESULTS / f"{name}.json"
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    path.with_suffix(".md").write_text(reports(result) + "\n")
    return path
