"""The judge of the crash tests must be able to find fault: each promise broken once."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from tests.faults.checker import TERMINAL, History, Promise, check
from tests.faults.evidence import Entry, Evidence, JobRow, Remains, StepRow, gather, keep_diary
from tests.jobs_support import TENANT, open_shop

_JOB = JobRow("job_1", "succeeded", "one", "ep_1")
_DIARY = (
    Entry(1, "job", "job_1", became="queued"),
    Entry(2, "claim", "job_1", 1, "prepare", 0, 1, "w", "ready"),
    Entry(2, "state", "job_1", was="queued", became="running"),
    Entry(3, "done", "job_1", 1, "prepare", 0, 1, "running", "done"),
    Entry(4, "claim", "job_1", 2, "finish", 0, 1, "w", "ready"),
    Entry(5, "claim", "job_1", 2, "finish", 0, 2, "v", "ready"),
    Entry(6, "done", "job_1", 2, "finish", 0, 2, "running", "done"),
    Entry(6, "result", "job_1", fence=2),
    Entry(6, "state", "job_1", was="running", became="succeeded"),
    Entry(6, "event", "job_1", became="job.succeeded"),
)
_GOOD = Evidence(
    jobs=(_JOB,),
    results={"job_1": "words"},
    events=(("job_1", "job.succeeded"),),
    deliveries=(("job_1", "job.succeeded"),),
    received=(("evt_1", "job_1", "job.succeeded"), ("evt_1", "job_1", "job.succeeded")),
    diary=_DIARY,
    blobs=("jobs/job_1/media",),
    remains=Remains(fds=12, fresh_fds=10, threads=4, fresh_threads=4),
)


def _history(**changes: object) -> History:
    kept = Promise("one", text="words", told=["job_1", "job_1"], seen=["queued", "running", "succeeded"])
    return History({"one": replace(kept, **changes)})  # type: ignore[arg-type]


def _found(evidence: Evidence, history: History | None = None) -> set[str]:
    return {line[:2] for line in check(history or _history(), evidence)}


def test_a_run_that_kept_every_promise_is_left_in_peace() -> None:
    """Repeated requests, claims and deliveries are no fault."""
    assert check(_history(), _GOOD) == []


_BROKEN = {
    "lost": ("I1", {"jobs": (), "results": {}, "events": (), "deliveries": (), "blobs": (), "received": None}),
    "not ended": ("I1", {"jobs": (replace(_JOB, state="running"),), "events": (), "results": {}}),
    "ended otherwise": ("I1", {"jobs": (replace(_JOB, state="failed"),)}),
    "a step left": ("I1", {"steps": (StepRow("job_1", "section", 0, "ready"),)}),
    "no result": ("I2", {"results": {}}),
    "other text": ("I2", {"results": {"job_1": "other"}}),
    "two results": ("I2", {"diary": (*_DIARY, Entry(7, "result", "job_1", fence=2))}),
    "stale result": ("I2", {"diary": (*_DIARY[:7], Entry(6, "result", "job_1", fence=1), *_DIARY[8:])}),
    "stale hand-in": ("I2", {"diary": (*_DIARY[:6], replace(_DIARY[6], fence=1), *_DIARY[7:])}),
    "risen": ("I3", {"diary": (*_DIARY, Entry(8, "state", "job_1", was="succeeded", became="cancelled"))}),
    "no event": ("I4", {"events": (), "deliveries": ()}),
    "second event": ("I4", {"events": (("job_1", "job.succeeded"), ("job_1", "job.failed"))}),
    "same event twice": ("I4", {"events": _GOOD.events * 2}),
    "event rewritten": ("I4", {"diary": (*_DIARY, _DIARY[-1])}),
    "not queued": ("I4", {"deliveries": ()}),
    "not delivered": ("I4", {"received": ()}),
    "two ids": ("I4", {"received": (*(_GOOD.received or ()), ("evt_2", "job_1", "job.succeeded"))}),
    "twin": ("I5", {"jobs": (_JOB, replace(_JOB, id="job_2"))}),
    "stranger": ("I5", {"jobs": (_JOB, replace(_JOB, id="job_2", intent=None))}),
    "orphan": ("I6", {"blobs": (*_GOOD.blobs, "jobs/job_0/media")}),
    "audio lost": ("I6", {"blobs": ()}),
    "in transit": ("I6", {"leftovers": ("0123",)}),
    "child": ("I8", {"remains": Remains(children=1)}),
    "zombie": ("I8", {"remains": Remains(zombies=1)}),
    "files": ("I8", {"remains": Remains(fds=16, fresh_fds=10)}),
    "threads": ("I8", {"remains": Remains(threads=7, fresh_threads=4)}),
}


@pytest.mark.parametrize(("invariant", "change"), _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_promise_is_found(invariant: str, change: dict[str, object]) -> None:
    """What was left behind contradicts what was promised."""
    assert invariant in _found(replace(_GOOD, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("invariant", "change"),
    [
        ("I3", {"seen": ["succeeded", "running"]}),
        ("I3", {"seen": ["running", "gone"]}),
        ("I3", {"seen": ["running", "cancelled"]}),
        ("I5", {"told": ["job_1", "job_2"]}),
        ("I1", {"told": ["job_1", "job_2"]}),
        ("I1", {"erased": True, "ends": TERMINAL}),
        ("I1", {"ends": frozenset({"cancelled"})}),
    ],
)
def test_what_clients_saw_counts_too(invariant: str, change: dict[str, object]) -> None:
    """A client was shown or told what does not fit."""
    assert invariant in _found(_GOOD, _history(**change))


def test_an_erased_job_may_be_gone_or_not_when_nobody_answered() -> None:
    """Only an answer is a promise."""
    bare = Evidence()
    assert _found(bare, _history(erased=True)) == set()
    assert _found(bare, _history(erased=None)) == set()
    assert _found(_GOOD, _history(erased=None)) == set()


def test_the_diary_tells_what_really_happened(tmp_path: Path) -> None:
    """Claims, hand-ins, results, states and events of a real job, and nothing of what was rolled back."""
    with open_shop(tmp_path) as shop:
        keep_diary(shop.database)
        job = shop.submit(30.0)
        shop.work_off()
        cancelled = shop.submit(30.0, seed=2)
        shop.service.cancel(TENANT, cancelled.id)
        found = gather(shop.database, shop.blobs)
        history = History(
            {"a": Promise("a", told=[job.id]), "b": Promise("b", frozenset({"cancelled"}), told=[cancelled.id])}
        )
        assert check(history, found) == []
        assert [entry.became for entry in found.entries("state")] == ["running", "succeeded", "cancelled"]
        assert len(found.entries("claim", "section")) == len(found.entries("done", "section")) == 2
        assert [entry.fence for entry in found.entries("result")] == [1]
        # The database itself refuses to break its promise, and is made to.
        with pytest.raises(IntegrityError):
            shop.database.write(lambda tx: tx.execute(text("update jobs set state = 'running'")))
        shop.database.write(lambda tx: tx.execute(text("drop trigger jobs_absorb")))
        shop.database.write(lambda tx: tx.execute(text("update jobs set state = 'running' where state = 'cancelled'")))
        shop.database.write(lambda tx: tx.execute(text("update results set fence = 0")))
        shop.blobs.delete_prefix(f"jobs/{job.id}/")
        broken = {line[:2] for line in check(history, gather(shop.database, shop.blobs))}
        assert broken == {"I1", "I2", "I3", "I6"}
