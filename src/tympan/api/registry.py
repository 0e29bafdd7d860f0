"""The models of a server as the routes see them: found by any of their names, listed, loaded and unloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tympan.api.model_names import Division, ModelCard, ModelNames, names_of
from tympan.domain import Lane, Options, Progress, Transcript
from tympan.errors import Conflict
from tympan.pipeline import RequestContext
from tympan.pipeline.checks import ModelFacts
from tympan.telemetry import QueueStats


class EngineFacts(ModelFacts, Protocol):
    """What an engine runs and on what, and what its model can be asked for."""

    @property
    def engine(self) -> str:
        """Name of the runtime."""

    @property
    def device(self) -> str:
        """Where it runs."""

    @property
    def compute_type(self) -> str:
        """Number format of the weights."""

    @property
    def digest(self) -> str:
        """Digest of what decides its text, beside audio and options; empty where that is not known."""


class Transcriber(Protocol):
    """The pipeline as the routes see it; ``transcribe`` blocks and is called in a thread of its own."""

    @property
    def info(self) -> EngineFacts | None:
        """What the engine is, once it has started."""

    @property
    def ready(self) -> bool:
        """Whether the engine takes work now."""

    def stats(self) -> QueueStats:
        """Return the waiting windows by lane."""

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Return the transcript of a media file. Raises ``TympanError``."""

    def detect_language(self, source: Path, context: RequestContext, options: Options) -> Transcript:
        """Return which languages a media file may be in: a transcript without text. Raises ``TympanError``."""


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model as it stands: ``state`` is ``loaded``, ``loading``, ``unloading``, ``unloaded`` or ``failed``.

    ``uses`` counts the requests, sections of jobs and live sessions that use it now. ``error`` says why it could not be
    loaded the last time. What is not known is ``None``.
    """

    card: ModelCard
    state: str
    is_default: bool = False
    pinned: bool = False
    uses: int = 0
    memory_bytes: int | None = None
    facts: EngineFacts | None = None
    error: str | None = None


class ModelRegistry(Protocol):
    """All models. What takes a name takes an alias as well, and raises ``ModelNotFound`` for one that is unknown."""

    @property
    def ready(self) -> bool:
        """Whether at least one model takes work, or would after being loaded."""

    @property
    def settled(self) -> bool:
        """Whether the default model has been loaded once, so that the server is no longer starting."""

    def stats(self) -> QueueStats:
        """Return what waits, all models together."""

    def pick(self, name: str | None) -> tuple[Transcriber, ModelCard]:
        """Return the pipeline over a model and its card; the default's for ``None``."""

    def candidate(self, name: str | None, key: str) -> str | None:
        """Return the id of the model on trial that answers in place of the one of this name, if one does.

        ``key`` says who or what asks: the same one always gets the same answer.
        """

    def views(self) -> Sequence[ModelView]:
        """Return every model, the default first."""

    def view(self, name: str) -> ModelView:
        """Return a model."""

    def load(self, name: str) -> ModelView:
        """Begin to load a model, if it is not loaded, and return how it stands."""

    def unload(self, name: str) -> ModelView:
        """End a model's process and return how it stands; blocks. Raises ``ModelInUse``."""

    def promote(self, name: str) -> ModelView:
        """Let a model be the default from now on, and return how it stands; it is loaded where that is done."""

    def divide(self, division: Division | None) -> None:
        """Let a candidate answer a share of those who ask for the default; ``None``: nobody but the default."""

    @property
    def divided(self) -> bool:
        """Whether a candidate answers somebody now."""


class FixedRegistry:
    """Models that run elsewhere or for good: nothing is loaded or unloaded here. The first is the default."""

    def __init__(self, models: Sequence[tuple[Transcriber, ModelCard]], names: Mapping[str, str] | None = None) -> None:
        """Serve ``models``; ``names`` says which of them each name means."""
        self._models = {card.id: (transcriber, card) for transcriber, card in models}
        self._names = ModelNames(names or names_of([card for _, card in models]), models[0][1].id)

    @property
    def default(self) -> str:
        """The id of the model that answers those who name none."""
        return self._names.default

    @property
    def ready(self) -> bool:
        """Whether a model takes work."""
        return any(transcriber.ready for transcriber, _ in self._models.values())

    @property
    def settled(self) -> bool:
        """Whether a model is ready, or was."""
        return self.ready or any(transcriber.info is not None for transcriber, _ in self._models.values())

    def stats(self) -> QueueStats:
        """Return what waits."""
        return QueueSum([transcriber.stats() for transcriber, _ in self._models.values()])

    def pick(self, name: str | None) -> tuple[Transcriber, ModelCard]:
        """Return the pipeline over a model and its card."""
        return self._models[self._names.find(name)]

    def candidate(self, name: str | None, key: str) -> str | None:
        """Return the id of the model that answers ``key`` in place of the default, if one does."""
        return self._names.candidate(name, key)

    def views(self) -> list[ModelView]:
        """Return every model, the default first."""
        return [self.view(name) for name in sorted(self._models, key=lambda name: name != self._names.default)]

    def view(self, name: str) -> ModelView:
        """Return a model."""
        transcriber, card = self.pick(name)
        state = "loaded" if transcriber.ready else "unloaded"
        return ModelView(card, state, card.id == self._names.default, facts=transcriber.info)

    def load(self, name: str) -> ModelView:
        """Raise ``Conflict``."""
        raise self._refused(name)

    def unload(self, name: str) -> ModelView:
        """Raise ``Conflict``."""
        raise self._refused(name)

    def promote(self, name: str) -> ModelView:
        """Let a model be the default from now on. Raises ``ModelNotFound``."""
        self._names.switch(self._names.find(name))
        return self.view(self._names.default)

    def divide(self, division: Division | None) -> None:
        """Let a candidate answer a share; whether it is loaded is known where it runs. Raises ``ModelNotFound``."""
        if division is not None:
            self._names.find(division.candidate)
        self._names.divide(division)

    @property
    def divided(self) -> bool:
        """Whether a candidate answers somebody."""
        return self._names.division is not None

    def _refused(self, name: str) -> Conflict:
        card = self.pick(name)[1]
        return Conflict(f"The model {card.id!r} is not loaded by this process.", remedy="Ask the one that has it.")


@dataclass(frozen=True, slots=True)
class QueueSum:
    """Several queues, looked at as one."""

    queues: Sequence[QueueStats]

    @property
    def queued_windows(self) -> Mapping[Lane, int]:
        """Waiting windows by lane."""
        return {lane: sum(queue.queued_windows.get(lane, 0) for queue in self.queues) for lane in Lane}

    @property
    def queued_audio_s(self) -> Mapping[Lane, float]:
        """Seconds of waiting audio by lane."""
        return {lane: sum(queue.queued_audio_s.get(lane, 0.0) for queue in self.queues) for lane in Lane}

    @property
    def compute_s_per_audio_s(self) -> float:
        """Seconds of work per second of audio, by the slowest."""
        return max((queue.compute_s_per_audio_s for queue in self.queues), default=0.0)

    @property
    def engines(self) -> int:
        """Engines that take work."""
        return sum(queue.engines for queue in self.queues)
