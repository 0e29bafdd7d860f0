"""Steps as the workers see them: claim, hold, hand in, give back. A lease says who works, a fence who may write.

Every write names the claim's fence and a lease that has not run out; a worker that was frozen and has been replaced
finds that it holds nothing (``LeaseLost``) and drops what it has.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, case, delete, func, insert, select, update

from tympan.domain import SAMPLE_RATE_HZ, Fault, Job, JobState, Lane, Ranking, StepKind, Transcript
from tympan.errors import NotFound, TympanError
from tympan.faultpoints import reach
from tympan.storage import codec
from tympan.storage.anew import BegunAnew, Bound, KnownWeights, LeftToOthers, bind, told
from tympan.storage.choosing import choosable
from tympan.storage.claims import UNTIL_CUT_S, Claim, LeaseLost, check, claim_from, mine
from tympan.storage.codec import Prepared, SectionResult
from tympan.storage.database import Database
from tympan.storage.endings import Endings
from tympan.storage.prospects import ORDER
from tympan.storage.results import find_result, pack, store_result
from tympan.storage.rows import job_from
from tympan.storage.tables import bells, jobs, steps, workers

__all__ = ["Claim", "Cut", "LeaseLost", "WorkStore"]


@dataclass(frozen=True, slots=True)
class Cut:
    """One section as it is cut: its number and its place in the source."""

    index: int
    start_sample: int
    end_sample: int


class WorkStore:
    """The steps table."""

    def __init__(self, database: Database, endings: Endings, *, lease_s: float = 30.0, rings: bool = False) -> None:
        """Work on ``database``; a claim is good for ``lease_s`` unless extended; ``rings`` writes doorbells."""
        self._db, self._endings, self._rings, self._lease_s = database, endings, rings, lease_s
        self._weights = KnownWeights()

    def claim(
        self, owner: str, lanes: Iterable[Lane], but: Iterable[str] = (), models: Collection[str] | None = None
    ) -> Claim | None:
        """Return the step whose turn it is, leased to ``owner``; ``None`` for nothing to do. See ``choosable``."""
        wanted = choosable(lanes, but, models) & self._weights.choosable(self._db.now())
        claim = self._db.write(lambda tx: self._claim(tx, owner, wanted))
        if claim is not None:
            reach("step.claimed")
        return claim

    @property
    def weights(self) -> str:
        """Digests of the models that this process has transcribed jobs with, as others are told of them."""
        return told(self._weights.digests)

    def bind(self, claim: Claim, model: str, digest: str) -> None:
        """Let the claim's job be transcribed by the model with this digest, and by no other.

        What another model of that name has done of it is left to a worker that has that model, as long as one lives:
        raises ``LeftToOthers``. Else it is done anew: raises ``BegunAnew`` when finished sections were dropped.
        Raises ``LeaseLost`` too, and ``ModelError`` when the job has begun anew too often.
        """
        self._weights.learn(model, digest)

        def work(tx: Connection) -> tuple[Bound, str | None]:
            bound, other = bind(tx, self._db, claim, digest)
            mine_too = update(workers).where(workers.c.id == claim.owner)
            tx.execute(mine_too.values(weights=self.weights))  # So that others know before the next beat.
            if bound is not Bound.OURS:
                self._ring(tx, claim.job.lane)
            if bound is Bound.ANEW:
                reach("anew.commit")
            return bound, other

        bound, other = (Bound.OURS, None) if claim.job.weights == digest else self._db.write(work)
        if bound is Bound.LEFT:
            self._weights.leave(other or "")
            raise LeftToOthers
        if bound is Bound.ANEW:
            raise BegunAnew

    def extend(self, owner: str, step_ids: Iterable[int]) -> set[int]:
        """Extend the leases of ``owner`` on these steps, and return which it still holds."""
        query = (
            update(steps)
            .where(steps.c.id.in_(list(step_ids)), steps.c.lease_owner == owner, steps.c.state == "running")
            .values(lease_until=self._db.now() + self._lease_s)
            .returning(steps.c.id)
        )
        return self._db.write(lambda tx: set(tx.scalars(query)))

    def note_progress(self, owner: str, done_samples: Mapping[int, int]) -> None:
        """Note how far steps have come, for those who ask about their jobs."""

        def work(tx: Connection) -> None:
            for step_id, done in done_samples.items():
                mine = (steps.c.id == step_id, steps.c.lease_owner == owner, steps.c.state == "running")
                tx.execute(update(steps).where(*mine).values(done_samples=done))

        self._db.write(work)

    def held(self, owner: str) -> set[int]:
        """Return the steps that ``owner`` holds; one that is missing was cancelled or given to another."""
        query = select(steps.c.id).where(steps.c.lease_owner == owner, steps.c.state == "running")
        return self._db.read(lambda tx: set(tx.scalars(query)))

    def is_erased(self, job_id: str) -> bool:
        """Return whether the job is not there any more."""
        return self._db.read(lambda tx: tx.scalar(select(jobs.c.id).where(jobs.c.id == job_id))) is None

    def settle(self, claim: Claim, languages: Ranking, model: str | None = None) -> None:
        """Set language and model for the sections that are cut from now on. Raises ``LeaseLost``."""

        def work(tx: Connection) -> None:
            check(tx, self._db, claim)
            settled = {"language": languages[0][0], "model": func.coalesce(jobs.c.model, model)}
            tx.execute(update(jobs).where(jobs.c.id == claim.job.id).values(settled))

        self._db.write(work)

    def section_ends(self, claim: Claim) -> set[int]:
        """Return where an earlier run of ``prepare`` cut the source."""
        of_job = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.SECTION.value)
        return self._db.read(lambda tx: set(tx.scalars(select(steps.c.end_sample).where(*of_job))))

    def add_section(self, claim: Claim, cut: Cut) -> None:
        """Make one section claimable; one that is there already, from an earlier run, is left. Raises ``LeaseLost``."""
        self._db.write(lambda tx: self._add_section(tx, claim, cut))

    def prepared(self, claim: Claim, n_sections: int, facts: Prepared, fingerprint: str) -> None:
        """Hand in ``prepare``: the sections are complete. Raises ``LeaseLost``."""

        def work(tx: Connection) -> None:
            self._hand_in(tx, claim)
            row = tx.execute(
                update(jobs)
                .where(jobs.c.id == claim.job.id)
                .values(
                    sections_total=n_sections,
                    audio_s_total=facts.audio_samples / SAMPLE_RATE_HZ,
                    prepared=codec.dump(facts),
                    fingerprint=fingerprint,
                )
                .returning(jobs.c.sections_done)
            ).one()
            if row.sections_done == n_sections:
                self._add_finish(tx, claim)
            reach("prepare.commit")

        self._db.write(work)

    def commit_section(self, claim: Claim, result: SectionResult, text: str) -> None:
        """Hand in a section's result. Raises ``LeaseLost``."""

        def work(tx: Connection) -> None:
            self._hand_in(tx, claim, result=codec.dump(result), text=text)
            audio_s = (claim.end_sample - claim.start_sample) / SAMPLE_RATE_HZ
            row = tx.execute(
                update(jobs)
                .where(jobs.c.id == claim.job.id)
                .values(sections_done=jobs.c.sections_done + 1, audio_s_done=jobs.c.audio_s_done + audio_s)
                .returning(jobs.c.sections_done, jobs.c.sections_total)
            ).one()
            if row.sections_done == row.sections_total:
                self._add_finish(tx, claim)
            reach("section.commit")

        self._db.write(work)
        reach("section.committed")

    def results(self, claim: Claim) -> tuple[Prepared, list[SectionResult]]:
        """Return what ``finish`` joins: the facts about the audio, and all sections in order. Raises ``LeaseLost``."""
        of_job = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.SECTION.value)
        query = select(steps.c.result).where(*of_job, steps.c.state == "done").order_by(steps.c.idx)

        def work(tx: Connection) -> tuple[str | None, list[str]]:
            prepared = tx.scalar(select(jobs.c.prepared).where(jobs.c.id == claim.job.id))
            return prepared, list(tx.scalars(query))

        prepared, found = self._db.read(work)
        if prepared is None:
            raise LeaseLost
        return codec.PREPARED.validate_json(prepared), [codec.SECTION.validate_json(text) for text in found]

    def fingerprint(self, claim: Claim) -> str | None:
        """Return what the claim's job has in common with equal ones, once it is prepared."""
        query = select(jobs.c.fingerprint).where(jobs.c.id == claim.job.id)
        return self._db.read(lambda tx: tx.scalar(query))

    def finish(self, claim: Claim, transcript: Transcript, served: str | None = None) -> None:
        """Store the transcript and end the job, with its event, in one transaction. Raises ``LeaseLost``.

        ``served`` is the fingerprint of a job that was given an equal one's result.
        """
        packed = pack(transcript)

        def work(tx: Connection) -> None:
            self._hand_in(tx, claim)
            store_result(tx, self._db, claim.job.id, claim.fence, packed)
            length_s = transcript.duration_s
            tx.execute(
                update(jobs)
                .where(jobs.c.id == claim.job.id)
                .values(
                    language=transcript.language,
                    audio_s_total=length_s,
                    audio_s_done=length_s,
                    sections_total=func.coalesce(jobs.c.sections_total, 0),  # None, where an equal result was found.
                    fingerprint=func.coalesce(served, jobs.c.fingerprint),
                )
            )
            self._endings.end(tx, claim.job.id, JobState.SUCCEEDED, transcript=transcript)
            reach("finish.commit")

        self._db.write(work)
        reach("finish.committed")

    def cached(self, claim: Claim, fingerprint: str, ttl_s: float) -> Transcript | None:
        """Return the transcript of an equal job of the same tenant that ended no longer than ``ttl_s`` ago.

        A fingerprint ends with the digest of the model; a job whose sections came from another one is not equal.
        """
        equal = (
            jobs.c.tenant == claim.job.tenant,
            jobs.c.fingerprint == fingerprint,
            jobs.c.weights.is_(None) | (jobs.c.weights == func.substr(jobs.c.fingerprint, 33)),
            jobs.c.state == JobState.SUCCEEDED.value,
            jobs.c.finished_at > self._db.now() - ttl_s,
        )
        try:
            return find_result(self._db, *equal).whole()
        except NotFound:
            return None  # Or it has been erased since.

    def fail(self, claim: Claim, error: TympanError) -> None:
        """End the job with an error. Raises ``LeaseLost``."""

        def work(tx: Connection) -> None:
            check(tx, self._db, claim)
            self._endings.end(tx, claim.job.id, JobState.FAILED, Fault(error.code, error.message, error.remedy))
            reach("job.fail")

        self._db.write(work)

    def retry(self, claim: Claim, delay_s: float) -> None:
        """Give the step back, to be tried again after ``delay_s``, and count that. Raises ``LeaseLost``."""
        self._give_back(claim, delay_s, retries=claim.retries + 1)

    def cut_again(self, claim: Claim) -> None:
        """Let the job be prepared once more, and count that; the section waits for it. Raises ``LeaseLost``."""

        def work(tx: Connection) -> None:
            self._give_back_in(tx, claim, UNTIL_CUT_S, claim.retries + 1)
            done = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.PREPARE.value, steps.c.state == "done")
            tx.execute(update(steps).where(*done).values(state="ready", run_at=self._db.now()))
            # Until the audio is cut nobody knows which section is the last.
            tx.execute(update(jobs).where(jobs.c.id == claim.job.id).values(sections_total=None))
            self._ring(tx, claim.job.lane)

        self._db.write(work)

    def release(self, claim: Claim, delay_s: float = 0.0) -> None:
        """Give the step back uncounted: the worker is stopping, or something the job cannot help is out of order.

        Raises ``LeaseLost``.
        """
        self._give_back(claim, delay_s, retries=claim.retries)

    def _claim(self, tx: Connection, owner: str, wanted: ColumnElement[bool]) -> Claim | None:
        while (step := self._next_step(tx, owner, wanted)) is not None:
            job = self._start(tx, step)
            if job is not None:
                return claim_from(step, owner, job)
        return None

    def _next_step(self, tx: Connection, owner: str, wanted: ColumnElement[bool]) -> RowMapping | None:
        now = self._db.now()
        turn = (
            select(steps.c.id)
            .where(steps.c.state == "ready", wanted, steps.c.run_at <= now)
            .order_by(*ORDER)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        taken = (
            update(steps)
            .where(steps.c.id == turn.scalar_subquery())
            .values(state="running", lease_owner=owner, lease_until=now + self._lease_s, fence=steps.c.fence + 1)
            .returning(*steps.c)
        )
        return tx.execute(taken).mappings().first()

    def _start(self, tx: Connection, step: RowMapping) -> Job | None:
        """Return the step's job, running; or end it, when its deadline has passed, and return ``None``."""
        of_job = jobs.c.id == step["job_id"]
        now = self._db.now()
        if tx.scalar(select(jobs.c.id).where(of_job, jobs.c.deadline < now)) is not None:
            self._endings.expire(tx, step["job_id"])
            return None
        attempt = step["retries"] + step["crashes"] + 1
        tx.execute(
            update(jobs)
            .where(of_job, (jobs.c.state == JobState.QUEUED.value) | (jobs.c.attempts < attempt))
            .values(
                state=JobState.RUNNING.value,
                started_at=func.coalesce(jobs.c.started_at, now),
                attempts=case((jobs.c.attempts < attempt, attempt), else_=jobs.c.attempts),
            )
        )
        return job_from(tx.execute(select(jobs).where(of_job)).mappings().one())

    def _hand_in(self, tx: Connection, claim: Claim, **values: object) -> None:
        done = {"state": "done", "lease_owner": None, "lease_until": None, **values}
        if not tx.execute(update(steps).where(mine(self._db, claim)).values(done)).rowcount:
            raise LeaseLost

    def _give_back(self, claim: Claim, delay_s: float, retries: int) -> None:
        self._db.write(lambda tx: self._give_back_in(tx, claim, delay_s, retries))

    def _give_back_in(self, tx: Connection, claim: Claim, delay_s: float, retries: int) -> None:
        values = {
            "state": "ready",
            "lease_owner": None,
            "lease_until": None,
            "retries": retries,
            "run_at": self._db.now() + delay_s,
        }
        if not tx.execute(update(steps).where(mine(self._db, claim)).values(values)).rowcount:
            raise LeaseLost
        if not delay_s:
            self._ring(tx, claim.job.lane)

    def _add_section(self, tx: Connection, claim: Claim, cut: Cut) -> None:
        check(tx, self._db, claim)
        of_job = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.SECTION.value)
        same = (
            steps.c.idx == cut.index,
            steps.c.start_sample == cut.start_sample,
            steps.c.end_sample == cut.end_sample,
        )
        there = tx.scalar(select(steps.c.id).where(*of_job, *same))
        if there is not None:
            # One whose audio was lost has been waiting for this.
            waits = (steps.c.id == there, steps.c.state == "ready", steps.c.run_at > self._db.now())
            if tx.execute(update(steps).where(*waits).values(run_at=self._db.now())).rowcount:
                self._ring(tx, claim.job.lane)
            return
        # What another version cut differently is of no use from here on.
        later = delete(steps).where(*of_job, steps.c.idx >= cut.index)
        dropped = tx.execute(later.returning(steps.c.state, steps.c.start_sample, steps.c.end_sample)).all()
        done = [row.end_sample - row.start_sample for row in dropped if row.state == "done"]
        if done:
            tx.execute(
                update(jobs)
                .where(jobs.c.id == claim.job.id)
                .values(
                    sections_done=jobs.c.sections_done - len(done),
                    audio_s_done=jobs.c.audio_s_done - sum(done) / SAMPLE_RATE_HZ,
                )
            )
        self._add_step(tx, claim, StepKind.SECTION, cut)
        reach("section.insert")

    def _add_finish(self, tx: Connection, claim: Claim) -> None:
        self._add_step(tx, claim, StepKind.FINISH, Cut(0, 0, 0))

    def _add_step(self, tx: Connection, claim: Claim, kind: StepKind, cut: Cut) -> None:
        start_s = cut.start_sample / SAMPLE_RATE_HZ
        tx.execute(
            insert(steps).values(
                job_id=claim.job.id,
                kind=kind.value,
                idx=cut.index,
                state="ready",
                lane=int(claim.job.lane),
                rank=-claim.job.priority,
                # Sections take their turns among other jobs'; what is left to do after them is nothing but a write.
                tag_s=claim.tag_s + (start_s if kind is StepKind.SECTION else 0.0),
                run_at=self._db.now(),
                start_sample=cut.start_sample,
                end_sample=cut.end_sample,
            )
        )
        self._ring(tx, claim.job.lane)

    def _ring(self, tx: Connection, lane: Lane) -> None:
        if self._rings:
            tx.execute(insert(bells).values(lane=int(lane), created_at=self._db.now()))
