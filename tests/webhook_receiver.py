"""A receiver of webhooks that behaves, or misbehaves, as its script says; and what the tests of webhooks share."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select, text

from tympan.egress import Egress, EgressRules, PostLimits
from tympan.jobs.delivery import DeliveryLoop, DeliveryOptions, Tools
from tympan.jobs.delivery_rules import Schedule
from tympan.jobs.sealing import Sealer
from tympan.jobs.webhooks import WebhookService
from tympan.storage import migrate
from tympan.storage.database import Database
from tympan.storage.deliveries import DeliveryStore
from tympan.storage.endings import Endings
from tympan.storage.ids import new_id
from tympan.storage.webhooks import WebhookStore

KEY = "a key for tests that is long enough to be taken"
HANG = "hang"
RESET = "reset"
FLOOD = "flood"

_RST = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Message:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        """The event's id."""
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        """The body."""
        loaded: dict[str, Any] = json.loads(self.body)
        return loaded


@dataclass(frozen=True, slots=True)
class Reaction:
    """An answer; instead of a status it can be one of the misbehaviours above."""

    status: int | str = 200
    headers: tuple[str, ...] = ()
    body: bytes = b"thanks"
    delay_s: float = 0.0


@dataclass(slots=True)
class Receiver:
    """A web server whose answers are scripted by path: a list is worked off, its last entry lasts."""

    scripts: dict[str, list[Reaction]] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    open_now: Counter[str] = field(default_factory=Counter)
    most_open: Counter[str] = field(default_factory=Counter)
    bytes_taken: int = 0
    port: int = 0
    scheme: str = "http"

    def url(self, path: str = "/hook") -> str:
        """Return the address of a path."""
        return f"{self.scheme}://127.0.0.1:{self.port}{path}"

    def script(self, path: str, *reactions: Reaction | int | str) -> None:
        """Say how a path answers, one request after the other."""
        self.scripts[path] = [one if isinstance(one, Reaction) else Reaction(one) for one in reactions]

    def at(self, path: str) -> list[Message]:
        """Return what came to a path."""
        return [message for message in self.messages if message.path == path]

    def egress(self) -> Egress:
        """Return a way out that leads here and, as far as tests go, nowhere else."""
        return Egress(EgressRules(allow=(f"127.0.0.1:{self.port}",)))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one request and react."""
        try:
            await self._handle(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            return
        finally:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        self.open_now[path] += 1
        self.most_open[path] = max(self.most_open[path], self.open_now[path])
        try:
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.messages.append(Message(path, headers, body, time.time()))
            await self._react(path, reader, writer)
        finally:
            self.open_now[path] -= 1

    async def _react(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self.scripts.get(path) or [Reaction()]
        reaction = script.pop(0) if len(script) > 1 else script[0]
        await asyncio.sleep(reaction.delay_s)
        if reaction.status == HANG:
            await asyncio.wait_for(reader.read(), 60)  # Until the sender hangs up.
        elif reaction.status == RESET:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
            writer.transport.abort()
        elif reaction.status == FLOOD:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n")
            while True:
                writer.write(b"x" * 4096)
                await writer.drain()
                self.bytes_taken += 4096
        else:
            lines = (f"HTTP/1.1 {reaction.status} X", f"content-length: {len(reaction.body)}", *reaction.headers)
            writer.write("\r\n".join((*lines, "connection: close", "", "")).encode() + reaction.body)
            await writer.drain()


@contextlib.contextmanager
def receiver(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """Run a receiver in a thread."""
    running = Receiver(scheme="https" if tls else "http")
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        # Broken connections are part of the tests.
        loop.set_exception_handler(lambda _loop, _context: None)
        server = await asyncio.start_server(running.handle, "127.0.0.1", 0, ssl=tls, backlog=512)
        running.port = server.sockets[0].getsockname()[1]
        started.set()
        await stop.wait()
        server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield running
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
    assert not thread.is_alive()


@dataclass(slots=True)
class Post:
    """The tables, the service and the sender of one test, on a database that is at hand."""

    database: Database
    receiver: Receiver
    sealer: Sealer = field(default_factory=lambda: Sealer.from_secret(KEY))
    outcomes: Counter[str] = field(default_factory=Counter)
    loops: list[DeliveryLoop] = field(default_factory=list)
    egress: Egress | None = None

    @property
    def webhooks(self) -> WebhookService:
        """The service that the routes use."""
        return WebhookService(WebhookStore(self.database), self._egress, self.sealer)

    @property
    def _egress(self) -> Egress:
        return self.egress or self.receiver.egress()

    def loop(self, options: DeliveryOptions | None = None, store: DeliveryStore | None = None) -> DeliveryLoop:
        """Return a sender; what came of its attempts is counted in ``outcomes``.

        Without ``options`` they are the usual ones, but for failures, which are noted at once.
        """
        options = replace(options or DeliveryOptions(limits=PostLimits(told_after_s=0.0)), poll_s=0.05)
        tools = Tools(observer=lambda result, count: self.outcomes.update({result: count}))
        store = store or DeliveryStore(self.database)
        made = DeliveryLoop(store, self._egress, self.sealer, options, tools)
        self.loops.append(made)
        return made

    def endpoint(self, path: str = "/hook") -> str:
        """Return the id of a new endpoint for a path of the receiver."""
        return self.webhooks.create("default", self.receiver.url(path))[0].id

    def send(self, endpoint_id: str, count: int = 1, **data: Any) -> list[str]:
        """Write events as the end of jobs does; return the jobs' ids."""
        endings = Endings(self.database, audio_days=1, text_days=1)
        subjects = [new_id("job") for _ in range(count)]

        def work(tx: Connection) -> None:
            for subject in subjects:
                self.write(tx, endings, endpoint_id, subject, "job.succeeded", 1, data)

        self.database.write(work)
        return subjects

    @staticmethod
    def write(tx: Connection, endings: Endings, endpoint_id: str, subject: str, kind: str, seq: int, data: Any) -> None:
        """Write one event in the caller's transaction."""
        row = {"tenant": "default", "id": subject, "event_seq": seq, "webhook_endpoint": endpoint_id}
        filled = {"id": subject, "state": kind.partition(".")[2], "metadata": {}, "error": None, **data}
        endings.write_event(tx, kind, row, filled)  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the tables of webhooks: every moment in them is so much longer ago."""
        columns = {
            "deliveries": ("due_at", "lease_until", "created_at", "finished_at"),
            "webhook_endpoints": ("open_at", "failing_since", "old_secret_until", "created_at"),
            "delivery_attempts": ("at",),
        }

        def work(tx: Connection) -> None:
            for table, names in columns.items():
                moved = ", ".join(f"{name} = {name} - :s" for name in names)
                tx.execute(text(f"update {table} set {moved}"), {"s": seconds})  # noqa: S608 (names of our own)

        self.database.write(work)

    def age_events(self, seconds: float) -> None:
        """Let events be so much older; apart, because what is sent about one must not change between attempts."""
        query = text("update events set created_at = created_at - :s")
        self.database.write(lambda tx: tx.execute(query, {"s": seconds}))

    def due_in_s(self) -> float:
        """Return how long the next pending delivery has to wait; negative when it is late."""
        query = "select min(due_at) from deliveries where state = 'pending'"
        now = select(self.database.now())
        return self.database.read(lambda tx: float(tx.scalar(text(query)) or 0) - float(tx.scalar(now) or 0))

    def states(self) -> Counter[str]:
        """Return how many deliveries are in each state."""
        query = "select state, count(*) from deliveries group by state"
        return Counter(dict(self.database.read(lambda tx: [tuple(row) for row in tx.execute(text(query))])))


@contextlib.contextmanager
def post_office(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Post]:
    """Run a receiver, and give the sending side on the database at ``url``."""
    database = Database(url, pool_size=24)
    migrate.upgrade(database)
    with receiver(tls) as running:
        post = Post(database, running)
        try:
            yield post
        finally:
            for loop in post.loops:
                loop.stop()
            database.close()


QUICK = DeliveryOptions(schedule=replace(Schedule(), waits_s=tuple(wait / 1000 for wait in Schedule().waits_s)))
"""The usual schedule, a thousand times faster."""

HASTY = PostLimits(total_s=1.0, told_after_s=0.0)
"""Limits for receivers that never answer; failures are noted at once."""


def wait_until(condition: Callable[[], object], timeout_s: float = 40.0) -> None:
    """Return when ``condition`` holds; fail the test when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
