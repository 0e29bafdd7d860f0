"""Which process does a chore that one at a time should do.

This saves double work and nothing else: a process that is slower than its turn and the next one may both be at it, so
whatever a chore writes has to be right all the same.
"""

from sqlalchemy import Connection

from tympan.storage.database import Database
from tympan.storage.quality_tables import chores


class Chores:
    """The chores table, for one process, which is called ``owner``."""

    def __init__(self, database: Database, owner: str) -> None:
        """Work on ``database``."""
        self._db, self._owner = database, owner

    def take(self, name: str, turn_s: float) -> bool:
        """Return whether the chore is ours for the next ``turn_s``; who had it last and asks again has it again."""
        until = self._db.now() + turn_s
        new = self._db.insert(chores).values(name=name, owner=self._owner, until=until)
        free = (chores.c.until < self._db.now()) | (chores.c.owner == self._owner)
        claim = new.on_conflict_do_update(
            index_elements=[chores.c.name], set_={"owner": self._owner, "until": until}, where=free
        )

        def work(tx: Connection) -> bool:
            return tx.execute(claim.returning(chores.c.name)).first() is not None

        return self._db.write(work)
