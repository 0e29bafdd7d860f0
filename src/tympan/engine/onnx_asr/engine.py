"""The engine for models exported to ONNX: windows to samples, samples to what was said, that to results."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from tympan.domain import SAMPLE_RATE_HZ, Samples, Task, WindowResult, WindowTask
from tympan.engine.asking import in_order
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.catalogue import find as find_entry
from tympan.engine.knobs import Knobs
from tympan.engine.machine import probe_machine
from tympan.engine.onnx_asr.families import Found, find
from tympan.engine.onnx_asr.moonshine import Moonshine
from tympan.engine.onnx_asr.said import NOTHING, Said, window_result
from tympan.engine.onnx_asr.sessions import Place
from tympan.errors import ConfigError, UnsupportedLanguage
from tympan.languages import language_code

QUIET_SAMPLE: Final = 8
"""A window whose samples all stay below this, 72 dB under full scale, holds no speech and is not asked about."""

SHORTEST_S: Final = 0.5
"""Shorter windows are filled up with silence: a few frames are too little for these networks."""

_MAX_HANDS: Final = 4
_BATCH_ON_GPU: Final = 8


class Network(Protocol):
    """A loaded model of some family."""

    languages: tuple[str, ...]
    """Languages that its vocabulary has marks for."""

    def recognize(self, windows: Sequence[Any], language: str | None, *, translate: bool) -> list[Said]:
        """Return what is said in each of ``windows``; may be called from several threads."""
        ...


def create(spec: EngineSpec) -> "OnnxAsrEngine":
    """Return a loaded engine for the model directory in ``spec``."""
    return OnnxAsrEngine(spec)


class OnnxAsrEngine:
    """A model of a family in ``families``.

    ``options`` of the spec: ``replicas``, how many windows a processor reads at once; ``batch``, how many share a call,
    by default 1 on a processor, because weights in int8 make every text depend on what it shares a call with;
    ``languages``, codes joined by commas, for a model that does not tell.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Load the model. Raises ``ModelError``, ``ConfigError``, or ``EngineError`` when the runtime refuses it."""
        knobs = Knobs(spec, "replicas batch languages")
        found = find(Path(spec.path), spec.compute_type)
        threads = spec.threads or probe_machine().cores
        hands = knobs.count("replicas") or (min(threads, _MAX_HANDS) if spec.device == "cpu" else 1)
        self._network = _network(found, Place(spec.device, spec.device_index, max(1, threads // hands)))
        self._batch = _batch(found, spec.device, knobs.count("batch"))
        self._pool = ThreadPoolExecutor(hands, thread_name_prefix="window")
        languages = _languages(knobs.text("languages"), spec.model, found, self._network)
        self.info = EngineInfo(
            engine="onnx-asr",
            model=spec.model,
            revision=spec.revision,
            device=spec.device,
            compute_type=found.layout.number_format or "float32",
            threads=threads,
            languages=languages,
            multilingual=len(languages) != 1,
            can=found.family.can,
        )

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return one result per task, in order. See ``Engine``."""
        groups = self._groups(batch)
        parts = list(self._pool.map(self._read, [[batch[i] for i in group] for group in groups]))
        return in_order(groups, parts)

    def close(self) -> None:
        """Stop the threads. The model itself goes with the process."""
        self._pool.shutdown(wait=True)

    def _groups(self, tasks: Sequence[WindowTask]) -> list[list[int]]:
        """Return task numbers in groups that share a call: of one language, alike in length, longest first."""
        order = sorted(range(len(tasks)), key=lambda i: (tasks[i].params.language or "", -len(tasks[i].window.samples)))
        groups: list[list[int]] = []
        for _, same in groupby(order, key=lambda i: tasks[i].params.language):
            numbers = list(same)
            groups += [numbers[at : at + self._batch] for at in range(0, len(numbers), self._batch)]
        return sorted(groups, key=lambda group: -sum(len(tasks[i].window.samples) for i in group))

    def _read(self, tasks: Sequence[WindowTask]) -> list[WindowResult]:
        language = tasks[0].params.language
        self._check(language)
        spoken = [i for i, task in enumerate(tasks) if not _is_quiet(task.window.samples)]
        said: list[Said] = [NOTHING] * len(tasks)
        if spoken:
            windows = [_reals(tasks[i].window.samples) for i in spoken]
            translate = tasks[0].params.task is Task.TRANSLATE
            for i, one in zip(spoken, self._network.recognize(windows, language, translate=translate), strict=True):
                said[i] = one
        return [window_result(task, one, self.info.languages) for task, one in zip(tasks, said, strict=True)]

    def _check(self, language: str | None) -> None:
        if language and self.info.languages and language not in self.info.languages:
            raise UnsupportedLanguage(f"The model does not know the language {language!r}.", param="language")


def _network(found: Found, place: Place) -> Network:
    if found.family.name == "moonshine":
        return Moonshine(found, place)
    try:
        from tympan.engine.onnx_asr.library import Library  # noqa: PLC0415 (an extra, which Moonshine can do without)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The model in {found.folder} needs the package onnx-asr, which is not installed.",
            remedy="Install it with: pip install 'tympan[onnx-asr]'.",
        ) from error
    return Library(found, place)


def _batch(found: Found, device: str, asked: int | None) -> int:
    if found.family.alone:
        return 1
    return asked or (1 if device == "cpu" else _BATCH_ON_GPU)


def _languages(asked: str, model: str, found: Found, network: Network) -> tuple[str, ...]:
    """Return the languages that a model knows: as set, as the catalogue says, by its vocabulary or its family."""
    if asked:
        return tuple(sorted(language_code(code) for code in asked.split(",")))
    entry = find_entry(model)
    known = entry.languages if entry and entry.layout == found.layout.name else ()
    return known or network.languages or found.family.languages


def _is_quiet(samples: Samples) -> bool:
    return not len(samples) or int(np.abs(samples.astype(np.int32)).max()) < QUIET_SAMPLE


def _reals(samples: Samples) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """Return samples in [-1, 1], filled up to the shortest length."""
    reals = np.zeros(max(len(samples), int(SHORTEST_S * SAMPLE_RATE_HZ)), dtype=np.float32)
    np.multiply(samples, 1.0 / 32768.0, out=reals[: len(samples)], dtype=np.float32)
    return reals
