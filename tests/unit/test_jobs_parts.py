"""The parts under the steps: cutting sections, their files, what follows a failure, who tidies up."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.jobs_support import LANES, TENANT, Shop, open_shop
from tympan import errors
from tympan.domain import JobState, NewJob, Options, Piece, Source, SourceKind, Window
from tympan.errors import AddressRefused, StorageUnavailable, TympanError
from tympan.jobs.janitor import Janitor, JanitorOptions
from tympan.jobs.local_runner import LocalRunner
from tympan.jobs.patience import patiently
from tympan.jobs.retrying import MAX_DELAY_S, MAX_RETRIES, Follow, delay_s, follow, rest_s
from tympan.jobs.sections import SectionCutter, SectionLost, read_section, write_section
from tympan.jobs.service import new_id
from tympan.retry_budget import STOCK, RetryBudget


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on SQLite."""
    with open_shop(tmp_path) as opened:
        yield opened


def window(index: int, start: int, length: int) -> Window:
    """Return a window of ``length`` samples from ``start`` of the source."""
    samples = np.arange(index, index + length, dtype=np.int16)
    half = length // 2
    pieces = (Piece(0, start, half), Piece(half, start + half + 5, length - half))
    return Window(index, samples, pieces, 0.25 + index / 100)


def windows(lengths: list[int]) -> list[Window]:
    """Return windows one behind the other."""
    found, place = [], 0
    for index, length in enumerate(lengths):
        found.append(window(index, place, length))
        place += length + 10
    return found


@given(st.lists(st.integers(2, 40_000), max_size=30), st.floats(0.1, 5.0), st.floats(0.1, 5.0))
def test_cutting_again_with_other_lengths_keeps_the_old_cuts(lengths: list[int], first_s: float, then_s: float) -> None:
    """Nothing is lost or doubled, and what was cut before is cut there again as long as that is sensible."""
    source = windows(lengths)
    one = cut(SectionCutter(first_s), source)
    assert [item.index for section in one for item in section] == list(range(len(source)))
    ends = {section[-1].end_sample for section in one}
    again = cut(SectionCutter(then_s, ends), source)
    assert [item.index for section in again for item in section] == list(range(len(source)))
    if then_s >= first_s:
        assert again == one


def cut(cutter: SectionCutter, source: list[Window]) -> list[tuple[Window, ...]]:
    """Return the sections of ``source``."""
    left = iter(source)
    return list(iter(lambda: tuple(cutter.section(left)), ()))


@given(st.lists(st.integers(2, 500), min_size=1, max_size=8))
def test_a_section_is_read_as_it_was_written(lengths: list[int]) -> None:
    """Samples, places and scores, to the last bit."""
    import tempfile  # noqa: PLC0415 (hypothesis and function-scoped fixtures do not go together)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "section"
        source = windows(lengths)
        assert write_section(path, source) == source[-1].end_sample
        for wrote, read in zip(source, read_section(path), strict=True):
            assert np.array_equal(wrote.samples, read.samples)
            assert (wrote.index, wrote.pieces, wrote.speech_peak) == (read.index, read.pieces, read.speech_peak)


def test_a_section_carries_the_levels_of_its_windows(tmp_path: Path) -> None:
    """To the last bit, beside windows that have none."""
    plain, other = windows([700, 300])
    loud = replace(other, levels=np.array([[0.1, 32_768.0], [1.5, 0.0]], np.float16))
    write_section(tmp_path / "section", [plain, loud])
    found = list(read_section(tmp_path / "section"))
    assert found[0].levels is None
    assert found[1].levels is not None
    assert np.array_equal(found[1].levels, loud.levels)  # type: ignore[arg-type]
    assert np.array_equal(found[1].samples, loud.samples)


@pytest.mark.parametrize(
    "damage", [b"", b"TYMS1", b"TYMS1\xff\xff\xff\xffsums", b"TYMS1" + b"\xff" * 8, b"no section at all", None]
)
def test_a_file_that_is_no_whole_section_is_refused(tmp_path: Path, damage: bytes | None) -> None:
    """Empty, cut short, something else: never samples."""
    path = tmp_path / "section"
    write_section(path, windows([100, 200]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] if damage is None else damage)
    with pytest.raises(SectionLost):
        list(read_section(path))


@pytest.mark.parametrize("place", [0, 5, 500, 605, -9, -8, -7, -5, -4, -1])
def test_a_section_with_one_bit_turned_is_refused(tmp_path: Path, place: int) -> None:
    """Wherever it is: in the samples, the table, its length or the sum."""
    path = tmp_path / "section"
    write_section(path, windows([100, 200]))
    whole = bytearray(path.read_bytes())
    whole[place] ^= 0x40
    path.write_bytes(whole)
    with pytest.raises(SectionLost):
        list(read_section(path))


def test_a_section_that_cannot_be_written_leaves_no_file(tmp_path: Path) -> None:
    """Whatever stops it half way."""

    def broken() -> Iterator[Window]:
        yield from windows([100])
        raise OSError("the decoder's, not the disk's")

    with pytest.raises(OSError, match="decoder's"):
        write_section(tmp_path / "section", broken())
    assert not list(tmp_path.iterdir())
    assert write_section(tmp_path / "empty", iter(())) is None


def test_every_error_has_a_consequence() -> None:
    """Passing ones are tried a few times, lasting ones end the job, others are waited for without end."""
    waited = {errors.StorageUnavailable, errors.InsufficientStorage, errors.Unavailable, errors.Overloaded}
    for kind in waited:
        assert follow(kind(), MAX_RETRIES + 5) is Follow.WAIT
    assert follow(errors.EngineHang(), MAX_RETRIES - 1) is Follow.RETRY
    assert follow(errors.EngineHang(), MAX_RETRIES) is Follow.FAIL
    assert follow(errors.CorruptMedia(), 0) is Follow.FAIL
    assert follow(TympanError(), 0) is Follow.RETRY
    assert follow(errors.AudioQuarantined(), 0) is Follow.FAIL
    assert follow(SectionLost(), MAX_RETRIES - 1) is Follow.CUT_AGAIN
    assert follow(SectionLost(), MAX_RETRIES) is Follow.FAIL


@given(st.integers(0, 100), st.floats(0.0, 1.0))
def test_waits_grow_but_never_beyond_the_longest(retries: int, chance: float) -> None:
    """Between nothing and a minute, whatever the dice say."""
    assert 0.0 <= delay_s(retries, chance) <= MAX_DELAY_S


def test_G6_retries_stay_a_tenth_of_what_is_started() -> None:
    """When everything fails, the budget runs dry; when things go well again, it fills up to its stock and no more."""
    budget = RetryBudget()
    allowed = 0
    for _ in range(5_000):
        budget.started()
        allowed += sum(budget.allows_retry() for _ in range(4))
    assert 450 <= allowed <= 500
    for _ in range(100_000):
        budget.started()
    assert sum(budget.allows_retry() for _ in range(1_000)) == STOCK


def test_G6_rests_grow_and_end() -> None:
    """Nothing to rest from: no rest; else longer each time, for five seconds at most."""
    assert [rest_s(troubles) for troubles in (0, 1, 2, 3, 6, 7, 10_000)] == [0.0, 0.1, 0.2, 0.4, 3.2, 5.0, 5.0]


def test_a_database_that_is_away_for_a_moment_is_waited_for() -> None:
    """And one that stays away is not waited for beyond the given time."""
    tries = 0

    def write() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StorageUnavailable

    patiently(write, 60.0)
    assert tries == 3

    def away() -> None:
        raise StorageUnavailable

    started = time.monotonic()
    with pytest.raises(StorageUnavailable):
        patiently(away, 0.5)
    assert time.monotonic() - started < 30.0


def test_the_local_runner_works_off_what_it_is_rung_for(shop: Shop) -> None:
    """Three threads, twenty jobs, nobody polls; then it stops in time and owns nothing."""
    bench = shop.bench()
    runner = LocalRunner(bench, slots=3, poll_s=30.0)
    shop.service._ring = runner.ring
    runner.start()
    jobs = [shop.submit(2.0, seed=number) for number in range(20)]
    deadline = time.monotonic() + 60
    while any(shop.get(job).state is not JobState.SUCCEEDED for job in jobs):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    started = time.monotonic()
    runner.stop(60.0)
    assert time.monotonic() - started < 25.0  # They look for work every 30 s, and are not waited for until then.
    assert shop.work.held("worker") == set()


def test_O1_a_draining_worker_gives_back_what_it_cannot_finish(shop: Shop) -> None:
    """The lease is free at once, uncharged, and another worker goes on."""
    shop.desk.hold = True
    job = shop.submit(8.0)
    bench = shop.bench()
    runner = LocalRunner(bench, slots=1, poll_s=0.05)
    runner.start()
    deadline = time.monotonic() + 60
    while not shop.desk.open:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    runner.stop(0.1)
    shop.desk.hold = False
    assert shop.work_off("other") >= 1
    assert (shop.get(job).state, shop.get(job).attempts) == (JobState.SUCCEEDED, 1)


def test_K8_audio_and_text_go_when_their_time_has_come(shop: Shop) -> None:
    """First the audio, then the job and its transcript."""
    job = shop.submit(4.0)
    shop.work_off()
    janitor = shop.janitor()
    janitor.retain()
    assert [blob.key for blob in shop.blobs.list("")] == [f"jobs/{job.id}/media"]
    shop.database.write(lambda tx: tx.exec_driver_sql("update jobs set audio_until = 1"))
    janitor.retain()
    assert list(shop.blobs.list("")) == []
    assert shop.service.transcript(TENANT, job.id)[1].text
    shop.database.write(lambda tx: tx.exec_driver_sql("update jobs set text_until = 1"))
    janitor.retain()
    with pytest.raises(errors.NotFound):
        shop.service.get(TENANT, job.id)


def test_orphans_are_removed_and_nothing_else(shop: Shop) -> None:
    """Audio without a job goes once it is old enough; audio of jobs that wait or may be retried stays."""
    kept = shop.submit(4.0)
    shop.blobs.put("jobs/job_nobody/media", b"x")
    assert shop.janitor(orphan_age_s=3600.0).remove_orphans() == 0
    assert shop.janitor(orphan_age_s=-1.0).remove_orphans() == 1
    assert [blob.key for blob in shop.blobs.list("")] == [f"jobs/{kept.id}/media"]


def test_the_janitor_sweeps_by_itself_and_tells_the_workers(tmp_path: Path) -> None:
    """A lease that ran out is noticed within a sweep."""
    with open_shop(tmp_path, lease_s=0.1) as shop:
        shop.submit(4.0)
        assert shop.work.claim("dies", LANES) is not None
        told = threading.Event()
        janitor = Janitor(shop.upkeep, shop.service, shop.blobs, JanitorOptions(sweep_s=0.05), told.set)
        janitor.start()
        assert told.wait(5.0)
        janitor.stop()
        assert shop.work_off() > 0


def test_an_address_that_may_not_be_read_is_refused_before_anything_is_stored(shop: Shop) -> None:
    """Private web addresses and buckets nobody allowed never become jobs."""
    for kind, place in ((SourceKind.URL, "http://127.0.0.1/a.wav"), (SourceKind.OBJECT, "s3://bucket/a.wav")):
        with pytest.raises(AddressRefused):
            shop.service.submit(NewJob(new_id("job"), Source(kind, place), Options()))
    assert shop.service.counts()[JobState.QUEUED] == 0


def test_an_object_below_an_allowed_folder_is_transcribed(shop: Shop) -> None:
    """It is copied once and kept like an upload."""
    path = shop.pcm(8.0)
    new = NewJob(new_id("job"), Source(SourceKind.OBJECT, path.as_uri()), Options())
    job = shop.service.submit(new)[0]
    shop.work_off()
    assert shop.get(job).state is JobState.SUCCEEDED
    assert path.exists()
    assert [blob.key for blob in shop.blobs.list("")] == [f"jobs/{job.id}/media"]
