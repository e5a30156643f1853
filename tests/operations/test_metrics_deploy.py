"""The dashboard, the alert rules and their examples in `deploy/`: they speak of metrics that there are."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mixdown.http.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent.parent
DASHBOARD = ROOT / "deploy" / "grafana" / "mixdown.json"
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "mixdown.rules.yml"
MONITORING = ROOT / "docs" / "monitoring.md"

NAMES = {metric.name for metric in METRICS}
SERIES = NAMES | {
    f"{metric.name}_{part}"
    for metric in METRICS
    if metric.kind == "histogram"
    for part in ("bucket", "sum", "count")
}
LABELS = {label for metric in METRICS for label in metric.labels}
FROM_PROMETHEUS = {"job", "instance", "le"}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def rule_expressions() -> dict[str, str]:
    return dict(re.findall(r"- alert: (\w+)\n\s+expr: >-\n\s+(.+)\n", RULES.read_text()))


QUERIES = {
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    },
    **rule_expressions(),
}


def without_variables(query: str) -> str:
    """A panel's query as Prometheus gets it."""
    return query.replace("$__rate_interval", "5m").replace("$job", ".+").replace("$instance", ".+")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_a_query_names_only_metrics_and_labels_that_there_are(query: str) -> None:
    named = set(re.findall(r"\bmixdown_\w+", query))
    assert named <= SERIES
    assert named or query.startswith("up{")
    labels = set(re.findall(r'(\w+)\s*(?:=~|!=|!~|=)\s*"', query))
    for by in re.findall(r"by \(([^)]*)\)", query):
        labels |= {label.strip() for label in by.split(",")}
    assert labels <= LABELS | FROM_PROMETHEUS
    assert query.count("(") == query.count(")")


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert [name for name in sorted(NAMES) if name not in shown] == []


def test_every_panel_has_a_description_a_unit_and_a_place_of_its_own() -> None:
    placed: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${source}"
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & placed, panel["title"]
        placed |= cells
    content = json.loads(DASHBOARD.read_text())
    assert [variable["name"] for variable in content["templating"]["list"]] == ["source", "job", "instance"]
    assert len({panel["id"] for panel in content["panels"]}) == len(content["panels"])


def test_the_dashboard_is_what_its_script_writes() -> None:
    script = "import sys; sys.path.insert(0, 'scripts'); import dashboard; print(dashboard.text(), end='')"
    written = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True)
    assert written.stdout.decode() == DASHBOARD.read_text()


def test_every_alert_says_what_is_wrong_and_where_to_read_what_to_do() -> None:
    rules = RULES.read_text().split("- alert: ")[1:]
    assert len(rules) == len(rule_expressions()) > 15
    headings = {
        heading.lower().replace(" ", "-").replace("`", "")
        for heading in re.findall(r"^#+ (.+)$", MONITORING.read_text(), re.MULTILINE)
    }
    for rule in rules:
        assert re.search(r"severity: (info|warning|critical)\n", rule)
        assert "summary: " in rule
        assert "description: >-" in rule
        anchor = re.search(r"runbook: docs/monitoring\.md#([\w-]+)\n", rule)
        assert anchor is not None, rule
        assert anchor[1] in headings, anchor[1]


def promtool(*arguments: str, cwd: Path = PROMETHEUS) -> str:
    """Run promtool; what it says when it finds nothing wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool (of the system's package prometheus) is not installed")
    ended = subprocess.run(["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_promtool_takes_the_rules_and_their_tests_pass() -> None:
    assert "SUCCESS" in promtool("check", "rules", RULES.name)
    assert "SUCCESS" in promtool("test", "rules", "mixdown.rules.test.yml")


def test_promtool_takes_the_example_of_a_configuration(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret")
    example = (PROMETHEUS / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(
        example.replace("/etc/prometheus/mixdown.password", str(password))
    )
    shutil.copy(RULES, tmp_path)
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml", cwd=tmp_path)


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [
        f"      - record: panel_{number}\n        expr: {json.dumps(without_variables(query))}\n"
        for number, query in enumerate(QUERIES.values())
    ]
    head = "groups:\n  - name: panels\n    rules:\n"
    (tmp_path / "panels.yml").write_text(head + "".join(rules))
    assert f"{len(rules)} rules found" in promtool("check", "rules", "panels.yml", cwd=tmp_path)
