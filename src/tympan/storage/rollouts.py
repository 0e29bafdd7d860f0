"""New models on trial: one at a time answers a share, and one at a time has taken the default's place.

Every change is in the audit log, in the same transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from tympan.errors import Conflict, NotFound
from tympan.storage.audit import AuditEntry, note
from tympan.storage.database import Database
from tympan.storage.ids import new_id
from tympan.storage.quality_tables import rollouts

RUNNING, PROMOTED, REPLACED, ROLLED_BACK = "running", "promoted", "replaced", "rolled_back"

_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Rollout:
    """A trial: ``candidate`` answers a ``share`` (0 to 1) of those who would have got ``incumbent``, the default.

    ``running`` until it is ``promoted`` or ``rolled_back``; ``replaced`` once another was promoted after it. Times are
    Unix seconds by the database's clock.
    """

    id: str
    candidate: str
    incumbent: str
    share: float
    state: str
    began_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds now: the trial that runs, and the one whose candidate is the default in place of ``MODEL``."""

    running: Rollout | None = None
    promoted: Rollout | None = None


class RolloutStore:
    """The table of rollouts."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def standing(self) -> Standing:
        """Return what holds now. Raises ``StorageUnavailable``."""
        query = select(rollouts).where(rollouts.c.state.in_((RUNNING, PROMOTED)))
        found = {row.state: Rollout(*row) for row in self._db.read(lambda tx: tx.execute(query).all())}
        return Standing(found.get(RUNNING), found.get(PROMOTED))

    def running(self) -> Rollout:
        """Return the trial that runs. Raises ``NotFound`` when none does."""
        return self._db.read(_running)

    def listing(self) -> Sequence[Rollout]:
        """Return all rollouts, the newest first, ``1000`` at most."""
        query = select(rollouts).order_by(rollouts.c.id.desc()).limit(_MOST)
        return self._db.read(lambda tx: [Rollout(*row) for row in tx.execute(query)])

    def start(self, candidate: str, incumbent: str, share: float, entry: AuditEntry) -> Rollout:
        """Begin a trial and return it. Raises ``Conflict`` while another one runs."""
        rollout_id = new_id("rol")

        def work(tx: Connection) -> Rollout:
            row = {"id": rollout_id, "candidate": candidate, "incumbent": incumbent, "share": share, "state": RUNNING}
            new = self._db.insert(rollouts).values(**row, began_at=self._db.now())
            new = new.on_conflict_do_nothing(index_elements=["state"], index_where=rollouts.c.state == RUNNING)
            if tx.execute(new.returning(rollouts.c.id)).first() is None:
                raise Conflict(
                    "A rollout is running already.",
                    remedy="End it first: `tympan rollout promote` or `tympan rollout rollback`.",
                )
            return self._noted(tx, rollout_id, entry)

        return self._db.write(work)

    def change_share(self, share: float, entry: AuditEntry) -> Rollout:
        """Give the running trial another share and return it. Raises ``NotFound`` when none runs."""

        def work(tx: Connection) -> Rollout:
            found = _running(tx)
            tx.execute(update(rollouts).where(rollouts.c.id == found.id).values(share=share))
            return self._noted(tx, found.id, entry)

        return self._db.write(work)

    def promote(self, rollout_id: str, entry: AuditEntry) -> Rollout:
        """Let the running trial's candidate be the default, and return it.

        ``rollout_id`` says which one is meant. Raises ``NotFound`` when that is not the one that runs.
        """

        def work(tx: Connection) -> Rollout:
            found = _running(tx)
            if found.id != rollout_id:
                raise NotFound(
                    f"The rollout {rollout_id!r} is no longer running.", remedy="`tympan rollout status` shows what is."
                )
            self._end(tx, PROMOTED, REPLACED)
            self._end(tx, RUNNING, PROMOTED)
            return self._noted(tx, found.id, entry)

        return self._db.write(work)

    def roll_back(self, entry: AuditEntry) -> Rollout:
        """End the running trial, or else take the promoted one back, and return it.

        What was the default before a promoted one is it again. Raises ``NotFound`` when there is nothing to undo.
        """

        def work(tx: Connection) -> Rollout:
            found = _in_state(tx, RUNNING) or _in_state(tx, PROMOTED)
            if found is None:
                raise NotFound(
                    "There is no rollout to roll back.", remedy="`tympan rollout list` shows what there was."
                )
            self._end(tx, found.state, ROLLED_BACK)
            if found.state == PROMOTED:
                # Who was replaced last is the default again: the settings' model, where nobody was.
                before = select(rollouts.c.id).where(rollouts.c.state == REPLACED, rollouts.c.id < found.id)
                before = before.order_by(rollouts.c.id.desc()).limit(1)
                last = tx.scalar(before)
                if last is not None:
                    tx.execute(update(rollouts).where(rollouts.c.id == last).values(state=PROMOTED))
            return self._noted(tx, found.id, entry)

        return self._db.write(work)

    def _end(self, tx: Connection, was: str, becomes: str) -> None:
        tx.execute(update(rollouts).where(rollouts.c.state == was).values(state=becomes, ended_at=self._db.now()))

    def _noted(self, tx: Connection, rollout_id: str, entry: AuditEntry) -> Rollout:
        found = Rollout(*tx.execute(select(rollouts).where(rollouts.c.id == rollout_id)).one())
        note(tx, self._db, entry, rollout_id, candidate=found.candidate)
        return found


def _running(tx: Connection) -> Rollout:
    found = _in_state(tx, RUNNING)
    if found is None:
        raise NotFound("No rollout is running.", remedy="Begin one: `tympan rollout start MODEL`.")
    return found


def _in_state(tx: Connection, state: str) -> Rollout | None:
    row = tx.execute(select(rollouts).where(rollouts.c.state == state)).first()
    return None if row is None else Rollout(*row)
