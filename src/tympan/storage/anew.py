"""The model that a job is transcribed by: its sections never come from two that differ.

A name can mean other weights after a restart, and on another machine. So the first section that begins writes down a
digest of all that decides a text (``EngineInfo.digest``). Steps of a job are left to the workers that have its model
as long as one of them lives. When none does, whoever takes the next section begins the job anew with what it has:
finished sections are dropped, and the audio is cut again.
"""

from collections import deque
from enum import Enum

from sqlalchemy import ColumnElement, Connection, exists, func, select, true, update

from tympan.domain import StepKind
from tympan.errors import ModelError
from tympan.storage.claims import UNTIL_CUT_S, Claim, LeaseLost, check
from tympan.storage.database import Database
from tympan.storage.queue_bound import SEEN_WITHIN_S
from tympan.storage.tables import jobs, steps, workers

_BACK = {"state": "ready", "lease_owner": None, "lease_until": None, "done_samples": 0}
_FOREIGN = 64
"""Models of others that are remembered; one that is forgotten costs a claim."""

MAX_RESTARTS = 5
"""A job that has been begun anew this often is given up: the machines do not agree on what the model is."""


class BegunAnew(LeaseLost):
    """The job was begun anew, and the claim's step waits with the others until the audio is cut again."""


class LeftToOthers(LeaseLost):
    """The job belongs to another model, which a living worker has; the claim's step has been given back."""


class Bound(Enum):
    """What came of a step that wanted to bind its job to a model."""

    OURS = "ours"
    ANEW = "anew"
    LEFT = "left"


class KnownWeights:
    """Digests of the models that this process has transcribed jobs with, the last one under each name; and of others.

    The others are those of jobs that it met and had to leave, so that it does not take the same step again and again.
    """

    def __init__(self) -> None:
        """Know none."""
        self._by_model: dict[str, str] = {}
        self._foreign: deque[str] = deque(maxlen=_FOREIGN)

    @property
    def digests(self) -> tuple[str, ...]:
        """The digests."""
        return tuple(self._by_model.values())

    def learn(self, model: str, digest: str) -> None:
        """Remember what a model's name means here."""
        self._by_model[model] = digest

    def leave(self, digest: str) -> None:
        """Remember a model that this process does not have."""
        if digest not in self._foreign:
            self._foreign.append(digest)

    def choosable(self, now: ColumnElement[float]) -> ColumnElement[bool]:
        """Return what holds for steps of jobs that are not left to another worker, one that lives and has their model.

        What this process has is known once it has bound a job to it, so a step has to be taken to find that out.
        """
        foreign = set(self._foreign) - set(self.digests)
        if not foreign:
            return true()
        return ~exists().where(jobs.c.id == steps.c.job_id, jobs.c.weights.in_(sorted(foreign)), _lives(now))


def _lives(now: ColumnElement[float], *which: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return what holds for jobs whose model a living worker has, one for which ``which`` holds."""
    has_it = workers.c.weights.contains(jobs.c.weights)
    return exists().where(workers.c.seen_at > now - SEEN_WITHIN_S, has_it, *which)


def told(digests: tuple[str, ...]) -> str:
    """Return digests as a worker's row holds them."""
    return " ".join(digests)


def bind(tx: Connection, database: Database, claim: Claim, digest: str) -> tuple[Bound, str | None]:
    """Let the claim's job be transcribed by the model with this digest, unless it is left to others.

    Return what came of it, and the digest that the job had. Raises ``LeaseLost``, and ``ModelError`` when the job has
    begun anew too often.
    """
    # All of them, in one order: two who do this at once must not each wait for the other.
    tx.execute(select(steps.c.id).where(steps.c.job_id == claim.job.id).order_by(steps.c.id).with_for_update())
    check(tx, database, claim)
    query = select(jobs.c.weights, jobs.c.restarts).where(jobs.c.id == claim.job.id)
    row = tx.execute(query.with_for_update()).one()
    differs = row.weights not in (None, digest)
    if differs and _has_another(tx, database, claim):
        tx.execute(update(steps).where(steps.c.id == claim.step_id).values(_BACK | {"run_at": database.now()}))
        return Bound.LEFT, row.weights
    anew = differs and _take_over(tx, database, claim)
    if anew and row.restarts >= MAX_RESTARTS:
        raise ModelError(
            f"The model's weights have changed {row.restarts + 1} times while the job ran.",
            remedy="Give all workers the same weights under one name, in one number format, and hand the job in again.",
        )
    tx.execute(update(jobs).where(jobs.c.id == claim.job.id).values(weights=digest))
    return Bound.ANEW if anew else Bound.OURS, row.weights


def _has_another(tx: Connection, database: Database, claim: Claim) -> bool:
    """Return whether a living worker, other than the claim's, has the model that the job belongs to."""
    another = _lives(database.now(), workers.c.id != claim.owner)
    return tx.scalar(select(jobs.c.id).where(jobs.c.id == claim.job.id, another)) is not None


def _take_over(tx: Connection, database: Database, claim: Claim) -> bool:
    """Take a job's other sections from those who are at them; return whether finished ones had to be dropped."""
    others = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.SECTION.value)
    done = tx.scalar(select(func.count()).select_from(steps).where(*others, steps.c.state == "done"))
    if not done:
        running = (*others, steps.c.state == "running", steps.c.id != claim.step_id)
        tx.execute(update(steps).where(*running).values(_BACK | {"run_at": database.now()}))
        return False
    waiting = {"run_at": database.now() + UNTIL_CUT_S, "result": None, "text": None}
    tx.execute(update(steps).where(*others).values(_BACK | waiting))
    prepare = (steps.c.job_id == claim.job.id, steps.c.kind == StepKind.PREPARE.value)
    tx.execute(update(steps).where(*prepare).values(_BACK | {"run_at": database.now()}))
    tx.execute(
        update(jobs)
        .where(jobs.c.id == claim.job.id)
        .values(
            language=claim.job.options.language,  # What was settled came from the model before.
            sections_done=0,
            sections_total=None,
            audio_s_done=0.0,
            restarts=jobs.c.restarts + 1,
        )
    )
    return True
