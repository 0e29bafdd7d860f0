"""A backup taken while jobs run, restored elsewhere: every job in it ends, finished or failed with the reason."""

import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY
from tests.jobs_support import TENANT, Shop, in_thread, open_shop
from tests.servers import provision
from tests.servers.postgres import Database
from tests.servers.process import wait_until
from tympan.domain import Job, JobState
from tympan.jobs.media import media_key
from tympan.jobs.service import JobFilter
from tympan.storage.database import sqlite_url

PROGRAM = DEPLOY / "backup.py"
JOBS_BEFORE = 12
AUDIO_S = 25.0
SECTION_S = 5.0


@dataclass(slots=True)
class Trade:
    """Jobs handed in and worked off all the time, as long as it is open."""

    shop: Shop
    taken: list[Job] = field(default_factory=list)
    """What clients were told is there."""

    erased: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def submit(self) -> None:
        """Hand in a job, and erase one of the first now and then."""
        self.taken.append(self.shop.submit(AUDIO_S, seed=len(self.taken) + 1))

    def customers(self) -> None:
        """Hand in jobs until it is over; erase every fifth."""
        while not self._over.wait(0.02):
            self.submit()
            if len(self.taken) % 5 == 0:
                old = self.taken[len(self.taken) // 2].id
                if old not in self.erased:
                    self.erased.add(old)
                    self.shop.service.erase(TENANT, old)

    def workers(self) -> None:
        """Work until it is over."""
        bench = self.shop.bench("live")
        while not self._over.is_set():
            bench.work_once(tuple(range(3)))  # type: ignore[arg-type]

    def close(self) -> None:
        """Let everybody go home."""
        self._over.set()


@contextmanager
def _trading(folder: Path, url: str) -> Iterator[Trade]:
    with open_shop(folder, url) as shop:
        shop.section_s = SECTION_S
        trade = Trade(shop)
        for _ in range(JOBS_BEFORE):
            trade.submit()
        threads = [in_thread(trade.customers), in_thread(trade.workers)]
        wait_until(lambda: any(shop.get(job).state is JobState.SUCCEEDED for job in trade.taken[:4]), 30)
        try:
            yield trade
        finally:
            trade.close()
            for thread in threads:
                thread.join(20)


def _back_up(data: Path, target: Path, *command: str) -> str:
    words = [sys.executable, str(PROGRAM), str(data), str(target), *command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr


def _all(shop: Shop) -> list[Job]:
    return shop.service.page(TENANT, JobFilter(limit=10_000))


def _work_off(shop: Shop) -> None:
    """Do as a server does that starts: nobody holds a lease; then work until there is nothing to do."""
    shop.section_s = SECTION_S
    shop.upkeep.disown()
    n_jobs = len(_all(shop))
    # A loop would need more steps than any job has: prepare, its sections, finish, each tried a few times.
    limit = n_jobs * 5 * (2 + round(AUDIO_S / SECTION_S))
    assert shop.work_off("after", limit) < limit


def _check_all_ended(shop: Shop, promised: list[str]) -> Counter[str]:
    """Every row has ended for a good reason, what was promised is there, and audio without a row goes."""
    jobs = _all(shop)
    assert set(promised) <= {job.id for job in jobs}
    ends: Counter[str] = Counter()
    for job in jobs:
        ends[job.error.code if job.error else job.state.value] += 1
        if job.state is JobState.SUCCEEDED:
            assert shop.service.transcript(TENANT, job.id)[1].text
    assert set(ends) <= {"succeeded", "media_missing"}, ends
    shop.janitor(orphan_age_s=-60.0).remove_orphans()
    assert {blob.key.split("/")[1] for blob in shop.blobs.list("jobs/")} <= {job.id for job in jobs}
    return ends


def test_C9_sqlite_taken_live_restores_to_jobs_that_all_end(tmp_path: Path) -> None:
    """What was accepted before the backup is in it; restored, each job finishes or says that its audio is missing."""
    data, target, fresh = tmp_path / "data", tmp_path / "backup", tmp_path / "fresh"
    with _trading(data, sqlite_url(data / "tympan.db")) as trade:
        (data / "secret.key").write_text("k" * 43)
        (data / "secret.key").chmod(0o600)
        before = [job.id for job in list(trade.taken)]
        said = _back_up(data, target)
        # Work goes on, so that much of what the backup shows as waiting has ended here.
        reached = len(trade.taken) + 5
        wait_until(lambda: len(trade.taken) >= reached, 30)
    assert "files of audio" in said
    assert (target.stat().st_mode & 0o777, (target / "tympan.db").stat().st_mode & 0o777) == (0o700, 0o600)
    assert (target / "secret.key").read_text() == "k" * 43
    shutil.rmtree(data)
    shutil.copytree(target, fresh)
    with open_shop(fresh, sqlite_url(fresh / "tympan.db")) as shop:
        waiting = sum(not job.state.is_terminal for job in _all(shop))
        assert waiting > 0
        _work_off(shop)
        ends = _check_all_ended(shop, [job_id for job_id in before if job_id not in trade.erased])
    print(f"{waiting} waited; {dict(ends)}")  # noqa: T201 (shown with -rP)
    assert ends["succeeded"] > ends["media_missing"]


@pytest.mark.long
def test_C9_postgres_dumped_live_restores_to_jobs_that_all_end(tmp_path: Path, postgres: Database) -> None:
    """The same with pg_dump in between, through the same program."""
    installation = provision.find("postgres")
    assert installation is not None
    tools = installation.program.parent
    data, target = tmp_path / "data", tmp_path / "backup"
    with _trading(data, postgres.url) as trade:
        before = [job.id for job in list(trade.taken)]
        dump = (str(tools / "pg_dump"), "--format=custom", "--file={target}/tympan.dump", postgres.url)
        _back_up(data, target, "--", *dump)
        reached = len(trade.taken) + 3
        wait_until(lambda: len(trade.taken) >= reached, 30)
    restored = Database(postgres.server, f"{postgres.name}_restored")
    try:
        command = [
            str(tools / "pg_restore"),
            "--exit-on-error",
            f"--dbname={restored.url}",
            str(target / "tympan.dump"),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        with open_shop(target, restored.url) as shop:
            _work_off(shop)
            _check_all_ended(shop, [job_id for job_id in before if job_id not in trade.erased])
    finally:
        restored.drop()


def test_C9_rows_whose_audio_is_gone_fail_at_once_and_audio_without_rows_is_swept(tmp_path: Path) -> None:
    """The worst of backups, a database with the audio of another day: no loop, no silence, no leftovers."""
    with open_shop(tmp_path) as shop:
        kept, lost = shop.submit(AUDIO_S, seed=1), shop.submit(AUDIO_S, seed=2)
        begun = shop.submit(AUDIO_S, seed=3, priority=50)
        shop.section_s = SECTION_S
        assert shop.work_off(limit=2) == 2
        assert shop.get(begun).state is JobState.RUNNING
        stranger = media_key("job_of_another_day")
        shop.blobs.put(stranger, b"audio")
        for job in (lost, begun):
            shop.blobs.delete_prefix(f"jobs/{job.id}/")
        _work_off(shop)
        for job in (lost, begun):
            ended = shop.get(job)
            assert (ended.state, ended.error and ended.error.code) == (JobState.FAILED, "media_missing")
        assert shop.get(kept).state is JobState.SUCCEEDED
        shop.janitor(orphan_age_s=-60.0).remove_orphans()
        assert shop.blobs.size(stranger) is None


def test_a_backup_that_is_not_whole_is_none(tmp_path: Path) -> None:
    """A wrong folder, a target that is there, a dump that fails: an exit code that stops a script."""
    data = tmp_path / "data"
    data.mkdir()

    def code(*words: str) -> int:
        command = [sys.executable, str(PROGRAM), *words]
        return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode

    assert code() == 2
    assert code(str(data), str(tmp_path / "a")) == 1
    with open_shop(data, sqlite_url(data / "tympan.db")):
        assert code(str(data), str(data)) == 1
        assert code(str(data), str(tmp_path / "b"), "--", "false") == 1
        assert code(str(data), str(tmp_path / "c")) == 0


@pytest.mark.parametrize("linked", [True, False])
def test_the_copy_does_not_change_with_what_it_was_taken_from(tmp_path: Path, *, linked: bool) -> None:
    """Audio that is erased later stays in the backup, whether it was linked or copied."""
    data, target = tmp_path / "data", tmp_path / "backup"
    if not linked:
        shared = Path("/dev/shm")
        if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is no second file system here")
        target = shared / f"tympan-{tmp_path.name}"
    try:
        with open_shop(data, sqlite_url(data / "tympan.db")) as shop:
            job = shop.submit(AUDIO_S)
            _back_up(data, target)
            shop.service.erase(TENANT, job.id)
        copied = target / "blobs" / media_key(job.id)
        assert copied.stat().st_size == round(AUDIO_S * 16_000) * 2
    finally:
        if not linked:
            shutil.rmtree(target)
