"""Faults of a cluster fire the alerts for them: a real Prometheus looks at an api, a worker and a scheduler."""

from collections.abc import Callable, Mapping

import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.deploy.alert_rules import hurried
from tests.servers.process import wait_until
from tests.servers.prometheus import PrometheusServer

pytestmark = [pytest.mark.long, pytest.mark.alone]

_FIRES_S = 90.0
_LATE_S = 240.0
"""What is two minutes late is an alert."""


@pytest.fixture
def alerts(site: Site, prometheus: Callable[[Mapping[str, int], str], PrometheusServer]) -> PrometheusServer:
    """Return a Prometheus that has seen every process of the cluster."""
    nodes = {"tympan-api": site.api, "tympan-worker": site.worker, "tympan-scheduler": site.scheduler}
    started = prometheus({job: node.port for job, node in nodes.items()}, hurried(60))
    wait_until(lambda: len(started.ask("up == 1 and tympan_ready == 1")) >= 2, 60, started.log_tail)
    return started


def test_S6_a_broker_that_is_gone_fires_its_alerts(site: Site, load: Load, alerts: PrometheusServer) -> None:
    """That it does not answer, and that it takes nothing; both end when it is back, and no job is lost."""
    ours = {"TympanPartNotWell", "TympanBrokerBlocked"}
    wait_until(lambda: not ours & alerts.firing(), 60, lambda: str(alerts.firing()))
    site.rabbitmq.server.kill()
    load.submit("while it is gone", clip())
    wait_until(lambda: ours <= alerts.firing(), _FIRES_S, lambda: f"{alerts.firing()}\n{site.cluster.logs()}")
    (part,) = alerts.ask('ALERTS{alertname="TympanPartNotWell"}')
    assert part["metric"]["component"] == "broker"
    assert load.ask("GET", "/health").json()["components"]["broker"]["status"] == "degraded"  # type: ignore[union-attr]
    site.rabbitmq.server.start()
    wait_until(lambda: not ours & alerts.firing(), _FIRES_S, lambda: f"{alerts.firing()}\n{site.cluster.logs()}")
    load.prove()


@pytest.mark.timeout(600)
def test_S6_messages_that_wait_for_a_broker_fire_their_alert(site: Site, load: Load, alerts: PrometheusServer) -> None:
    """Jobs are taken while it is gone; that workers are not told of them shows after two minutes, until it is back."""
    assert "TympanOutboxLate" not in alerts.firing()
    site.rabbitmq.server.kill()
    load.submit("while it is gone", clip())
    wait_until(
        lambda: "TympanOutboxLate" in alerts.firing(), _LATE_S, lambda: f"{alerts.firing()}\n{site.cluster.logs()}"
    )
    site.rabbitmq.server.start()
    wait_until(lambda: "TympanOutboxLate" not in alerts.firing(), _FIRES_S, lambda: str(alerts.firing()))
    load.prove()


def test_S6_workers_that_fall_silent_fire_their_alert(site: Site, load: Load, alerts: PrometheusServer) -> None:
    """A worker that is frozen again and again while it works has its work taken from it."""
    wait_until(lambda: "TympanWorkersFallSilent" not in alerts.firing(), 60)
    audio = clip(60.0)

    def freeze() -> bool:
        load.submit(f"job {len(load.history.promises)}", audio)
        wait_until(lambda: "running" in load.states().values(), 30, site.cluster.logs)
        before = _taken(alerts)
        site.worker.freeze()
        try:
            wait_until(lambda: _taken(alerts) > before or "running" not in load.states().values(), 30, alerts.log_tail)
        finally:
            site.worker.go_on()
        return "TympanWorkersFallSilent" in alerts.firing()

    wait_until(freeze, _FIRES_S, lambda: f"{alerts.firing()}\n{site.cluster.logs()}")
    load.prove()


def _taken(alerts: PrometheusServer) -> float:
    found = alerts.ask("sum(tympan_leases_expired_total)")
    return float(found[0]["value"][1]) if found else 0.0


def test_S6_processes_agree_about_what_they_share_and_add_what_is_their_own(
    site: Site, load: Load, alerts: PrometheusServer
) -> None:
    """Jobs in the database are told once, by who tidies up; calls add up over the processes that answered them."""
    for number in range(3):
        load.submit(f"job {number}", clip())
    load.settle()
    wait_until(lambda: _value(alerts, 'max(tympan_jobs{state="succeeded"})') >= 3, 60, alerts.log_tail)
    found = alerts.ask('tympan_jobs{state="succeeded"}')
    assert {each["metric"]["job"] for each in found} == {"tympan-scheduler"}
    assert {each["metric"]["job"] for each in alerts.ask("tympan_job_backlog_seconds")} == {"tympan-scheduler"}
    ended = 'sum(tympan_jobs_ended_total{state="succeeded"})'
    wait_until(lambda: _value(alerts, ended) >= 3, 60, alerts.log_tail)
    assert _value(alerts, "sum(tympan_job_audio_seconds_total)") >= 6.0


def _value(alerts: PrometheusServer, expression: str) -> float:
    found = alerts.ask(expression)
    return float(found[0]["value"][1]) if found else -1.0
