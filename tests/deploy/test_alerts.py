"""Alerts: each fires on the figures it is for and on no others, says what to do, and joins processes as it should."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.alert_rules import PATH, rules
from tests.deploy.files import DEPLOY, ROOT
from tympan import telemetry
from tympan.telemetry.across import OF_GAUGES

RUNBOOK = ROOT / "docs" / "howto" / "respond-to-alerts.md"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

API = 'instance="a:8000",job="tympan-api"'
OTHER = 'instance="b:8000",job="tympan-api"'
WORKER = 'instance="w:8000",job="tympan-worker"'


@dataclass(frozen=True, slots=True)
class Case:
    """Series by name as promtool writes them, one value a minute; when to look; and whether the alert fires then."""

    at: str
    bad: Mapping[str, str]
    good: Mapping[str, str]
    before: str | None = None


def _one(series: str, bad: str, good: str, at: str = "1h") -> Case:
    return Case(at, {series: bad}, {series: good})


CASES: dict[str, Case] = {
    "TympanProcessDown": Case("2m", {f"up{{{API}}}": "1 0 0"}, {f"up{{{API}}}": "1 1 1"}, before="1m"),
    "TympanNotReady": Case(
        "4m",
        {f"tympan_ready{{{API}}}": "0x5", f"tympan_ready{{{WORKER}}}": "1x5"},
        {f"tympan_ready{{{API}}}": "0x5", f"tympan_ready{{{OTHER}}}": "1x5"},
        before="1m",
    ),
    "TympanErrors": Case(
        "15m",
        {
            f'tympan_http_responses_total{{{API},status="200"}}': "0+90x20",
            f'tympan_http_responses_total{{{OTHER},status="503"}}': "0+10x20",
        },
        {
            f'tympan_http_responses_total{{{API},status="200"}}': "0+96x20",
            f'tympan_http_responses_total{{{OTHER},status="503"}}': "0+4x20",
        },
        before="3m",
    ),
    "TympanDatabaseDown": _one(
        f'tympan_component_state{{{API},component="database"}}', "1 0 0 0 0", "1 0 1 1 1", at="4m"
    ),
    "TympanDiskFull": _one(f'tympan_component_state{{{API},component="storage"}}', "1 0 0 0 0", "1 1 1 1 1", at="4m"),
    "TympanNobodyTidiesUp": Case(
        "10m", {f"up{{{API}}}": "1x20"}, {f"tympan_job_backlog_seconds{{{API}}}": "0x20"}, before="4m"
    ),
    "TympanPartNotWell": Case(
        "10m",
        {f'tympan_component_state{{{API},component="broker"}}': "0.5x20"},
        {
            f'tympan_component_state{{{API},component="broker"}}': "1x20",
            f'tympan_component_state{{{API},component="requests"}}': "0.5x20",
        },
        before="4m",
    ),
    "TympanModelFailed": _one(f'tympan_component_state{{{API},component="models"}}', "0.5x20", "1x20", at="15m"),
    "TympanRefusals": Case(
        "20m",
        {f"tympan_refusals_total{{{API}}}": "0+6x30", f"tympan_requests_total{{{OTHER}}}": "0+60x30"},
        {f"tympan_refusals_total{{{API}}}": "0+1x30", f"tympan_requests_total{{{OTHER}}}": "0+60x30"},
        before="8m",
    ),
    "TympanEnginesBusy": Case(
        "45m",
        {f"tympan_batch_seconds_sum{{{WORKER}}}": "0+119x60", f"tympan_engines{{{WORKER}}}": "2x60"},
        {f"tympan_batch_seconds_sum{{{WORKER}}}": "0+119x60", f"tympan_engines{{{WORKER}}}": "3x60"},
        before="20m",
    ),
    "TympanBacklog": _one(f"tympan_job_backlog_seconds{{{API}}}", "40000+10x80", "80000-10x80", at="70m"),
    "TympanFirstTextLate": Case(
        "25m",
        {
            f'tympan_first_text_seconds_bucket{{{API},way="live",le="3"}}': "0+9x30",
            f'tympan_first_text_seconds_bucket{{{API},way="live",le="+Inf"}}': "0+10x30",
            f'tympan_first_text_seconds_bucket{{{API},way="live",le="5"}}': "0+10x30",
        },
        {
            f'tympan_first_text_seconds_bucket{{{API},way="live",le="3"}}': "0+10x30",
            f'tympan_first_text_seconds_bucket{{{API},way="live",le="+Inf"}}': "0+10x30",
            f'tympan_first_text_seconds_bucket{{{API},way="stream",le="5"}}': "0+10x30",
        },
    ),
    "TympanLoopLate": Case(
        "15m",
        {
            f'tympan_loop_lag_seconds_bucket{{{API},le="0.5"}}': "0+95x30",
            f'tympan_loop_lag_seconds_bucket{{{API},le="1"}}': "0+100x30",
            f'tympan_loop_lag_seconds_bucket{{{API},le="+Inf"}}': "0+100x30",
        },
        {
            f'tympan_loop_lag_seconds_bucket{{{API},le="0.5"}}': "0+100x30",
            f'tympan_loop_lag_seconds_bucket{{{API},le="1"}}': "0+100x30",
            f'tympan_loop_lag_seconds_bucket{{{API},le="+Inf"}}': "0+100x30",
        },
    ),
    "TympanEngineRestarts": _one(f'tympan_engine_restarts_total{{{WORKER},reason="engine_hang"}}', "0+1x60", "0x60 3"),
    "TympanEngineErrors": Case(
        "20m",
        {f"tympan_batch_errors_total{{{WORKER}}}": "0+6x30", f"tympan_batch_seconds_count{{{WORKER}}}": "0+100x30"},
        {f"tympan_batch_errors_total{{{WORKER}}}": "0+4x30", f"tympan_batch_seconds_count{{{WORKER}}}": "0+100x30"},
    ),
    "TympanManyFallbacks": Case(
        "3h",
        {f"tympan_fallbacks_total{{{API}}}": "0+4x200", f"tympan_windows_total{{{API}}}": "0+10x200"},
        {f"tympan_fallbacks_total{{{API}}}": "0+2x200", f"tympan_windows_total{{{API}}}": "0+10x200"},
    ),
    "TympanWorkersFallSilent": _one(f"tympan_leases_expired_total{{{API}}}", "0+1x60", "0x60"),
    "TympanJobsFail": Case(
        "40m",
        {
            f'tympan_jobs_ended_total{{{WORKER},state="succeeded"}}': "0+1x60",
            f'tympan_jobs_ended_total{{{WORKER},state="failed"}}': "0+1x60",
        },
        {
            f'tympan_jobs_ended_total{{{WORKER},state="succeeded"}}': "0+10x60",
            f'tympan_jobs_ended_total{{{WORKER},state="failed"}}': "0+1x60",
        },
    ),
    "TympanBrokerBlocked": _one(f"tympan_broker_blocked{{{API}}}", "1x20", "1x3 0x20", at="10m"),
    "TympanOutboxLate": _one(f"tympan_outbox_lag_seconds{{{API}}}", "0+60x20", "100x20", at="15m"),
    "TympanWebhooksLate": _one(f"tympan_webhook_lag_seconds{{{API}}}", "0+60x20", "100x20", at="15m"),
    "TympanWebhooksFail": Case(
        "1h",
        {f'tympan_webhook_deliveries_total{{{API},outcome="pending"}}': "0+3x90"},
        {
            f'tympan_webhook_deliveries_total{{{API},outcome="pending"}}': "0+3x90",
            f'tympan_webhook_deliveries_total{{{API},outcome="delivered"}}': "0+4x90",
        },
    ),
    "TympanUsageNotSaved": _one(f"tympan_usage_unsaved{{{API}}}", "3x30", "3x3 0x30", at="20m"),
    "TympanTranscriptsWorse": Case(
        "10m",
        {f'tympan_quality_alarms{{{API},kind="wer_regression"}}': "1x20"},
        {
            f'tympan_quality_alarms{{{API},kind="wer_regression"}}': "1x3 0x20",
            f'tympan_quality_alarms{{{API},kind="run_failed"}}': "1x20",
        },
    ),
    "TympanQualityUnknown": Case(
        "10m",
        {f'tympan_quality_alarms{{{API},kind="run_overdue"}}': "1x20"},
        {
            f'tympan_quality_alarms{{{API},kind="run_overdue"}}': "0x20",
            f'tympan_quality_alarms{{{API},kind="wer_regression"}}': "1x20",
        },
    ),
    "TympanShadowFails": Case(
        "2h",
        {
            f'tympan_shadow_windows_total{{{API},outcome="unsupported"}}': "0+1x150",
            f'tympan_shadow_windows_total{{{WORKER},outcome="failed"}}': "0+1x150",
            f'tympan_shadow_windows_total{{{API},outcome="compared"}}': "0+0x150",
        },
        {
            f'tympan_shadow_windows_total{{{API},outcome="unsupported"}}': "0+4x150",
            f'tympan_shadow_windows_total{{{API},outcome="compared"}}': "0+1x150",
        },
        before="10m",
    ),
}
"""For every alert: figures on which it fires, and figures near them on which it does not."""


def _promtool_test(series: Mapping[str, str], alert: str, at: str, *, fires: bool) -> dict[str, Any]:
    given = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": given, "promql_expr_test": [
        {
            "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > 0 or vector(0) > 1',
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
        }
    ]}  # fmt: skip


def test_every_alert_has_figures_on_which_it_fires_and_on_which_it_does_not() -> None:
    """None is left out."""
    assert set(CASES) == set(rules())


def test_every_alert_fires_on_its_figures_and_on_no_others(promtool: Callable[..., str], tmp_path: Path) -> None:
    """By Prometheus' own reckoning, with the times of the rules: too early it does not fire either."""
    tests = []
    for alert, case in CASES.items():
        tests += [
            _promtool_test(case.bad, alert, case.at, fires=True),
            _promtool_test(case.good, alert, case.at, fires=False),
        ]
        if case.before is not None:
            tests.append(_promtool_test(case.bad, alert, case.before, fires=False))
    file = tmp_path / "alerts_test.yml"
    file.write_text(json.dumps({"rule_files": [str(PATH)], "evaluation_interval": "1m", "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))


def test_the_files_for_prometheus_are_right(promtool: Callable[..., str]) -> None:
    """As it checks them itself."""
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(PATH))
    promtool("check", "config", str(PATH.with_name("prometheus.yml")))


def test_every_alert_says_what_to_do() -> None:
    """It leads to its own section of the page, which has no section for one that is gone."""
    headings = re.findall(r"^### (Tympan\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert headings == list(rules())
    for name, rule in rules().items():
        assert rule["annotations"]["runbook_url"] == f"docs/howto/respond-to-alerts.md#{name.lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"].endswith(".")


def _expressions() -> Sequence[tuple[str, str]]:
    found = [(name, rule["expr"]) for name, rule in rules().items()]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            found += [(panel["title"], target["expr"]) for target in panel.get("targets", ())]
    return found


@pytest.mark.parametrize(("where", "expression"), _expressions())
def test_processes_are_joined_as_their_metrics_ask_for(where: str, expression: str) -> None:
    """What all processes share is not added up, and what is each one's own is not dropped: alerts and dashboards."""
    for name, how in OF_GAUGES.items():
        for match in re.finditer(rf"(\w+)(?: by \([^)]*\))? ?\((?:deriv\()?{name}\b", expression):
            assert match[1] in (how.value, "absent") or (name, match[1]) == ("tympan_ready", "max"), (where, name)
    for name in re.findall(r"tympan_\w+_(?:total|bucket|sum|count)\b", expression):
        assert re.search(rf"(?:rate|increase)\({name}\b", expression), (where, name)


@pytest.mark.parametrize(("where", "expression"), _expressions())
def test_every_expression_asks_for_labels_that_its_metrics_have(where: str, expression: str) -> None:
    """Of the very metric, not of any: what it chooses by and what it groups by."""
    labels = {row.name: {*row.labels, "instance", "job", "le"} for row in telemetry.metric_rows()}
    for name, chosen in re.findall(r"(tympan_\w+)\{([^}]*)\}", expression):
        base = next(known for known in labels if re.fullmatch(rf"{known}(?:_bucket|_sum|_count)?", name))
        assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", chosen)) <= labels[base], (where, name)
    for grouped, name in re.findall(r"by \(([^)]*)\) \((?:\w+\()*(tympan_\w+)", expression):
        base = next(known for known in labels if re.fullmatch(rf"{known}(?:_bucket|_sum|_count)?", name))
        assert {each.strip() for each in grouped.split(",")} <= labels[base], (where, name)
