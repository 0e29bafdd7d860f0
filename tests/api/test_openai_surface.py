"""What OpenAI's SDK lets a client send, by its own types: every name is known here, and honoured or refused by name."""

import json
import typing
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from openai.types import AudioModel, AudioResponseFormat
from openai.types.audio import TranscriptionInclude, TranslationCreateParams
from openai.types.audio.transcription_create_params import (
    ChunkingStrategyVadConfig,
    TranscriptionCreateParamsBase,
    TranscriptionCreateParamsStreaming,
)
from openai.types.realtime import (
    AudioTranscription,
    RealtimeClientEvent,
    RealtimeTranscriptionSessionAudioInput,
    RealtimeTranscriptionSessionCreateRequest,
)
from openai.types.realtime.realtime_transcription_session_audio_input_turn_detection import SemanticVad, ServerVad

from tympan.api.fields.openai import FORMATS, INCLUDED
from tympan.api.fields.transcription import KNOWN, parse_form
from tympan.api.live.dialect import Reopen, Say
from tympan.api.live.realtime import RealtimeTalk
from tympan.api.live.realtime_session import RealtimeSettings, updated
from tympan.api.model_names import OPENAI_NAMES
from tympan.domain import Task
from tympan.errors import TympanError

TAKEN = ("session.update", "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear")


def literals(kind: Any) -> Iterator[str]:
    """Yield the texts that a type allows by name."""
    if get_origin(kind) is Literal:
        yield from (value for value in get_args(kind) if isinstance(value, str))
    else:
        for part in get_args(kind):
            yield from literals(part)


@pytest.mark.parametrize(
    "params", [TranscriptionCreateParamsBase, TranscriptionCreateParamsStreaming, TranslationCreateParams]
)
def test_every_parameter_of_a_call_is_known(params: type) -> None:
    """By the name that the SDK gives it in the form."""
    assert {name for name in params.__annotations__ if name != "file"} <= KNOWN - {"file"}


def test_every_value_that_the_types_name_is_known() -> None:
    """Formats, what may be included, and the names of models."""
    assert set(literals(AudioResponseFormat)) <= set(FORMATS)
    assert set(literals(TranscriptionInclude)) <= set(INCLUDED)
    named = set(literals(AudioModel)) | set(literals(AudioTranscription.model_fields["model"].annotation))
    assert named <= set(OPENAI_NAMES)


def test_every_field_of_a_chunking_strategy_is_taken() -> None:
    """In a form they have names with brackets."""
    given = {"type": "server_vad", "prefix_padding_ms": "200", "silence_duration_ms": "400", "threshold": "0.4"}
    assert set(ChunkingStrategyVadConfig.__annotations__) == set(given)
    parse_form({f"chunking_strategy[{name}]": [value] for name, value in given.items()}, Task.TRANSCRIBE)


@pytest.mark.parametrize("fmt", typing.get_args(get_type_hints(TranslationCreateParams)["response_format"]))
def test_every_format_of_a_translation_is_taken(fmt: str) -> None:
    """There are five."""
    assert parse_form({"response_format": [fmt]}, Task.TRANSLATE).response_format == fmt


MEMBERS = [
    *((("session",), name) for name in RealtimeTranscriptionSessionCreateRequest.model_fields),
    *((("session", "audio", "input"), name) for name in RealtimeTranscriptionSessionAudioInput.model_fields),
    *((("session", "audio", "input", "transcription"), name) for name in AudioTranscription.model_fields),
    *(
        (("session", "audio", "input", "turn_detection"), name)
        for name in {**ServerVad.model_fields, **SemanticVad.model_fields}
    ),
]


@pytest.mark.parametrize(("path", "name"), MEMBERS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_member_of_a_sessions_settings_is_known(path: tuple[str, ...], name: str) -> None:
    """None is refused as one that there is not, whatever is said of its value."""
    given: dict[str, Any] = {name: None}
    for outer in reversed(path[1:]):
        given = {outer: given}
    said: TympanError | None = None
    try:
        updated(RealtimeSettings(), given)
    except TympanError as error:
        said = error
    assert said is None or "There is no field" not in said.message


def test_a_member_that_there_is_not_is_told_apart() -> None:
    """So that the test above can fail."""
    with pytest.raises(TympanError, match="There is no field"):
        updated(RealtimeSettings(), {"audio": {"input": {"surplus": None}}})


@pytest.mark.parametrize("event", get_args(get_args(RealtimeClientEvent)[0]), ids=lambda event: event.__name__)
def test_every_event_of_a_client_is_taken_or_refused_by_its_type(event: Any) -> None:
    """A conversation with a model is not offered, and is not passed over in silence either."""
    (kind,) = literals(event.model_fields["type"].annotation)
    acts = RealtimeTalk(None, lambda _wish: "base", 60.0).take_text(
        json.dumps({"type": kind, "event_id": "mine", "session": {"type": "transcription"}, "audio": ""})
    )
    told = [act.message for act in acts if isinstance(act, Say)]
    if kind in TAKEN:
        assert all(message.get("error", {}).get("code") != "unsupported_option" for message in told)
        return
    assert not any(isinstance(act, Reopen) for act in acts)
    (message,) = told
    error = message["error"]
    assert (error["type"], error["code"], error["param"], error["event_id"]) == (
        *("invalid_request_error", "unsupported_option", "type", "mine"),
    )
    assert kind in error["message"]
