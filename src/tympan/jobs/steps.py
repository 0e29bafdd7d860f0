"""The steps of a job, each short, each safe to repeat: prepare, transcribe a section, finish.

Whatever a step writes is written under its claim's fence. A step that finds its lease gone drops what it has.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import reduce
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from tympan.domain import SAMPLE_RATE_HZ, DecodeStats, Job, Lane, Options, Progress, Provenance, StepKind, Transcript
from tympan.engine.base import EngineInfo
from tympan.errors import Cancelled, MediaChanged, MediaMissing, Unavailable
from tympan.faultpoints import reach
from tympan.jobs.media import MediaDesk, job_prefix, section_prefix
from tympan.jobs.patience import patiently
from tympan.jobs.preparation import Preparation
from tympan.jobs.result_cache import ResultCache, served
from tympan.jobs.sections import AWAITED_SECTION_S, SECTION_S, SectionLost, read_section
from tympan.observation import Observation, observed
from tympan.pipeline import RequestContext
from tympan.pipeline.checks import check_options
from tympan.pipeline.transcriber import Decoded, Transcriber
from tympan.storage.blobs import BlobStore
from tympan.storage.codec import DecodedWindow, Prepared, SectionResult
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.work import Claim, LeaseLost, WorkStore
from tympan.transcript import Totals, assemble


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What one job may take: seconds of audio, how old an equal result may be, and how long a section usually is.

    A finished step waits ``patience_s`` for a database that is away; longer than a lease would be in vain.
    ``narrowed`` returns what a tenant may take of ``max_audio_s``. ``cache`` keeps results of synchronous calls.
    ``observe`` is told of every transcript that is made, and for which tenant.
    """

    max_audio_s: float = 14_400.0
    result_ttl_s: float = 3_600.0
    section_s: float = SECTION_S
    patience_s: float = 25.0
    narrowed: Callable[[str, float], float] = lambda _tenant, max_audio_s: max_audio_s
    cache: ResultCache = field(default_factory=ResultCache)
    observe: Callable[[str, Observation], object] = lambda _tenant, _observation: None


PickModel: TypeAlias = Callable[[str | None], Transcriber]
"""Gives the pipeline over the model of a name, or over the default; raises ``ModelNotFound``."""


class Steps:
    """Does what a claim asks for."""

    def __init__(self, pick: PickModel, work: WorkStore, desk: MediaDesk, blobs: BlobStore, limits: StepLimits) -> None:
        """Join the parts."""
        self._pick, self._work, self._desk, self._blobs, self._limits = pick, work, desk, blobs, limits

    def run(
        self,
        claim: Claim,
        cancel: threading.Event,
        scratch: Path,
        on_progress: Callable[[int], None] = lambda _samples: None,
    ) -> None:
        """Do the step and hand it in; ``on_progress`` is told how many samples of a section are done.

        Raises ``LeaseLost``, ``Cancelled`` when ``cancel`` was set, and the typed error that the job failed with.
        """
        try:
            max_audio_s = self._limits.narrowed(claim.job.tenant, self._limits.max_audio_s)
            self._run(claim, _context(claim, cancel, max_audio_s), scratch, on_progress)
        except (LeaseLost, Cancelled):
            if self._work.is_erased(claim.job.id):  # What was stored after that has no owner.
                self._blobs.delete_prefix(job_prefix(claim.job.id))
            raise

    def _run(self, claim: Claim, context: RequestContext, scratch: Path, on_progress: Callable[[int], None]) -> None:
        if claim.kind is StepKind.PREPARE:
            self._prepare(claim, context, scratch)
        elif claim.kind is StepKind.SECTION:
            self._section(claim, context, scratch, on_progress)
        else:
            self._finish(claim, context)

    def _prepare(self, claim: Claim, context: RequestContext, scratch: Path) -> None:
        model = self._pick(claim.job.model)
        with self._desk.open(claim.job, context.cancel.is_set) as media:
            with model.held(context) as transcriber:  # Not for longer: a long file would keep other models out.
                info = _info(transcriber)
            check_options(claim.job.options, info)
            fingerprint = self._limits.cache.key(media.sha256, claim.job.options, info)
            if (equal := self._equal(claim, fingerprint, context.max_audio_s)) is not None:
                self._work.finish(claim, equal, served(fingerprint))
                return
            if claim.job.options.language_only:
                found = model.detect_language(media.path, context, claim.job.options)
                patiently(lambda: self._work.finish(claim, found), self._limits.patience_s)
                return
            cut = Preparation(model, self._work, self._blobs, self._section_s(claim.job), info.model)
            facts = cut.run(claim, media.path, context, scratch)
            self._work.prepared(claim, cut.n_sections, facts, fingerprint)

    def _section_s(self, job: Job) -> float:
        return self._limits.section_s if job.lane is Lane.BATCH else min(self._limits.section_s, AWAITED_SECTION_S)

    def _equal(self, claim: Claim, fingerprint: str, max_audio_s: float) -> Transcript | None:
        """Return the result of an equal job, or of an equal synchronous call; a measurement is made anew."""
        if claim.job.tenant == MEASURING_TENANT:
            return None
        if (found := self._work.cached(claim, fingerprint, self._limits.result_ttl_s)) is not None:
            return replace(found, is_cached=True)
        return self._limits.cache.find(claim.job.tenant, fingerprint, max_audio_s)

    def _section(
        self, claim: Claim, context: RequestContext, scratch: Path, on_progress: Callable[[int], None]
    ) -> None:
        def tell(progress: Progress) -> None:
            on_progress(max(0, round(progress.done_s * SAMPLE_RATE_HZ) - claim.start_sample))

        started = time.monotonic()
        prefix = section_prefix(claim.job.id, claim.index)
        options = replace(claim.job.options, language=_language(claim.job))
        model = self._pick(claim.job.model)
        with self._audio_of_section(f"{prefix}pcm", scratch) as path, model.held(context) as transcriber:
            info = _info(transcriber)
            self._work.bind(claim, info.model, info.digest)
            decoded = transcriber.decode(read_section(path), options, context, tell)
            if _info(transcriber).digest != info.digest:  # It failed, and another kind of engine took its place.
                raise Unavailable("The engine was replaced in the meantime.", retry_after_s=1.0)
        reach("section.decoded")
        result = _section_result(decoded, info, time.monotonic() - started)
        text = " ".join(window.result.text.strip() for window in result.windows if window.result.text.strip())
        patiently(lambda: self._work.commit_section(claim, result, text), self._limits.patience_s)
        self._blobs.delete_prefix(prefix)

    @contextmanager
    def _audio_of_section(self, key: str, scratch: Path) -> Iterator[Path]:
        """Yield the file with a section's audio. Raises ``SectionLost``."""
        try:
            with self._blobs.fetch(key, scratch) as path:
                yield path
        except (MediaMissing, MediaChanged) as error:
            raise SectionLost(error.message, remedy=error.remedy) from error

    def _finish(self, claim: Claim, context: RequestContext) -> None:
        prepared, results = self._work.results(claim)
        info = self._pick(claim.job.model).info
        transcript = assembled(claim.job.options, prepared, results, info.model if info else claim.job.model or "")
        reach("finish.assembled")
        context.check()
        key = self._key_to_keep(claim)
        patiently(lambda: self._work.finish(claim, transcript), self._limits.patience_s)
        kind = "job" if claim.job.lane is Lane.BATCH else "call"
        self._limits.observe(claim.job.tenant, observed(kind, transcript, prepared.condition))
        if key is not None and info is not None:
            self._limits.cache.keep(claim.job.tenant, key, info, transcript)
        self._blobs.delete_prefix(section_prefix(claim.job.id))

    def _key_to_keep(self, claim: Claim) -> str | None:
        """Return what to keep the result of a synchronous call under; a job's own serves until the job is erased."""
        if claim.job.lane is Lane.BATCH or not self._limits.cache.is_on:
            return None
        key = self._work.fingerprint(claim)
        # Another worker's engine may have taken over from the one that the key is about.
        return key if key and key.endswith(claim.job.weights or "") else None


def assembled(options: Options, prepared: Prepared, results: list[SectionResult], model: str) -> Transcript:
    """Return the transcript of a job from its sections' results, in order; ``model`` made them unless they say."""
    parts = [window.part() for window in chain.from_iterable(result.windows for result in results)]
    languages = prepared.languages or next((result.languages for result in results if result.languages), ())
    stats = reduce(_sum, (result.stats for result in results), DecodeStats())
    used, provenance = next(((result.model, result.provenance) for result in results), (model, Provenance()))
    totals = Totals(prepared.audio_samples, prepared.speech_samples, used, stats, provenance)
    transcript = assemble(parts, languages, options, totals, prepared.turns)
    return replace(transcript, processing_s=sum(result.processing_s for result in results))


def _context(claim: Claim, cancel: threading.Event, max_audio_s: float) -> RequestContext:
    return RequestContext(claim.job.id, claim.job.tenant, claim.job.lane, max_audio_s, cancel)


def _section_result(decoded: Decoded, info: EngineInfo, processing_s: float) -> SectionResult:
    windows = tuple(
        DecodedWindow(window.index, window.pieces, window.speech_peak, result) for window, result in decoded.parts
    )
    return SectionResult(windows, decoded.languages, decoded.stats, info.model, processing_s, info.provenance)


def _sum(one: DecodeStats, other: DecodeStats) -> DecodeStats:
    return DecodeStats(
        windows=one.windows + other.windows,
        fallbacks=one.fallbacks + other.fallbacks,
        full_context=one.full_context + other.full_context,
        rejected=one.rejected + other.rejected,
    )


def _info(transcriber: Transcriber) -> EngineInfo:
    if transcriber.info is None:
        raise Unavailable("The engine is not running.", retry_after_s=2.0)
    return transcriber.info


def _language(job: Job) -> str | None:
    """Return the language to decode in: as given, or as settled for all, unless every window has its own."""
    return job.options.language or (None if job.options.multilingual else job.language)
