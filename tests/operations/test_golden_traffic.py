"""What is measured with golden sets is nobody's traffic and nobody's usage: everything real but the model."""

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.conftest import SpokenClip
from tests.golden_support import write_voices
from tests.servers.process import wait_until
from tympan.bootstrap import running
from tympan.bootstrap.jobs import WorkerPost, job_worker, open_desks, open_stores
from tympan.bootstrap.measuring import make_conductor, make_golden_desk
from tympan.bootstrap.traffic import counting_traffic
from tympan.config import Settings, load
from tympan.domain import JobState, NewJob, Options, Source, SourceKind
from tympan.jobs.media import sha256_of
from tympan.jobs.service import JobService, new_id
from tympan.quality.golden import GoldenDesk
from tympan.quality.manifest import read_folder
from tympan.storage.golden import SetPlan
from tympan.storage.traffic import TrafficStore
from tympan.storage.usage import Period, UsageStore


def _measure_beside_a_job(settings: Settings, desk: GoldenDesk, jobs: JobService, clips: Sequence[SpokenClip]) -> str:
    """Hand in the first clip as somebody's job, and measure all as a set; return the run's id once both have ended."""
    copied = settings.data_dir / "upload"
    copied.write_bytes(clips[0].path.read_bytes())
    source = Source(SourceKind.STORED, "", copied.stat().st_size, sha256_of(copied))
    job = jobs.submit(NewJob(new_id("job"), source, Options(language="en"), tenant="acme"), copied)[0]
    desk.add("calls", read_folder(write_voices(settings.data_dir / "set", clips)), SetPlan())
    begun = desk.run("calls").id
    conductor = make_conductor(settings, desk.store.database, desk._blobs, jobs)

    def over() -> bool:
        conductor.tick()
        return desk.runs.get(begun).state != "running" and jobs.get("acme", job.id).state.is_terminal

    wait_until(over, 60)
    assert jobs.get("acme", job.id).state is JobState.SUCCEEDED
    return begun


def test_clips_of_golden_sets_are_neither_traffic_nor_usage(
    tmp_path: Path, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """They go the way of everybody's jobs; of three transcriptions the one that somebody asked for is counted."""
    settings = load({"engine": "fake", "data_dir": tmp_path, "poll_s": 0.05})
    clips = [clip for clip in spoken_clips if clip.language == "en"][:2]
    with open_stores(settings) as stores:
        with ExitStack() as started:
            post = WorkerPost(1.0)
            jobs = started.enter_context(open_desks(settings, stores, post)).jobs
            meter = started.enter_context(counting_traffic(settings, stores.database))
            pipeline = started.enter_context(running(settings, meter.add if meter else None))
            started.enter_context(job_worker(settings, stores, pipeline, tmp_path, post))
            pipeline.preload()
            desk = make_golden_desk(settings, stores.database, stores.blobs, jobs)
            run = desk.runs.get(_measure_beside_a_job(settings, desk, jobs, clips))
            assert (run.state, run.n_failed, run.n_items) == ("succeeded", 0, 2)
            assert all(result.text for result in desk.runs.results(run.id))
        today = datetime.now(UTC).date()
        days = today - timedelta(days=1), today
        counted = TrafficStore(stores.database).between(*days)
        assert {(row.kind, row.count) for row in counted if row.feature == "codec"} == {("job", 1)}
        used = UsageStore(stores.database).between(Period(*days))
        assert [(row.tenant, row.kind, row.used.requests) for row in used] == [("acme", "job", 1)]
