"""A request with a media file on its way through the house: let in, read, understood, worked on, counted."""

import hashlib
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from starlette.requests import Request

from tympan import telemetry
from tympan.api.access.callers import tenant_of
from tympan.api.deps import ModelCard, Services, Transcriber, Voices, services_of
from tympan.api.doors.admission import Errand, Place
from tympan.api.doors.retries import RETRY_HEADER, Likeness, Running
from tympan.api.errors import STATUS, queue_headers
from tympan.api.fields.jobs import idempotency_key
from tympan.api.intake import uploads
from tympan.api.intake.equals import HIT, HIT_HEADER, EqualCalls
from tympan.api.intake.incoming import UploadLimits
from tympan.api.intake.metering import bill_of, bounds_of
from tympan.api.picking import pick
from tympan.api.wire.deadlines import deadline_of, patience_of
from tympan.domain import Options, Progress, Segment, Transcript
from tympan.errors import Cancelled, TympanError, Unavailable
from tympan.pipeline import Audience, Call, RequestContext


class Asks(Protocol):
    """What a form asks for, as far as letting it in goes."""

    @property
    def options(self) -> Options:
        """How to transcribe."""

    @property
    def model(self) -> str | None:
        """Which model; ``None`` for the default."""


Asked = TypeVar("Asked", bound=Asks)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Door(Generic[Asked]):
    """How a route reads its form: which part is the file, and what the fields mean; ``parse`` raises ``TympanError``.

    ``parse`` is given the whole upload, since some routes tell the name of the file again.
    """

    parse: Callable[[uploads.Upload], Asked]
    rules: uploads.FileRules = field(default_factory=uploads.FileRules)


@dataclass(slots=True)
class _Stay:
    """What a request holds while it is in the house: its place and its folder. Given up once, by whoever ends last."""

    place: Place
    folder: Path

    def end(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.place.leave()


@dataclass(frozen=True, slots=True)
class Guest(Generic[Asked]):
    """A request that was let in, its body read and understood: what is asked, of whom, and about which file."""

    asked: Asked
    transcriber: Transcriber
    source: Path
    context: RequestContext
    stay: _Stay
    sha256: str = ""
    samples: Mapping[str, Path] = field(default_factory=dict)
    voices: Voices | None = None

    def transcribe(self) -> Transcript:
        """Return the transcript of the file; blocks. Samples of voices are heard first. Raises ``TympanError``."""
        place, options = self.stay.place, self.asked.options
        if self.voices is not None:
            options = options.with_voices(self.voices.heard(self.samples, self.context))
        transcript = self.transcriber.transcribe(self.source, options, self.context, place.advance)
        place.advance(Progress(transcript.duration_s, transcript.duration_s))
        return transcript

    def detect_language(self) -> Transcript:
        """Return which language the file is in, as a transcript without text; blocks. Raises ``TympanError``."""
        return self.transcriber.detect_language(self.source, self.context, self.asked.options)


class Visit(Generic[Asked]):
    """One request on its way through the house."""

    def __init__(self, request: Request, door: Door[Asked]) -> None:
        """Prepare to let ``request`` in by ``door``; nothing is read yet."""
        self._request, self._door = request, door
        self._services: Services = services_of(request)
        self._bounds = bounds_of(request)
        self._started = time.monotonic()
        self._limit_s = deadline_of(request.headers, self._services.limits.request_timeout_s)
        self._key = idempotency_key(request.headers.getlist("idempotency-key"))
        self._language: str | None = None
        self._card: ModelCard | None = None
        self._has_told = False

    async def transcript(self) -> tuple[Asked, Transcript]:
        """Let the request in, run the pipeline, count it; return what was asked and the transcript.

        Raises ``TympanError``.
        """
        with self.counted():
            guest = await self.enter()
        return guest.asked, await self.finish(guest)

    async def finish(self, guest: Guest[Asked]) -> Transcript:
        """Run the pipeline for a guest, and count how that ends. Raises ``TympanError``."""
        with self.counted():
            if self._services.limits.shares_calls:
                guest = replace(guest, context=replace(guest.context, call=self._call(guest)))
            transcript = await self._transcript(guest)
        self.served(transcript)
        return transcript

    def telling(self, context: RequestContext) -> RequestContext:
        """Return ``context``, whose segments are put on the bill as they are told; how soon the first is, is noted."""
        tell, bill = context.on_segments, bill_of(self._request)
        if tell is None:
            return context

        def told(segments: Sequence[Segment]) -> None:
            if not self._has_told and any(segment.text.strip() for segment in segments):
                self._has_told = True
                telemetry.record_first_text("stream", time.monotonic() - self._started)
            if bill is not None:
                bill.told_s = max((bill.told_s, *(segment.end_s for segment in segments)))
            tell(segments)

        return replace(context, on_segments=told)

    async def language(self, guest: Guest[Asked]) -> Transcript:
        """Hear which language a guest's file is in, and count how that ends. Raises ``TympanError``."""
        with self.counted():
            found = await self.serve(guest, guest.detect_language)
        self.served(found)
        return found

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what the block raises as a failure; a caller who hangs up is none."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, Cancelled):
                telemetry.record_failure(self._model_label, self._language)
            if isinstance(error, TympanError) and (bill := bill_of(self._request)) is not None:
                bill.fail(STATUS[error.code], self._model_label)
            raise

    def served(self, transcript: Transcript) -> None:
        """Count a success."""
        elapsed_s = time.monotonic() - self._started
        if transcript.is_cached:
            self._request.state.answer_headers[HIT_HEADER] = HIT
        else:
            self._services.house.record_stay(elapsed_s)
        telemetry.record_success(transcript, elapsed_s)
        if (bill := bill_of(self._request)) is not None:
            bill.note(transcript)

    async def enter(self) -> Guest[Asked]:
        """Let the request in, and read and understand its body. Raises ``TympanError``."""
        services, field_name = self._services, self._door.rules.field
        n_bytes = uploads.announced_file_bytes(self._request, self._bounds.max_upload_bytes, field_name)
        services.backend.require()  # Before the body is read.
        context = self._context()
        place = services.house.admit(context, n_bytes, Errand(patience_s=patience_of(self._request.headers)))
        stay = _Stay(place, services.staging / uuid.uuid4().hex)
        self._request.state.answer_headers |= queue_headers(place.standing.position, place.standing.eta_s)
        try:
            upload, asked = await self._read(stay.folder)
            sha256 = upload.files[0].sha256
            voices = services.require_voices() if upload.samples else None
            transcriber = self._pick(asked, sha256)
            return Guest(asked, transcriber, upload.path, context, stay, sha256, upload.samples, voices)
        except BaseException:
            stay.end()
            raise

    async def serve(self, guest: Guest[Asked], work: Callable[[], Result]) -> Result:
        """Return what ``work`` returns for a guest, who leaves when it has ended. Raises ``TympanError``."""
        stay = guest.stay
        stay.place.begin()
        try:
            return await self._services.runner.run(work, guest.context, self._request.receive, stay.end)
        except Cancelled:
            if stay.place.evicted:
                raise Unavailable("The server is stopping.", remedy="Try again.", retry_after_s=5.0) from None
            raise

    async def _transcript(self, guest: Guest[Asked]) -> Transcript:
        """Return what an earlier try has begun, an equal call was answered with, or is made now.

        Raises ``TympanError``.
        """
        alone = guest.context.on_segments is not None or not self._services.retries.grace_s
        begun = None if alone else self._take_up(guest)
        if begun is None and (equal := await self._equal(guest)) is not None:
            return equal
        if alone:
            return await self.serve(guest, self._work(guest))
        # While equal calls were looked for, an earlier try may have come back.
        return await self._attend(begun or self._take_up(guest) or self._begin(guest))

    async def _equal(self, guest: Guest[Asked]) -> Transcript | None:
        """Return what an equal call was answered with; the guest's own file and place are given up for it."""
        equals = EqualCalls(self._services, guest.transcriber, guest.context)
        try:
            found = await equals.find(guest.sha256, guest.asked.options)
        except BaseException:
            guest.stay.end()
            raise
        if found is not None:
            guest.stay.end()
        return found

    def _work(self, guest: Guest[Asked]) -> Callable[[], Transcript]:
        equals = EqualCalls(self._services, guest.transcriber, guest.context)
        return equals.keeping(guest.sha256, guest.asked.options, guest.transcribe)

    async def _attend(self, running: Running) -> Transcript:
        """Return the transcript that is being made. Raises ``TympanError``."""
        services = self._services
        services.retries.enter(running, self._deadline)
        try:
            transcript = await services.runner.wait(running.future, self._deadline, self._request.receive)
        except Cancelled:
            if running.place.evicted:
                raise Unavailable("The server is stopping.", remedy="Try again.", retry_after_s=5.0) from None
            raise
        else:
            if (bill := bill_of(self._request)) is not None:
                bill.is_paid, running.is_paid = running.is_paid, True
            return transcript
        finally:
            services.retries.leave(running, keep=not services.house.draining)

    def _take_up(self, guest: Guest[Asked]) -> Running | None:
        """Return the work that an earlier try has begun; the guest's own file and place are given up for it."""
        try:
            found = self._services.retries.find(self._likeness(guest), self._key, is_retry=self._is_retry)
        except BaseException:
            guest.stay.end()
            raise
        if found is not None:
            guest.stay.end()
            self._resumed()
        return found

    def _resumed(self) -> None:
        telemetry.REATTACHED.inc()
        if (bill := bill_of(self._request)) is not None:
            bill.resume()
        self._request.state.answer_headers["tympan-reattached"] = "true"

    def _call(self, guest: Guest[Asked]) -> Call:
        """Return what makes this call known to other processes when it comes again."""
        alike = repr((self._likeness(guest), self._key))
        likeness = hashlib.sha256(alike.encode()).hexdigest()
        return Call(self._request.url.path, likeness, self._key, self._is_retry, self._resumed)

    @property
    def _is_retry(self) -> bool:
        return self._request.headers.get(RETRY_HEADER, "0") != "0"

    def _begin(self, guest: Guest[Asked]) -> Running:
        stay, services = guest.stay, self._services
        stay.place.begin()
        future = services.runner.start(self._work(guest), guest.context, stay.end)
        running = Running(self._likeness(guest), self._key, guest.context, stay.place, future)
        services.retries.begin(running)
        return running

    def _likeness(self, guest: Guest[Asked]) -> Likeness:
        model, asked = self._card.id if self._card else "", hashlib.sha256(repr(guest.asked).encode()).hexdigest()
        return Likeness(guest.context.tenant, self._request.url.path, model, asked, guest.sha256)

    async def _read(self, folder: Path) -> tuple[uploads.Upload, Asked]:
        limits, door = self._bounds, self._door
        services = self._services
        is_known_again = services.retries.grace_s or services.limits.shares_calls or services.results.is_on
        rules = replace(door.rules, digest=True) if is_known_again else door.rules
        bounds = UploadLimits(limits.max_upload_bytes, limits.upload_idle_s, self._deadline)
        upload = await uploads.receive(self._request, folder, bounds, self._services.runner, rules)
        asked = door.parse(upload)
        self._language = asked.options.language
        return upload, asked

    def _pick(self, asked: Asked, sha256: str) -> Transcriber:
        key = sha256 or self._request.state.request_id
        transcriber, self._card = pick(self._services.backend.require(), asked.model, key, asked.options)
        return transcriber

    def _context(self) -> RequestContext:
        tenant = tenant_of(self._request)
        return RequestContext(
            request_id=self._request.state.request_id,
            tenant=tenant,
            max_audio_s=self._bounds.max_audio_s,
            deadline=self._deadline,
            weight=self._services.weight_of(tenant),
            audience=Audience(self._deadline) if self._services.retries.grace_s else None,
        )

    @property
    def _deadline(self) -> float:
        return self._started + self._limit_s

    @property
    def _model_label(self) -> str:
        card = self._card or self._services.backend.card
        return card.id if card else telemetry.UNKNOWN
