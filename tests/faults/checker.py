"""Judges a run by what clients were told and what was left behind; each broken promise is one line.

- I1 every accepted job ends, as it should, and none is lost
- I2 a job has one result, written by the last worker that claimed it, and the text of an undisturbed run
- I3 nothing follows the end of a job
- I4 one event for each end that somebody wanted to hear of, and it is delivered
- I5 one job for each request, however often it was repeated
- I6 no file without a job, no job without its file
- I8 no process, file or thread is left over
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.evidence import Entry, Evidence, JobRow, Remains

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
_FDS, _THREADS = 5, 2


@dataclass(slots=True)
class Promise:
    """One request of a client. ``ends`` are the states it may end in; ``text`` is what an undisturbed run gives."""

    intent: str
    ends: frozenset[str] = frozenset({"succeeded"})
    text: str | None = None
    error_code: str | None = None
    told: list[str] = field(default_factory=list)
    """The job's id, once for each time the request was accepted."""
    erased: bool | None = False
    """Whether it was erased; ``None``: erasing was asked for and never answered."""
    seen: list[str] = field(default_factory=list)
    """States in the order in which they were shown."""


@dataclass(slots=True)
class History:
    """All that clients were told."""

    promises: dict[str, Promise] = field(default_factory=dict)

    def promise(self, intent: str, **expected: object) -> Promise:
        """Add a request."""
        self.promises[intent] = Promise(intent, **expected)  # type: ignore[arg-type]
        return self.promises[intent]


def check(history: History, evidence: Evidence) -> list[str]:
    """Return every broken promise, empty when all were kept. ``evidence`` is of a time when all should have ended."""
    rules = (_ended, _one_result, _absorbing, _one_event, _one_job, _files, _nothing_left)
    return [broken for rule in rules for broken in rule(history, evidence)]


def _ended(history: History, evidence: Evidence) -> Iterator[str]:
    rows = {job.id: job for job in evidence.jobs}
    for promise in history.promises.values():
        for job_id in promise.told:
            if job_id in rows:
                yield from _as_promised(promise, rows[job_id], evidence)
            elif promise.erased is False:
                yield f"I1: {promise.intent} ({job_id}) was accepted and is lost"
    ended = {job.id for job in evidence.jobs if job.state in TERMINAL}
    for step in evidence.steps:
        if step.job_id in ended:
            yield f"I1: {step.job_id} has ended and still has the step {step.kind} {step.idx} ({step.state})"


def _as_promised(promise: Promise, job: JobRow, evidence: Evidence) -> Iterator[str]:
    name = f"{promise.intent} ({job.id})"
    if promise.erased:
        yield f"I1: {name} was erased and is still there"
        return
    if job.state not in TERMINAL:
        steps = [f"{s.kind} {s.idx} {s.state}" for s in evidence.steps if s.job_id == job.id]
        yield f"I1: {name} has not ended: {job.state}, {steps}"
    elif job.state not in promise.ends:
        yield f"I1: {name} ended {job.state} ({job.error_code}) instead of {sorted(promise.ends)}"
    elif job.state == "failed" and promise.error_code not in (None, job.error_code):
        yield f"I1: {name} failed with {job.error_code} instead of {promise.error_code}"


def _one_result(history: History, evidence: Evidence) -> Iterator[str]:
    texts = {job_id: promise.text for promise in history.promises.values() for job_id in promise.told}
    for job in evidence.jobs:
        has = job.id in evidence.results
        if has != (job.state == "succeeded"):
            yield f"I2: {job.id} is {job.state} and has {'a' if has else 'no'} result"
        elif has and texts.get(job.id) not in (None, evidence.results[job.id]):
            yield f"I2: {job.id} has another text than an undisturbed run"
    written = Counter(entry.job_id for entry in evidence.entries("result"))
    yield from (f"I2: {job_id} has had {count} results" for job_id, count in written.items() if count > 1)
    yield from _stale_writes(evidence)


def _stale_writes(evidence: Evidence) -> Iterator[str]:
    """Follow the claims, and find what was written by somebody who was no longer the last."""
    last: dict[int | None, int | None] = {}
    handed_in: dict[str, int | None] = {}
    for entry in evidence.diary:
        if entry.what == "claim":
            last[entry.step_id] = entry.fence
        elif entry.what == "done":
            if last.get(entry.step_id) != entry.fence:
                yield f"I2: {_step(entry)} was handed in with fence {entry.fence} after {last.get(entry.step_id)}"
            handed_in[entry.job_id] = entry.fence
        elif entry.what == "result" and handed_in.get(entry.job_id) != entry.fence:
            yield f"I2: the result of {entry.job_id} has fence {entry.fence}, its step {handed_in.get(entry.job_id)}"


def _absorbing(history: History, evidence: Evidence) -> Iterator[str]:
    for entry in evidence.entries("state"):
        if entry.was in TERMINAL:
            yield f"I3: {entry.job_id} went from {entry.was} to {entry.became}"
    rows = {job.id: job.state for job in evidence.jobs}
    for promise in history.promises.values():
        ends = [state for state in promise.seen if state in TERMINAL]
        after = promise.seen[promise.seen.index(ends[0]) :] if ends else []
        if len(set(after) - {"gone"}) > 1 or (promise.erased is False and "gone" in promise.seen):
            yield f"I3: {promise.intent} was shown as {promise.seen}"
        elif ends and promise.told and rows.get(promise.told[-1], ends[0]) != ends[0]:
            yield f"I3: {promise.intent} was shown as {ends[0]} and is {rows[promise.told[-1]]}"


def _one_event(history: History, evidence: Evidence) -> Iterator[str]:
    jobs = {job.id: job for job in evidence.jobs}
    erased = {entry.job_id for entry in evidence.entries("erased")}
    for (job_id, kind), count in Counter(evidence.events).items():
        if count > 1:
            yield f"I4: {job_id} has {count} events {kind}"
    for job in evidence.jobs:
        found = {kind for job_id, kind in evidence.events if job_id == job.id}
        wanted = {f"job.{job.state}"} if job.endpoint and job.state in TERMINAL else set()
        if found != wanted:
            yield f"I4: {job.id} is {job.state} and has the events {sorted(found)} instead of {sorted(wanted)}"
    written = Counter((entry.job_id, entry.became) for entry in evidence.entries("event"))
    yield from (f"I4: {kind} of {job_id} was written {n} times" for (job_id, kind), n in written.items() if n > 1)
    for pair in evidence.events:
        if evidence.deliveries.count(pair) != 1:
            yield f"I4: {pair[1]} of {pair[0]} is queued {evidence.deliveries.count(pair)} times"
        if pair[0] not in jobs and pair[0] in erased:
            yield f"I4: {pair[1]} of {pair[0]} has outlived its job"
    yield from _delivered(evidence)


def _delivered(evidence: Evidence) -> Iterator[str]:
    if evidence.received is None:
        return
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    for webhook_id, subject, kind in evidence.received:
        names[subject, kind].add(webhook_id)
    for pair in evidence.events:
        if pair not in names:
            yield f"I4: {pair[1]} of {pair[0]} was never delivered"
    for pair, ids in names.items():
        if len(ids) > 1:
            yield f"I4: {pair[1]} of {pair[0]} was delivered under {len(ids)} ids"


def _one_job(history: History, evidence: Evidence) -> Iterator[str]:
    for promise in history.promises.values():
        if len(set(promise.told)) > 1:
            yield f"I5: {promise.intent} was told of {len(set(promise.told))} jobs"
        made = [job.id for job in evidence.jobs if job.intent == promise.intent]
        if len(made) > 1:
            yield f"I5: {promise.intent} made {len(made)} jobs"
    told = {job_id for promise in history.promises.values() for job_id in promise.told}
    for job in evidence.jobs:
        if job.id not in told:
            yield f"I5: {job.id} ({job.intent}) is a job that nobody was told of"


def _files(history: History, evidence: Evidence) -> Iterator[str]:
    kept = {job.id: job for job in evidence.jobs}
    for key in evidence.blobs:
        owner = key.split("/")[1] if key.startswith("jobs/") else None
        if owner is not None and (owner not in kept or not kept[owner].has_audio):
            yield f"I6: {key} has no job"
    for job in evidence.jobs:
        if job.stored and job.has_audio and f"jobs/{job.id}/media" not in evidence.blobs:
            yield f"I6: {job.id} ({job.state}) has no audio"
    yield from (f"I6: {name} is left in transit" for name in evidence.leftovers)


def _nothing_left(history: History, evidence: Evidence) -> Iterator[str]:
    yield from left_over(evidence.remains) if evidence.remains else ()


def left_over(remains: Remains) -> Iterator[str]:
    """Yield what processes hold that they should have let go of."""
    if remains.children:
        yield f"I8: {remains.children} processes are left"
    if remains.zombies:
        yield f"I8: {remains.zombies} zombies are left"
    if remains.fds > remains.fresh_fds + _FDS:
        yield f"I8: {remains.fds} files are open, {remains.fresh_fds} when it was fresh"
    if remains.threads > remains.fresh_threads + _THREADS:
        yield f"I8: {remains.threads} threads run, {remains.fresh_threads} when it was fresh"


def _step(entry: Entry) -> str:
    return f"{entry.kind} {entry.idx} of {entry.job_id}"
