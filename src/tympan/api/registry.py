"""The models of a server as the routes see them: found by any of their names, listed, loaded and unloaded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from tympan.domain import Lane, Options, Progress, Transcript
from tympan.errors import Conflict, ModelNotFound
from tympan.pipeline import RequestContext
from tympan.pipeline.checks import ModelFacts
from tympan.telemetry import QueueStats

DEFAULT_MODEL_ALIAS = "whisper-1"
"""OpenAI's model name; here it means the default model."""

OPENAI_NAMES = (
    DEFAULT_MODEL_ALIAS,
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
)
"""What OpenAI's clients call a model that transcribes, by their SDK's types; each means the default model.

Some clients name one of these where their user says nothing.
"""

_MOST_NAMED = 8


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
class ModelCard:
    """A model that is served: its id, the other names it answers to, and when it came (Unix seconds)."""

    id: str
    aliases: tuple[str, ...] = ()
    created: int = 0
    owner: str = "tympan"


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

    def views(self) -> Sequence[ModelView]:
        """Return every model, the default first."""

    def view(self, name: str) -> ModelView:
        """Return a model."""

    def load(self, name: str) -> ModelView:
        """Begin to load a model, if it is not loaded, and return how it stands."""

    def unload(self, name: str) -> ModelView:
        """End a model's process and return how it stands; blocks. Raises ``ModelInUse``."""


class FixedRegistry:
    """Models that run elsewhere or for good: nothing is loaded or unloaded here. The first is the default."""

    def __init__(self, models: Sequence[tuple[Transcriber, ModelCard]], names: Mapping[str, str] | None = None) -> None:
        """Serve ``models``; ``names`` says which of them each name means."""
        self._models = {card.id: (transcriber, card) for transcriber, card in models}
        self._default = models[0][1].id
        self._names = names or names_of([card for _, card in models])

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
        return self._models[find(self._names, name, self._default)]

    def views(self) -> list[ModelView]:
        """Return every model."""
        return [self.view(name) for name in self._models]

    def view(self, name: str) -> ModelView:
        """Return a model."""
        transcriber, card = self.pick(name)
        state = "loaded" if transcriber.ready else "unloaded"
        return ModelView(card, state, card.id == self._default, facts=transcriber.info)

    def load(self, name: str) -> ModelView:
        """Raise ``Conflict``."""
        raise self._refused(name)

    def unload(self, name: str) -> ModelView:
        """Raise ``Conflict``."""
        raise self._refused(name)

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


def names_of(cards: Sequence[ModelCard], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return which model every name means: ids first, then the operator's ``own``, ``OPENAI_NAMES``, and aliases.

    The first of ``cards`` is the default's, which OpenAI's names mean unless the operator says otherwise.
    """
    names = {card.id: card.id for card in cards}
    aliases = [(alias, card.id) for card in cards for alias in card.aliases]
    for name, model in [*(own or {}).items(), *((name, cards[0].id) for name in OPENAI_NAMES), *aliases]:
        names.setdefault(name, model)
    return names


def find(names: Mapping[str, str], name: str | None, default: str) -> str:
    """Return the id of the model that ``name`` means. Raises ``ModelNotFound``."""
    if name is None:
        return default
    if name in names:
        return names[name]
    served = ", ".join(repr(model) for model in islice(dict.fromkeys(names.values()), _MOST_NAMED))
    raise ModelNotFound(
        f"The model {name[:80]!r} is not served here.",
        param="model",
        remedy=f"Use {served} or {DEFAULT_MODEL_ALIAS!r}, or leave the field out.",
    )
