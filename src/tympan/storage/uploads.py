"""Resumable uploads: how far each has come, who may write to it, and which stored parts it is made of.

Whoever writes holds the row's lock, a lease under a token that is new every time. Every write names the token, so a
request that was frozen and has been replaced can change nothing. A row outlives its bytes for a while, so that a
caller who comes back too late learns that the upload has expired and not that it never was.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from tympan.errors import Conflict, NotFound, Overloaded, TooLarge, UploadExpired, UploadLocked, UploadOffsetMismatch
from tympan.errors import InvalidRequest as Invalid
from tympan.faultpoints import reach
from tympan.storage.database import Database
from tympan.storage.ids import new_id
from tympan.storage.jobs import CheckPossessions
from tympan.storage.tables import jobs, tenants, upload_parts, uploads
from tympan.storage.tenants import possessions

MAX_PARTS = 20_000
"""An upload in more parts than this takes no further request."""

MAX_OPEN = 1_000
"""Uploads that one tenant may have begun and not used."""

CLAIM_S = 600.0
"""How long an upload waits for the job that claimed it."""

_ID = re.compile(r"upl_[0-9a-f]{12,60}", re.ASCII)
_PAGE = 200
_BURIED = ""  # What ``metadata`` holds once the bytes have gone; an upload without metadata holds "{}".
_REMEMBER_S = 86_400.0
_CLAIMED_RETRY_S = 2.0
_OTHER_REQUEST = "Wait for the other request to end, then ask for the offset again."


@dataclass(frozen=True, slots=True)
class StoredUpload:
    """One upload as its row tells it: ``n_bytes`` is None while the length is not known, ``left_s`` until it expires.

    ``metadata`` maps names to base64 text, as the caller sent them.
    """

    id: str
    n_bytes: int | None
    offset_bytes: int
    metadata: Mapping[str, str]
    expires_at: float
    left_s: float
    job_id: str | None


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What an upload starts with; ``n_bytes`` is None when its length will be told later."""

    n_bytes: int | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Append:
    """What a request wants to add: from where, and the length of the whole when it tells one."""

    offset_bytes: int
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive bytes of an upload, stored under ``key``."""

    offset_bytes: int
    n_bytes: int
    key: str


class UploadStore:
    """The tables ``uploads`` and ``upload_parts``. Unknown and foreign ids raise ``NotFound``."""

    def __init__(self, database: Database, *, ttl_s: float, lock_s: float = 30.0) -> None:
        """Work on ``database``; uploads expire ``ttl_s`` after their creation, locks after ``lock_s`` unless held."""
        self._db, self._ttl_s, self._lock_s = database, ttl_s, lock_s
        self.check_possessions: CheckPossessions = lambda _tenant, _count, _added: None
        """Refuses what makes too much of a tenant's uploads; called in the transaction that adds to them."""

    def create(self, tenant: str, new: NewUpload) -> StoredUpload:
        """Return a new, empty upload. Raises ``Overloaded`` when the tenant has begun too many."""
        upload_id = new_id("upl")

        def work(tx: Connection) -> StoredUpload:
            now = self._db.now()
            mine = (uploads.c.tenant == tenant, uploads.c.metadata != _BURIED, uploads.c.expires_at > now)
            if (tx.scalar(select(func.count()).select_from(uploads).where(*mine)) or 0) >= MAX_OPEN:
                raise Overloaded(
                    f"{MAX_OPEN} uploads are open, the most at a time.",
                    remedy="Finish and use some, or delete them.",
                    retry_after_s=60.0,
                )
            values = {"id": upload_id, "tenant": tenant, "n_bytes": new.n_bytes, "offset_bytes": 0}
            times = {"created_at": now, "expires_at": now + self._ttl_s}
            tx.execute(insert(uploads).values(**values, **times, metadata=json.dumps(dict(new.metadata))))
            self._check_possessions(tx, tenant)
            return _upload_from(self._find(tx, tenant, upload_id))

        return self._db.write(work)

    def get(self, tenant: str, upload_id: str) -> StoredUpload:
        """Return the upload. Raises ``NotFound``, ``UploadExpired``."""
        return _upload_from(self._db.read(lambda tx: self._find(tx, tenant, upload_id)))

    def lock(self, tenant: str, upload_id: str, token: str, wanted: Append) -> StoredUpload:
        """Return the upload, locked under ``token`` for the request that wants to append.

        Raises ``NotFound``, ``UploadExpired``, ``UploadLocked``, ``UploadOffsetMismatch``, ``Conflict`` when a job has
        taken it, and ``InvalidRequest`` or ``TooLarge`` for a length that does not go with what is known.
        """

        def work(tx: Connection) -> StoredUpload:
            row = self._find(tx, tenant, upload_id, lock=True)
            self._check_append(tx, row, wanted)
            length = row["n_bytes"] if wanted.n_bytes is None else wanted.n_bytes
            tx.execute(
                update(uploads)
                .where(uploads.c.id == upload_id)
                .values(lock_owner=token, lock_until=self._db.now() + self._lock_s, n_bytes=length)
            )
            if length != row["n_bytes"]:
                self._check_possessions(tx, tenant)
            return _upload_from(self._find(tx, tenant, upload_id))

        return self._db.write(work)

    def hold(self, upload_id: str, token: str) -> bool:
        """Extend the lock; return whether it was still ours and the upload still there and in time."""
        now = self._db.now()
        mine = (uploads.c.id == upload_id, uploads.c.lock_owner == token, uploads.c.expires_at > now)
        query = update(uploads).where(*mine).values(lock_until=now + self._lock_s)
        return self._db.write(lambda tx: tx.execute(query).rowcount == 1)

    def hold_claim(self, upload_id: str, job_id: str) -> bool:
        """Extend a claim; return whether it was still that job's."""
        mine = (uploads.c.id == upload_id, uploads.c.lock_owner == job_id)
        query = update(uploads).where(*mine).values(lock_until=self._db.now() + CLAIM_S)
        return self._db.write(lambda tx: tx.execute(query).rowcount == 1)

    def unlock(self, upload_id: str, token: str) -> None:
        """Give the lock back; nothing happens when it is somebody else's by now."""
        mine = (uploads.c.id == upload_id, uploads.c.lock_owner == token)
        query = update(uploads).where(*mine).values(lock_owner=None, lock_until=None)
        self._db.write(lambda tx: tx.execute(query))

    def add_part(self, upload_id: str, token: str, part: Part, *, last: bool) -> None:
        """Note a stored part and move the offset behind it; ``last`` gives the lock back in the same transaction.

        Raises ``NotFound`` when the upload has been removed, ``UploadExpired``, ``UploadLocked`` when the lock has gone
        to another request, and what ``check_possessions`` raises.
        """
        end = part.offset_bytes + part.n_bytes
        free = {"lock_owner": None, "lock_until": None} if last else {}

        def work(tx: Connection) -> None:
            mine = (uploads.c.id == upload_id, uploads.c.lock_owner == token)
            here = (uploads.c.offset_bytes == part.offset_bytes, uploads.c.expires_at > self._db.now())
            moved = tx.execute(update(uploads).where(*mine, *here).values(offset_bytes=end, **free)).rowcount
            if not moved:
                self._explain_lost(tx, upload_id, part)
                return
            values = {"offset_bytes": part.offset_bytes, "n_bytes": part.n_bytes, "key": part.key}
            tx.execute(insert(upload_parts).values(upload_id=upload_id, **values))
            grows = select(uploads.c.tenant).where(uploads.c.id == upload_id, uploads.c.n_bytes.is_(None))
            if (tenant := tx.scalar(grows)) is not None:  # Another has been counted by its length from the beginning.
                self._check_possessions(tx, tenant)
            reach("upload.commit")

        self._db.write(work)

    def claim(self, tenant: str, upload_id: str, job_id: str) -> tuple[StoredUpload, list[Part]]:
        """Return a finished upload and its parts, in order, for one job alone; that job may claim it again.

        A claim whose job never came to be runs out after ``CLAIM_S``. Raises ``NotFound``, ``UploadExpired``,
        ``UploadLocked`` while another request or claim works on it, and ``Conflict`` when it is not finished or has
        been used.
        """

        def work(tx: Connection) -> tuple[StoredUpload, list[Part]]:
            row = self._find(tx, tenant, upload_id, lock=True)
            self._check_claim(tx, row, job_id)
            values = {"job_id": job_id, "lock_owner": job_id, "lock_until": self._db.now() + CLAIM_S}
            tx.execute(update(uploads).where(uploads.c.id == upload_id).values(values))
            found = tx.execute(
                select(upload_parts).where(upload_parts.c.upload_id == upload_id).order_by(upload_parts.c.offset_bytes)
            )
            return _upload_from(row), [Part(p["offset_bytes"], p["n_bytes"], p["key"]) for p in found.mappings()]

        return self._db.write(work)

    def give_back(self, upload_id: str, job_id: str) -> None:
        """Undo a claim: there will be no such job."""
        mine = (uploads.c.id == upload_id, uploads.c.job_id == job_id)
        query = update(uploads).where(*mine).values(job_id=None, lock_owner=None, lock_until=None)
        self._db.write(lambda tx: tx.execute(query))

    def remove(self, tenant: str, upload_id: str) -> None:
        """Forget an upload, whoever is writing to it. Raises ``NotFound``, ``UploadExpired``, ``Conflict``."""

        def work(tx: Connection) -> None:
            row = self._find(tx, tenant, upload_id, lock=True)
            if row["job_id"] is not None and row["locked"]:
                raise Conflict("A job is being made of this upload.", remedy="Delete the job instead.")
            tx.execute(delete(uploads).where(uploads.c.id == upload_id))

        self._db.write(work)

    def forget(self, upload_id: str) -> None:
        """Remove an upload whose job has its own copy; one that is gone already does not matter."""
        self._db.write(lambda tx: tx.execute(delete(uploads).where(uploads.c.id == upload_id)))

    def used(self) -> list[str]:
        """Return ids of uploads whose job is stored, which nobody needs any more."""
        query = select(uploads.c.id).join(jobs, jobs.c.id == uploads.c.job_id).limit(_PAGE)
        return self._db.read(lambda tx: list(tx.scalars(query)))

    def bury_expired(self) -> list[str]:
        """Take the parts of expired uploads off the books and return the uploads' ids: their blobs have to go.

        One that a request holds is left until its lock has run out.
        """

        def work(tx: Connection) -> list[str]:
            now = self._db.now()
            tx.execute(delete(uploads).where(uploads.c.expires_at < now - _REMEMBER_S, uploads.c.metadata == _BURIED))
            due = (uploads.c.expires_at <= now, uploads.c.metadata != _BURIED)
            idle = uploads.c.lock_until.is_(None) | (uploads.c.lock_until < now)
            found = list(tx.scalars(select(uploads.c.id).where(*due, idle).limit(_PAGE).with_for_update()))
            values = {"metadata": _BURIED, "lock_owner": None, "lock_until": None}
            tx.execute(update(uploads).where(uploads.c.id.in_(found)).values(values))
            tx.execute(delete(upload_parts).where(upload_parts.c.upload_id.in_(found)))
            return found

        return self._db.write(work)

    def living(self, upload_ids: Iterable[str]) -> set[str]:
        """Return which of these uploads may have blobs."""
        query = select(uploads.c.id).where(uploads.c.id.in_(list(upload_ids)), uploads.c.metadata != _BURIED)
        return self._db.read(lambda tx: set(tx.scalars(query)))

    def _check_possessions(self, tx: Connection, tenant: str) -> None:
        def count() -> tuple[int, int]:
            # The tenant's row is locked first: two of its uploads cannot both take what room is left.
            tx.execute(self._db.insert(tenants).values(id=tenant).on_conflict_do_nothing())
            tx.execute(select(tenants.c.id).where(tenants.c.id == tenant).with_for_update())
            return possessions(tx, tenant)

        self.check_possessions(tenant, count, 0)

    def _find(self, tx: Connection, tenant: str, upload_id: str, *, lock: bool = False) -> RowMapping:
        if not _ID.fullmatch(upload_id):
            raise _unknown(upload_id)
        now = self._db.now()
        locked = func.coalesce(uploads.c.lock_until > now, False).label("locked")
        query = select(uploads, (uploads.c.expires_at - now).label("left_s"), locked)
        query = query.where(uploads.c.id == upload_id, uploads.c.tenant == tenant)
        row = tx.execute(query.with_for_update() if lock else query).mappings().first()
        if row is None:
            raise _unknown(upload_id)
        if row["left_s"] <= 0:
            raise UploadExpired(remedy="Begin a new upload.")
        return row

    def _check_append(self, tx: Connection, row: RowMapping, wanted: Append) -> None:
        if row["job_id"] is not None:
            raise Conflict("A job has taken this upload.", remedy="Begin a new upload.")
        if row["locked"]:
            raise UploadLocked(remedy=_OTHER_REQUEST)
        _check_offset(row, wanted)
        of_upload = upload_parts.c.upload_id == row["id"]
        if (tx.scalar(select(func.count()).select_from(upload_parts).where(of_upload)) or 0) >= MAX_PARTS:
            raise TooLarge(
                f"The upload came in more than {MAX_PARTS} pieces.", remedy="Begin again, with larger pieces."
            )

    def _check_claim(self, tx: Connection, row: RowMapping, job_id: str) -> None:
        if row["n_bytes"] is None or row["offset_bytes"] != row["n_bytes"]:
            raise Conflict("The upload is not finished.", param="upload_id", remedy="Send the rest of it first.")
        if row["job_id"] == job_id:
            return
        if row["job_id"] is not None and tx.scalar(select(jobs.c.id).where(jobs.c.id == row["job_id"])) is not None:
            raise Conflict("The upload has been used for a job.", param="upload_id", remedy="Upload the file again.")
        if row["locked"] and row["job_id"] is not None:
            raise UploadLocked(
                "A job is being made of this upload.",
                param="upload_id",
                remedy="If it is yours, try again with its Idempotency-Key to get it.",
                retry_after_s=_CLAIMED_RETRY_S,
            )
        if row["locked"]:
            raise UploadLocked(param="upload_id", remedy=_OTHER_REQUEST)

    def _explain_lost(self, tx: Connection, upload_id: str, part: Part) -> None:
        """Raise what has become of the lock; return when the part is there, from a commit whose answer was lost."""
        of_upload = upload_parts.c.upload_id == upload_id
        if tx.scalar(select(upload_parts.c.key).where(of_upload, upload_parts.c.key == part.key)) is not None:
            return
        late = (uploads.c.expires_at <= self._db.now()).label("late")
        row = tx.execute(select(late).where(uploads.c.id == upload_id)).first()
        if row is None:
            raise _unknown(upload_id)
        if row.late:
            raise UploadExpired(remedy="Begin a new upload.")
        raise UploadLocked("Another request has taken this upload over.", remedy="Ask for the offset again.")


def _check_offset(row: RowMapping, wanted: Append) -> None:
    if wanted.offset_bytes != row["offset_bytes"]:
        raise UploadOffsetMismatch(
            f"The upload is at {row['offset_bytes']} bytes, not {wanted.offset_bytes}.",
            remedy="Ask for the offset (HEAD) and go on from there.",
        )
    if wanted.n_bytes is not None and row["n_bytes"] not in (None, wanted.n_bytes):
        raise Invalid("The length of this upload is known and cannot change.", param="Upload-Length")
    if wanted.n_bytes is not None and wanted.n_bytes < row["offset_bytes"]:
        raise Invalid("The upload is longer already.", param="Upload-Length", remedy="Begin a new upload.")


def _upload_from(row: RowMapping) -> StoredUpload:
    metadata: dict[str, str] = json.loads(row["metadata"] or "{}")
    return StoredUpload(
        id=row["id"],
        n_bytes=row["n_bytes"],
        offset_bytes=row["offset_bytes"],
        metadata=metadata,
        expires_at=row["expires_at"],
        left_s=row["left_s"],
        job_id=row["job_id"],
    )


def _unknown(upload_id: str) -> NotFound:
    return NotFound(f"There is no upload {upload_id[:80]!r}.", remedy="Begin a new upload.")
