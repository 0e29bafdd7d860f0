"""The figures of overload: what is a goal, and what is counted."""

import os
import subprocess
import sys

import pytest

from benchmarks.overload import body, checks, cpu_s

RESULT = {
    "health": {
        "waiting": 100,
        "median_waiting": 90.0,
        "routes": {"/livez": {"probes": 10, "p50_ms": 1.0, "p99_ms": 49.0, "max_ms": 60.0}},
    },
    "beside": {
        "long_h": 3.0,
        "clips": 40,
        "still_running": True,
        "batch_s": 2.0,
        "alone": {"p50_s": 0.3, "p95_s": 0.4},
        "beside": {"p50_s": 1.0, "p95_s": 2.3},
    },
    "vanish": {
        "callers": 32,
        "unanswered": 32,
        "batch_s": 1.5,
        "batch_cpu_s": 2.8,
        "burnt_cpu_s": 3.1,
        "idle_cpu_per_s": 0.01,
    },
    "flood": {
        "peak_per_s": 10.0,
        "offered_per_s": 50.0,
        "goodput_per_s": 9.5,
        "refused": 2400,
        "other_errors": 0,
        "with_retry_after": 1.0,
        "refused_p50_ms": 3.0,
        "refused_p99_ms": 20.0,
        "ok_p95_s": {"before": 0.2, "flood": 3.1, "after": 0.2},
        "recovered_s": 0.2,
    },
}


def test_goals_are_met_or_missed_by_what_was_measured() -> None:
    """Beside a long file either bound will do; time burnt for nobody beyond one batch is a miss."""
    found = {check.figure: check.met for check in checks(RESULT)}
    assert found["p99 of /livez, 100 sent at once"]
    assert found["p95 of short clips beside a 3-hour file"]
    assert not found["CPU after 32 callers vanish"]
    assert found["goodput at five times the capacity"]
    assert len(found) == 7


def test_every_part_has_a_table() -> None:
    """As many cells in a row as the head has."""
    tables = list(body(RESULT))
    assert len(tables) == 5
    assert all(len(row) == len(head) for _, head, rows in tables for row in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_time_of_children_that_have_ended_counts() -> None:
    """A process that has ended left its time with its parent."""
    before = cpu_s(os.getpid())
    busy = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", busy], check=True, timeout=60)
    assert cpu_s(os.getpid()) - before >= 0.25
