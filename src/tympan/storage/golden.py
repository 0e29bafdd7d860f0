"""Golden sets: their versions and clips, and when each is to be run next. Audio is beside it, in blobs."""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from tympan.errors import NotFound
from tympan.storage.audit import AuditEntry, note
from tympan.storage.database import Database
from tympan.storage.quality_tables import golden_items, golden_runs, golden_sets, golden_versions

_ROWS = 200
"""Rows in one statement."""


@dataclass(frozen=True, slots=True)
class SetPlan:
    """When a set is run, and how: cron's fields, clips of speech in a scheduled run, a model (empty: the default).

    With ``detects`` languages are detected, not named.
    """

    schedule: str | None = None
    sample: int | None = None
    model: str = ""
    detects: bool = False


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A set as it stands; ``version_id`` is ``None`` once the starter set has been removed. Times in Unix seconds."""

    name: str
    version_id: str | None
    plan: SetPlan
    created_at: float
    next_at: float | None
    version: int = 0
    digest: str = ""
    n_items: int = 0
    n_bytes: int = 0


@dataclass(frozen=True, slots=True)
class GoldenClip:
    """One clip of a version: what is said in it, in which language and by whom; an empty reference is no speech."""

    idx: int
    item: str
    kind: str
    language: str | None
    reference: str
    speaker: str | None
    tags: tuple[str, ...]
    sha256: str
    n_bytes: int


_COLUMNS = (
    golden_sets,
    golden_versions.c.version,
    golden_versions.c.digest,
    golden_versions.c.n_items,
    golden_versions.c.n_bytes,
)
_SETS = select(*_COLUMNS).select_from(
    golden_sets.outerjoin(golden_versions, golden_versions.c.id == golden_sets.c.version_id)
)


class GoldenStore:
    """The tables of sets, versions and clips."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self.database = database

    def now_s(self) -> float:
        """Return the time by the database's clock, in Unix seconds."""
        return float(self.database.read(lambda tx: tx.scalar(select(self.database.now()))) or 0.0)

    def all(self) -> list[GoldenSet]:
        """Return every set by name, the removed starter set left out."""
        query = _SETS.where(golden_sets.c.version_id.is_not(None)).order_by(golden_sets.c.name)
        return self.database.read(lambda tx: [_set(row) for row in tx.execute(query)])

    def find(self, name: str) -> GoldenSet | None:
        """Return a set, one that has been removed and is remembered as well; ``None`` when it was never there."""
        row = self.database.read(lambda tx: tx.execute(_SETS.where(golden_sets.c.name == name)).first())
        return None if row is None else _set(row)

    def get(self, name: str) -> GoldenSet:
        """Return a set. Raises ``NotFound``."""
        found = self.find(name)
        if found is None or found.version_id is None:
            raise NotFound(f"There is no golden set {name!r}.", remedy="`tympan quality sets` lists them.")
        return found

    def due(self) -> list[GoldenSet]:
        """Return the sets whose time has come."""
        query = _SETS.where(golden_sets.c.next_at <= self.database.now(), golden_sets.c.version_id.is_not(None))
        return self.database.read(lambda tx: [_set(row) for row in tx.execute(query)])

    def clips(self, version_id: str, indices: Collection[int] | None = None) -> list[GoldenClip]:
        """Return the clips of a version, in order: all, or those of these numbers."""
        query = select(golden_items).where(golden_items.c.version_id == version_id).order_by(golden_items.c.idx)
        if indices is not None:
            query = query.where(golden_items.c.idx.in_(indices))
        return self.database.read(lambda tx: [_clip(row) for row in tx.execute(query)])

    def version_of(self, version_id: str) -> int:
        """Return the number of a version, 0 for one that is not there."""
        query = select(golden_versions.c.version).where(golden_versions.c.id == version_id)
        return self.database.read(lambda tx: tx.scalar(query)) or 0

    def same_version(self, name: str, digest: str) -> bool:
        """Return whether a set's version is the one with this digest."""
        found = self.find(name)
        return found is not None and found.version_id is not None and found.digest == digest

    def put(
        self,
        name: str,
        plan: SetPlan,
        next_at: float | None,
        version: "NewVersion | None" = None,
        entry: AuditEntry | None = None,
    ) -> GoldenSet:
        """Store a set, or change its plan, and its version if there is a new one; with ``entry`` in the audit log.

        Raises ``StorageUnavailable``.
        """

        def work(tx: Connection) -> None:
            values = {
                "schedule": plan.schedule, "sample": plan.sample, "model": plan.model, "detects": plan.detects,
                "next_at": next_at,
            }  # fmt: skip
            new = self.database.insert(golden_sets).values(name=name, created_at=self.database.now(), **values)
            tx.execute(new.on_conflict_do_update(index_elements=[golden_sets.c.name], set_=values))
            if version is not None:
                self._put_version(tx, name, version)
            note(tx, self.database, entry, name, schedule=plan.schedule, model=plan.model, **_told(version))

        self.database.write(work)
        return self.get(name)

    def reschedule(
        self, name: str, schedule: str | None, next_at: float | None, entry: AuditEntry | None = None
    ) -> None:
        """Run a set at other times from now on; with ``entry`` in the audit log."""
        query = update(golden_sets).where(golden_sets.c.name == name).values(schedule=schedule, next_at=next_at)

        def work(tx: Connection) -> None:
            tx.execute(query)
            note(tx, self.database, entry, name, schedule=schedule)

        self.database.write(work)

    def remove(self, name: str, *, remember: bool, entry: AuditEntry | None = None) -> list[str]:
        """Remove a set with its history, with ``entry`` in the audit log.

        Return its versions, whose audio is the caller's to remove. With ``remember`` the name stays, so that who makes
        the set by itself does not make it again.
        """

        def work(tx: Connection) -> list[str]:
            note(tx, self.database, entry, name)
            found = list(tx.scalars(select(golden_versions.c.id).where(golden_versions.c.set_name == name)))
            mine = golden_sets.c.name == name
            if remember:
                tx.execute(delete(golden_versions).where(golden_versions.c.set_name == name))
                tx.execute(update(golden_sets).where(mine).values(version_id=None, next_at=None, schedule=None))
            else:
                tx.execute(delete(golden_sets).where(mine))
            return found

        return self.database.write(work)

    def without_use(self) -> list[str]:
        """Return versions whose audio is kept and no longer needed: there is a newer one, and no run goes on."""
        current = select(golden_sets.c.name).where(golden_sets.c.version_id == golden_versions.c.id).exists()
        runs = golden_runs.c.version_id == golden_versions.c.id
        busy = select(golden_runs.c.id).where(runs, golden_runs.c.state == "running").exists()
        query = select(golden_versions.c.id).where(golden_versions.c.has_audio, ~current, ~busy)
        return self.database.read(lambda tx: list(tx.scalars(query)))

    def audio_gone(self, version_id: str) -> None:
        """Note that a version's audio has been removed."""
        query = update(golden_versions).where(golden_versions.c.id == version_id).values(has_audio=False)
        self.database.write(lambda tx: tx.execute(query))

    def with_audio(self, version_ids: Iterable[str]) -> set[str]:
        """Return which of these versions are known and have audio."""
        query = select(golden_versions.c.id).where(
            golden_versions.c.id.in_(list(version_ids)), golden_versions.c.has_audio
        )
        return self.database.read(lambda tx: set(tx.scalars(query)))

    def _put_version(self, tx: Connection, name: str, new: "NewVersion") -> None:
        mine = golden_versions.c.set_name == name
        latest = tx.scalar(select(golden_versions.c.version).where(mine).order_by(golden_versions.c.version.desc()))
        tx.execute(
            insert(golden_versions).values(
                id=new.id,
                set_name=name,
                version=(latest or 0) + 1,
                digest=new.digest,
                n_items=len(new.clips),
                n_bytes=sum(clip.n_bytes for clip in new.clips),
                created_at=self.database.now(),
                has_audio=True,
            )
        )
        rows = [_row(new.id, clip) for clip in new.clips]
        for start in range(0, len(rows), _ROWS):
            tx.execute(insert(golden_items), rows[start : start + _ROWS])
        tx.execute(update(golden_sets).where(golden_sets.c.name == name).values(version_id=new.id))


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version to be stored: its id, a digest of everything in it, and its clips."""

    id: str
    digest: str
    clips: Sequence[GoldenClip]


def audio_prefix(version_id: str) -> str:
    """Return below which key a version's audio is kept."""
    return f"golden/{version_id}/"


def audio_key(version_id: str, idx: int) -> str:
    """Return where one clip's audio is kept."""
    return f"{audio_prefix(version_id)}{idx:06d}"


def _set(row: object) -> GoldenSet:
    values = row._asdict()  # type: ignore[attr-defined]
    plan = SetPlan(values["schedule"], values["sample"], values["model"], values["detects"])
    counted = {name: values[name] for name in ("version", "digest", "n_items", "n_bytes") if values[name] is not None}
    return GoldenSet(values["name"], values["version_id"], plan, values["created_at"], values["next_at"], **counted)


def _clip(row: object) -> GoldenClip:
    values = row._asdict()  # type: ignore[attr-defined]
    del values["version_id"]
    return GoldenClip(**values | {"tags": tuple(json.loads(values["tags"]))})


def _told(version: NewVersion | None) -> dict[str, object]:
    return {} if version is None else {"version": version.id, "clips": len(version.clips)}


def _row(version_id: str, clip: GoldenClip) -> dict[str, object]:
    values = {name: getattr(clip, name) for name in clip.__slots__}
    return {"version_id": version_id, **values, "tags": json.dumps(clip.tags)}
