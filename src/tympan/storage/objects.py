"""The one door to object storage: S3, Google Cloud Storage and Azure, one request at a time.

Every request has a time limit and few tries; what was written is verified before it counts as written. Files are sent
in one request each, so that a crash can leave nothing invisible behind: multipart uploads, which cost money until
somebody lists and aborts them, are never begun (``object_blobs`` cuts large files into objects of their own).
"""

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tympan import telemetry
from tympan.errors import ConfigError, MediaChanged, StorageUnavailable
from tympan.retry_budget import RetryBudget
from tympan.storage.blob_port import missing

if TYPE_CHECKING:
    from obstore.store import ClientConfig

SCHEMES = ("s3", "gs", "az")
"""Schemes of object storage that an address may have."""

_OPTIONS = {"endpoint", "region"}
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_MD5 = re.compile(r"[0-9a-f]{32}")
_LIST_PAGE = 1000
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What one request may cost: ``tries``, time to connect, longest silence, time of one try, pause between tries.

    The tries are fewer when many requests fail: then there is no budget to try them all again.
    """

    tries: int = 5
    connect_s: float = 5.0
    stall_s: float = 20.0
    request_s: float = 120.0
    pause_s: float = 0.2
    max_pause_s: float = 5.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """What the storage says about one object; ``metadata`` is empty in listings."""

    name: str
    n_bytes: int
    etag: str
    modified_s: float
    metadata: Mapping[str, str]


class Bucket:
    """The objects of one bucket under one prefix; safe to share between threads.

    Every method raises ``StorageUnavailable`` when the storage refuses or does not answer after a few tries.
    """

    def __init__(self, url: str, limits: RequestLimits | None = None, budget: RetryBudget | None = None) -> None:
        """Open ``url``: ``s3://bucket/prefix``, ``gs://...`` or ``az://...``; credentials come from the environment.

        ``?endpoint=http://host:9000&region=...`` names a service that speaks S3. Retries count against ``budget``, by
        default one of its own; those of writing against another, lest reads that go well pay for them. Raises
        ``ConfigError``.
        """
        self._limits, self._budget = limits or RequestLimits(), budget or RetryBudget()
        self._write_budget = RetryBudget()
        self._store = _open(url, self._limits)

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Store one object in one request and verify that the storage holds these bytes."""
        self._tried(lambda: self._put_once(name, data, metadata), budget=self._write_budget)

    def head(self, name: str) -> StoredObject | None:
        """Return what the storage says about the object, None when there is none."""
        import obstore  # noqa: PLC0415  (an installation without object storage does without)

        def ask() -> StoredObject | None:
            try:
                answer = obstore.get(self._store, name, options={"head": True})
            except FileNotFoundError:
                return None
            return _described(answer.meta, answer.attributes)

        found = self._tried(ask)
        if found is None:
            self.check()  # No bucket is no proof that the object is gone.
        return found

    def get(self, name: str, accept: Callable[[StoredObject, bytes], bool], max_bytes: int) -> bytes:
        """Return a whole object that ``accept`` takes.

        Raises ``MediaMissing`` when there is none, and ``MediaChanged`` when it is larger than ``max_bytes`` or
        ``accept`` refuses it even when it is read a second time.
        """
        import obstore  # noqa: PLC0415

        def read() -> bytes | None:
            answer = obstore.get(self._store, name)
            found = _described(answer.meta, answer.attributes)
            if found.n_bytes > max_bytes:
                raise _changed(name)
            data = bytes(answer.bytes())
            return data if accept(found, data) else None

        for _ in range(2):  # Once more: the damage may have been on the way.
            data = self._tried(read, name)
            if data is not None:
                return data
        raise _changed(name)

    def get_range(self, found: StoredObject, start: int, n_bytes: int) -> bytes:
        """Return part of an object as long as it is the one ``found`` describes, else raise ``MediaChanged``."""
        import obstore  # noqa: PLC0415

        def read() -> bytes:
            answer = obstore.get(
                self._store, found.name, options={"range": (start, start + n_bytes), "if_match": found.etag or None}
            )
            data = bytes(answer.bytes())
            if len(data) != min(n_bytes, found.n_bytes - start):
                raise _Short(f"{len(data)} bytes came instead of {n_bytes}")
            return data

        return self._tried(read, found.name)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Return the objects under the folder ``prefix`` ("" for all), in order of their names."""
        import obstore  # noqa: PLC0415

        def pages(after: str | None) -> Iterator[Sequence[Any]]:
            return iter(obstore.list(self._store, prefix or None, offset=after, chunk_size=_LIST_PAGE))

        after, stream = None, pages(None)

        def turn() -> Sequence[Any] | None:
            nonlocal stream
            try:
                return next(stream, None)
            except Exception:
                stream = pages(after)  # A listing that broke off may say that it is complete when it is asked again.
                raise

        while page := self._tried(turn):
            after = str(page[-1]["path"])
            for meta in page:
                yield _described(meta, {})

    def copy(self, source: str, target: str) -> None:
        """Copy an object inside the storage. Raises ``MediaMissing``."""
        import obstore  # noqa: PLC0415

        self._tried(lambda: obstore.copy(self._store, source, target), source)

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; those that are gone already do not matter."""
        import obstore  # noqa: PLC0415

        def ask() -> None:
            try:
                obstore.delete(self._store, names)
            except FileNotFoundError as error:
                _unless_no_bucket(error)
                if len(names) > 1:
                    for name in names:
                        self.delete([name])

        if names:
            self._tried(ask)

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless the bucket answers."""
        import obstore  # noqa: PLC0415

        self._tried(lambda: next(iter(obstore.list(self._store, chunk_size=1)), None))

    def _put_once(self, name: str, data: bytes, metadata: Mapping[str, str]) -> None:
        import obstore  # noqa: PLC0415

        try:
            done = obstore.put(self._store, name, data, attributes=dict(metadata), use_multipart=False)
            etag = (done["e_tag"] or "").strip('"')
            if etag == hashlib.md5(data, usedforsecurity=False).hexdigest():
                return
            # The tag is no digest where the storage encrypts with keys of its own; then the bytes have to be read.
            if bytes(obstore.get(self._store, name).bytes()) != data:
                raise _Short("the storage does not hold what was sent")
        except FileNotFoundError as error:
            raise StorageUnavailable(_text(error), remedy="Create the bucket.") from error

    def _tried(self, ask: Callable[[], _Result], name: str = "", budget: RetryBudget | None = None) -> _Result:
        from obstore import exceptions  # noqa: PLC0415

        attempt, budget = 0, budget or self._budget
        budget.started()
        while True:
            attempt += 1
            try:
                return ask()
            except FileNotFoundError as error:
                _unless_no_bucket(error)
                raise missing(name) from error
            except exceptions.PreconditionError as error:
                raise _changed(name) from error
            except (exceptions.GenericError, exceptions.JoinError, _Short, OSError) as error:
                _unless_no_bucket(error)
                if not self._may_try_again(attempt, budget):
                    raise StorageUnavailable(_text(error), remedy="Try again later.") from error
            except (exceptions.BaseError, ValueError) as error:
                raise StorageUnavailable(_text(error), remedy="Check address and credentials.") from error
            time.sleep(_pause_s(self._limits, attempt))

    def _may_try_again(self, attempt: int, budget: RetryBudget) -> bool:
        if attempt == self._limits.tries:
            return False
        allowed = budget.allows_retry()
        (telemetry.RETRIES.labels("storage") if allowed else telemetry.RETRIES_FORGONE).inc()
        return allowed


class _Short(Exception):
    """An answer holds fewer or other bytes than it should."""


def _open(url: str, limits: RequestLimits) -> Any:
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.scheme not in SCHEMES or not parts.netloc or not set(options) <= _OPTIONS or parts.fragment:
        raise ConfigError(
            f"{parts.scheme}://{parts.netloc} is not an address of object storage.",
            remedy="Write s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; "
            "for other services that speak S3 add ?endpoint=https://host&region=name.",
        )
    try:
        from obstore import exceptions  # noqa: PLC0415
        from obstore.store import from_url  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "Object storage needs extra packages.", remedy="Run: pip install 'tympan[cluster]'."
        ) from error
    from_any_url: Any = from_url  # Its overloads know every option of every service.
    try:
        return from_any_url(
            f"{parts.scheme}://{parts.netloc}{parts.path}",
            config=dict(options),
            client_options=_client_options(limits, options.get("endpoint", "")),
            retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=60)},
        )
    except (exceptions.BaseError, ValueError) as error:
        raise ConfigError(f"Object storage: {_text(error)}", remedy="Check address and credentials.") from error


def _client_options(limits: RequestLimits, endpoint: str) -> "ClientConfig":
    options: ClientConfig = {
        "connect_timeout": timedelta(seconds=limits.connect_s),
        "read_timeout": timedelta(seconds=limits.stall_s),
        "timeout": timedelta(seconds=limits.request_s),
    }
    if (endpoint or os.environ.get("AWS_ENDPOINT_URL", "")).startswith("http://"):
        options["allow_http"] = True  # Whoever wrote the address into the settings said so.
    return options


def _described(meta: Any, metadata: Mapping[str, str]) -> StoredObject:
    return StoredObject(
        str(meta["path"]), int(meta["size"]), meta["e_tag"] or "", meta["last_modified"].timestamp(), dict(metadata)
    )


def _pause_s(limits: RequestLimits, attempt: int) -> float:
    longest: float = min(limits.max_pause_s, limits.pause_s * 2 ** (attempt - 1))
    return longest * secrets.SystemRandom().uniform(0.5, 1.0)


def _changed(name: str) -> MediaChanged:
    return MediaChanged(f"What is stored under {name!r} is not what was uploaded.", remedy="Send the audio again.")


def _unless_no_bucket(error: Exception) -> None:
    if any(word in str(error) for word in _NO_BUCKET):
        raise StorageUnavailable(_text(error), remedy="Create the bucket.") from error


def _text(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"Object storage failed: {(lines[0] if lines else type(error).__name__)[:300]}"
