"""The pipeline over a model that is not always loaded: whoever transcribes holds the model until the end."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tympan.audio.vad import SpeechDetector
from tympan.domain import Options, Progress, Ranking, Transcript, Window
from tympan.observation import Observer
from tympan.pipeline.decoding import WindowService
from tympan.pipeline.request import RequestContext
from tympan.pipeline.sampling import Sampler
from tympan.pipeline.speech import AudioSource, Speech
from tympan.pipeline.transcriber import Decoded, Transcriber


class ModelService(WindowService, Protocol):
    """Where a model's windows are answered, once it is loaded: a slot."""

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[WindowService]:
        """Have the model loaded, and keep it so inside the block; ``check`` raises when the caller should not wait."""
        ...


class ModelTranscriber(Transcriber):
    """Audio in, transcript out, by one model, which is loaded first where it has to be.

    Beside what ``Transcriber`` raises, everything that needs the model raises ``Unavailable`` when it cannot be had.
    """

    def __init__(
        self,
        source: AudioSource,
        detector: SpeechDetector,
        model: ModelService,
        observer: Observer | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        """Join the parts; an ``observer`` is told of every transcript, a ``sampler`` of every window."""
        super().__init__(source, detector, model, observer=observer, sampler=sampler)
        self._model = model

    @contextmanager
    def held(self, context: RequestContext) -> Iterator[Transcriber]:
        """Yield a transcriber whose model is loaded and stays so inside the block."""
        with self._model.hold(context.check) as service:
            held = Transcriber(self._source, self._detector, service, observer=self.observer, sampler=self.sampler)
            yield held.hearing(self.voices)

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Return the transcript of the media file at ``source``."""
        with self.held(context) as transcriber:
            return transcriber.transcribe(source, options, context, on_progress)

    def decode(
        self,
        windows: Iterable[Window],
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
        speech: Speech | None = None,
    ) -> Decoded:
        """Return what the engine makes of ``windows``."""
        with self.held(context) as transcriber:
            return transcriber.decode(windows, options, context, on_progress, speech)

    def rank_languages(
        self, windows: Iterable[Window], context: RequestContext, allowed: tuple[str, ...] = ()
    ) -> Ranking:
        """Return language codes with probabilities, likeliest first."""
        with self.held(context) as transcriber:
            return transcriber.rank_languages(windows, context, allowed)
