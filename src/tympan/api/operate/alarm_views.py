"""What an alarm looks like on the wire: what is wrong, how soon to look at it, and where it says what to do."""

from types import MappingProxyType
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from tympan.api.jobs.views import rfc3339
from tympan.api.watches import PartReport, PartState
from tympan.quality.board import MEANINGS, UNKNOWN, Alarm

Severity = Literal["page", "ticket"]

RUNBOOK: Final = "docs/howto/respond-to-alerts.md"
_RULES: Final = MappingProxyType(
    {
        "engine": "TympanNotReady",
        "database": "TympanDatabaseDown",
        "storage": "TympanDiskFull",
        "models": "TympanModelFailed",
        "requests": "TympanRefusals",
        "webhooks": "TympanWebhooksLate",
        "outbox": "TympanOutboxLate",
    }
)
"""The rule in ``deploy/prometheus/alerts.yml`` that is about a part; all others have one together."""

_OTHER_PARTS = "TympanPartNotWell"
_WORSE, _NOT_KNOWN = "TympanTranscriptsWorse", "TympanQualityUnknown"
_PAGES: Final = frozenset({"TympanNotReady", "TympanDatabaseDown", "TympanDiskFull"})


class AlarmView(BaseModel):
    """Something that is wrong now. Times are RFC 3339 in UTC."""

    object: Literal["alarm"] = "alarm"
    name: str = Field(description="The kind of alarm about quality, or the part of /health that is not well.")
    source: Literal["quality", "component"]
    subject: str = Field(description="What it is about: a golden set, a way of asking, a model, a part.")
    severity: Severity = Field(description="`page` is for now, `ticket` for today.")
    since: str | None = Field(description="For a part: since when this process has seen it so.")
    summary: str
    remedy: str | None
    detail: dict[str, Any] = Field(description="Figures; which ones depends on the name.")
    runbook: str = Field(description="Where it says what to do, in the documentation.")


def quality_alarm(alarm: Alarm) -> AlarmView:
    """Return an alarm about quality as it is shown."""
    rule = _NOT_KNOWN if alarm.kind in UNKNOWN else _WORSE
    return AlarmView(
        name=alarm.kind,
        source="quality",
        subject=alarm.subject,
        severity=_severity(rule),
        since=rfc3339(alarm.since),
        summary=MEANINGS.get(alarm.kind, "Something about quality is not as it was."),
        remedy=None,
        detail=dict(alarm.detail),
        runbook=_runbook(rule),
    )


def part_alarm(name: str, report: PartReport, since_s: float | None) -> AlarmView:
    """Return a part that is not well as it is shown; ``since_s`` in Unix seconds."""
    rule = _RULES.get(name, _OTHER_PARTS)
    return AlarmView(
        name=name,
        source="component",
        subject=name,
        severity=_severity(rule),
        since=rfc3339(since_s),
        summary=report.reason or f"{name} is {report.state.value}.",
        remedy=report.remedy,
        detail={"status": report.state.value, **report.facts},
        runbook=_runbook(rule),
    )


def is_wrong(report: PartReport) -> bool:
    """Return whether a part is not well."""
    return report.state is not PartState.OK


def _severity(rule: str) -> Severity:
    return "page" if rule in _PAGES else "ticket"


def _runbook(rule: str) -> str:
    return f"{RUNBOOK}#{rule.lower()}"
