"""OpenAI's own client, in strict validation mode, against a real socket."""

from collections.abc import Iterator

import openai
import pytest
import srt
import webvtt
from openai.types.audio import (
    Transcription,
    TranscriptionDiarized,
    TranscriptionVerbose,
    Translation,
    TranslationVerbose,
)

from tests.api.support import CLIP, Site
from tympan.domain import VadOptions

FILE = ("clip.wav", CLIP)


@pytest.fixture(scope="module")
def client(server: Site) -> Iterator[openai.OpenAI]:
    """Return a client that raises when an answer differs from OpenAI's schema."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


def test_json_is_a_transcription(client: openai.OpenAI) -> None:
    """The default format carries the text and how much audio was heard, in whole seconds."""
    answer = client.audio.transcriptions.create(file=FILE, model="whisper-1")
    assert isinstance(answer, Transcription)
    assert answer.text == "Hello there. A < B & C --> D."
    assert answer.to_dict()["usage"] == {"type": "duration", "seconds": 5}


def test_verbose_json_has_segments_and_the_language_in_full(client: openai.OpenAI) -> None:
    """Without granularities there are segments and no words."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", response_format="verbose_json")
    assert isinstance(answer, TranscriptionVerbose)
    assert (answer.language, answer.duration, answer.words) == ("english", 4.2, None)
    assert answer.segments is not None
    assert [(s.id, s.seek, s.start, s.end) for s in answer.segments] == [(0, 50, 0.5, 1.4), (1, 200, 2.0, 3.25)]
    assert answer.to_dict()["task"] == "transcribe"


def test_words_alone_leave_the_segments_out(client: openai.OpenAI) -> None:
    """As OpenAI does: only what was asked for."""
    answer = client.audio.transcriptions.create(
        file=FILE, model="base", response_format="verbose_json", timestamp_granularities=["word"]
    )
    assert answer.segments is None
    assert answer.words is not None
    assert [(w.word, w.start, w.end) for w in answer.words] == [("Hello", 0.5, 0.9), ("there.", 0.9, 1.4)]


def test_both_granularities_give_both_lists(client: openai.OpenAI) -> None:
    """Words and segments together."""
    answer = client.audio.transcriptions.create(
        file=FILE, model="base", response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert len(answer.words or []) == 2
    assert len(answer.segments or []) == 2


def test_text_is_plain(client: openai.OpenAI) -> None:
    """The text format is the text and a line end."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", response_format="text")
    assert answer == "Hello there. A < B & C --> D.\n"


def test_srt_parses(client: openai.OpenAI) -> None:
    """An independent parser reads the subtitles."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", response_format="srt")
    cues = list(srt.parse(answer))
    assert [cue.content for cue in cues] == ["Hello there.", "A < B & C -> D."]
    assert [cue.end.total_seconds() for cue in cues] == [1.4, 3.25]


def test_vtt_parses(client: openai.OpenAI) -> None:
    """An independent parser reads the captions."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", response_format="vtt")
    captions = webvtt.from_string(answer).captions
    assert [(c.start, c.end) for c in captions] == [("00:00:00.500", "00:00:01.400"), ("00:00:02.000", "00:00:03.250")]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_translations_are_english(client: openai.OpenAI) -> None:
    """Both shapes of the translation route; the text's language is always English."""
    plain = client.audio.translations.create(file=FILE, model="whisper-1")
    assert isinstance(plain, Translation)
    verbose = client.audio.translations.create(file=FILE, model="whisper-1", response_format="verbose_json")
    assert isinstance(verbose, TranslationVerbose)
    assert verbose.language == "english"
    assert verbose.to_dict()["task"] == "translate"


def test_log_probabilities_are_listed_by_token(client: openai.OpenAI) -> None:
    """Tokens joined are the text, and bytes are theirs; without being asked for there are none."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", include=["logprobs"])
    assert answer.logprobs is not None
    assert [one.logprob for one in answer.logprobs] == [-0.25, -0.5, -0.125, -1.0]
    assert "".join(one.token or "" for one in answer.logprobs) == answer.text
    assert bytes(int(octet) for one in answer.logprobs for octet in one.bytes or []).decode() == answer.text
    assert client.audio.transcriptions.create(file=FILE, model="base").logprobs is None


def test_log_probabilities_come_with_every_delta(client: openai.OpenAI) -> None:
    """Each delta has those of its own tokens, the last event all of them."""
    *deltas, done = list(client.audio.transcriptions.create(file=FILE, model="base", include=["logprobs"], stream=True))
    assert done.type == "transcript.text.done"
    told = []
    for event in deltas:
        assert event.type == "transcript.text.delta"
        assert "".join(one.token or "" for one in event.logprobs or []) == event.delta
        told += [one.logprob for one in event.logprobs or []]
    assert told == [one.logprob for one in done.logprobs or []] == [-0.25, -0.5, -0.125, -1.0]


def test_segments_may_be_asked_for_with_plain_json(client: openai.OpenAI) -> None:
    """As at OpenAI, where only words need another format."""
    answer = client.audio.transcriptions.create(file=FILE, model="base", timestamp_granularities=["segment"])
    assert answer.text


def test_diarized_json_is_a_diarized_transcription(client: openai.OpenAI, server: Site) -> None:
    """Segments with speakers; the names that are known are given to the channels in their order."""
    answer = client.audio.transcriptions.create(
        file=FILE, model="base", response_format="diarized_json", known_speaker_names=["agent", "customer"]
    )
    assert isinstance(answer, TranscriptionDiarized)
    assert [(one.id, one.speaker, one.text) for one in answer.segments] == [
        ("seg_0", "agent", "Hello there."),
        ("seg_1", "customer", "A < B & C --> D."),
    ]
    assert (answer.duration, answer.text) == (4.2, "Hello there. A < B & C --> D.")
    assert answer.to_dict()["usage"] == {"type": "duration", "seconds": 5}
    assert server.transcriber.calls[-1][1].diarize


def test_a_diarized_stream_tells_every_segment_behind_its_text(client: openai.OpenAI) -> None:
    """Deltas name the segment that they belong to."""
    stream = client.audio.transcriptions.create(file=FILE, model="base", response_format="diarized_json", stream=True)
    *events, done = list(stream)
    found = [(one.type, getattr(one, "segment_id", None) or one.id) for one in events]  # type: ignore[union-attr]
    kinds = ("transcript.text.delta", "transcript.text.segment")
    assert found == [(kind, name) for name in ("seg_0", "seg_1") for kind in kinds]
    assert [one.speaker for one in events if one.type == "transcript.text.segment"] == ["A", "B"]
    assert done.type == "transcript.text.done"
    assert "".join(one.delta for one in events if one.type == "transcript.text.delta") == done.text


def test_the_sdks_lists_and_objects_are_understood(client: openai.OpenAI, server: Site) -> None:
    """The way it puts them into a form: names in brackets."""
    client.audio.transcriptions.create(
        file=FILE,
        model="base",
        chunking_strategy={
            "type": "server_vad",
            "threshold": 0.3,
            "prefix_padding_ms": 100,
            "silence_duration_ms": 600,
        },
        keywords=["Tympan", "eardrum"],
        languages=["en", "de"],
        extra_body={"hotwords": "cochlea"},
    )
    options = server.transcriber.calls[-1][1]
    assert options.vad == VadOptions(threshold=0.3, speech_pad_ms=100, min_silence_ms=600)
    assert (options.hotwords, options.languages) == ("cochlea, Tympan, eardrum", ("en", "de"))


def test_models_are_listed_and_found(client: openai.OpenAI) -> None:
    """The loaded model answers to its id, its aliases and whisper-1."""
    assert [model.id for model in client.models.list()] == ["base", "whisper-1"]
    assert client.models.retrieve("Systran/faster-whisper-base").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("large-v9")


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "large-v9"}, openai.NotFoundError, "model_not_found", "model"),
        ({"language": "klingon"}, openai.BadRequestError, "unsupported_language", "language"),
        ({"response_format": "pdf"}, openai.BadRequestError, "invalid_request", "response_format"),
        ({"temperature": 1.5}, openai.BadRequestError, "invalid_request", "temperature"),
        ({"timestamp_granularities": ["word"]}, openai.BadRequestError, "invalid_request", "timestamp_granularities"),
        ({"include": ["logprobs"], "response_format": "text"}, openai.BadRequestError, "invalid_request", "include"),
        ({"include": ["tokens"]}, openai.BadRequestError, "invalid_request", "include"),
        (
            {"include": ["logprobs"], "extra_body": {"tinydiarize": True}},
            openai.BadRequestError,
            "invalid_request",
            "include",
        ),
        (
            {"stream": True, "response_format": "srt"},
            openai.BadRequestError,
            "invalid_request",
            "response_format",
        ),
        (
            {"response_format": "diarized_json", "known_speaker_names": ["a"], "known_speaker_references": ["x"]},
            openai.BadRequestError,
            "invalid_request",
            "known_speaker_references",
        ),
        (
            {
                "response_format": "diarized_json",
                "known_speaker_names": ["a"],
                "known_speaker_references": ["data:audio/wav;base64,AAAA"],
            },
            openai.BadRequestError,
            "unsupported_option",
            "known_speaker_references",
        ),
        (
            {"response_format": "diarized_json", "known_speaker_names": list("abc")},
            openai.BadRequestError,
            "unsupported_option",
            "known_speaker_names",
        ),
        ({"known_speaker_names": ["a"]}, openai.BadRequestError, "invalid_request", "known_speaker_names"),
        (
            {"chunking_strategy": {"type": "server_vad", "threshold": 2.0}},
            openai.BadRequestError,
            "invalid_request",
            "chunking_strategy",
        ),
        ({"extra_body": {"beam_sise": 2}}, openai.BadRequestError, "invalid_request", "beam_sise"),
    ],
)
def test_mistakes_become_the_clients_typed_errors(
    client: openai.OpenAI, fields: dict[str, object], error: type[openai.APIStatusError], code: str, param: str
) -> None:
    """Every refusal names its field and a code, and says what to do."""
    arguments = {"file": FILE, "model": "base", **fields}
    with pytest.raises(error) as caught:
        client.audio.transcriptions.create(**arguments)  # type: ignore[call-overload]
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.request_id
