"""Moonshine with its real weights: what the melodies of the tiny exports cannot show."""

from collections.abc import Iterator, Mapping

import jiwer
import numpy as np
import pytest

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, hear, pcm, plain, task
from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine import factory
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.models import ResolvedModel

pytestmark = pytest.mark.model

NAMES = ("quick_brown_fox", "hello_world", "counting")


@pytest.fixture(scope="module")
def english(spoken_clips: tuple[SpokenClip, ...]) -> Mapping[str, SpokenClip]:
    """Return the English clips by name."""
    return {clip.path.stem: clip for clip in spoken_clips if clip.language == "en"}


@pytest.fixture(scope="module")
def engine(moonshine_tiny: ResolvedModel) -> Iterator[Engine]:
    """Return the loaded model."""
    kind = factory.kind_for("auto", "cpu", "int8", moonshine_tiny.path)
    loaded = factory.create(EngineSpec(kind, moonshine_tiny.name, path=str(moonshine_tiny.path), threads=2))
    yield loaded
    loaded.close()


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_speech(engine: Engine, english: Mapping[str, SpokenClip], name: str) -> None:
    """At most a quarter of the words of a short clip are wrong, and the model is sure of them."""
    result = hear(engine, english[name])
    assert jiwer.wer(plain(english[name].text), plain(result.text)) <= 0.25
    assert -0.6 < result.avg_logprob < 0.0
    assert result.is_rated
    assert not result.hit_token_cap


def test_K6_text_is_the_same_in_any_company(engine: Engine, english: Mapping[str, SpokenClip]) -> None:
    """Its weights are in 8 bits, so windows that shared a call would change each other's text."""
    tasks = [task(pcm(english[name].path), GREEDY, index) for index, name in enumerate(NAMES)]
    alone = [engine.transcribe([one])[0] for one in tasks]
    assert engine.transcribe([*tasks, *tasks[::-1]]) == [*alone, *alone[::-1]]


def test_noise_ends(engine: Engine) -> None:
    """Whatever is made up over thirty seconds of noise stays within what a window may have."""
    noise = np.random.default_rng(5).integers(-3000, 3000, 30 * SAMPLE_RATE_HZ).astype(np.int16)
    (result,) = engine.transcribe([task(noise)])
    assert len(result.tokens) <= 193
