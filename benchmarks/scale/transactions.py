"""The transactions that the load is counted in: calls of the product's own store, each by one client."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import text

from tympan.domain import (
    Accounting,
    DecodeStats,
    Lane,
    NewJob,
    Options,
    Piece,
    Segment,
    Source,
    SourceKind,
    Task,
    Transcript,
    WindowResult,
)
from tympan.storage.codec import DecodedWindow, Prepared, SectionResult
from tympan.storage.database import Database
from tympan.storage.endings import Endings
from tympan.storage.ids import new_id
from tympan.storage.jobs import IdempotencyKey, JobStore
from tympan.storage.upkeep import Upkeep, Worker
from tympan.storage.work import Claim, Cut, WorkStore

SECTION_S = 300
WORDS_A_WINDOW = 60
_WINDOW_S = 20
_URGENT = 1  # Ahead of the steps that are there to be waited among.
_TAKE_BELLS = text("delete from bells where id in (select id from bells order by id limit 100 for update skip locked)")


@dataclass(slots=True)
class Client:
    """One process of the cluster with one connection, and what it holds."""

    name: str
    tenant: str
    words: tuple[str, ...]
    database: Database
    jobs: JobStore
    work: WorkStore
    upkeep: Upkeep
    made: list[str] = field(default_factory=list)
    held: list[Claim] = field(default_factory=list)


@contextmanager
def connected(url: str, number: int, tenant: str, words: tuple[str, ...]) -> Iterator[Client]:
    """Yield a client that has its connection; ``words`` is what its transcripts are made of."""
    database = Database(url, pool_size=1)
    endings = Endings(database, audio_days=1, text_days=30)
    stores = (
        JobStore(database, endings, rings=True),
        WorkStore(database, endings, rings=True, lease_s=600.0),
        Upkeep(database, endings, rings=True),
    )
    try:
        database.check()
        yield Client(f"worker-{number}", tenant, words, database, *stores)
    finally:
        database.close()


def submit(client: Client) -> None:
    """Accept a job with an idempotency key and a webhook."""
    job_id = new_id("job")
    job = NewJob(
        job_id,
        Source(SourceKind.STORED, n_bytes=1_000_000),
        Options(),
        tenant=client.tenant,
        priority=_URGENT,
        webhook_endpoint="endpoint-1",
    )
    client.jobs.submit(job, IdempotencyKey("jobs", job_id, "f" * 64))
    client.made.append(job_id)


def claim(client: Client) -> None:
    """Take the step whose turn it is. Raises ``AssertionError`` if there is none: nothing would be measured."""
    found = client.work.claim(client.name, [Lane.BATCH])
    assert found is not None, "no ready step is left"
    client.held.append(found)


def add_section(client: Client) -> None:
    """Make the one section of the oldest job held claimable."""
    client.work.add_section(client.held[0], Cut(0, 0, SECTION_S * 16_000))
    client.held.append(client.held.pop(0))


def prepared(client: Client) -> None:
    """Hand in the oldest prepare step that is held."""
    client.work.prepared(client.held.pop(0), 1, Prepared(SECTION_S * 16_000, SECTION_S * 16_000), "f" * 64)


def commit_section(client: Client) -> None:
    """Hand in the oldest section that is held; it makes its job's last step ready."""
    n_windows = SECTION_S // _WINDOW_S
    windows = tuple(_window(client, index) for index in range(n_windows))
    result = SectionResult(windows, (), DecodeStats(n_windows), "base", 5.0)
    client.work.commit_section(client.held.pop(0), result, " ".join(window.result.text for window in windows))


def finish(client: Client) -> None:
    """End the oldest job that is held: read its sections, store its transcript, its end, its event."""
    held = client.held.pop(0)
    client.work.results(held)
    client.work.finish(held, transcript(client))


def heartbeat(client: Client) -> None:
    """Renew all leases of a worker and its own row."""
    client.work.extend(client.name, {held.step_id for held in client.held})
    client.upkeep.seen(Worker(client.name, 1, 1, 57.0))


def liveness(client: Client) -> None:
    """Read which of its steps a worker still holds."""
    client.work.held(client.name)


def status(client: Client) -> None:
    """Read a waiting job and its place in the queue."""
    client.jobs.prospects("tenant-1", f"job-{50_001:022d}")


def backlog(client: Client) -> None:
    """Add up the audio that waits."""
    client.jobs.backlog_s()


def erase(client: Client) -> None:
    """Remove a job that has ended."""
    client.jobs.erase(client.tenant, client.made.pop())


def relay(client: Client) -> None:
    """Take a hundred doorbells out of the outbox."""
    client.database.write(lambda connection: connection.execute(_TAKE_BELLS))


def transcript(client: Client) -> Transcript:
    """Return a transcript of one section's length."""
    segments = tuple(
        Segment(i, i * 7.0, i * 7.0 + 7.0, _speech(client, i, WORDS_A_WINDOW // 3), tuple(range(30_000, 30_026)))
        for i in range(SECTION_S // 7)
    )
    whole = " ".join(segment.text for segment in segments)
    counted = Accounting(SECTION_S, SECTION_S, 0.0, SECTION_S)
    return Transcript(whole, segments, Task.TRANSCRIBE, "en", 1.0, (("en", 1.0),), counted, "base")


def _window(client: Client, index: int) -> DecodedWindow:
    said = _speech(client, index, WORDS_A_WINDOW)
    tokens = tuple(hash(word) % 50_000 for word in said.split())
    result = WindowResult(said, tokens, "en", (("en", 0.99),), -0.2, 0.01, 1.6, 0.0, full_context=False)
    return DecodedWindow(index, (Piece(0, index * _WINDOW_S * 16_000, _WINDOW_S * 16_000),), 0.9, result)


def _speech(client: Client, place: int, n_words: int) -> str:
    first = place * 97 % (len(client.words) - n_words)
    return " ".join(client.words[first : first + n_words])


Transaction = Callable[[Client], None]

WALK: tuple[Transaction, ...] = (
    submit,
    claim,
    add_section,
    prepared,
    claim,
    commit_section,
    claim,
    finish,
    erase,
)
"""The life of a job, in an order in which each finds what it needs."""

OTHERS: tuple[Transaction, ...] = (heartbeat, liveness, status, relay)
