"""From settings to the models of a server: which there are, what each is called, how they share memory."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tympan import telemetry
from tympan.api.registry import OPENAI_NAMES, ModelCard, ModelView, find, names_of
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.eviction import Rules
from tympan.batching.fleet import Fleet, FleetOptions
from tympan.batching.group import AnyBatcher, BatcherGroup
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.served import Found, ModelPlan, SlotOptions
from tympan.batching.slot import ModelSlot
from tympan.batching.stats import BatcherStats
from tympan.config import Settings
from tympan.engine import catalogue, models
from tympan.engine.base import EngineSpec
from tympan.engine.machine import probe_machine
from tympan.engine.model_settings import ModelEntry
from tympan.errors import ConfigError
from tympan.pipeline import Transcriber
from tympan.pipeline.models import ModelTranscriber

ENGINE_START_S = 150.0
"""Longest wait for an engine to load its model."""

_SHARE = 0.7
_RUNTIME_BYTES = 300_000_000

_LOG = telemetry.get_logger(__name__)

Locate: TypeAlias = Callable[[Settings], EngineSpec]
"""Has the files of ``MODEL`` in place and returns what to run; it may take long."""


@dataclass(frozen=True, slots=True)
class ConfiguredModel:
    """One model of the settings: what was said about it, and its settings as if it were the only one."""

    entry: ModelEntry
    card: ModelCard
    settings: Settings

    @property
    def is_fake(self) -> bool:
        """Whether its text is made up."""
        return self.settings.engine == "fake"


def configured_models(settings: Settings) -> list[ConfiguredModel]:
    """Return the models that the settings name, the default first. Raises ``ConfigError`` for names that clash."""
    default_id = "fake" if settings.engine == "fake" else _id_of(settings.model)
    ids = [_id_of(entry.name) for entry in settings.models]
    _check_names(settings, ids)
    entries = dict(zip(ids, settings.models, strict=True))
    first = entries.pop(default_id, ModelEntry(settings.model))
    if settings.models_cached and settings.engine != "fake":
        entries = {name: ModelEntry(name) for name in _here(settings.data_dir) if name != default_id} | entries
    found = [ConfiguredModel(first, _card(default_id, settings), _alone(settings, first, is_default=True))]
    return found + [
        ConfiguredModel(each, _card(name, settings), _alone(settings, each)) for name, each in entries.items()
    ]


def names(settings: Settings, cards: Sequence[ModelCard]) -> dict[str, str]:
    """Return which model each name means."""
    own = {alias: find(names_of(cards), name, cards[0].id) for alias, name in settings.model_aliases.items()}
    return names_of(cards, own)


class LocalRegistry:
    """The models of this process, as the HTTP interface and the jobs see them."""

    def __init__(
        self, fleet: Fleet, found: Sequence[ConfiguredModel], known: Mapping[str, str], pipes: "MakePipe"
    ) -> None:
        """Join the parts: ``known`` says which model a name means, ``pipes`` makes the pipeline over a slot."""
        self._fleet, self._names = fleet, dict(known)
        self._theirs = [name for name in OPENAI_NAMES if known.get(name) == found[0].card.id]
        self._preloaded = [each.card.id for each in found if each.entry.preload or each.entry.pinned]
        cards = [each.card for each in found]
        self._cards = {card.id: _called(card, known, self._theirs) for card in cards}
        self._pipes = {card.id: pipes(fleet.slot(card.id)) for card in cards}
        self._default = cards[0].id

    @property
    def ready(self) -> bool:
        """Whether at least one model takes work, or would after being loaded."""
        return self._fleet.ready

    @property
    def settled(self) -> bool:
        """Whether the server is no longer starting."""
        return self._fleet.default.info is not None

    @property
    def known_names(self) -> tuple[str, ...]:
        """Every name that means a model here."""
        return tuple(self._names)

    def stats(self) -> BatcherStats:
        """Return what waits, all models together."""
        return self._fleet.stats()

    def transcriber(self, name: str | None) -> Transcriber:
        """Return the pipeline over a model, the default's for ``None``. Raises ``ModelNotFound``."""
        return self._pipes[self._id(name)]

    def pick(self, name: str | None) -> tuple[Transcriber, ModelCard]:
        """Return the pipeline over a model and its card. Raises ``ModelNotFound``."""
        model = self._id(name)
        return self._pipes[model], self._cards[model]

    def views(self) -> list[ModelView]:
        """Return every model, the default first."""
        return [self.view(name) for name in self._cards]

    def view(self, name: str) -> ModelView:
        """Return a model. Raises ``ModelNotFound``."""
        slot = self._slot(name)
        status = slot.status()
        return ModelView(
            card=self._cards[slot.name],
            state=status.state.value,
            is_default=slot.name == self._default,
            pinned=status.pinned,
            uses=status.uses,
            memory_bytes=status.memory_bytes,
            facts=status.info,
            error=str(status.failure) if status.failure else None,
        )

    def load(self, name: str) -> ModelView:
        """Begin to load a model, if it is not loaded, and return how it stands. Raises ``ModelNotFound``."""
        self._slot(name).ask()
        return self.view(name)

    def unload(self, name: str) -> ModelView:
        """End a model's process and return how it stands. Raises ``ModelNotFound`` and ``ModelInUse``."""
        self._slot(name).unload()
        return self.view(name)

    def preload(self) -> None:
        """Begin to load the models that should be there before somebody asks; returns at once."""
        _LOG.info("models", served=list(self._cards), loading=self._preloaded)
        for name in self._preloaded:
            self._fleet.slot(name).ask()

    def switch(self, name: str) -> ModelView:
        """Begin to load a model and let it be the default from now on. Raises ``ModelNotFound``."""
        self._default = self._id(name)
        self._names.update(dict.fromkeys(self._theirs, self._default))
        return self.load(self._default)

    def _slot(self, name: str) -> ModelSlot:
        return self._fleet.slot(self._id(name))

    def _id(self, name: str | None) -> str:
        return find(self._names, name, self._default)


MakePipe: TypeAlias = Callable[[ModelSlot], ModelTranscriber]
"""Makes the pipeline over a model."""


def make_fleet(settings: Settings, found: Sequence[ConfiguredModel], batcher: BatcherOptions, locate: Locate) -> Fleet:
    """Return the models of ``found``, none of them loaded."""
    plans = [_plan(each, locate, is_default=each is found[0]) for each in found]
    slots = SlotOptions(
        wait_s=settings.model_wait_s,
        idle_s=settings.model_idle_s,
        load_s=ENGINE_START_S,
        observer=telemetry.ModelMetrics(),
    )
    stand_in = None
    if settings.model_fallback is not None:
        cards = [each.card for each in found]
        stand_in = find(names(settings, cards), settings.model_fallback, "")
    metrics = telemetry.BatchMetrics()
    return Fleet(
        plans,
        MemoryBudget(_rules(settings, len(found))),
        lambda spec: _batcher(spec, settings, lambda each: Batcher(each, batcher, metrics)),
        FleetOptions(slots, stand_in),
    )


def _batcher(spec: EngineSpec, settings: Settings, make: Callable[[EngineSpec], Batcher]) -> AnyBatcher:
    """Return what runs a model: one process, or one for each GPU."""
    if spec.device != "cuda":
        return make(spec)
    members = [make(replace(spec, device_index=index)) for index in gpu_indices(settings)]
    return members[0] if len(members) == 1 else BatcherGroup(members)


def gpu_indices(settings: Settings) -> list[int]:
    """Return the numbers of the GPUs that models run on. Raises ``ConfigError`` for one that is not there."""
    n_found = len(probe_machine().gpus)
    if settings.gpus == "auto":
        return list(range(max(1, n_found)))
    indices = list(dict.fromkeys(int(number) for number in settings.gpus.split(",")))
    if n_found and max(indices) >= n_found:
        raise ConfigError(
            f"There is no GPU {max(indices)}.",
            param="gpus",
            remedy=f"Choose from 0 to {n_found - 1}, or set GPUS=auto; what CUDA_VISIBLE_DEVICES hides does not count.",
        )
    return indices


def _plan(model: ConfiguredModel, locate: Locate, *, is_default: bool) -> ModelPlan:
    entry, settings = model.entry, model.settings

    def spec_for(asked: Settings) -> EngineSpec:
        return _fake(model.card.id, asked) if asked.engine == "fake" else locate(asked)

    def look() -> Found:
        spec = spec_for(settings)
        spare = None
        if spec.device == "cuda" and settings.gpu_fallback == "cpu":
            spare = spec_for(settings.model_copy(update={"device": "cpu", "compute_type": "auto"}))
        needed_bytes = entry.memory_mb * 1_000_000 if entry.memory_mb else _estimate_bytes(spec)
        return Found(spec, needed_bytes, spare)

    return ModelPlan(model.card.id, look, pinned=entry.pinned, kept=is_default or entry.pinned)


def _fake(name: str, settings: Settings) -> EngineSpec:
    options = tuple(sorted(settings.engine_options.items()))
    device = "cpu" if settings.device == "auto" else settings.device
    return EngineSpec("fake", name, device=device, threads=settings.threads or 1, options=options)


def _estimate_bytes(spec: EngineSpec) -> int:
    """Return about what a model takes: by its network where that is known, else by its files."""
    entry = catalogue.find(spec.model)
    if entry is not None and spec.compute_type in catalogue.BYTES_PER_WEIGHT:
        return catalogue.memory_bytes(entry, spec.compute_type)
    folder = Path(spec.path) if spec.path else None
    if folder is None or not folder.exists():
        return 0
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else [folder]
    return _RUNTIME_BYTES + 2 * sum(path.stat().st_size for path in files)


def _rules(settings: Settings, n_models: int) -> dict[str, Rules]:
    """Return how memory is shared on each device."""
    if n_models == 1:
        return {}  # Nobody to share with, and looking at the machine takes time.
    patience_s = max(settings.model_wait_s, settings.model_dwell_s)
    dwell = Rules(None, settings.model_dwell_s, patience_s)
    limited = {device: replace(dwell, budget_bytes=limit) for device, limit in budget_bytes(settings).items()}
    # What Metal and Vulkan use is the machine's own memory, or cannot be told from outside.
    shared = limited["cpu"]
    return {"cuda": dwell, "metal": shared, "vulkan": shared} | limited


def budget_bytes(settings: Settings) -> dict[str, int]:
    """Return what all models together may take by device; a GPU that does not say what it has has no limit."""
    said = settings.model_memory_mb
    machine = probe_machine()
    has = {"cpu": machine.memory_bytes, "cuda": machine.gpus[0].memory_bytes if machine.gpus else 0}
    return {device: said * 1_000_000 if said else int(_SHARE * n_bytes) for device, n_bytes in has.items() if n_bytes}


def _alone(settings: Settings, entry: ModelEntry, *, is_default: bool = False) -> Settings:
    """Return the settings with what was said about one model in place of what was said about the default."""
    said = {name: getattr(entry, name) for name in ("engine", "device", "compute_type", "threads")}
    options = dict(entry.options) or (settings.engine_options if is_default else {})
    changes = {name: value for name, value in said.items() if value is not None}
    if not is_default:
        changes["model"] = entry.name
    return settings.model_copy(update={**changes, "engine_options": options})


def _id_of(name: str) -> str:
    """Return what a model is called: as in the catalogue, else as its folder."""
    entry = catalogue.find(name)
    return entry.name if entry else Path(name).expanduser().resolve().name


def _here(data_dir: Path) -> list[str]:
    """Return the names of the models that lie in the models folder."""
    listed = [line.entry.name for line in models.listing(data_dir) if line.path]
    return listed + [model.name for model in models.local_models(data_dir)]


def _card(name: str, settings: Settings) -> ModelCard:
    entry = catalogue.find(name) if settings.engine != "fake" else None
    if entry is None:
        return ModelCard(name, created=int(time.time()), owner="tympan" if name == "fake" else "local")
    return ModelCard(entry.name, (entry.repo_id, *entry.aliases), int(time.time()), entry.repo_id.split("/", 1)[0])


def _called(card: ModelCard, known: Mapping[str, str], besides: Collection[str]) -> ModelCard:
    """Return the card with the names that really mean this model, but those in ``besides``."""
    names_here = [name for name, model in known.items() if model == card.id]
    aliases = tuple(name for name in names_here if name != card.id and name not in besides)
    return ModelCard(card.id, aliases, card.created, card.owner)


def _check_names(settings: Settings, ids: Sequence[str]) -> None:
    """Raise ``ConfigError`` for two models of one name, and for an alias that is a model's name."""
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigError(f"MODELS names {twice[0]!r} twice.", remedy="Name each model once.")
    hidden = sorted({*settings.model_aliases} & {*ids, _id_of(settings.model)})
    if hidden:
        raise ConfigError(f"MODEL_ALIASES has {hidden[0]!r}, which is a model's name.", remedy="Choose another alias.")
