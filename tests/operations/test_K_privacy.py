"""What was erased is gone: rows, audio, and every byte of it in the database's own files; and nothing tells it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.jobs_support import TENANT, Shop, in_thread, open_shop
from tests.log_support import captured_log
from tests.operations.support import rows
from tests.pipeline_support import Reply, answer
from tests.servers.postgres import Database as PostgresDatabase
from tests.servers.process import wait_until
from tympan import telemetry
from tympan.domain import Job, JobState, NewJob, Options, Source, SourceKind, WindowResult, WindowTask, Word
from tympan.errors import EngineError, NotFound
from tympan.jobs.service import IdempotencyKey, JobFilter, new_id
from tympan.storage.batches import NewBatch
from tympan.storage.tables import tenants, webhook_endpoints

CANARY = "canarybird"


def _speaks(shop: Shop, number: int) -> None:
    """Let the engine say a word of this job's own, often enough that a text takes more than a page."""

    def reply(task: WindowTask) -> Reply:
        spoken = " " + " ".join([f"{CANARY}-said-{number}"] * 40)
        result = answer(task)
        assert isinstance(result, WindowResult)
        return replace(result, text=spoken, words=(Word(spoken, 0.0, 0.5, 0.9),))

    shop.desk.reply = reply


def _endpoint(shop: Shop, tenant: str = TENANT) -> str:
    endpoint = new_id("whe")
    values = {"id": endpoint, "tenant": tenant, "url": f"https://a.example/?key={CANARY}-url", "description": ""}
    more = {"state": "active", "secret": f"{CANARY}-secret", "implicit": False, "created_at": 1.0}
    shop.database.write(lambda tx: tx.execute(webhook_endpoints.insert().values(**values, **more)))
    return endpoint


def _hand_in(shop: Shop, number: int, endpoint: str, tenant: str = TENANT, batch_id: str | None = None) -> Job:
    path = shop.pcm(12.0, number)
    with path.open("ab") as file:
        file.write(f"{CANARY}-audio-{number}!".encode().ljust(1000, b"!"))
    new = NewJob(
        new_id("job"),
        Source(SourceKind.STORED, f"{CANARY}-name-{number}.wav", path.stat().st_size),
        Options(language="en", prompt=f"{CANARY}-prompt-{number} " * 20, hotwords=f"{CANARY}-hot-{number}"),
        tenant=tenant,
        metadata=f'{{"note": "{CANARY}-note-{number} {"x" * (number * 37 % 3000)}"}}',
        webhook_endpoint=endpoint,
        batch_id=batch_id,
    )
    key = IdempotencyKey("jobs", f"{CANARY}-key-{number}", "0" * 64)
    return shop.service.submit(new, path, key)[0]


def _hits(folder: Path) -> list[str]:
    """Return the files below ``folder`` that hold the canary, in their bytes or their names."""
    return [
        f"{path.relative_to(folder)} ({path.read_bytes().count(CANARY.encode())})"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (CANARY.encode() in path.read_bytes() or CANARY in path.name)
    ]


def test_K7_an_erased_job_is_gone_from_every_file_within_a_sweep(tmp_path: Path) -> None:
    """Of thirty jobs, erased in another order than they came, no byte is left in database, log of changes or blobs."""
    with open_shop(tmp_path / "shop") as shop:
        endpoint = _endpoint(shop)
        jobs = []
        for number in range(30):
            _speaks(shop, number)
            jobs.append(_hand_in(shop, number, endpoint))
            if number % 3:
                shop.work_off()
        assert CANARY in shop.service.transcript(TENANT, jobs[1].id)[1].text
        assert any("t.db-wal" in hit for hit in _hits(shop.folder))
        for job in [*jobs[1::2], *jobs[::2]]:
            shop.service.erase(TENANT, job.id)
        shop.database.write(lambda tx: tx.execute(webhook_endpoints.delete()))
        shop.janitor().retain()
        assert _hits(shop.folder) == []
        assert rows(shop, "pragma integrity_check") == [("ok",)]


def test_K7_what_is_erased_while_it_is_worked_on_leaves_nothing(tmp_path: Path) -> None:
    """Sections and text that a worker had in hand are dropped, and what it stored too late is removed by itself."""
    with open_shop(tmp_path / "shop") as shop:
        _speaks(shop, 1)
        shop.desk.hold = True
        job = _hand_in(shop, 1, _endpoint(shop))
        bench = shop.bench(watch_s=0.02, heartbeat_s=0.05)
        bench.start()
        worker = in_thread(lambda: [bench.work_once(tuple(type(job.lane))) for _ in range(3)])
        wait_until(lambda: shop.desk.submissions > 0, 10)
        shop.service.erase(TENANT, job.id)
        shop.desk.release()
        worker.join(10)
        assert not worker.is_alive()
        bench.close()
        shop.database.write(lambda tx: tx.execute(webhook_endpoints.delete()))
        shop.janitor().retain()
        assert _hits(shop.folder) == []
        assert list(shop.blobs.list("")) == []


def test_K7_audio_that_is_stored_after_its_job_was_erased_is_removed_by_who_stored_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section that is cut while its job is being erased has no owner, and does not wait for the hourly search."""
    with open_shop(tmp_path / "shop") as shop:
        job = shop.submit(30.0)
        add = shop.work.add_section

        def erase_first(*arguments: object) -> None:
            shop.database.write(lambda tx: shop.store.erase_in(tx, TENANT, job.id))
            add(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(shop.work, "add_section", erase_first)
        shop.work_off()
        with pytest.raises(NotFound):
            shop.get(job)
        assert list(shop.blobs.list("")) == []


def test_K7_a_tenant_is_erased_and_its_neighbour_is_not(tmp_path: Path) -> None:
    """Jobs, batches, endpoints, events and keys of one tenant go, from every file; the other's stay as they were."""
    with open_shop(tmp_path / "shop") as shop:
        for number in range(6):
            _speaks(shop, number)
            _hand_in(shop, number, _endpoint(shop, "leaving"), "leaving")
        batch = NewBatch("bat_1", "leaving", f'{{"name": "{CANARY}-batch"}}', _endpoint(shop, "leaving"))
        member = NewJob(new_id("job"), Source(SourceKind.URL, f"https://a.example/?{CANARY}"), Options(),
                        tenant="leaving", batch_id="bat_1")  # fmt: skip
        shop.service.batches._store.submit(batch, [member], None)
        _speaks(shop, 99)
        shop.work_off()
        shop.desk.reply = answer
        kept = shop.submit(8.0)
        shop.work_off()
        assert shop.service.erase_tenant("leaving") == 7
        shop.janitor().retain()
        assert _hits(shop.folder) == []
        assert shop.service.page("leaving", JobFilter()) == []
        assert shop.get(kept).state is JobState.SUCCEEDED
        assert shop.service.erase_tenant("leaving") == 0
        assert rows(shop, "select id from tenants") == [(TENANT,)]


def test_K7_a_batch_takes_its_words_along(tmp_path: Path) -> None:
    """With the last of its jobs a finished batch goes, and so does the event that quotes its metadata."""
    with open_shop(tmp_path / "shop") as shop:
        endpoint = _endpoint(shop)
        member = NewJob(new_id("job"), Source(SourceKind.OBJECT, "/nowhere"), Options(), batch_id="bat_1")
        batch = NewBatch("bat_1", TENANT, f'{{"name": "{CANARY}-batch"}}', endpoint)
        shop.service.batches._store.submit(batch, [member], None)
        shop.work_off()
        assert rows(shop, "select count(*) from events where type = 'batch.finished'") == [(1,)]
        shop.service.erase(TENANT, member.id)
        shop.database.write(lambda tx: tx.execute(webhook_endpoints.delete()))
        shop.janitor().retain()
        assert rows(shop, "select count(*) from events") == [(0,)]
        assert _hits(shop.folder) == []


def test_K7_nothing_is_left_in_a_dump_of_postgresql(tmp_path: Path, postgres: PostgresDatabase) -> None:
    """The same with the other database: no row of any table holds a word of it, and no blob."""
    with open_shop(tmp_path / "shop", postgres.url) as shop:
        _speaks(shop, 1)
        job = _hand_in(shop, 1, _endpoint(shop))
        shop.work_off()
        assert CANARY in _everything(shop)
        shop.service.erase(TENANT, job.id)
        shop.service.erase_tenant(TENANT)
        shop.janitor().retain()
        assert CANARY not in _everything(shop)
        assert _hits(shop.folder) == []


def test_K8_audio_and_text_go_when_their_time_is_over_by_the_tenant_s_own_days(tmp_path: Path) -> None:
    """A sweep before the time leaves both, the first one after it removes them; the audio first."""
    with open_shop(tmp_path / "shop") as shop:
        days = {"id": TENANT, "audio_days": 2.0, "text_days": 5.0}
        shop.database.write(lambda tx: tx.execute(tenants.insert().values(days)))
        _speaks(shop, 1)
        job = _hand_in(shop, 1, _endpoint(shop))
        shop.work_off()
        kept = rows(shop, "select audio_until - finished_at, text_until - finished_at from jobs")[0]
        assert kept == pytest.approx((2 * 86_400.0, 5 * 86_400.0), abs=1)
        janitor = shop.janitor()
        for past_s, audio, there in ((2 * 86_400 - 60, True, True), (61, False, True), (3 * 86_400, False, False)):
            _pass_time(shop, past_s)
            janitor.retain()
            assert bool(list(shop.blobs.list(f"jobs/{job.id}/"))) is audio
            assert bool(rows(shop, "select 1 from jobs")) is there
        shop.database.write(lambda tx: tx.execute(webhook_endpoints.delete()))
        janitor.retain()
        assert _hits(shop.folder) == []


def _pass_time(shop: Shop, seconds: float) -> None:
    """Let jobs have ended earlier by ``seconds``."""
    query = f"update jobs set audio_until = audio_until - {seconds}, text_until = text_until - {seconds}"  # noqa: S608
    shop.database.write(lambda tx: tx.execute(text(query)))


def _everything(shop: Shop) -> str:
    names = rows(shop, "select table_name from information_schema.tables where table_schema = 'public'")
    return "\n".join(str(row) for (name,) in names for row in rows(shop, f"select * from {name}"))  # noqa: S608


def test_S1_no_word_of_a_job_is_logged_whatever_becomes_of_it(tmp_path: Path) -> None:
    """At debug level, through success, refusal by the engine, an unforeseen error, cancelling and erasing."""
    with captured_log() as log, open_shop(tmp_path / "shop") as shop:
        endpoint = _endpoint(shop)
        for number, trouble in enumerate([None, EngineError(CANARY), ValueError(f"{CANARY}-unforeseen")]):
            _speaks(shop, number)
            if trouble is not None:
                shop.desk.reply = lambda _, trouble=trouble: trouble  # type: ignore[misc]
            job = _hand_in(shop, number, endpoint)
            shop.work_off()
        cancelled = _hand_in(shop, 7, endpoint)
        shop.service.cancel(TENANT, cancelled.id)
        shop.service.erase(TENANT, job.id)
        janitor = shop.janitor()
        janitor.sweep()
        janitor.retain()
        janitor.remove_orphans()
    lines = log.getvalue()
    assert "step_failed" in lines
    assert "step_broke" in lines
    assert CANARY not in lines
    assert CANARY.encode() not in telemetry.metrics_text()


def test_K7_a_reader_of_the_old_state_delays_the_scrubbing_only(tmp_path: Path) -> None:
    """While somebody reads what was, the log of changes stays; the next sweep empties it."""
    with open_shop(tmp_path / "shop") as shop:
        shop.submit(1.0)
        with shop.database.engine.connect() as reader:
            reader.execute(text("select * from jobs")).fetchone()
            shop.submit(1.0)
            started = time.monotonic()
            assert not shop.upkeep.scrub()
            assert time.monotonic() - started < 3
        assert shop.upkeep.scrub()
        assert (shop.folder / "t.db-wal").stat().st_size == 0
