"""From settings to the models of a server: which there are, what each is called, how they share memory."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from tympan import telemetry
from tympan.api.model_names import Division, ModelCard, ModelNames, find, names_of
from tympan.api.registry import ModelView
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.eviction import Rules
from tympan.batching.fleet import Fleet, FleetOptions
from tympan.batching.group import AnyBatcher, BatcherGroup
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.served import Found, ModelPlan, ModelState, SlotOptions
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


def with_default(found: Sequence[ConfiguredModel], name: str | None) -> list[ConfiguredModel]:
    """Return the models with the one of this id first, so that it is the default; as they are, if it is not there."""
    return sorted(found, key=lambda each: each.card.id != name) if name is not None else list(found)


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
        self._fleet, self._names = fleet, ModelNames(known, found[0].card.id)
        self._preloaded = [each.card.id for each in found if each.entry.preload or each.entry.pinned]
        cards = [each.card for each in found]
        self._cards = {card.id: replace(card, aliases=self._names.own_of(card.id)) for card in cards}
        self._pipes = {card.id: pipes(fleet.slot(card.id)) for card in cards}

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
        return self._names.all

    def stats(self) -> BatcherStats:
        """Return what waits, all models together."""
        return self._fleet.stats()

    def transcriber(self, name: str | None) -> Transcriber:
        """Return the pipeline over a model, the default's for ``None``. Raises ``ModelNotFound``."""
        return self._pipes[self._names.find(name)]

    def pick(self, name: str | None) -> tuple[Transcriber, ModelCard]:
        """Return the pipeline over a model and its card. Raises ``ModelNotFound``."""
        model = self._names.find(name)
        return self._pipes[model], self._cards[model]

    def candidate(self, name: str | None, key: str) -> str | None:
        """Return the id of the model that answers ``key`` in place of the default, if one does."""
        return self._names.candidate(name, key)

    def views(self) -> list[ModelView]:
        """Return every model, the default first."""
        return [self.view(name) for name in sorted(self._cards, key=lambda name: name != self._names.default)]

    def view(self, name: str) -> ModelView:
        """Return a model. Raises ``ModelNotFound``."""
        slot = self._slot(name)
        status = slot.status()
        return ModelView(
            card=self._cards[slot.name],
            state=status.state.value,
            is_default=slot.name == self._names.default,
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

    def promote(self, name: str) -> ModelView:
        """Begin to load a model, let it be the default from now on, and return how it stands.

        Raises ``ModelNotFound``.
        """
        self._names.switch(self._names.find(name))
        return self.load(self._names.default)

    def divide(self, division: Division | None) -> None:
        """Let a candidate answer a share while it is loaded, which this begins to do. Raises ``ModelNotFound``."""
        if division is not None:
            slot = self._slot(division.candidate)
            if division != self._names.division or slot.status().state is ModelState.UNLOADED:
                slot.ask()
        self._names.divide(division, self._is_loaded)

    @property
    def divided(self) -> bool:
        """Whether a candidate answers somebody now."""
        division = self._names.division
        return division is not None and self._is_loaded(division.candidate)

    def _is_loaded(self, model: str) -> bool:
        slot = self._fleet.slot(model)
        return slot.ready and slot.status().state is ModelState.LOADED

    def _slot(self, name: str) -> ModelSlot:
        return self._fleet.slot(self._names.find(name))


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


def _check_names(settings: Settings, ids: Sequence[str]) -> None:
    """Raise ``ConfigError`` for two models of one name, and for an alias that is a model's name."""
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise ConfigError(f"MODELS names {twice[0]!r} twice.", remedy="Name each model once.")
    hidden = sorted({*settings.model_aliases} & {*ids, _id_of(settings.model)})
    if hidden:
        raise ConfigError(f"MODEL_ALIASES has {hidden[0]!r}, which is a model's name.", remedy="Choose another alias.")
