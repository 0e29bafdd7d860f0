"""Languages to detect among, and tokens that may not be written, asked of the engines that can."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, hear, pcm, task
from tympan.domain import Suppression
from tympan.engine import factory
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.models import ResolvedModel
from tympan.errors import UnsupportedOption

pytestmark = pytest.mark.model


@pytest.fixture(scope="module", params=["onnx", "ct2"])
def engine(request: pytest.FixtureRequest, base: ResolvedModel) -> Iterator[Engine]:
    """Return each engine that can, with base."""
    made = factory.create(EngineSpec(request.param, "base", path=str(base.path), threads=2))
    yield made
    made.close()


@pytest.fixture(scope="module")
def counting(spoken_clips: tuple[SpokenClip, ...]) -> SpokenClip:
    """Return a clip in which somebody counts in English."""
    return next(clip for clip in spoken_clips if (clip.language, clip.path.stem) == ("en", "counting"))


def test_a_language_is_detected_among_those_allowed(engine: Engine, counting: SpokenClip) -> None:
    """Each window by its own list, in one batch; chances are shares of the list, and without one all are candidates."""
    detect = replace(GREEDY, language=None)
    samples = pcm(counting.path)
    lists = ((), ("en", "de"), ("es", "fr"))
    results = engine.transcribe(
        [task(samples, replace(detect, languages=allowed), n) for n, allowed in enumerate(lists)]
    )
    assert [result.language for result in results[:2]] == ["en", "en"]
    assert results[2].language in {"es", "fr"}
    assert len(results[0].language_probabilities) == 5
    for result, allowed in zip(results[1:], lists[1:], strict=True):
        assert {name for name, _ in result.language_probabilities} == set(allowed)
        assert sum(chance for _, chance in result.language_probabilities) == pytest.approx(1.0)


def test_a_token_left_out_is_not_written(engine: Engine, counting: SpokenClip) -> None:
    """Neither first nor later, with one beam or several; afterwards it is written again."""
    before = hear(engine, counting)
    unwanted = before.tokens[:3]
    for width in (1, 3):
        params = replace(GREEDY, beam_size=width, suppression=Suppression(unwanted))
        assert not set(unwanted) & set(hear(engine, counting, params).tokens)
    assert hear(engine, counting).tokens == before.tokens


def test_numerals_are_kept_unless_left_out(engine: Engine, counting: SpokenClip) -> None:
    """Digits and marks stay as the model writes them; left out, no digit is there and the text is still a text."""
    plain = hear(engine, counting, replace(GREEDY, prompt="1, 2, 3."))
    spelled = hear(engine, counting, replace(GREEDY, prompt="1, 2, 3.", suppression=Suppression(numerals=True)))
    assert any(char.isdigit() for char in plain.text)
    assert any(char in ",.-" for char in plain.text)
    assert not any(char.isdigit() for char in spelled.text)
    assert "three" in spelled.text.lower()


def test_what_is_no_token_of_text_is_refused(engine: Engine, counting: SpokenClip) -> None:
    """The end token cannot be left out, and numbers beyond the vocabulary are nothing."""
    for token in (50257, 999_999):
        with pytest.raises(UnsupportedOption) as caught:
            hear(engine, counting, replace(GREEDY, suppression=Suppression((token,))))
        assert caught.value.param == "suppress_tokens"
