"""Edited versions beside the original, on SQLite and on PostgreSQL: revisions, races, erasure."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.jobs_support import TENANT, Shop, open_shop
from tests.results import large, plant
from tympan.domain import Job, Word
from tympan.errors import Conflict, InvalidRequest, JobNotFinished, NotFound
from tympan.jobs.edits import EditedSegment, EditText
from tympan.storage.tables import edits

FIRST = EditText(
    {"A": "Dr. Weber"}, (EditedSegment(0, 0.0, 1.0, "He\0llo \U0001f600 <b>", "A"), EditedSegment(7, 1, 2, ""))
)
SECOND = EditText({}, (EditedSegment(0, 0.5, 1.0, "Better."),))


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on a database of the test's own."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url) as opened:
        yield opened


@pytest.fixture
def job(shop: Shop) -> Job:
    """Return a job with a transcript of four seconds."""
    made = shop.submit(1.0)
    shop.work_off()
    plant(shop.database, made.id, large(3))
    return shop.get(made)


def _rows(shop: Shop) -> int:
    return shop.database.read(lambda tx: tx.scalar(text("select count(*) from edits"))) or 0


def test_a_version_comes_back_as_it_was_saved(shop: Shop, job: Job) -> None:
    """Whatever is in it, each save with the next revision and the time of the database; the original stays."""
    desk = shop.service.edits
    with pytest.raises(NotFound, match="no edited version"):
        desk.find(TENANT, job.id)
    saved = desk.save(TENANT, job.id, FIRST, None)
    assert (saved.revision, saved.speakers, saved.segments) == (1, FIRST.speakers, FIRST.segments)
    assert desk.find(TENANT, job.id) == saved
    assert abs(saved.edited_at - shop.store.now_s()) < 60
    again = desk.save(TENANT, job.id, SECOND, 1)
    assert (again.revision, again.segments) == (2, SECOND.segments)
    assert shop.service.transcript(TENANT, job.id)[1] == large(3)


def test_another_revision_is_not_overwritten(shop: Shop, job: Job) -> None:
    """Neither one that was saved meanwhile, nor the first of somebody else, nor one that has been erased."""
    desk = shop.service.edits
    with pytest.raises(Conflict, match="erased"):
        desk.save(TENANT, job.id, FIRST, 1)
    desk.save(TENANT, job.id, FIRST, None)
    for expected in (None, 0, 2):
        with pytest.raises(Conflict, match="Revision 1"):
            desk.save(TENANT, job.id, SECOND, expected)
    assert desk.find(TENANT, job.id).segments == FIRST.segments


def test_revisions_are_never_given_twice(shop: Shop, job: Job) -> None:
    """Who has read the first version cannot overwrite what was begun anew after it was erased."""
    desk = shop.service.edits
    desk.save(TENANT, job.id, FIRST, None)
    with pytest.raises(Conflict):
        desk.drop(TENANT, job.id, 2)
    desk.drop(TENANT, job.id, 1)
    for gone in (lambda: desk.find(TENANT, job.id), lambda: desk.drop(TENANT, job.id)):
        with pytest.raises(NotFound, match="no edited version"):
            gone()
    with pytest.raises(Conflict, match="erased"):
        desk.save(TENANT, job.id, SECOND, 1)
    assert desk.save(TENANT, job.id, SECOND, None).revision == 3
    desk.drop(TENANT, job.id)
    kept = shop.database.read(lambda tx: tx.execute(edits.select()).one())
    assert (kept.speakers, kept.segments) == (None, None)


def test_of_writers_at_the_same_moment_one_wins(shop: Shop, job: Job) -> None:
    """Each time: the first save, and every one after it; the others are told."""
    desk, n_writers = shop.service.edits, 4
    barrier = threading.Barrier(n_writers)

    def save(writer: int, expected: int | None) -> int | None:
        barrier.wait(30)
        try:
            return desk.save(
                TENANT, job.id, EditText({}, (EditedSegment(writer, 0, 1, str(writer)),)), expected
            ).revision
        except Conflict:
            return None

    with ThreadPoolExecutor(n_writers) as pool:
        for expected in (None, 1, 2, 3):
            ends = list(pool.map(save, range(n_writers), [expected] * n_writers))
            winners = [writer for writer, revision in enumerate(ends) if revision]
            assert [ends[writer] for writer in winners] == [(expected or 0) + 1]
            assert desk.find(TENANT, job.id).segments[0].id == winners[0]


def test_a_save_beside_an_erasure_leaves_nothing(shop: Shop, job: Job) -> None:
    """Whichever comes first: the version is gone with its job, or there is no such job."""
    desk, barrier = shop.service.edits, threading.Barrier(2)

    def save() -> str:
        barrier.wait(30)
        try:
            return str(desk.save(TENANT, job.id, FIRST, None).revision)
        except NotFound:
            return "none"

    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save)
        barrier.wait(30)
        shop.service.erase(TENANT, job.id)
        assert saving.result(60) in {"1", "none"}
    assert _rows(shop) == 0


def test_K1_anothers_job_is_none(shop: Shop, job: Job) -> None:
    """For reading, saving and erasing."""
    desk = shop.service.edits
    desk.save(TENANT, job.id, FIRST, None)
    for tenant, job_id in (("other", job.id), (TENANT, "job_nobodys")):
        with pytest.raises(NotFound, match="no such job"):
            desk.find(tenant, job_id)
        for expected in (None, 1):
            with pytest.raises(NotFound, match="no such job"):
                desk.save(tenant, job_id, SECOND, expected)
        with pytest.raises(NotFound, match="no such job"):
            desk.drop(tenant, job_id)
    assert desk.find(TENANT, job.id).revision == 1


def _time_over(shop: Shop) -> None:
    shop.database.write(lambda tx: tx.execute(text("update jobs set text_until = 1")))
    shop.janitor().retain()


def test_K7_a_version_goes_with_its_job_its_tenant_and_its_time(shop: Shop) -> None:
    """Whichever of them ends it."""
    ends: list[Callable[[Job], object]] = [
        lambda made: shop.service.erase(TENANT, made.id),
        lambda _: shop.service.erase_tenant(TENANT),
        lambda _: _time_over(shop),
    ]
    for number, end in enumerate(ends):
        made = shop.submit(1.0, number)
        shop.work_off()
        plant(shop.database, made.id, large(3))
        shop.service.edits.save(TENANT, made.id, FIRST, None)
        assert _rows(shop) == 1
        end(made)
        assert _rows(shop) == 0


def test_only_a_transcript_can_be_edited(shop: Shop) -> None:
    """Not one that is still being made, nor one that will never be."""
    made = shop.submit(1.0)
    with pytest.raises(JobNotFinished):
        shop.service.edits.save(TENANT, made.id, FIRST, None)
    shop.service.cancel(TENANT, made.id)
    with pytest.raises(JobNotFinished, match="cancelled"):
        shop.service.edits.save(TENANT, made.id, FIRST, None)


@pytest.mark.parametrize(
    ("segments", "field"),
    [
        ((EditedSegment(0, 1.0, 0.5, "x"),), "segments.0.end"),
        ((EditedSegment(0, 0.0, 1.0, "x"), EditedSegment(1, 0.0, 99.0, "y")), "segments.1.end"),
        ((EditedSegment(0, 1.0, 2.0, "x"), EditedSegment(1, 0.5, 2.0, "y")), "segments.1.start"),
        ((EditedSegment(0, 0.0, 1.0, "x"), EditedSegment(0, 1.0, 2.0, "y")), "segments.1.id"),
        ((EditedSegment(0, 0.0, 1.0, "x", "C"),), "segments.0.speaker"),
    ],
)
def test_what_is_not_of_this_audio_is_refused_by_name(
    tmp_path: Path, segments: tuple[EditedSegment, ...], field: str
) -> None:
    """The segment and its field are named, and nothing is stored."""
    with open_shop(tmp_path / "shop") as shop:
        made = shop.submit(1.0)
        shop.work_off()
        spoken = replace(large(3), segments=tuple(replace(one, speaker="B") for one in large(3).segments))
        plant(shop.database, made.id, spoken)
        with pytest.raises(InvalidRequest) as refused:
            shop.service.edits.save(TENANT, made.id, EditText({"A": "x"}, segments), None)
        assert refused.value.param == field
        assert refused.value.remedy
        known = EditText({"A": "x"}, (EditedSegment(0, 0, 4.6, "a", "A"), EditedSegment(1, 0, 0, "b", "B")))
        assert shop.service.edits.save(TENANT, made.id, known, None).revision == 1


def test_an_original_can_be_saved_as_it_is_and_keeps_what_was_known_of_it(tmp_path: Path) -> None:
    """Segments that were not changed keep words and confidence; those that were have text, times and speaker alone."""
    with open_shop(tmp_path / "shop") as shop:
        made = shop.submit(1.0)
        shop.work_off()
        word = Word(" Sentence", 0.0, 0.5, 0.9)
        original = replace(
            large(4),
            segments=tuple(replace(one, words=(word,), speaker="A", confidence=0.5) for one in large(4).segments),
        )
        plant(shop.database, made.id, original)
        segments = [
            EditedSegment(one.id, one.start_s, one.end_s, one.text.strip(), one.speaker) for one in original.segments
        ]
        segments[1] = replace(segments[1], text="Changed.", speaker="B")
        segments[2] = replace(segments[2], end_s=2.5)
        edit = EditText({"A": "Ada", "B": "Bob"}, tuple(segments))
        shop.service.edits.save(TENANT, made.id, edit, None)
        job, stored = shop.service.result(TENANT, made.id)
        result = shop.service.edits.result(job, stored)
        found = [one for group in result.groups() for one in group]
        assert [bool(one.words) for one in found] == [True, False, False, True]
        assert [one.confidence for one in found] == [0.5, None, None, 0.5]
        assert [one.speaker for one in found] == ["Ada", "Bob", "Ada", "Ada"]
        assert [one.text for one in found] == [" Sentence 0.", " Changed.", " Sentence 2.", " Sentence 3."]
        assert "".join(result.texts()) == "Sentence 0. Changed. Sentence 2. Sentence 3."
        assert result.head == stored.head
