"""The form fields about who speaks: what they mean, alone and together, and what they refuse."""

import pytest

from tympan.api.fields.jobs import parse_job
from tympan.api.fields.transcription import TranscriptionRequest, parse_form
from tympan.domain import DiarizeBy, Options, Task
from tympan.errors import TympanError
from tympan.options import MOST_SPEAKERS


def parse(**fields: str) -> TranscriptionRequest:
    """Return what a form with these fields asks for, in a format that names speakers."""
    return parse_form({"response_format": ["vtt"], **{name: [text] for name, text in fields.items()}}, Task.TRANSCRIBE)


def told(options: Options) -> tuple[bool, str, int, int]:
    """Return what is said about speakers."""
    return options.diarize, options.diarize_by.value, options.min_speakers, options.max_speakers


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (False, "auto", 1, MOST_SPEAKERS)),
        ({"diarize": "true"}, (True, "auto", 1, MOST_SPEAKERS)),
        ({"response_format": "diarized_json"}, (True, "auto", 1, MOST_SPEAKERS)),
        ({"response_format": "rttm"}, (True, "auto", 1, MOST_SPEAKERS)),
        ({"diarize": "true", "diarize_by": "channels"}, (True, "channels", 1, MOST_SPEAKERS)),
        ({"diarize": "true", "diarize_by": "Voices", "num_speakers": "1"}, (True, "voices", 1, 1)),
        ({"diarize": "true", "num_speakers": "2"}, (True, "auto", 2, 2)),
        ({"diarize": "true", "num_speakers": "3"}, (True, "voices", 3, 3)),
        ({"diarize": "true", "min_speakers": "3"}, (True, "voices", 3, MOST_SPEAKERS)),
        ({"diarize": "true", "min_speakers": "2", "max_speakers": "4"}, (True, "auto", 2, 4)),
        ({"diarize": "true", "known_speaker_names[]": "Ann"}, (True, "channels", 1, MOST_SPEAKERS)),
    ],
    ids=str,
)
def test_what_is_asked_about_speakers(fields: dict[str, str], expected: tuple[bool, str, int, int]) -> None:
    """A number that channels cannot have means voices; names mean channels; the same in a job."""
    assert told(parse(**fields).options) == expected
    form = {name: [text] for name, text in fields.items()}
    assert told(parse_job(form, has_file=True).options) == expected


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"diarize_by": "voices"}, "invalid_request", "diarize_by"),
        ({"num_speakers": "2"}, "invalid_request", "num_speakers"),
        ({"diarize": "true", "diarize_by": "faces"}, "invalid_request", "diarize_by"),
        ({"diarize": "true", "num_speakers": "0"}, "invalid_request", "num_speakers"),
        ({"diarize": "true", "num_speakers": "21"}, "invalid_request", "num_speakers"),
        ({"diarize": "true", "num_speakers": "2", "max_speakers": "3"}, "invalid_request", "num_speakers"),
        ({"diarize": "true", "min_speakers": "3", "max_speakers": "2"}, "invalid_request", "min_speakers"),
        ({"diarize": "true", "diarize_by": "channels", "num_speakers": "3"}, "invalid_request", "num_speakers"),
        ({"diarize": "true", "known_speaker_names": "Ann", "num_speakers": "3"}, "invalid_request", "num_speakers"),
        (
            {"diarize": "true", "known_speaker_names": "Ann", "diarize_by": "voices"},
            "unsupported_option",
            "known_speaker_names",
        ),
        ({"response_format": "rttm", "diarize": "false"}, "invalid_request", "diarize"),
        ({"response_format": "json", "diarize": "true"}, "invalid_request", "diarize"),
    ],
    ids=str,
)
def test_what_contradicts_itself_is_refused(fields: dict[str, str], code: str, param: str) -> None:
    """By the name of the field to change, with a remedy."""
    with pytest.raises(TympanError) as caught:
        parse(**fields)
    assert (caught.value.code, getattr(caught.value, "param", None)) == (code, param)
    assert caught.value.remedy


def test_a_job_without_a_wish_for_speakers_takes_no_number_of_them() -> None:
    """As in a call."""
    with pytest.raises(TympanError, match="num_speakers"):
        parse_job({"num_speakers": ["2"]}, has_file=True)
    assert parse_job({}, has_file=True).options.diarize_by is DiarizeBy.AUTO
