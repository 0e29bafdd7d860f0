"""What a loaded model can be asked for."""

from dataclasses import replace

import pytest

from tympan.domain import Abilities, LanguageUse, Options, Task, Timestamps
from tympan.engine.base import EngineInfo
from tympan.errors import UnsupportedLanguage, UnsupportedOption
from tympan.pipeline.checks import check_detection, check_options, tells_language

WHISPER = EngineInfo("onnx", "base", "1", "cpu", "int8", 2, ("de", "en"), multilingual=True)
NOTHING = Abilities(
    LanguageUse.HEARS, translation=False, prompts=False, temperatures=False, word_times=False, token_chances=False
)
PLAIN = replace(WHISPER, model="plain", can=NOTHING)
ASKS = {
    "task": Options(task=Task.TRANSLATE),
    "prompt": Options(prompt="Names: Ada."),
    "hotwords": Options(hotwords="Ada"),
    "temperature": Options(temperature=0.2),
    "timestamp_granularities": Options(timestamps=Timestamps.WORD),
    "include": Options(token_chances=True),
}


@pytest.mark.parametrize("name", ASKS)
def test_what_a_model_cannot_do_is_refused_by_name(name: str) -> None:
    """With a reason and a remedy; Whisper does all of it, and nothing is refused while there is no model."""
    with pytest.raises(UnsupportedOption, match="'plain'") as refused:
        check_options(ASKS[name], PLAIN)
    assert refused.value.param == name
    assert name in (refused.value.remedy or "")
    check_options(ASKS[name], WHISPER)
    check_options(ASKS[name], None)


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(language="de"),
        Options(beam_size=1, best_of=9, temperature_fallback=False, prompt="", hotwords=""),
        Options(vad=None, timestamps=Timestamps.NONE),
    ],
)
def test_what_changes_no_meaning_is_not_refused(options: Options) -> None:
    """How hard to search, and what is asked for by leaving it out."""
    check_options(options, PLAIN)


def test_only_languages_that_are_known_are_checked() -> None:
    """A model whose languages nobody knows takes any of them as said."""
    with pytest.raises(UnsupportedLanguage) as refused:
        check_options(Options(language="fr"), PLAIN)
    assert refused.value.param == "language"
    check_options(Options(language="fr"), replace(PLAIN, languages=()))


def test_an_english_model_translates_nothing() -> None:
    """There is nothing to translate from."""
    with pytest.raises(UnsupportedOption, match="cannot translate"):
        check_options(ASKS["task"], replace(WHISPER, languages=("en",), multilingual=False))


def test_a_model_that_has_to_be_told_the_language_is() -> None:
    """It would take everything for English. One that knows a single language needs not be told."""
    canary = replace(PLAIN, can=replace(NOTHING, language=LanguageUse.NEEDS))
    with pytest.raises(UnsupportedOption, match="has to be told") as refused:
        check_options(Options(), canary)
    assert (refused.value.param, refused.value.remedy) == ("language", "Send language, one of: de, en.")
    check_options(Options(language="de"), canary)
    check_options(Options(), replace(canary, languages=("de",), multilingual=False))


@pytest.mark.parametrize(
    ("info", "tells", "answers"),
    [
        (None, True, True),
        (WHISPER, True, True),
        (PLAIN, False, False),
        (replace(PLAIN, languages=("ru",)), True, False),
    ],
)
def test_detection_is_refused_where_nobody_would_answer(info: EngineInfo | None, tells: bool, answers: bool) -> None:  # noqa: FBT001
    """A model that knows one language tells it without being asked; asking it would be a mistake."""
    assert tells_language(info) is tells
    if answers:
        check_detection(info)
        return
    with pytest.raises(UnsupportedOption):
        check_detection(info)
