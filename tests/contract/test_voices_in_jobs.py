"""Jobs tell speakers apart by voice, on SQLite and on PostgreSQL: turns are found once, and kept until the end."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Connection, select

from tests.jobs_support import TENANT, Shop, open_shop
from tests.voices_support import A, B, Tells, spoken
from tympan.diarize.embedding_graph import SIZE
from tympan.diarize.known import packed
from tympan.domain import DiarizeBy, Job, JobState, NewJob, Options, Samples, Source, SourceKind, Turn
from tympan.errors import ModelUnavailable
from tympan.jobs.service import JobFilter, new_id
from tympan.options import KnownVoice
from tympan.pipeline import RequestContext
from tympan.pipeline.voices import VoiceDesk
from tympan.storage.codec import PREPARED, Prepared, dump
from tympan.storage.tables import metadata

OPTIONS = Options(diarize=True, diarize_by=DiarizeBy.VOICES)
KNOWN = (KnownVoice("Bob", "5" * 64, packed(np.eye(1, SIZE, 1, np.float32)[0])),)
TALK = spoken([(13, A), (12, B), (30, A), (8, B)])


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on a database of the test's own, which hears voices."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url) as opened:
        desk = VoiceDesk(Tells)
        opened.voices = desk
        yield opened
        desk.close()


def submit(shop: Shop, samples: Samples, options: Options = OPTIONS) -> Job:
    """Hand in a job for a recording."""
    path = shop.folder / new_id("pcm")
    samples.tofile(path)
    return shop.service.submit(NewJob(new_id("job"), Source(SourceKind.STORED), options), path)[0]


def test_a_job_tells_voices_apart_like_a_synchronous_call(shop: Shop) -> None:
    """Sections go to anybody; the words get their speakers in the end."""
    job = submit(shop, TALK)
    shop.work_off()
    stored = shop.service.transcript(TENANT, job.id)[1]
    path = shop.folder / "talk"
    TALK.tofile(path)
    whole = shop.transcriber.transcribe(path, OPTIONS, RequestContext("sync"))
    assert [(round(turn.start_s), round(turn.end_s), turn.speaker) for turn in stored.turns] == [
        (0, 13, 0), (13, 25, 1), (25, 55, 0), (55, 63, 1),
    ]  # fmt: skip
    assert stored.turns == whole.turns
    assert [one.speaker for one in stored.segments] == [one.speaker for one in whole.segments]
    assert {one.speaker for one in stored.segments} == {"A", "B"}
    assert stored.provenance.speakers == "voices"


def test_what_was_heard_survives_the_worker(shop: Shop) -> None:
    """Whoever goes on after the first step needs neither the networks nor the audio."""
    job = submit(shop, TALK)
    assert shop.work_off(limit=1) == 1
    shop.voices = None
    shop.work_off("another")
    stored = shop.service.transcript(TENANT, job.id)[1]
    assert [turn.speaker for turn in stored.turns] == [0, 1, 0, 1]


def test_who_is_known_by_a_sample_has_the_name_whoever_works_on_it(shop: Shop) -> None:
    """The voice is stored with the job, and used once; a section's worker knows nothing of it."""
    job = submit(shop, TALK, replace(OPTIONS, known_voices=KNOWN))
    assert shop.work_off(limit=1) == 1
    shop.voices = None
    shop.work_off("another")
    stored = shop.service.transcript(TENANT, job.id)[1]
    assert [(turn.speaker, turn.name) for turn in stored.turns] == [(0, None), (1, "Bob"), (0, None), (1, "Bob")]
    assert {one.speaker for one in stored.segments} == {"A", "Bob"}


def test_a_voice_is_erased_with_its_job(shop: Shop) -> None:
    """Not a row of it is left, nor does another try of an erased job find it; a try of a failed one does."""
    job = submit(shop, TALK, replace(OPTIONS, known_voices=KNOWN))
    cancelled = shop.service.cancel(TENANT, job.id)
    assert shop.service.retry(TENANT, cancelled.id).options.known_voices == KNOWN
    for each in shop.service.page(TENANT, JobFilter(limit=10)):
        assert KNOWN[0].voice in everything(shop)
        shop.service.erase(TENANT, each.id)
    assert KNOWN[0].voice not in everything(shop)


def everything(shop: Shop) -> str:
    """Return all rows of all tables, as text."""

    def rows(tx: Connection) -> str:
        return "".join(str(tuple(row)) for table in metadata.sorted_tables for row in tx.execute(select(table)))

    return shop.database.read(rows)


def test_without_networks_a_job_fails_with_the_cause(shop: Shop) -> None:
    """And its remedy; nothing was cut."""

    def fails() -> Tells:
        raise ModelUnavailable("The networks are not here.", remedy="Fetch them.")

    shop.voices = VoiceDesk(fails)
    job = submit(shop, TALK)
    for _ in range(10):
        shop.work_off()
    found = shop.get(job)
    if found.state is JobState.FAILED:
        assert found.error is not None
        assert (found.error.code, found.error.remedy) == ("model_unavailable", "Fetch them.")
    assert found.state is not JobState.SUCCEEDED
    assert not shop.desk.tasks


def test_what_was_prepared_before_there_were_voices_can_be_read() -> None:
    """And what is written now comes back."""
    old = '{"audio_samples": 16000, "speech_samples": 8000, "languages": [["en", 0.9]], "condition": null}'
    assert PREPARED.validate_json(old) == Prepared(16_000, 8_000, (("en", 0.9),))
    assert PREPARED.validate_json(old).turns is None
    new = Prepared(1, 1, turns=(Turn(0.5, 1.25, 3), Turn(1.5, 2.0, 1, "Ann")))
    assert PREPARED.validate_json(dump(new)) == new
