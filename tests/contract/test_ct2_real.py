"""What is CTranslate2's own: how it is asked, what it answers, and what it raises."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, hear, pcm, plain
from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.asking import token_cap
from tympan.engine.base import EngineSpec
from tympan.engine.ct2 import CTranslate2Engine, create
from tympan.engine.models import ResolvedModel
from tympan.errors import EngineError, EngineOutOfMemory

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def clips(spoken_clips: tuple[SpokenClip, ...]) -> Mapping[str, SpokenClip]:
    """Return the clips by language and name, such as ``es/conteo``."""
    return {f"{clip.language}/{clip.path.stem}": clip for clip in spoken_clips}


@pytest.fixture(scope="module")
def english(tiny_en: ResolvedModel) -> Iterator[CTranslate2Engine]:
    """Return tiny.en, loaded once."""
    engine = create(EngineSpec("ct2", "tiny.en", path=str(tiny_en.path), threads=2))
    yield engine
    engine.close()


class Recorder:
    """Stands before the model: keeps what was asked and answered, or raises in its stead."""

    def __init__(self, model: Any, error: Exception | None = None) -> None:
        """Pass everything on to ``model``, unless ``generate`` is to raise ``error``."""
        self._model = model
        self._error = error
        self.asked: list[dict[str, Any]] = []
        self.answered: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        """Return the model's own attribute."""
        return getattr(self._model, name)

    def generate(self, features: Any, prompts: list[list[int]], **options: Any) -> Any:
        """Let the model generate, and keep the answer."""
        if self._error is not None:
            raise self._error
        self.asked.append({"prompts": prompts, **options})
        self.answered.extend(outputs := self._model.generate(features, prompts, **options))
        return outputs


@contextmanager
def recording(engine: CTranslate2Engine, error: Exception | None = None) -> Iterator[Recorder]:
    """Let the engine's model be recorded, or fail with ``error``."""
    recorder = Recorder(engine._model, error)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_model", recorder)
        yield recorder


def test_the_longest_prompt_fits(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Thousands of words before the window are cut to the decoder's share, and the cap makes room for them."""
    with recording(english) as recorder:
        result = hear(english, clips["en/hello_world"], replace(GREEDY, prompt="so " * 3000, hotwords="Ada " * 3000))
    (prompt,) = recorder.asked[0]["prompts"]
    assert len(prompt) == 1 + 223 + 2
    assert len(result.tokens) <= token_cap(len(pcm(clips["en/hello_world"].path)) / SAMPLE_RATE_HZ)


def test_a_temperature_draws_best_of_texts_and_keeps_the_likeliest(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """Above 0 as many texts are drawn as asked for; at 0 there is one."""
    with recording(english) as recorder:
        drawn = hear(english, clips["en/counting"], replace(GREEDY, temperature=0.8, best_of=4))
        searched = hear(english, clips["en/counting"])
    first, second = recorder.answered
    assert [len(first.sequences_ids), len(second.sequences_ids)] == [4, 1]
    likeliest = first.sequences_ids[int(np.argmax(first.scores))]
    assert drawn.tokens == tuple(english._vocabulary.text_tokens(likeliest))
    assert (drawn.temperature, searched.temperature) == (0.8, 0.0)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("CUDA failed with error out of memory", EngineOutOfMemory), ("something else broke", EngineError)],
)
def test_a_failure_of_the_runtime_is_typed_and_passes(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip], text: str, kind: type[EngineError]
) -> None:
    """What the runtime raises comes out as an engine error with its cause, and the next batch works."""
    with recording(english, RuntimeError(text)), pytest.raises(EngineError, match=text) as caught:
        hear(english, clips["en/hello_world"])
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "world" in hear(english, clips["en/hello_world"]).text.lower()


def test_beams_search_wider_and_agree_on_clear_speech(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """The beam size reaches the search; on clear speech it changes no word and makes the text no less likely."""
    with recording(english) as recorder:
        greedy = hear(english, clips["en/quick_brown_fox"])
        beam = hear(english, clips["en/quick_brown_fox"], replace(GREEDY, beam_size=5))
    assert [asked["beam_size"] for asked in recorder.asked] == [1, 5]
    assert plain(beam.text) == plain(greedy.text) == plain(clips["en/quick_brown_fox"].text)
    assert beam.avg_logprob >= greedy.avg_logprob - 0.02
