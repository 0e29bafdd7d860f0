"""``/asr`` and ``/detect-language`` as whisper-asr-webservice has them, so that its clients need a new address only.

Its queries, fields and answers are described at https://ahmetoner.com/whisper-asr-webservice/endpoints/.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tympan.api.fields.forms import Form, Parameter, form_body
from tympan.api.fields.openai import MAX_PROMPT_CHARS
from tympan.api.fields.queries import query_of
from tympan.api.fields.speakers import by_number, crowd_of
from tympan.api.fields.transcription import parse_options
from tympan.api.intake.uploads import FileRules, Upload
from tympan.api.intake.visits import Door, Visit
from tympan.api.speech.answers import rendered_aside
from tympan.api.speech.detection import DetectionRequest, detected
from tympan.domain import Options, ResponseFormat, Segment, Task, Timestamps, Transcript
from tympan.errors import InvalidRequest
from tympan.formats import number, render, segment_json
from tympan.languages import language_name
from tympan.options import MOST_SPEAKERS
from tympan.turns import speaker_number

router = APIRouter()

FILE_FIELD = "audio_file"
OUTPUTS: Mapping[str, ResponseFormat] = MappingProxyType(
    {"txt": "text", "vtt": "vtt", "srt": "srt", "tsv": "tsv", "json": "verbose_json"}
)
"""Values of ``output``, and what they are called in ours."""

_SEGMENT_FIELDS = (
    "id",
    "seek",
    "start",
    "end",
    "text",
    "tokens",
    "temperature",
    "avg_logprob",
    "compression_ratio",
    "no_speech_prob",
)
_LABEL_CHARS = 512
_FLAG: Mapping[str, Any] = {"type": "boolean", "default": False}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 1, "maximum": MOST_SPEAKERS}

ASR_QUERY: tuple[Parameter, ...] = (
    Parameter(
        "encode",
        {"type": "boolean", "default": True},
        "`false`: the file is bare samples, 16 bits, little-endian, 16 kHz, one channel.",
    ),
    Parameter(
        "task",
        {"type": "string", "enum": tuple(task.value for task in Task), "default": Task.TRANSCRIBE.value},
        "`translate`: into English.",
    ),
    Parameter("language", {"type": "string"}, "Language spoken; else it is detected."),
    Parameter(
        "initial_prompt", {"type": "string", "maxLength": MAX_PROMPT_CHARS}, "Text that sets style and spelling."
    ),
    Parameter(
        "vad_filter",
        {"type": "boolean", "default": True},
        "Leave out what is no speech. On unless it is turned off, which is not so there.",
    ),
    Parameter("word_timestamps", _FLAG, "List the words of every segment in `json`."),
    Parameter("diarize", _FLAG, "Tell speakers apart, by their voices or the channels of a stereo file."),
    Parameter("min_speakers", _COUNT, "With `diarize`: at least so many people speak."),
    Parameter("max_speakers", _COUNT, "With `diarize`: at most so many."),
    Parameter("output", {"type": "string", "enum": tuple(OUTPUTS), "default": "txt"}, "Format of the answer."),
    Parameter("video_file", {"type": "string", "maxLength": _LABEL_CHARS}, "A label that Bazarr sends; not used."),
)
"""Every parameter of the query of ``/asr``."""

DETECT_QUERY = tuple(p for p in ASR_QUERY if p.name in ("encode", "video_file"))
"""Every parameter of the query of ``/detect-language``."""

_ASR_NAMES, _DETECT_NAMES = (tuple(p.name for p in query) for query in (ASR_QUERY, DETECT_QUERY))


def _openapi(query: tuple[Parameter, ...]) -> dict[str, Any]:
    """Return how /openapi.json describes a route with these parameters."""
    return {
        "parameters": [
            {"name": p.name, "in": "query", "schema": dict(p.schema), "description": p.description} for p in query
        ],
        "requestBody": form_body(FILE_FIELD, {FILE_FIELD: {"type": "string", "format": "binary"}}),
    }


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What a query asks for; ``name`` is what the caller calls the file. The default model is asked."""

    options: Options
    output: str
    name: str
    model: str | None = None


@router.post("/asr", openapi_extra=_openapi(ASR_QUERY), response_class=Response)
async def asr(request: Request) -> Response:
    """Return the text of an audio file, as whisper-asr-webservice does: always as text/plain, whatever the format."""
    form = query_of(request, *_ASR_NAMES)
    options = _options(form)  # Before the body is read.
    output = form.choice("output", OUTPUTS, "txt")
    door = Door(lambda upload: _asked(upload, options, output), _rules(form))
    asked, transcript = await Visit(request, door).transcript()
    headers = {
        "Asr-Engine": "tympan",
        "Content-Disposition": f'attachment; filename="{quote(asked.name)}.{output}"',
    }
    text = await rendered_aside(request, transcript, lambda: _rendered(transcript, asked))
    return Response(text, media_type="text/plain", headers=headers)


@router.post("/detect-language", openapi_extra=_openapi(DETECT_QUERY))
async def detect_language(request: Request) -> JSONResponse:
    """Return the language of an audio file, as whisper-asr-webservice does; without speech there is none."""
    form = query_of(request, *_DETECT_NAMES)
    form.text("video_file", max_chars=_LABEL_CHARS)
    _, found = await detected(request, Door(_detection, _rules(form)))
    return JSONResponse(
        {
            "detected_language": language_name(found.language) if found.language else None,
            "language_code": found.language,
            "confidence": number(found.language_probability, 4),
        }
    )


def _options(form: Form) -> Options:
    task = Task(form.choice("task", tuple(Task), Task.TRANSCRIBE))
    form.text("video_file", max_chars=_LABEL_CHARS)
    names = {"language": "language", "initial_prompt": "prompt", "vad_filter": "vad"}
    ours = Form({our: form.all(name) for name, our in names.items()}, frozenset(names.values()))
    form.flag("vad_filter", default=True)  # A boolean here; ours takes an object too.
    options = parse_options(ours, task).options
    return replace(options, timestamps=_timestamps(form), **_speakers(form))


def _timestamps(form: Form) -> Timestamps:
    words, output = form.flag("word_timestamps", default=False), form.choice("output", OUTPUTS, "txt")
    if output == "txt":
        return Timestamps.NONE
    return Timestamps.WORD if words and output == "json" else Timestamps.SEGMENT


def _speakers(form: Form) -> dict[str, Any]:
    if not form.flag("diarize", default=False):
        for name in ("min_speakers", "max_speakers"):
            if form.all(name):
                remedy = f"Ask for it, or leave {name} out."
                raise InvalidRequest(f"{name} needs diarize=true.", param=name, remedy=remedy)
        return {}
    least, most = crowd_of(form)
    return {"diarize": True, "diarize_by": by_number(least, most), "min_speakers": least, "max_speakers": most}


def _rules(form: Form) -> FileRules:
    return FileRules(field=FILE_FIELD, bare=not form.flag("encode", default=True))


def _asked(upload: Upload, options: Options, output: str) -> AsrRequest:
    _refuse_fields(upload)
    return AsrRequest(options, output, upload.files[0].name or "audio")


def _detection(upload: Upload) -> DetectionRequest:
    _refuse_fields(upload)
    return DetectionRequest(Options())


def _refuse_fields(upload: Upload) -> None:
    """Raise ``InvalidRequest`` for fields beside the file: here they belong into the query."""
    Form(upload.fields, frozenset()).refuse_unknown()


def _rendered(transcript: Transcript, asked: AsrRequest) -> bytes:
    if asked.output == "json":
        text = json.dumps(_document(transcript, asked), ensure_ascii=False, allow_nan=False)
    elif asked.output == "txt":
        text = "".join(f"{segment.text.strip()}\n" for segment in _spoken(transcript) if segment.text.strip())
    else:
        text = render(replace(transcript, segments=tuple(_spoken(transcript))), OUTPUTS[asked.output])
    return text.encode("utf-8", "replace")


def _spoken(transcript: Transcript) -> Iterator[Segment]:
    """Yield the segments with their speakers in the text, where there are some."""
    for segment in transcript.segments:
        if segment.speaker is None:
            yield segment
        else:
            yield replace(segment, text=f"[{_speaker(segment)}]: {segment.text.strip()}", speaker=None)


def _speaker(segment: Segment) -> str:
    return f"SPEAKER_{speaker_number(segment.speaker or '') or 0:02d}"


def _document(transcript: Transcript, asked: AsrRequest) -> dict[str, Any]:
    words = asked.options.timestamps is Timestamps.WORD
    return {
        "text": "".join(segment.text for segment in transcript.segments),
        "segments": [_segment(segment, words=words) for segment in transcript.segments],
        "language": transcript.language,
    }


def _segment(segment: Segment, *, words: bool) -> dict[str, Any]:
    known = segment_json(segment)
    kept = {name: known[name] for name in _SEGMENT_FIELDS}
    if words:
        kept["words"] = [
            {
                "word": word.text,
                "start": number(word.start_s),
                "end": number(word.end_s),
                "probability": number(word.probability, 4),
            }
            for word in segment.words
        ]
    if segment.speaker is not None:
        kept["speaker"] = _speaker(segment)
    return kept
