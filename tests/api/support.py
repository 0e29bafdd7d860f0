"""A server over a scripted pipeline, for tests of the HTTP interface: real sockets, real uploads, no model."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from fastapi import FastAPI

from tests.jobs_support import Shop, open_shop
from tympan.api.app import create_app
from tympan.api.deps import Backend, Desks, Limits, ModelCard, Services, make_services
from tympan.api.intake.staging import open_staging
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.domain import (
    Abilities,
    Accounting,
    DecodeStats,
    Lane,
    Options,
    Progress,
    Segment,
    Timestamps,
    TokenChance,
    Transcript,
    Word,
)
from tympan.errors import Cancelled, RequestTimeout
from tympan.languages import LANGUAGES
from tympan.pipeline import RequestContext

_NO_HOOKS = ServerHooks(on_drain=lambda: None, on_force=lambda: None)
CHANCES = (
    TokenChance(tuple(b" Hello"), -0.25),
    TokenChance(tuple(b" there"), -0.5),
    TokenChance(tuple(b"."), -0.125),
    TokenChance(tuple(b" A < B & C --> D."), -1.0),
)
CLIP = b"RIFF" + bytes(range(256)) * 16
CARD = ModelCard("base", aliases=("Systran/faster-whisper-base",), created=1_700_000_000)


@dataclass(frozen=True, slots=True)
class Facts:
    """An engine that exists on paper."""

    engine: str = "scripted"
    model: str = "base"
    device: str = "cpu"
    compute_type: str = "int8"
    digest: str = "0" * 32
    languages: tuple[str, ...] = tuple(LANGUAGES)
    multilingual: bool = True
    can: Abilities = field(default_factory=Abilities)


@dataclass(frozen=True, slots=True)
class Stats:
    """An empty queue."""

    queued_windows: dict[Lane, int] = field(default_factory=dict)
    queued_audio_s: dict[Lane, float] = field(default_factory=dict)
    compute_s_per_audio_s: float = 0.0
    engines: int = 1


@dataclass(slots=True)
class ScriptedTranscriber:
    """Answers every file with the same transcript; can be slow, broken, absent or watched.

    Callers who want to hear of segments hear of the first so many that it ``tells``, ``pace_s`` apart, before the
    error or the end. With a ``gate`` nobody is answered before it is set.
    """

    seconds: float = 0.0
    error: BaseException | None = None
    deaf: bool = False
    tells: int | None = None
    told: int = 0
    pace_s: float = 0.0
    script: Callable[[Options], Transcript] | None = None
    ready: bool = True
    stats_pace: float = 0.0
    gate: threading.Event | None = None
    info: Facts | None = field(default_factory=Facts)
    calls: list[tuple[bytes, Options]] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def stats(self) -> Stats:
        """Return an empty queue, and the pace that was set."""
        return Stats(compute_s_per_audio_s=self.stats_pace)

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Read the file, wait, answer."""
        self.calls.append((source.read_bytes(), options))
        if self.deaf:
            time.sleep(self.seconds)
        elif self.gate is not None and not context.cancel.is_set():
            assert self.gate.wait(60)
        elif context.cancel.wait(self.seconds):
            self.cancelled.set()
            raise Cancelled
        if context.audience is None and context.deadline is not None and time.monotonic() > context.deadline:
            raise RequestTimeout
        transcript = (self.script or make_transcript)(options)
        for segment in transcript.segments[: self.tells]:
            if context.on_segments is not None:
                context.on_segments([segment])
                self.told += 1
                context.cancel.wait(self.pace_s)
        if self.error is not None:
            raise self.error
        return transcript

    def detect_language(self, source: Path, context: RequestContext, options: Options) -> Transcript:
        """Return what a file is answered with, without its text."""
        return replace(self.transcribe(source, options, context), text="", segments=())


def make_transcript(options: Options) -> Transcript:
    """Return two segments, with words if asked for."""
    words = (Word(" Hello", 0.5, 0.9, 0.98), Word(" there.", 0.9, 1.4, 0.91))
    segments = (
        Segment(0, 0.5, 1.4, " Hello there.", (1, 2), 0.0, -0.2, 1.1, 0.01, words if _wants_words(options) else ()),
        Segment(1, 2.0, 3.25, " A < B & C --> D.", (3,), 0.0, -0.3, 1.0, 0.02),
    )
    if options.diarize:
        segments = (replace(segments[0], speaker="A"), replace(segments[1], speaker="B"))
    if options.token_chances:
        segments = (replace(segments[0], token_chances=CHANCES[:3]), replace(segments[1], token_chances=CHANCES[3:]))
    return Transcript(
        text="Hello there. A < B & C --> D.",
        segments=segments,
        task=options.task,
        language=options.language or "en",
        language_probability=0.93,
        languages=(("en", 0.93), ("de", 0.04)),
        accounting=Accounting(4.2, 2.5, 1.7, 2.5),
        model="base",
        stats=DecodeStats(windows=1),
        processing_s=0.125,
    )


def _wants_words(options: Options) -> bool:
    return options.timestamps is Timestamps.WORD


@dataclass(slots=True)
class Site:
    """A server under test and the parts that a test turns."""

    services: Services
    transcriber: ScriptedTranscriber
    app: FastAPI
    shop: Shop
    url: str = ""
    stop: Callable[[], None] = lambda: None

    @property
    def staged(self) -> list[Path]:
        """What is left in the staging folder."""
        return [path for path in self.services.staging.iterdir() if path.name != "lock"]

    def post(self, path: str = "/v1/audio/transcriptions", **kwargs: object) -> httpx.Response:
        """Send the clip, with ``data`` as fields."""
        kwargs.setdefault("files", {"file": ("clip.wav", CLIP)})
        kwargs.setdefault("timeout", 60)
        return httpx.post(self.url + path, **kwargs)  # type: ignore[arg-type]


@contextmanager
def site(
    folder: Path,
    limits: Limits,
    transcriber: Any = None,
    desks: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[Site]:
    """Run an application on a real socket in a thread; ``desks`` are further ones."""
    transcriber = transcriber or ScriptedTranscriber()
    with open_staging(folder / "staging") as staging, open_shop(folder / "jobs") as shop:
        services = make_services(staging, limits, Backend(), "9.9.9", Desks(shop.service, **desks))
        services.backend.arrive(transcriber, CARD)
        app = create_app(services)
        server = HttpServer(app, services, Address("127.0.0.1", 0, drain_s=0.2), _NO_HOOKS)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        try:
            yield Site(services, transcriber, app, shop, server.url, server.stop)
        finally:
            server.stop()
            thread.join(30)
            services.runner.close()
    assert not thread.is_alive()


def wait_for(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Return when ``condition`` holds; fail the test when it does not in time, which is long on a busy machine."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.01)
