"""A real model and real words, for the tests marked ``model``."""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import REPOSITORY, SpokenClip
from tympan.config import default_data_dir
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Samples, Window, WindowResult, WindowTask
from tympan.engine import models
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.ggml import export
from tympan.engine.store import ModelStore
from tympan.errors import ModelNotFound

CLIPS = ("hello_world", "quick_brown_fox", "counting")

KINDS = ("ct2", "onnx")
"""The engines that run real models as they are published."""

EVERY_KIND = (*KINDS, "whispercpp")
"""Those, and the ones that run what we make of them."""


@cache
def spec(kind: str, name: str = "base") -> EngineSpec:
    """Return the spec of a real engine of a kind; the first run fetches the model.

    The environment variable ``TYMPAN_TEST_MODEL`` may name a model folder to take instead.
    """
    if kind == "whispercpp":
        return EngineSpec(kind, name, path=str(ggml(name)), threads=2)
    folder = os.environ.get("TYMPAN_TEST_MODEL")
    path = Path(folder) if folder else models.resolve(name, default_data_dir()).path
    return EngineSpec(kind, name, path=str(path), threads=2)


def ggml(name: str, form: str = "q8_0") -> Path:
    """Return the folder of a ggml export, which is made once and kept."""
    data_dir = Path(os.environ.get("TEST_DATA_DIR") or REPOSITORY / ".cache" / "tympan")
    target = export.exported_name(name, form)
    try:
        return models.resolve(target, data_dir).path
    except ModelNotFound:
        store = ModelStore(models.models_dir(data_dir))
        return export.export(models.resolve(name, data_dir), store, form).path


def clip(name: str) -> Samples:
    """Return an English sample of a few seconds at 16 kHz."""
    spec = find_spec("pytest_audioeval")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the audio samples (pytest-audioeval) are not installed")
    path = Path(next(iter(spec.submodule_search_locations))) / "samples" / "audio" / "en" / f"{name}.wav"
    samples, rate_hz = soundfile.read(path, dtype="float64")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    positions = np.arange(0, len(mono), rate_hz / SAMPLE_RATE_HZ)
    resampled = np.interp(positions, np.arange(len(mono)), mono)
    pcm: Samples = (resampled * 32767).astype(np.int16)
    return pcm


def spoken(index: int, params: DecodeParams) -> WindowTask:
    """Return one of the clips as a window."""
    return WindowTask(Window(index, clip(CLIPS[index % len(CLIPS)]), ()), params)


GREEDY = DecodeParams(language="en", beam_size=1)


@cache
def pcm(path: Path) -> Samples:
    """Return a clip that is at 16 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float64")
    assert rate_hz == SAMPLE_RATE_HZ
    assert samples.ndim == 1
    found: Samples = (samples * 32767).astype(np.int16)
    assert np.abs(found).max() > 1000
    return found


def task(samples: Samples, params: DecodeParams = GREEDY, index: int = 0) -> WindowTask:
    """Return one window."""
    return WindowTask(Window(index, samples, ()), params)


def hear(engine: Engine, clip: SpokenClip, params: DecodeParams = GREEDY) -> WindowResult:
    """Return what the engine makes of one clip, alone."""
    (result,) = engine.transcribe([task(pcm(clip.path), params)])
    return result


def plain(text: str) -> str:
    """Return the text in lower case without punctuation, so that only words count."""
    return " ".join("".join(c if c.isalnum() or c.isspace() else " " for c in text.lower()).split())
