"""What every engine promises, run against each of them: add a parameter, and a new engine is held to the same."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests import real_model
from tests.batching_support import make_task
from tests.tiny_exports import WRITERS, melody
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, LanguageUse, Window, WindowResult, WindowTask
from tympan.engine import factory
from tympan.engine.base import Engine, EngineSpec
from tympan.errors import EngineError, InvalidRequest

GREEDY = DecodeParams(language="en", beam_size=1)


@dataclass(frozen=True)
class Case:
    """An engine and how to get windows with something in them for it."""

    engine: Engine
    window: Callable[[int, DecodeParams], WindowTask]


def noise(index: int, params: DecodeParams) -> WindowTask:
    """Return noise, in which only the fake engine hears words."""
    return make_task(index, 1.0 + index, params)


def tune(index: int, params: DecodeParams) -> WindowTask:
    """Return a melody, which is what the tiny exported networks read."""
    return WindowTask(Window(index, melody(((1, 2, 0), (3, 5, 4, 0), (0, 3))[index]), ()), params)


EXPORTED = ("nemo_tdt", "moonshine")


@pytest.fixture(
    scope="module",
    params=["fake", *EXPORTED, *(pytest.param(kind, marks=pytest.mark.model) for kind in real_model.EVERY_KIND)],
)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Give each engine, loaded once."""
    spec, window = EngineSpec("fake", "demo"), noise
    if request.param in real_model.EVERY_KIND:
        spec, window = real_model.spec(request.param), real_model.spoken
    elif request.param in EXPORTED:
        folder = tmp_path_factory.mktemp(request.param)
        WRITERS[request.param](folder)
        spec, window = EngineSpec("onnx-asr", request.param, path=str(folder), options=(("languages", "en"),)), tune
    engine = factory.create(spec)
    yield Case(engine, window)
    engine.close()


def test_windows_joined_read_as_text(case: Case) -> None:
    """Texts are joined as they are, so an English window brings the space that separates it from the one before."""
    texts = [case.engine.transcribe([case.window(n, GREEDY)])[0].text for n in range(2)]
    assert "".join(texts).split() == [word for text in texts for word in text.split()]


def gist(result: WindowResult) -> tuple[object, ...]:
    """Return what has to be equal between runs: all but floating-point dust."""
    return (result.text, result.tokens, result.language, round(result.avg_logprob, 2), [w.text for w in result.words])


def test_it_says_what_it_is(case: Case) -> None:
    """Name, model, device and languages are filled in."""
    info = case.engine.info
    assert all((info.engine, info.model, info.device, info.compute_type))
    assert "en" in info.languages
    assert info.multilingual == (len(info.languages) > 1)


def test_one_result_per_window_in_order(case: Case) -> None:
    """A batch of three gives the three texts in their places, whichever way round."""
    tasks = [case.window(n, GREEDY) for n in range(3)]
    forth = [gist(result) for result in case.engine.transcribe(tasks)]
    back = [gist(result) for result in case.engine.transcribe(tasks[::-1])]
    assert forth == back[::-1]
    assert len({str(row) for row in forth}) == 3
    assert all(row[0] for row in forth)


def test_no_windows_give_no_results(case: Case) -> None:
    """An empty batch is answered with an empty list."""
    assert case.engine.transcribe([]) == []


def test_the_same_audio_gives_the_same_text_alone_and_in_company(case: Case) -> None:
    """No state is kept between calls, and neighbours have no influence."""
    tasks = [case.window(n, GREEDY) for n in range(3)]
    alone = [gist(case.engine.transcribe([task])[0]) for task in tasks]
    case.engine.transcribe([case.window(0, replace(GREEDY, prompt="Something else entirely."))])
    assert [gist(result) for result in case.engine.transcribe(tasks)] == alone


def test_results_are_complete_and_plausible(case: Case) -> None:
    """Every field is within its range."""
    (result,) = case.engine.transcribe([case.window(1, GREEDY)])
    assert result.text.strip()
    assert result.tokens
    assert len(result.tokens) <= 224
    assert result.language == "en"
    assert -5.0 < result.avg_logprob <= 0.0
    assert 0.0 <= result.no_speech_prob <= 1.0
    assert 0.0 < result.compression_ratio < 3.0
    assert result.temperature == 0.0
    assert result.full_context == (case.engine.info.engine == "onnx-asr")
    assert not result.hit_token_cap
    assert result.words == ()


def test_an_unknown_language_is_detected(case: Case) -> None:
    """Asked without a language, the engine names the likeliest first, with its probability and a runner-up.

    One that does not tell languages knows the only one there is.
    """
    info = case.engine.info
    (result,) = case.engine.transcribe([case.window(1, replace(GREEDY, language=None))])
    assert result.language == result.language_probabilities[0][0] == "en"
    if info.can.language is not LanguageUse.DETECTS:
        assert result.language_probabilities == (("en", 1.0),)
        return
    chances = [chance for _, chance in result.language_probabilities]
    assert len(chances) >= 2
    assert chances == sorted(chances, reverse=True)
    assert 0.3 < sum(chances) <= 1.001


def test_aligned_words_are_in_order_inside_the_window_and_spell_the_text(case: Case) -> None:
    """Word times rise, stay within the window, and the words joined are the text, spaces included.

    An engine that cannot say when words are spoken gives none.
    """
    task = case.window(1, replace(GREEDY, align=True))
    (result,) = case.engine.transcribe([task])
    assert bool(result.words) == case.engine.info.can.word_times
    if not result.words:
        return
    assert "".join(word.text for word in result.words) == result.text
    times = [moment for word in result.words for moment in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] <= task.window.duration_s + 0.05
    assert all(0.0 <= word.probability <= 1.0 for word in result.words)


def test_alignment_adds_times_and_changes_no_text(case: Case) -> None:
    """The text with word times is the text without."""
    plain, aligned = (
        case.engine.transcribe([case.window(2, replace(GREEDY, align=align))])[0].text for align in (False, True)
    )
    assert plain == aligned


@pytest.mark.parametrize("params", [{}, {"beam_size": 5}, {"temperature": 0.4, "best_of": 2}, {"align": True}], ids=str)
def test_chances_of_tokens_spell_the_text_and_make_up_its_mean(case: Case, params: dict[str, object]) -> None:
    """Their bytes joined are the text; their mean is near that of the text, which counts the end token as well.

    They change no text, are not given unasked, and an engine without them says so.
    """
    asked = replace(GREEDY, **params, token_chances=True)  # type: ignore[arg-type]
    task = case.window(1, asked)
    (result,), (plain,) = (
        case.engine.transcribe([one]) for one in (task, replace(task, params=replace(asked, token_chances=False)))
    )
    assert plain.token_chances == ()
    if not case.engine.info.can.token_chances:
        assert result.token_chances == ()
        return
    if not asked.temperature or case.engine.info.engine != "ctranslate2":  # Whose dice fall anew every time.
        assert result.text == plain.text
    octets = bytes(octet for token in result.token_chances for octet in token.octets)
    assert octets.decode() == result.text
    assert len(result.token_chances) == len(result.tokens)
    assert all(token.logprob <= 0.0 for token in result.token_chances)
    mean = sum(token.logprob for token in result.token_chances) / len(result.token_chances)
    assert mean == pytest.approx(result.avg_logprob, abs=0.25)


def test_the_full_context_and_the_temperature_are_reported_back(case: Case) -> None:
    """The result says how it was made."""
    params = replace(GREEDY, full_context=True, temperature=0.4, best_of=2)
    (result,) = case.engine.transcribe([case.window(0, params)])
    assert result.full_context
    assert result.temperature == pytest.approx(0.4 if case.engine.info.can.temperatures else 0.0)


def test_silence_never_reads_like_confident_speech(case: Case) -> None:
    """On digital silence there is no text, or the engine says that there was probably no speech."""
    silence = WindowTask(Window(0, np.zeros(2 * SAMPLE_RATE_HZ, np.int16), ()), GREEDY)
    (result,) = case.engine.transcribe([silence])
    assert not result.text or result.no_speech_prob > 0.5 or result.avg_logprob < -0.8


@pytest.mark.parametrize("samples", [1, 160, 480_000])
def test_the_shortest_and_the_longest_window_are_accepted(case: Case, samples: int) -> None:
    """One sample, ten milliseconds and thirty seconds each give a result."""
    task = WindowTask(Window(0, np.full(samples, 500, np.int16), ()), GREEDY)
    assert len(case.engine.transcribe([task])) == 1


@pytest.mark.parametrize(
    "prompt", ["", "x " * 5000, "\0", "\u202e\u05d0\u05d1\u05d2", "<|endoftext|><|en|>", "\N{FIRE}" * 300]
)
def test_extreme_prompts_are_bounded(case: Case, prompt: str) -> None:
    """Whatever the prompt and hotwords say, there is a result or a typed error, and the engine works on."""
    params = replace(GREEDY, prompt=prompt, hotwords=prompt)
    with suppress(InvalidRequest, EngineError):
        (result,) = case.engine.transcribe([case.window(0, params)])
        assert len(result.tokens) <= 224
    assert case.engine.transcribe([case.window(0, GREEDY)])[0].text
