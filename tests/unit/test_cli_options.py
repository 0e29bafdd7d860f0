"""Flags become options: one pure function, every flag."""

from dataclasses import fields, replace

import pytest

from tympan.api.fields.transcription import MAX_BEAMS, PRESETS
from tympan.cli.options import BEAM_SIZES, MAX_BEAM_SIZE, DecodeArgs, EngineArgs, Preset, to_options, to_overrides
from tympan.config import Settings
from tympan.domain import Options, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest, UnsupportedLanguage


def test_no_flags_are_the_products_defaults() -> None:
    """Without flags the command line asks for exactly what the other doors ask for."""
    assert to_options(DecodeArgs()) == Options()


@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ({"language": "DE"}, {"language": "de"}),
        ({"language": "German"}, {"language": "de"}),
        ({"language": "auto"}, {"language": None}),
        ({"task": Task.TRANSLATE}, {"task": Task.TRANSLATE}),
        ({"translate": True}, {"task": Task.TRANSLATE}),
        ({"prompt": "Hi."}, {"prompt": "Hi."}),
        ({"prompt": ""}, {"prompt": None}),
        ({"hotwords": "Tympan"}, {"hotwords": "Tympan"}),
        ({"preset": Preset.FAST}, {"beam_size": 1}),
        ({"beam_size": 3}, {"beam_size": 3}),
        ({"preset": Preset.FAST, "beam_size": 3}, {"beam_size": 3}),
        ({"word_timestamps": True}, {"timestamps": Timestamps.WORD}),
        ({"temperature": 0.4}, {"temperature": 0.4}),
        ({"diarize": True}, {"diarize": True}),
        ({"tinydiarize": True}, {"speaker_turns": True}),
        ({"no_fallback": True}, {"temperature_fallback": False}),
        ({"no_vad": True}, {"vad": None}),
        ({"vad_threshold": 0.2}, {"vad": VadOptions(threshold=0.2)}),
        ({"vad_min_speech_ms": 0}, {"vad": VadOptions(min_speech_ms=0)}),
        ({"vad_min_silence_ms": 900}, {"vad": VadOptions(min_silence_ms=900)}),
        ({"vad_speech_pad_ms": 50}, {"vad": VadOptions(speech_pad_ms=50)}),
    ],
)
def test_each_flag_changes_what_it_says_and_nothing_else(flags: dict[str, object], changes: dict[str, object]) -> None:
    """A flag moves its own option and leaves the rest at the defaults."""
    assert to_options(DecodeArgs(**flags)) == replace(Options(), **changes)  # type: ignore[arg-type]


def test_no_vad_with_vad_settings_is_refused() -> None:
    """Turning speech detection off and tuning it at once is a mistake worth a word."""
    with pytest.raises(InvalidRequest, match="contradicts"):
        to_options(DecodeArgs(no_vad=True, vad_threshold=0.3))


def test_an_unknown_language_is_refused() -> None:
    """A language nobody knows is refused before any file is read."""
    with pytest.raises(UnsupportedLanguage):
        to_options(DecodeArgs(language="klingon"))


def test_overrides_hold_only_what_was_given() -> None:
    """A flag that was not given leaves the setting to the environment."""
    assert to_overrides(EngineArgs()) == {}
    assert to_overrides(EngineArgs(model="tiny.en", threads=2)) == {"model": "tiny.en", "threads": 2}


def test_every_engine_flag_is_a_setting() -> None:
    """No engine flag is dropped on the way, and each names a field of the settings."""
    names = {field.name for field in fields(EngineArgs)}
    assert set(to_overrides(EngineArgs(**dict.fromkeys(names, "1")))) == names  # type: ignore[arg-type]
    assert names <= set(Settings.model_fields)


def test_presets_mean_the_same_as_over_http() -> None:
    """A preset and the largest beam are the same at both doors."""
    assert {preset.value: beams for preset, beams in BEAM_SIZES.items()} == dict(PRESETS)
    assert MAX_BEAM_SIZE == MAX_BEAMS
