"""Write `deploy/grafana/mixdown.json`, the Grafana dashboard, from the panels declared here.

What each panel shows, with its unit and thresholds, stands once and short; Grafana's format repeats it at
length. A test holds the file to this script, and every metric in it to those that the server declares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "mixdown.json"
SCHEMA_VERSION: Final = 41  # of Grafana 12; older ones read it, newer ones migrate it
SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
WHO: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "$__rate_interval"
WIDTH: Final = 24

Panel = dict[str, Any]
Query = tuple[str, str]


def rate(metric: str, by: str = "", where: str = "") -> str:
    """The sum of a counter's rates, by labels."""
    chosen = f"{WHO}, {where}" if where else WHO
    summed = f"sum by ({by})" if by else "sum"
    return f"{summed} (rate({metric}{{{chosen}}}[{RATE}]))"


def gauge(metric: str, where: str = "") -> str:
    """A gauge of the chosen servers."""
    return f"{metric}{{{WHO}, {where}}}" if where else f"{metric}{{{WHO}}}"


def quantiles(metric: str, where: str = "") -> list[Query]:
    """Median, 95th and 99th percentile of a histogram."""
    return [
        (f"histogram_quantile({q}, {rate(metric + '_bucket', 'le', where)})", f"p{round(100 * q)}")
        for q in (0.5, 0.95, 0.99)
    ]


def panel(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    kind: str = "timeseries",
    stacked: bool = False,
    **limits: float,
) -> Panel:
    """One panel: its queries as (PromQL, legend).

    `limits` are where its colours change: `red_below`, `yellow_from`, `red_from`.
    """
    steps: list[dict[str, Any]] = [{"color": "red" if "red_below" in limits else "green", "value": None}]
    colours = {"red_below": "green", "yellow_from": "yellow", "red_from": "red"}
    steps += [{"color": colours[name], "value": limits[name]} for name in colours if name in limits]
    options: dict[str, Any] = {
        "tooltip": {"mode": "multi", "sort": "desc"},
        "legend": {"displayMode": "list"},
    }
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "textMode": "auto"}
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if len(steps) > 1 and kind == "timeseries":
        custom["thresholdsStyle"] = {"mode": "line"}
    if stacked:
        custom |= {"stacking": {"mode": "normal"}, "fillOpacity": 30}
    return {
        "title": title,
        "description": description,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"w": 4, "h": 4} if kind == "stat" else {"w": 8, "h": 8},
        "fieldConfig": {
            "defaults": {
                "unit": unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                **({"custom": custom} if kind == "timeseries" else {}),
            },
            "overrides": [],
        },
        "options": options,
        "targets": [
            {"refId": chr(65 + number), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for number, (query, legend) in enumerate(queries)
        ],
    }


def stat(title: str, description: str, unit: str, query: str, **limits: float) -> Panel:
    """A number with a colour, in the row at the top."""
    return panel(title, description, unit, (query, ""), kind="stat", stacked=False, **limits)


REFUSED: Final = rate("mixdown_records_total", where='outcome="refused"')
FAULTS: Final = rate("mixdown_requests_total", where='status=~"5.."')
STARTED: Final = gauge("mixdown_process_start_time_seconds", 'process="supervisor"')

ROWS: Final[list[tuple[str, list[Panel]]]] = [
    (
        "At a glance",
        [
            stat(
                "Ready",
                "1 while records can be stored, as /readyz says; 0: backlog full or disk short.",
                "none",
                f"min({gauge('mixdown_ready')})",
                red_below=1,
            ),
            stat(
                "Fold late by",
                "Age of the oldest stored record that reads do not show yet.",
                "s",
                f"max({gauge('mixdown_fold_behind_seconds')})",
                yellow_from=5,
                red_from=60,
            ),
            stat(
                "Records in",
                "Records stored, a second.",
                "short",
                rate("mixdown_records_total", where='outcome="stored"'),
            ),
            stat(
                "Refused",
                "Part of the received records that was refused.",
                "percentunit",
                f"{REFUSED} / clamp_min({rate('mixdown_records_total')}, 1e-9)",
                yellow_from=0.01,
                red_from=0.05,
            ),
            stat(
                "Faults",
                "Requests answered with 500 or above, a second.",
                "reqps",
                f"{FAULTS} or vector(0)",
                red_from=0.001,
            ),
            stat(
                "Up since",
                "How long the server has been running.",
                "s",
                f"time() - max({STARTED})",
            ),
        ],
    ),
    (
        "Requests",
        [
            panel(
                "Requests by status",
                "Requests answered, by HTTP status.",
                "reqps",
                (rate("mixdown_requests_total", "status"), "{{status}}"),
                stacked=True,
            ),
            panel(
                "Time of writes",
                "From headers to reply on /engage and /groups, the body's arrival included.",
                "s",
                *quantiles("mixdown_request_seconds", 'endpoint=~"/engage|/groups"'),
                yellow_from=0.5,
                red_from=1,
            ),
            panel(
                "Time of reads",
                "Profile queries, the wait for the fold included.",
                "s",
                *quantiles("mixdown_request_seconds", 'endpoint=~"/api/(query|2.0)/.*"'),
            ),
            panel(
                "Requests by endpoint",
                "Requests answered, by endpoint.",
                "reqps",
                (rate("mixdown_requests_total", "endpoint"), "{{endpoint}}"),
            ),
            panel(
                "Turned away",
                "429 by limit and project, and what the protocol refused before any endpoint saw it.",
                "reqps",
                (
                    rate("mixdown_rate_limited_requests_total", "limit, project"),
                    "429 {{limit}} of {{project}}",
                ),
                (rate("mixdown_protocol_refusals_total", "status"), "protocol {{status}}"),
            ),
            panel(
                "Open connections",
                "At all workers; one worker takes up to connection_limit.",
                "short",
                (f"sum by (instance) ({gauge('mixdown_connections_open')})", "{{instance}}"),
            ),
        ],
    ),
    (
        "Records",
        [
            panel(
                "Records by outcome",
                "Records received, stored and refused.",
                "short",
                (rate("mixdown_records_total", "endpoint, outcome"), "{{endpoint}} {{outcome}}"),
                stacked=True,
            ),
            panel(
                "Refusals by reason",
                "Names of error texts: docs/http-api.md says what to do about each.",
                "short",
                (rate("mixdown_refusals_total", "reason"), "{{reason}}"),
            ),
            panel(
                "Retries recognised",
                "By their requests' keys before they were stored again, and by the fold.",
                "short",
                (rate("mixdown_recognised_requests_total", "kind"), "requests by {{kind}}"),
                (rate("mixdown_fold_recognised_retries_total", "kind"), "records by {{kind}}"),
            ),
            panel(
                "Records in a request",
                "Few mean that clients could batch more.",
                "short",
                *quantiles("mixdown_request_records"),
            ),
            panel(
                "Sent to auxiliary paths",
                "Answered and discarded: session replays, flags and the like.",
                "Bps",
                (rate("mixdown_auxiliary_discarded_bytes_total", "path"), "{{path}}"),
            ),
            panel(
                "Requests to auxiliary paths",
                "Answered and discarded.",
                "reqps",
                (rate("mixdown_auxiliary_discarded_total", "path"), "{{path}}"),
            ),
        ],
    ),
    (
        "Commits and fold",
        [
            panel(
                "Time of a commit",
                "From its turn at the log until it is on disk: mostly the disk's fsync.",
                "s",
                *quantiles("mixdown_commit_seconds"),
                yellow_from=0.1,
                red_from=1,
            ),
            panel(
                "Size of a commit",
                "Mean records and requests in one group commit.",
                "short",
                (f"{rate('mixdown_commit_records_sum')} / {rate('mixdown_commit_records_count')}", "records"),
                (
                    f"{rate('mixdown_commit_requests_sum')} / {rate('mixdown_commit_requests_count')}",
                    "requests",
                ),
            ),
            panel(
                "Fold late by",
                "Age of the oldest stored record that is not folded.",
                "s",
                (gauge("mixdown_fold_behind_seconds"), "{{instance}}"),
                yellow_from=5,
                red_from=60,
            ),
            panel(
                "Backlog",
                "Of its limit: from 80 % on replies are held back, at 100 % writes get 503.",
                "percentunit",
                (
                    f"{gauge('mixdown_fold_behind_records')} / {gauge('mixdown_backlog_limit_records')}",
                    "{{instance}} records",
                ),
                (
                    f"{gauge('mixdown_fold_behind_bytes')} / {gauge('mixdown_backlog_limit_bytes')}",
                    "{{instance}} bytes",
                ),
                (
                    f"{gauge('mixdown_events_behind_records')} / {gauge('mixdown_backlog_limit_records')}",
                    "{{instance}} records, of events",
                ),
                (
                    f"{gauge('mixdown_events_behind_bytes')} / {gauge('mixdown_backlog_limit_bytes')}",
                    "{{instance}} bytes, of events",
                ),
                yellow_from=0.5,
                red_from=0.8,
            ),
            panel(
                "Folded",
                "Records folded and profiles written, a second; many records a profile cost less.",
                "short",
                (rate("mixdown_folded_records_total"), "records"),
                (rate("mixdown_folded_profiles_total"), "profiles"),
            ),
            panel(
                "Time of a fold transaction",
                "It takes all that waits, up to 100,000 records.",
                "s",
                *quantiles("mixdown_fold_seconds"),
            ),
            panel(
                "Records in a fold transaction",
                "It grows with the load.",
                "short",
                *quantiles("mixdown_fold_records"),
            ),
            panel(
                "What the fold set aside",
                "Records that could not be applied, failed transactions, damaged chunks: all should be 0.",
                "short",
                (f"sum(increase(mixdown_fold_failed_records_total{{{WHO}}}[{RATE}]))", "records"),
                (f"sum(increase(mixdown_fold_faults_total{{{WHO}}}[{RATE}]))", "faults"),
                (gauge("mixdown_log_damaged_chunks"), "damaged chunks"),
                red_from=1,
            ),
            panel(
                "Links between ids",
                "Of a device and a user, or by $identify, $create_alias and $merge: made, failed, undone.",
                "ops",
                (rate("mixdown_identity_links_total", "outcome"), "{{outcome}}"),
            ),
            panel(
                "Log head",
                "Records ever stored.",
                "short",
                (gauge("mixdown_log_head"), "{{instance}}"),
            ),
        ],
    ),
    (
        "Events",
        [
            panel(
                "Events late by",
                "Age of the oldest event in the log that is not yet taken from it.",
                "s",
                (gauge("mixdown_events_behind_seconds"), "{{instance}}"),
                yellow_from=5,
                red_from=60,
            ),
            panel(
                "Events taken",
                "Events taken from the log, and those of requests that were sent again, a second.",
                "short",
                (rate("mixdown_events_stored_total"), "taken"),
                (rate("mixdown_events_recognised_retries_total"), "left out"),
            ),
            panel(
                "Time of a step",
                "The events reader takes all that waits, and puts it on disk, at once.",
                "s",
                *quantiles("mixdown_events_seconds"),
            ),
            panel(
                "Events in a step",
                "It grows with the load.",
                "short",
                *quantiles("mixdown_events_step_records"),
            ),
            panel(
                "Events held",
                "Hot until they are closed into files; those sent twice count twice until they meet.",
                "short",
                (gauge("mixdown_events_held"), "{{part}}"),
            ),
            panel(
                "Bytes of events",
                "Hot in events.db, and in files.",
                "bytes",
                (gauge("mixdown_events_bytes"), "{{part}}"),
            ),
            panel(
                "Files of events",
                "Listed; waiting to be split or merged; listed no more, and unlinked soon.",
                "short",
                (gauge("mixdown_events_files"), "{{state}}"),
                (gauge("mixdown_events_hidden_rows"), "hidden rows"),
            ),
            panel(
                "Time of a piece of upkeep",
                "Closing, splitting, merging and unlinking, a piece at a time beside the steps.",
                "s",
                *quantiles("mixdown_events_tending_seconds"),
            ),
            panel(
                "Faults of the events reader",
                "Steps and pieces that failed as a whole and were tried again: should be 0.",
                "short",
                (f"sum(increase(mixdown_events_faults_total{{{WHO}}}[{RATE}]))", "faults"),
                red_from=1,
            ),
        ],
    ),
    (
        "Disk and keys",
        [
            panel(
                "Free disk",
                "Below the reserve writes get 503.",
                "bytes",
                (gauge("mixdown_disk_free_bytes"), "free {{instance}}"),
                (gauge("mixdown_disk_reserve_bytes"), "reserve {{instance}}"),
            ),
            panel(
                "Files",
                "Sizes of the databases, and of the records held in the log.",
                "bytes",
                (gauge("mixdown_database_bytes"), "{{file}}"),
                (gauge("mixdown_log_bytes"), "records of the log"),
                (gauge("mixdown_history_bytes"), "history, within state"),
            ),
            panel(
                "Write-ahead logs",
                "They shrink at checkpoints; a reader that holds an old snapshot delays these.",
                "bytes",
                (gauge("mixdown_wal_bytes"), "{{file}}"),
                yellow_from=512 * 2**20,
                red_from=2**30,
            ),
            panel(
                "Window of keys",
                "How far back retries with a key are recognised.",
                "s",
                (gauge("mixdown_idempotency_window_seconds"), "{{instance}}"),
                red_below=86_400,
            ),
            panel(
                "Keys held",
                "At most 50 million.",
                "short",
                (gauge("mixdown_idempotency_keys"), "{{instance}}"),
                yellow_from=43_750_000,
            ),
            panel(
                "Reach of history",
                "How far back the history of profiles reaches.",
                "s",
                (gauge("mixdown_history_reach_seconds"), "{{instance}}"),
            ),
            panel(
                "Segments of history",
                "A read of one profile looks into each; they are merged between steps of the fold.",
                "short",
                (gauge("mixdown_history_segments"), "{{instance}}"),
            ),
            panel(
                "Log ahead of the clock",
                "Above 0 after the clock was set back: check the machine's time.",
                "s",
                (gauge("mixdown_log_clock_ahead_seconds"), "{{instance}}"),
                red_from=5,
            ),
        ],
    ),
    (
        "Processes",
        [
            panel(
                "Processes up",
                "1 while it lives.",
                "none",
                (gauge("mixdown_process_up"), "{{process}}"),
                red_below=1,
            ),
            panel(
                "Restarts",
                "Processes that died and were started again, in the last hour.",
                "short",
                (f"increase(mixdown_process_restarts_total{{{WHO}}}[1h])", "{{process}}"),
                red_from=1,
            ),
            panel(
                "Certificate",
                "How long the TLS certificate in use is good for.",
                "s",
                (
                    f"({gauge('mixdown_tls_certificate_expiry_timestamp_seconds')} > 0) - time()",
                    "{{instance}}",
                ),
                red_below=7 * 86_400,
            ),
            panel(
                "Version",
                "Of Mixdown and of Python.",
                "none",
                (
                    f"count by (version, python) ({gauge('mixdown_build_info')})",
                    "{{version}} on Python {{python}}",
                ),
                kind="stat",
            ),
        ],
    ),
]


def _variable(name: str, label: str, metric: str, where: str = "") -> dict[str, Any]:
    query = f"label_values({metric}{where}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "variable"},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it: a row for each group, panels placed from left to right."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, members in ROWS:
        panels.append(
            {"type": "row", "title": title, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}, "panels": []}
        )
        x, y, height = 0, y + 1, 0
        for member in members:
            place = member["gridPos"]
            if x + place["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            panels.append({**member, "gridPos": {"x": x, "y": y, **place}})
            x += place["w"]
            height = max(height, place["h"])
        y += height
    for number, placed in enumerate(panels, 1):
        placed["id"] = number
    source = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": "mixdown",
        "title": "Mixdown",
        "description": "What comes in, what is refused, how late the fold is, disk and processes.",
        "tags": ["mixdown"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                source,
                _variable("job", "Job", "mixdown_build_info"),
                _variable("instance", "Server", "mixdown_build_info", '{job=~"$job"}'),
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def text() -> str:
    """The file's text."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"wrote {FILE}")
