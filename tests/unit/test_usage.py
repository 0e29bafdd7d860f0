"""What tenants have used: counted in memory and where jobs end, added up on the books, told in three ways."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import reduce
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, update
from typer.testing import CliRunner, Result

from tests.jobs_support import Shop, open_shop
from tests.pipeline_support import answer
from tympan import telemetry
from tympan.access import usage as usage_module
from tympan.access.limits import LimitBook, LimitDesk, Possessions
from tympan.access.tenant_limits import TenantLimits, Work
from tympan.access.usage import Period, UsageMeter, UsageRow, Used, csv_of
from tympan.bootstrap.limits import apply_limits
from tympan.cli import app
from tympan.cli.console import stderr, stdout
from tympan.domain import JobState, Lane
from tympan.errors import (
    CorruptMedia,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    RateLimited,
    StorageUnavailable,
)
from tympan.storage.database import sqlite_url
from tympan.storage.tables import jobs
from tympan.storage.uploads import Append, NewUpload, Part, UploadStore
from tympan.storage.usage import UsageStore

ALWAYS = Period(date(2000, 1, 1), date(2100, 1, 1))
ONE = Used(1, 0, 2.0, 0.5)


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on each database."""
    url = request.getfixturevalue("postgres").url if request.param == "postgres" else None
    with open_shop(tmp_path / "shop", url) as opened:
        opened.desk.reply = answer
        yield opened


class Books:
    """Books in memory that can be out of reach."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.rows: list[UsageRow] = []
        self.error: Exception | None = None

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Keep rows, or fail."""
        if self.error is not None:
            raise self.error
        self.rows += rows

    def between(self, period: Period, tenant: str | None = None) -> list[UsageRow]:
        """Return everything."""
        return self.rows


def _sum(rows: Sequence[UsageRow]) -> Used:
    return reduce(Used.plus, (row.used for row in rows), Used())


def test_counts_are_added_up_by_tenant_day_kind_and_model() -> None:
    """One row each, however many requests; midnight in UTC begins a new one."""
    now = [datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()]
    meter = UsageMeter(books := Books(), clock=lambda: now[0])
    for tenant, kind, model in (("a", Work.SYNC, "base"), ("a", Work.LIVE, "base"), ("b", Work.SYNC, "tiny")):
        for _ in range(3):
            meter.add(tenant, kind, model, ONE)
    now[0] += 1
    meter.add("a", Work.SYNC, "base", ONE)
    meter.flush()
    found = {(row.tenant, row.day, row.kind, row.model): row.used for row in books.rows}
    three = Used(3, 0, 6.0, 1.5)
    assert found == {
        ("a", "2026-01-31", "sync", "base"): three,
        ("a", "2026-01-31", "live", "base"): three,
        ("b", "2026-01-31", "sync", "tiny"): three,
        ("a", "2026-02-01", "sync", "base"): ONE,
    }


@pytest.mark.parametrize("error", [StorageUnavailable(), ValueError("a bug")])
def test_what_cannot_be_saved_is_kept_for_the_next_time(error: Exception) -> None:
    """Nothing is lost and nothing counted twice."""
    meter = UsageMeter(books := Books())
    meter.add("a", Work.SYNC, "base", ONE)
    books.error = error
    meter.flush()
    meter.add("a", Work.SYNC, "base", ONE)
    assert telemetry.REGISTRY.get_sample_value("tympan_usage_unsaved") == 1
    books.error = None
    meter.flush()
    meter.flush()
    assert _sum(books.rows) == Used(2, 0, 4.0, 1.0)
    assert telemetry.REGISTRY.get_sample_value("tympan_usage_unsaved") == 0


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing new is counted, which is told; what is counted already goes on."""
    monkeypatch.setattr(usage_module, "MAX_KEYS", 3)
    before = telemetry.REGISTRY.get_sample_value("tympan_usage_lost_total") or 0.0
    meter = UsageMeter(books := Books())
    for number in range(5):
        meter.add(f"tenant-{number}", Work.SYNC, "base", ONE)
    meter.add("tenant-0", Work.SYNC, "base", ONE)
    meter.flush()
    assert _sum(books.rows).requests == 4
    assert telemetry.REGISTRY.get_sample_value("tympan_usage_lost_total") == before + 2


def test_counts_are_flushed_by_themselves_and_at_the_end() -> None:
    """Every few seconds, and once more when the server stops."""
    meter = UsageMeter(books := Books(), flush_s=0.02)
    flushed = threading.Event()
    books_add = books.add

    def add(rows: Sequence[UsageRow]) -> None:
        books_add(rows)
        flushed.set()

    books.add = add  # type: ignore[method-assign]
    meter.start()
    meter.add("a", Work.SYNC, "base", ONE)
    assert flushed.wait(5)
    meter.stop()
    meter.add("a", Work.SYNC, "base", ONE)
    meter.stop()
    assert _sum(books.rows).requests == 2


def test_the_books_add_up_whoever_writes(shop: Shop) -> None:
    """Four writers at once, to the same rows in different orders: every count arrives."""
    store = UsageStore(shop.database)
    rows = [UsageRow(tenant, "2026-01-31", "sync", model, ONE) for tenant in "abc" for model in ("x", "y")]

    def write(order: Sequence[UsageRow]) -> None:
        for _ in range(5):
            store.add(order)

    writers = [threading.Thread(target=write, args=(rows[:: (1, -1)[number % 2]],)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = store.between(ALWAYS)
    assert len(found) == 6
    assert {row.used for row in found} == {Used(20, 0, 40.0, 10.0)}
    assert {row.tenant for row in store.between(ALWAYS, "b")} == {"b"}
    assert store.between(Period(date(2026, 2, 1), date(2026, 2, 2))) == []


def test_each_job_counts_once_where_it_ends(shop: Shop) -> None:
    """Done, failed and cancelled, however often they are ended; a synchronous call's job is counted elsewhere."""
    done = [shop.submit(10.0, seed) for seed in range(3)]
    shop.submit(10.0, 7, lane=Lane.INTERACTIVE)
    shop.work_off()
    cancelled = shop.submit(10.0, 8)
    for _ in range(3):
        shop.service.cancel("default", cancelled.id)
    shop.service.cancel("default", done[0].id)
    found = UsageStore(shop.database).between(ALWAYS)
    assert {row.kind for row in found} == {"job"}
    used = _sum(found)
    assert (used.requests, used.failures) == (4, 0)
    assert used.audio_s == pytest.approx(30.0)
    assert used.processing_s > 0
    today = datetime.now(UTC).date().isoformat()
    assert {row.day for row in found} <= {today, found[0].day}


def test_a_failed_job_is_a_failure_and_erasing_the_tenant_erases_what_it_used(shop: Shop) -> None:
    """A job that fails counts as one, and nothing is left of a tenant that is forgotten."""
    shop.submit(10.0)
    claim = shop.work.claim("w", tuple(Lane))
    assert claim is not None
    shop.work.fail(claim, CorruptMedia())
    store = UsageStore(shop.database)
    used = _sum(store.between(ALWAYS))
    assert (used.requests, used.failures) == (1, 1)
    shop.service.erase_tenant("default")
    assert store.between(ALWAYS) == []


def test_the_sum_of_a_days_work_is_the_work(shop: Shop) -> None:
    """Seconds of audio on the books are those of the audio that was handed in."""
    lengths = [3.0, 7.5, 12.25, 31.0]
    for seed, length_s in enumerate(lengths):
        shop.submit(length_s, seed)
    shop.work_off()
    used = _sum(UsageStore(shop.database).between(ALWAYS))
    assert used.audio_s == pytest.approx(sum(lengths))
    assert used.requests == len(lengths)


def test_a_job_that_ends_settles_its_tenants_limits(shop: Shop) -> None:
    """What was held back for its file is given back, what it was is charged."""
    desk = _settled_by(shop)
    held = desk.admit("default", 20.0)
    held.settle(20.0)
    shop.submit(20.0)
    shop.work_off()
    assert desk.standing("default")[0].remaining in (579, 580)


def _settled_by(shop: Shop) -> LimitDesk:
    desk = LimitDesk(LimitBook(TenantLimits(audio_minutes_per_day=10)))
    apply_limits(desk, shop.store)
    return desk


@pytest.mark.parametrize("ending", ["cancel", "erase", "expire", "quarantine"])
def test_a_job_that_ends_before_it_is_done_costs_what_was_transcribed(shop: Shop, ending: str) -> None:
    """However it ends: who cancels behind the last section but one has read all but the last."""
    desk = _settled_by(shop)
    desk.admit("default", 50.0).settle(50.0)
    job = shop.submit(50.0)
    set_done = update(jobs).where(jobs.c.id == job.id).values(audio_s_done=40.0, source_bytes=32_000 * 50)
    shop.database.write(lambda tx: tx.execute(set_done))
    endings, database = shop.store.endings, shop.database
    for _ in range(2):  # The second finds that it has ended.
        match ending:
            case "cancel":
                shop.store.cancel("default", job.id)
            case "erase":
                with suppress(NotFound):
                    shop.store.erase("default", job.id)
            case "expire":
                database.write(lambda tx: endings.expire(tx, job.id))
            case _:
                database.write(lambda tx: endings.quarantine(tx, job.id, 3))
    left = 600 if ending == "quarantine" else 560  # What our processes died of costs nothing.
    assert desk.standing("default")[0].remaining in (left - 1, left)


def test_what_is_not_committed_is_not_settled(shop: Shop) -> None:
    """A transaction that fails behind the ending has ended nothing, nor does the next one settle it."""
    desk = _settled_by(shop)
    desk.admit("default", 50.0).settle(50.0)
    job = shop.submit(50.0)

    def fail(tx: Connection) -> None:
        shop.store.endings.end(tx, job.id, JobState.CANCELLED)
        raise NotFound

    with pytest.raises(NotFound):
        shop.database.write(fail)
    shop.database.write(lambda tx: tx.execute(select(jobs.c.id)).all())
    assert desk.standing("default")[0].remaining in (549, 550)


def test_uploads_at_the_same_time_take_no_more_room_than_there_is(shop: Shop) -> None:
    """Announced, told later, or never told: what is on the books is counted in the transaction that adds to it."""
    desk = LimitDesk(LimitBook(TenantLimits(storage_mb=1)))
    apply_limits(desk, shop.store)
    store = UploadStore(shop.database, ttl_s=600.0)
    store.check_possessions = shop.store.check_possessions
    store.create("default", NewUpload(600_000, {}))
    with pytest.raises(QuotaExceeded):  # Whoever asked about the room beforehand was told that there is some.
        store.create("default", NewUpload(600_000, {}))
    store.create("another", NewUpload(600_000, {}))
    later = store.create("default", NewUpload(None, {}))
    with pytest.raises(QuotaExceeded):
        store.lock("default", later.id, "token", Append(0, 600_000))
    store.lock("default", later.id, "token", Append(0))
    with pytest.raises(QuotaExceeded):
        store.add_part(later.id, "token", Part(0, 600_000, "key"), last=True)
    store.add_part(later.id, "token", Part(0, 300_000, "key"), last=True)
    assert store.get("default", later.id).offset_bytes == 300_000


def test_two_who_want_the_last_place_do_not_both_get_it(shop: Shop) -> None:
    """The tenant's row is locked while its jobs are counted, whatever the process."""
    desk = LimitDesk(LimitBook(TenantLimits(jobs_at_once=3)))
    shop.store.check_possessions = lambda tenant, count, added: desk.check_stored(
        tenant, lambda: Possessions(*count()), added=added
    )
    outcomes: list[bool] = []

    def want(seed: int) -> None:
        try:
            shop.submit(1.0, seed)
        except RateLimited:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=want, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcomes) == 3
    assert len(list(shop.blobs.list("jobs/"))) == 3


_COUNTER = """
import sys, time
from tympan.access.tenant_limits import Work
from tympan.access.usage import UsageMeter, Used
from tympan.storage.database import Database
from tympan.storage.usage import UsageStore
meter = UsageMeter(UsageStore(Database(sys.argv[1])), flush_s=0.1)
meter.start()
for number in range(1, 1_000_000):
    meter.add("a", Work.SYNC, "base", Used(1, 0, 1.0, 0.0))
    print(number, flush=True)
    time.sleep(0.002)
"""


def test_a_killed_process_loses_no_more_than_its_last_moments(tmp_path: Path) -> None:
    """What was counted before the last flush is on the books, and nothing that was not."""
    with open_shop(tmp_path) as opened:
        url = sqlite_url(tmp_path / "t.db")
        counter = subprocess.Popen([sys.executable, "-c", _COUNTER, url], stdout=subprocess.PIPE, text=True)
        assert counter.stdout is not None
        store = UsageStore(opened.database)
        counted = 0
        while counted < 200:
            counted = int(counter.stdout.readline())
        saved = _sum(store.between(ALWAYS)).requests
        counter.send_signal(signal.SIGKILL)
        counted = max([counted, *(int(line) for line in counter.stdout.read().split())])
        counter.wait()
        counter.stdout.close()
        kept = _sum(store.between(ALWAYS)).requests
    assert 0 < saved <= kept <= counted + 1


def test_csv_has_no_formulas() -> None:
    """A name that a spreadsheet would calculate is text."""
    text = csv_of([UsageRow("=cmd|'/c calc'!A0", "2026-01-31", "job", "@SUM(1)", ONE)])
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["tenant"] == "'=cmd|'/c calc'!A0"
    assert row["model"] == "'@SUM(1)"
    assert (row["requests"], row["audio_s"]) == ("1", "2.0")


@pytest.fixture
def books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[UsageStore]:
    """Return the books that the command line finds, with three rows."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    stdout.cache_clear()
    stderr.cache_clear()
    with open_shop(tmp_path, sqlite_url(tmp_path / "tympan.db")) as opened:
        store = UsageStore(opened.database)
        days = ("2026-01-30", "2026-01-31", "2026-02-01")
        store.add([UsageRow(tenant, day, "sync", "base", ONE) for tenant, day in zip("aba", days, strict=True)])
        yield store


def _usage(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["usage", *arguments], env={"COLUMNS": "120"})


def test_the_command_tells_usage_in_three_ways(books: UsageStore) -> None:
    """JSON and CSV for programs, minutes for people; days and tenant narrow it."""
    rows = json.loads(_usage("--from", "2026-01-30", "--to", "2026-01-31", "--json").stdout)
    assert [(row["tenant"], row["day"]) for row in rows] == [("a", "2026-01-30"), ("b", "2026-01-31")]
    shown = _usage("--from", "2026-01-01", "--to", "2026-03-01", "--tenant", "a", "--csv").stdout
    assert [row["day"] for row in csv.DictReader(io.StringIO(shown))] == ["2026-01-30", "2026-02-01"]
    table = _usage("--from", "2026-01-31", "--to", "2026-01-31").stdout.splitlines()
    assert table[1].split() == ["2026-01-31", "b", "sync", "base", "1", "0", "0.0", "0.0"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--from", "yesterday"),
        ("--to", "2026-02-30"),
        ("--from", "2026-02-02", "--to", "2026-02-01"),
        ("--csv", "--json"),
    ],
)
def test_the_command_refuses_what_makes_no_sense(books: UsageStore, arguments: tuple[str, ...]) -> None:
    """By the option's name."""
    assert isinstance(_usage(*arguments).exception, InvalidRequest)
