"""Results are kept in parts, come back as they were, and go as a whole, on SQLite and on PostgreSQL."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, func, select

from tests.jobs_support import TENANT, Shop, open_shop
from tests.results import large, plant
from tympan import __version__
from tympan.domain import Job, JobState, Provenance, Segment, Transcript, Word
from tympan.errors import NotFound
from tympan.storage.codec import TRANSCRIPT, dump
from tympan.storage.tables import result_parts

_WORD = Word(" wörd", 0.0, 0.5, 0.9, (1, 2))
_ODD = Segment(0, 0.0, 1.0, ' "\x00\\\n\u2028𝄞', (1,), avg_logprob=-math.inf, words=(_WORD,) * 3)
SHORT = replace(large(0), text="", segments=())
TRANSCRIPTS = {
    "nothing": SHORT,
    "text alone": replace(SHORT, text="as long as it likes " * 1000),
    "odd characters": replace(SHORT, text=_ODD.text * 50, segments=(_ODD,) * 50),
    "more segments than text": replace(SHORT, text="short", segments=large(2000).segments),
    "words": replace(SHORT, text="x" * 999, segments=(replace(_ODD, words=(_WORD,) * 100),) * 30),
    "long": large(2000),
}


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on a database of the test's own."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url) as opened:
        yield opened


def _finished(shop: Shop, transcript: Transcript) -> Job:
    job = shop.submit(1.0)
    shop.work_off()
    plant(shop.database, job.id, transcript)
    return job


def _n_parts(shop: Shop) -> int:
    return shop.database.read(lambda tx: tx.scalar(select(func.count()).select_from(result_parts))) or 0


def test_a_transcript_comes_back_as_it_was(shop: Shop) -> None:
    """Whatever is in it, as a whole and in parts, each of them short; and it can be read twice."""
    job = _finished(shop, SHORT)
    for name, transcript in TRANSCRIPTS.items():
        plant(shop.database, job.id, transcript)
        assert shop.service.transcript(TENANT, job.id)[1] == transcript, name
        _, result = shop.service.result(TENANT, job.id)
        assert result.head == replace(transcript, text="", segments=()), name
        for _ in range(2):
            assert "".join(result.texts()) == transcript.text, name
            assert [one for group in result.groups() for one in group] == list(transcript.segments), name
        lengths = select(func.max(func.length(result_parts.c.segments)))
        assert (shop.database.read(lambda tx: tx.scalar(lengths)) or 0) < 100_000, name  # noqa: B023 (called at once)


def test_K7_the_parts_go_with_the_job(shop: Shop) -> None:
    """None is left, and none of another job's is missed."""
    erased, kept = _finished(shop, large(600)), _finished(shop, large(300))
    before = _n_parts(shop)
    shop.service.erase(TENANT, erased.id)
    assert before > _n_parts(shop) > 1
    assert shop.service.transcript(TENANT, kept.id)[1] == large(300)
    shop.service.erase_tenant(TENANT)
    assert _n_parts(shop) == 0


def test_a_part_that_has_gone_is_told(shop: Shop) -> None:
    """A reader in the middle does not take what is left for the end."""
    _, result = shop.service.result(TENANT, _finished(shop, large(1000)).id)
    texts, groups = result.texts(), result.groups()
    assert next(texts).startswith("Sentence 0.")
    assert next(groups)[0].id == 0
    shop.database.write(lambda tx: tx.execute(delete(result_parts).where(result_parts.c.part == 1)))
    for reader in (texts, groups):
        with pytest.raises(NotFound, match="no longer kept"):
            next(reader)
    with pytest.raises(NotFound):
        result.whole()


@pytest.mark.parametrize("gone", [False, True])
def test_an_equal_job_takes_a_result_that_is_whole(shop: Shop, *, gone: bool) -> None:
    """One that is being erased at that moment is no result: the job is transcribed."""
    shop.submit(6.0)
    shop.work_off()
    windows = shop.desk.submissions
    if gone:
        shop.database.write(lambda tx: tx.execute(delete(result_parts)))
    equal = shop.submit(6.0)
    shop.work_off()
    assert shop.get(equal).state is JobState.SUCCEEDED
    assert shop.service.transcript(TENANT, equal.id)[1].text == "w0. w1."
    assert (shop.desk.submissions > windows) is gone


def test_a_job_tells_what_made_it(shop: Shop) -> None:
    """Runtime, revision, number format, device and our version; what was stored before that tells nothing."""
    job = shop.submit(1.0)
    shop.work_off()
    found = shop.service.transcript(TENANT, job.id)[1]
    engine = shop.desk.info
    assert engine is not None
    assert (found.model, found.provenance) == (engine.model, engine.provenance)
    assert (found.provenance.engine, found.provenance.version) == (engine.engine, __version__)
    old = json.loads(dump(SHORT))
    del old["provenance"]
    assert TRANSCRIPT.validate_json(json.dumps(old)).provenance == Provenance()
