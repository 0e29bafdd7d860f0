"""What the routes answer whose answers no class describes: schemas for /openapi.json. Data, and nothing else."""

from types import MappingProxyType
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_NUMBER: Final[Schema] = {"type": "number"}
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0}
_WHOLE: Final[Schema] = {"type": "integer"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_FLAG: Final[Schema] = {"type": "boolean"}
_SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}


def _maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(fields: Schema, also: Schema | None = None, *, open_: bool = False) -> Schema:
    """Return an object that has all of ``fields``, and maybe some of ``also``."""
    found = {"type": "object", "required": list(fields), "properties": {**fields, **(also or {})}}
    return found if open_ else {**found, "additionalProperties": False}


_USAGE = _object({"type": {"const": "duration"}, "seconds": _COUNT}, open_=True)
_WORD = _object(
    {"word": _TEXT, "start": _SECONDS, "end": _SECONDS, "probability": _SHARE}, {"speaker": _TEXT}, open_=True
)
_SPEECH = _object({"audio_s": _SECONDS, "speech_s": _SECONDS, "dropped_s": _SECONDS, "covered_s": _SECONDS})
_TIMING = {"processing_time_ms": _SECONDS, "audio_duration_s": _SECONDS, "speech": _ref("SpeechAccounting")}
_SEGMENT = _object(
    {
        "id": _COUNT,
        "seek": _COUNT,
        "start": _SECONDS,
        "end": _SECONDS,
        "text": _TEXT,
        "tokens": _list(_WHOLE),
        "temperature": _NUMBER,
        "avg_logprob": _NUMBER,
        "compression_ratio": _NUMBER,
        "no_speech_prob": _NUMBER,
        "confidence": _maybe(_NUMBER),
        "hallucination_score": _maybe(_NUMBER),
    },
    {"language": _TEXT, "speaker": _TEXT, "speaker_turn_next": _FLAG},
    open_=True,
)
_MODEL = _object(
    {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": _COUNT,
        "owned_by": _TEXT,
        "served_as": _TEXT,
        "aliases": _list(_TEXT),
        "state": {"enum": ["loaded", "loading", "unloading", "unloaded", "failed"]},
        "default": _FLAG,
        "pinned": _FLAG,
        "in_use": _COUNT,
        "memory_mb": _maybe(_SECONDS),
        "engine": _maybe(_TEXT),
        "device": _maybe(_TEXT),
        "compute_type": _maybe(_TEXT),
        "error": _maybe(_TEXT),
    }
)
_CPP_SEGMENT = _object(
    {
        "id": _COUNT,
        "text": _TEXT,
        "tokens": _list(_WHOLE),
        "temperature": _NUMBER,
        "avg_logprob": _NUMBER,
        "no_speech_prob": _NUMBER,
    },
    {
        "start": _SECONDS,
        "end": _SECONDS,
        "speaker": {"enum": ["0", "1", "?"]},
        "words": _list(
            _object({"word": _TEXT, "probability": _SHARE}, {"start": _SECONDS, "end": _SECONDS, "t_dtw": _WHOLE})
        ),
    },
)

SCHEMAS: Final = MappingProxyType[str, Schema](
    {
        "SpeechAccounting": _SPEECH,
        "Transcription": _object({"text": _TEXT, "usage": _USAGE}, open_=True),
        "VerboseTranscription": _object(
            {
                "task": {"enum": ["transcribe", "translate"]},
                "language": _TEXT,
                "duration": _SECONDS,
                "text": _TEXT,
                "usage": _USAGE,
                "language_code": _maybe(_TEXT),
                "language_probability": _SHARE,
                "languages": _list(_object({"code": _TEXT, "probability": _SHARE})),
                "model": _TEXT,
                "made_by": _object(dict.fromkeys(("engine", "revision", "compute_type", "device", "version"), _TEXT)),
                **_TIMING,
            },
            {"segments": _list(_ref("Segment")), "words": _list(_WORD)},
            open_=True,
        ),
        "DiarizedTranscription": _object(
            {
                "task": {"const": "transcribe"},
                "duration": _SECONDS,
                "text": _TEXT,
                "segments": _list(
                    _object(
                        {
                            "type": {"const": "transcript.text.segment"},
                            "id": _TEXT,
                            "start": _SECONDS,
                            "end": _SECONDS,
                            "speaker": _TEXT,
                            "text": _TEXT,
                        },
                        open_=True,
                    )
                ),
                "usage": _USAGE,
            },
            open_=True,
        ),
        "Segment": _SEGMENT,
        "LanguageDetection": _object(
            {
                "language": _maybe(_TEXT),
                "language_name": _maybe(_TEXT),
                "probability": _maybe(_SHARE),
                "languages": _list(_object({"language": _TEXT, "language_name": _TEXT, "probability": _SHARE})),
                "model": _TEXT,
                "speech": _object({"heard_s": _SECONDS, "speech_s": _SECONDS}),
                "processing_time_ms": _SECONDS,
            }
        ),
        "Model": _MODEL,
        "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
        "UnloadedModel": {
            **_MODEL,
            "required": [*_MODEL["required"], "deleted"],
            "properties": {**_MODEL["properties"], "deleted": _FLAG},
        },
        "Alive": _object({"status": _TEXT}),
        "Health": _object(
            {
                "status": {"enum": ["healthy", "degraded", "loading", "unhealthy"]},
                "model_loaded": _FLAG,
                "model": _maybe(_TEXT),
                "accepting_requests": _FLAG,
                "queued_requests": _COUNT,
                "avg_latency_ms": _SECONDS,
                "memory_used_mb": _SECONDS,
                "version": _TEXT,
                "components": {"type": "object"},
            },
            open_=True,
        ),
        "SubmittedJob": _object({"job_id": _TEXT, "status": {"const": "queued"}}),
        "PolledJob": _object(
            {
                "job_id": _TEXT,
                "status": {"enum": ["queued", "processing", "completed", "failed"]},
                "result": _maybe(
                    _object(
                        {
                            "text": _TEXT,
                            "language": _maybe(_TEXT),
                            "language_probability": _SHARE,
                            "segments": _list({"type": "object"}),
                        }
                    )
                ),
            },
            {"error": _TEXT},
        ),
        "DetectedLanguage": _object(
            {"detected_language": _maybe(_TEXT), "language_code": _maybe(_TEXT), "confidence": _SHARE}
        ),
        "Inference": _object({"text": _TEXT}),
        "VerboseInference": _object(
            {
                "task": {"enum": ["transcribe", "translate"]},
                "language": _TEXT,
                "duration": _SECONDS,
                "text": _TEXT,
                "segments": _list(_CPP_SEGMENT),
            },
            {
                "detected_language": _TEXT,
                "detected_language_probability": _SHARE,
                "language_probabilities": {"type": "object", "additionalProperties": _SHARE},
            },
        ),
        "AudioLink": _object({"object": {"const": "audio_link"}, "url": _TEXT, "expires_at": _COUNT}),
        "Waveform": _object(
            {
                "object": {"const": "waveform"},
                "duration_s": _SECONDS,
                "step_s": _SECONDS,
                "peaks": _list({"type": "integer", "minimum": 0, "maximum": 255}),
            }
        ),
        "EditedSegment": _object(
            {"start": _SECONDS, "end": _SECONDS, "text": _TEXT}, {"id": _COUNT, "speaker": _maybe(_TEXT)}
        ),
        "EditedTranscript": _object(
            {
                "object": {"const": "transcript.edited"},
                "job_id": _TEXT,
                "revision": _COUNT,
                "edited_at": _SECONDS,
                "speakers": {"type": "object", "additionalProperties": _TEXT},
                "segments": _list(_ref("EditedSegment")),
            }
        ),
        "Error": _object({"error": _object({"message": _TEXT, "type": _TEXT, "param": _maybe(_TEXT), "code": _TEXT})}),
        "ErrorWithDetail": _object({"detail": _TEXT, "code": _TEXT}),
        "ErrorInWords": _object({"error": _TEXT, "code": _TEXT}),
    }
)
"""Schemas by name."""

_STRING: Final[Schema] = {"schema": _TEXT}
_BINARY: Final[Schema] = {"schema": {"type": "string", "format": "binary"}}
_DOCUMENT: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_EVENT: Final[Schema] = {"schema": _object({}, {"event": _TEXT, "data": _TEXT, "id": _TEXT, "retry": _WHOLE})}
_SUBTITLES = dict.fromkeys(("text/plain", "application/x-subrip", "text/vtt", "text/tab-separated-values"), _STRING)


def _json(*names: str) -> Schema:
    schema = _ref(names[0]) if len(names) == 1 else {"anyOf": [_ref(name) for name in names]}
    return {"application/json": {"schema": schema}}


_TRANSCRIPT = {**_json("VerboseTranscription", "DiarizedTranscription", "Transcription"), **_SUBTITLES}

ANSWERS: Final = MappingProxyType[tuple[str, str], dict[str, Schema]](
    {
        ("post", "/v1/audio/transcriptions"): {"200": {**_TRANSCRIPT, "text/event-stream": _EVENT}},
        ("post", "/v1/audio/translations"): {"200": _TRANSCRIPT},
        ("post", "/v1/audio/detect-language"): {"200": _json("LanguageDetection")},
        ("get", "/v1/jobs/{job_id}/result"): {"200": {**_TRANSCRIPT, _DOCUMENT: _BINARY}},
        ("get", "/v1/jobs/{job_id}/audio"): {"200": {"audio/*": _BINARY}, "206": {"audio/*": _BINARY}},
        ("post", "/v1/jobs/{job_id}/audio-link"): {"200": _json("AudioLink")},
        ("get", "/v1/jobs/{job_id}/waveform"): {"200": _json("Waveform")},
        ("get", "/v1/jobs/{job_id}/edited"): {"200": _json("EditedTranscript")},
        ("put", "/v1/jobs/{job_id}/edited"): {"200": _json("EditedTranscript")},
        ("get", "/v1/jobs/{job_id}/events"): {"200": {"text/event-stream": _EVENT}},
        ("get", "/v1/batches/{batch_id}/results"): {"200": {"application/jsonl": _STRING, "application/zip": _BINARY}},
        ("get", "/v1/models"): {"200": _json("ModelList")},
        ("get", "/v1/models/{model_id}"): {"200": _json("Model")},
        ("post", "/v1/models/{model_id}"): {"200": _json("Model"), "202": _json("Model")},
        ("delete", "/v1/models/{model_id}"): {"200": _json("UnloadedModel")},
        ("post", "/transcribe/async"): {"202": _json("SubmittedJob")},
        ("get", "/transcribe/{job_id}"): {"200": _json("PolledJob")},
        ("post", "/asr"): {"200": {"text/plain": _STRING}},
        ("post", "/detect-language"): {"200": _json("DetectedLanguage")},
        ("post", "/inference"): {
            "200": {
                **_json("VerboseInference", "Inference"),
                **dict.fromkeys(("text/html", "application/x-subrip", "text/vtt"), _STRING),
            }
        },
        ("post", "/load"): {"200": {"application/text": _STRING}},
        ("get", "/livez"): {"200": _json("Alive")},
        ("get", "/readyz"): {"200": _json("Alive")},
        ("get", "/health"): {"200": _json("Health"), "503": _json("Health")},
        ("get", "/metrics"): {"200": {"text/plain": _STRING}},
    }
)
"""Per method and path: statuses of success, with what is sent by media type."""
