"""A real model and real words, for the tests marked ``model``."""

import os
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tympan.config import default_data_dir
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Samples, Window, WindowTask
from tympan.engine import models
from tympan.engine.base import EngineSpec

CLIPS = ("hello_world", "quick_brown_fox", "counting")


@cache
def ct2_spec(name: str = "base") -> EngineSpec:
    """Return the spec of a real engine; the first run fetches the model.

    The environment variable ``TYMPAN_TEST_MODEL`` may name a model folder to take instead.
    """
    folder = os.environ.get("TYMPAN_TEST_MODEL")
    path = Path(folder) if folder else models.resolve(name, default_data_dir()).path
    return EngineSpec("ct2", name, path=str(path), threads=2)


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
