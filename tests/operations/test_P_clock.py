"""The clock is set ahead or back while jobs run: nothing is done twice, nothing waits for the time that was."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import standardwebhooks
from sqlalchemy import ColumnElement, Float, literal_column

from tests.jobs_support import LANES, Shop, open_shop
from tests.operations.shims import SetClock
from tests.operations.support import Server, hand_in, looking_in, rows, sections_done, wait_for
from tests.servers.postgres import Database as PostgresDatabase
from tests.servers.process import wait_until
from tympan.domain import JobState
from tympan.jobs.webhooks import new_secret
from tympan.storage.clock import ClockWatch

_LEFT = "select kind, idx, state, fence, crashes, lease_until - extract(epoch from clock_timestamp()) from steps"
REPOSITORY = Path(__file__).parents[2]
HOUR_S = 3600


class ShopClock:
    """The clock of a shop's database, which a test can set."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the clock over."""
        self.ahead_s = 0.0
        true = shop.database.now

        def now() -> ColumnElement[float]:
            return literal_column(f"({true()} + ({self.ahead_s}))", Float(53))

        monkeypatch.setattr(shop.database, "now", now)


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on each database; leases last 30 s."""
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else None
    with open_shop(tmp_path / "shop", url, lease_s=30.0) as opened:
        yield opened


def test_P1_a_watch_tells_a_step_from_time_that_passed() -> None:
    """Only what the clock surely moved beyond the time that passed is a step, however late an answer came."""
    watch = ClockWatch()
    assert watch.step_s(1000.0, 5.0, 5.0) == 0.0
    assert watch.step_s(1010.0, 15.0, 15.0) == pytest.approx(0.0)
    assert watch.step_s(4610.0, 15.0, 15.0) == pytest.approx(3600.0)
    assert watch.step_s(1010.0, 15.0, 15.0) == pytest.approx(-3600.0)
    assert watch.step_s(1012.0, 16.0, 30.0) == 0.0
    assert watch.step_s(1026.0, 31.0, 31.0) == 0.0
    assert watch.step_s(4636.0, 31.0, 41.0) == pytest.approx(3600.0)
    assert watch.step_s(1046.0, 51.0, 61.0) == pytest.approx(-3600.0)


def test_P1_a_step_ahead_takes_nothing_from_a_worker_that_lives(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep that sees the step extends the lease; the step is handed in and nobody is charged."""
    clock, janitor = ShopClock(shop, monkeypatch), shop.janitor()
    shop.submit(10.0)
    shop.work_off(limit=1)
    janitor.sweep()
    claim = shop.work.claim("worker", LANES)
    assert claim is not None
    clock.ahead_s = HOUR_S
    janitor.sweep()
    assert rows(shop, "select state, crashes, lease_owner from steps where kind = 'section'") == [
        ("running", 0, "worker")
    ]
    shop.work.release(claim)
    shop.work_off()
    assert rows(shop, "select state from jobs") == [("succeeded",)]


def test_P1_a_worker_that_had_died_before_the_step_is_still_found_dead(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lease that was over before the clock was set ahead is over after it."""
    clock, janitor = ShopClock(shop, monkeypatch), shop.janitor()
    shop.submit(10.0)
    assert shop.work.claim("worker", LANES) is not None
    clock.ahead_s = 60.0
    shop.upkeep.mend_clock()
    clock.ahead_s = HOUR_S
    janitor.sweep()
    assert rows(shop, "select state, crashes from steps") == [("ready", 1)]


def test_P3_a_step_back_holds_nothing_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead worker's lease is over a lease later and not an hour; what is ready is taken at once."""
    clock, janitor = ShopClock(shop, monkeypatch), shop.janitor()
    shop.submit(10.0)
    waits = shop.submit(10.0, seed=2)
    janitor.sweep()
    assert shop.work.claim("dead", LANES) is not None
    clock.ahead_s = -HOUR_S
    assert shop.work.claim("worker", LANES) is None
    janitor.sweep()
    claim = shop.work.claim("worker", LANES)
    assert claim is not None
    assert claim.job.id == waits.id
    clock.ahead_s += 25.0
    assert shop.upkeep.release_expired() == 0
    clock.ahead_s += 10.0
    assert shop.upkeep.release_expired() == 2
    shop.work_off()
    assert rows(shop, "select state from jobs") == [("succeeded",)] * 2


def test_P3_a_step_back_that_nobody_saw_is_mended_too(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that starts after the step finds leases too long to be true."""
    clock = ShopClock(shop, monkeypatch)
    shop.submit(10.0)
    clock.ahead_s = HOUR_S
    assert shop.work.claim("dead", LANES) is not None
    clock.ahead_s = 0.0
    shop.janitor().sweep()
    clock.ahead_s = 35.0
    assert shop.upkeep.release_expired() == 1


@pytest.mark.parametrize("hours", [1, -1])
def test_P1_a_server_whose_clock_is_set_loses_and_repeats_nothing(
    hours: int, tmp_path: Path, set_clock: SetClock
) -> None:
    """In the middle of a job; with SQLite the server's clock is the database's. At most one section is done again."""
    folder = tmp_path / "data"
    folder.mkdir()
    settings = {"LEASE_S": "5", "HEARTBEAT_S": "1", "SWEEP_S": "0.5", "POLL_S": "0.2", "JOB_SLOTS": "2"}
    server = Server(folder, {**settings, "ENGINE_OPTIONS": '{"ms_per_window": "100"}'}, env=set_clock.env)
    try:
        server.start()
        with looking_in(folder) as shop:
            job = hand_in(shop, 600.0)
            wait_until(lambda: sections_done(shop, job) >= 1, 40, server.said)
            set_clock.shift(hours * HOUR_S)
            done = wait_for(shop, job, 40)
            assert done.attempts <= 2
            assert rows(shop, "select count(*) from results") == [(1,)]
            # What this process hands in, by the true clock, may be ready only in the other's future.
            assert server.child.poll() is None
            assert server.transcribe().status_code == 200
        # The job may be done before the next sweep.
        wait_until(lambda: "clock_was_set" in server.log.read_text(), 10, server.said)
    finally:
        server.kill()


def test_P2_hosts_five_minutes_apart_work_together(
    tmp_path: Path, postgres: PostgresDatabase, set_clock: SetClock
) -> None:
    """Two workers on one PostgreSQL, one five minutes ahead and then as much behind: nobody loses a lease."""
    folder = tmp_path / "shop"
    with open_shop(folder, postgres.url, lease_s=3.0) as shop:
        set_clock.shift(300)
        with _worker(postgres.url, folder, {}) as one, _worker(postgres.url, folder, set_clock.env) as other:
            times = [float(_line(child).split()[1]) for child in (one, other)]
            assert times[1] - times[0] == pytest.approx(300, abs=10)
            jobs = [shop.submit(60.0, seed=number) for number in range(8)]
            wait_until(lambda: bool(rows(shop, "select 1 from jobs where sections_done > 0")), 20)
            set_clock.shift(-300)
            _all_succeed(shop, len(jobs))
            owners = rows(shop, "select count(*) from workers where busy >= 0")
            assert owners == [(2,)]
            assert rows(shop, "select max(attempts) from jobs") == [(1,)]
            assert rows(shop, "select count(*) from results") == [(len(jobs),)]


@pytest.mark.parametrize("minutes", [10, -10])
def test_P3_the_clock_of_postgresql_is_set(
    minutes: int, tmp_path: Path, postgres: PostgresDatabase, set_clock: SetClock
) -> None:
    """In the middle of eight jobs: none is stuck, each has one result, and no step is done more than twice."""
    server = postgres.server
    before = dict(server.env)
    server.env = {**before, **set_clock.env}
    server.restart()
    try:
        folder = tmp_path / "shop"
        with open_shop(folder, postgres.url, lease_s=3.0) as shop, _worker(postgres.url, folder, {}) as worker:
            _line(worker)
            jobs = [shop.submit(60.0, seed=number) for number in range(8)]
            wait_until(lambda: bool(rows(shop, "select 1 from jobs where sections_done > 0")), 20)
            set_clock.shift(minutes * 60)
            late = shop.submit(10.0, seed=99)
            _all_succeed(shop, len(jobs) + 1)
            assert rows(shop, "select count(*) from results") == [(len(jobs) + 1,)]
            assert rows(shop, "select max(attempts) from jobs")[0][0] in (1, 2)
            assert shop.get(late).state is JobState.SUCCEEDED
    finally:
        server.env = before
        server.restart()


def _all_succeed(shop: Shop, count: int) -> None:
    done = "select count(*) from jobs where state = 'succeeded'"
    wait_until(lambda: rows(shop, done) == [(count,)], 30, lambda: str(rows(shop, _LEFT)))


def _line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line.startswith("ready"), line + child.stdout.read()
    return line


def test_P4_times_are_told_in_utc_wherever_the_server_is(tmp_path: Path, set_clock: SetClock) -> None:
    """Also across the hour that happens twice: all times end in Z or are Unix seconds, and none goes back."""
    folder = tmp_path / "data"
    folder.mkdir()
    now = time.time()
    twice = datetime(
        datetime.now(UTC).year + 1, 11, 7, 4, 29, 57, tzinfo=UTC
    )  # St John's sets its clocks back at 4:31.
    set_clock.shift(int(twice.timestamp() - now))
    server = Server(folder, {"LOG_LEVEL": "debug"}, env={**set_clock.env, "TZ": "America/St_Johns"})
    try:
        with looking_in(folder) as shop:
            # Before the server starts: to a sweep a year ahead, audio whose row is still being written is an orphan.
            job = hand_in(shop, 4.0)
            server.start()
            assert server.transcribe().status_code == 200
            stored = rows(shop, "select created_at from jobs")[0][0]
            assert abs(float(str(stored)) - now) < 60
            set_clock.shift(int(twice.timestamp() - now) + 120)
            wait_for(shop, job, 20)
    finally:
        server.kill()
    times = [json.loads(line)["timestamp"] for line in server.log.read_text().splitlines() if line.startswith("{")]
    assert len(times) >= 3
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", told) for told in times), times
    moments = [datetime.fromisoformat(told) for told in times]
    # Two threads may write their lines in the other order than they took the time; an hour it is not.
    assert all(after - before > timedelta(seconds=-1) for before, after in pairwise(moments))
    assert times[0].startswith(twice.strftime("%Y-%m-%dT04:"))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_P4_a_slice_of_the_suite_passes_in_a_zone_with_half_hours() -> None:
    """Nothing in the tests of jobs, webhooks and uploads depends on where they run."""
    slice_ = ["tests/unit/test_jobs_order.py", "tests/unit/test_jobs_parts.py", "tests/unit/test_jobs_steps.py",
              "tests/unit/test_W_webhooks.py", "tests/unit/test_resumable.py", "tests/unit/test_telemetry.py",
              "tests/api/test_jobs.py", "tests/api/test_webhook_routes.py"]  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider", *slice_]
    run = subprocess.run(
        command,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "TZ": "America/St_Johns"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.parametrize(("minutes", "fits"), [(-4, True), (0, True), (4, True), (-6, False), (6, False)])
def test_P5_a_receiver_whose_clock_is_off_takes_messages_within_five_minutes(
    minutes: int, *, fits: bool, set_clock: SetClock
) -> None:
    """Signed here by the true clock, verified in a process with another."""
    secret, body = new_secret(), b'{"type":"job.succeeded"}'
    sent = datetime.now(UTC)
    signature = standardwebhooks.Webhook(secret).sign("msg_1", sent, body.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(sent.timestamp())), "webhook-signature": signature}
    set_clock.shift(minutes * 60)
    program = (
        "import sys, json, standardwebhooks as s; s.Webhook(sys.argv[1]).verify(sys.argv[2], json.loads(sys.argv[3]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, secret, body.decode(), json.dumps(headers)],
        env={**os.environ, **set_clock.env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode == 0) is fits, run.stderr


@contextmanager
def _worker(url: str, folder: Path, env: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that works jobs off until its input ends, and tells how many steps it did and how many it lost."""
    child = subprocess.Popen(
        [sys.executable, "-c", _WORKER, url, str(folder)],
        env={**os.environ, **env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=REPOSITORY,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


_WORKER = """
import sys, time
from pathlib import Path
from tests.jobs_support import open_shop, LANES
from tests.pipeline_support import answer
from tympan.jobs.local_runner import LocalRunner
from tympan.jobs.janitor import Janitor, JanitorOptions
with open_shop(Path(sys.argv[2]), sys.argv[1], lease_s=3.0) as shop:
    def slowly(task):
        time.sleep(0.05)
        return answer(task)
    shop.desk.reply = slowly
    name = f"worker-{time.time():.0f}"
    runner = LocalRunner(shop.bench(name, heartbeat_s=0.5, watch_s=0.2), slots=2, poll_s=0.1)
    janitor = shop.janitor(sweep_s=0.3)
    janitor.start()
    runner.start()
    print("ready", time.time(), flush=True)
    sys.stdin.read()
    runner.stop(5.0)
    janitor.stop()
"""
