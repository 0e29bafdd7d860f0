"""What a job may be asked for with: fields of a form or of JSON, checked by one set of rules. Pure functions."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from tympan.api.fields.forms import Form, Parameter
from tympan.api.fields.transcription import KNOWN, REPEATABLE, TranscriptionRequest, parse_options, refuse_stream
from tympan.domain import Options, Output, Task, Timestamps
from tympan.errors import InvalidRequest

SOURCES = ("audio_url", "audio_object", "upload_id")
"""Fields that name audio instead of carrying it."""

MAX_PRIORITY = 100
MAX_DEADLINE_S = 366 * 86_400.0
MAX_METADATA_KEYS = 16
MAX_METADATA_BYTES = 4096
MAX_URL_CHARS = 8192
MAX_ID_CHARS = 64

JOB_PARAMETERS: tuple[Parameter, ...] = (
    Parameter("audio_url", {"type": "string", "maxLength": MAX_URL_CHARS}, "Web address of the audio.", ours=True),
    Parameter(
        "audio_object",
        {"type": "string", "maxLength": MAX_URL_CHARS},
        "Path or object of the audio, in one of `AUDIO_ROOTS`.",
        ours=True,
    ),
    Parameter("upload_id", {"type": "string", "maxLength": MAX_ID_CHARS}, "A finished resumable upload.", ours=True),
    Parameter(
        "task",
        {"type": "string", "enum": tuple(Task), "default": "transcribe"},
        "The language spoken, or English.",
        ours=True,
    ),
    Parameter(
        "priority",
        {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY, "default": 0},
        "Higher goes first.",
        ours=True,
    ),
    Parameter("deadline", {"type": "string"}, "Seconds from now, or an RFC 3339 time; then it expires.", ours=True),
    Parameter(
        "webhook_url", {"type": "string", "maxLength": MAX_URL_CHARS}, "Where to tell that it has ended.", ours=True
    ),
    Parameter("webhook_endpoint", {"type": "string", "maxLength": MAX_ID_CHARS}, "As above, by its id.", ours=True),
    Parameter(
        "metadata",
        {"type": "string"},
        f"JSON object of at most {MAX_METADATA_KEYS} strings, {MAX_METADATA_BYTES >> 10} kB in all.",
        ours=True,
    ),
)
"""The fields of a job beside those of a transcription."""

KEY_PARAMETER: Mapping[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "Within a day, the same key and the same request lead to what was made the first time.",
}
"""What ``idempotency_key`` reads, as /openapi.json describes it."""

WEBHOOKS = ("webhook_url", "webhook_endpoint")
JOB_FIELDS = KNOWN | {parameter.name for parameter in JOB_PARAMETERS}

_OBJECTS = ("vad", "metadata", "chunking_strategy")
_LISTS = frozenset(name + brackets for name in REPEATABLE for brackets in ("", "[]"))
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a job has to be done: so many seconds from now, or at a time in Unix seconds."""

    seconds: float
    from_now: bool

    def at(self, now_s: float) -> float:
        """Return the deadline in Unix seconds. Raises ``InvalidRequest`` unless it lies ahead, within a year."""
        at_s = now_s + self.seconds if self.from_now else self.seconds
        if at_s <= now_s:
            raise _bad_deadline("has passed")
        if at_s > now_s + MAX_DEADLINE_S:
            raise _bad_deadline("is more than a year away")
        return at_s


@dataclass(frozen=True, slots=True)
class JobAsk:
    """What one job is asked for with; ``source`` is a name of ``SOURCES`` and its value, ``None`` for a file."""

    options: Options
    output: Output
    model: str | None
    source: tuple[str, str] | None = None
    priority: int = 0
    deadline: Deadline | None = None
    webhook_url: str | None = None
    webhook_endpoint: str | None = None
    metadata: str = "{}"

    @property
    def upload_id(self) -> str | None:
        """The resumable upload that is asked for, ``None`` for audio from elsewhere."""
        return self.source[1] if self.source is not None and self.source[0] == "upload_id" else None


def parse_job(raw: Mapping[str, list[str]], *, has_file: bool, known: frozenset[str] = JOB_FIELDS) -> JobAsk:
    """Return what the fields ask for.

    Raises ``InvalidRequest``, ``UnsupportedOption`` or ``UnsupportedLanguage``, naming the field and the remedy.
    """
    form = Form(raw, known, REPEATABLE)
    refuse_stream(form, "Leave stream out and read /v1/jobs/{id}/events, which tells the text as it comes.")
    asked = parse_options(form, Task(form.choice("task", tuple(Task), "transcribe")))
    return JobAsk(
        options=_timed(asked),
        output=asked.output,
        model=asked.model,
        source=_source(form, has_file=has_file),
        priority=form.integer("priority", -MAX_PRIORITY, MAX_PRIORITY) or 0,
        deadline=_deadline(form.text("deadline", max_chars=MAX_ID_CHARS)),
        metadata=parse_metadata(form.text("metadata", max_chars=8 * MAX_METADATA_BYTES)),
        **_webhook(form),
    )


def _timed(asked: TranscriptionRequest) -> Options:
    """Return the options with the times that any format of the result may need."""
    return replace(asked.options, timestamps=Timestamps.WORD if asked.words or asked.shape else Timestamps.SEGMENT)


def _source(form: Form, *, has_file: bool) -> tuple[str, str] | None:
    if form.all("file"):
        raise InvalidRequest("file was sent as text.", param="file", remedy="Send it as a file in multipart/form-data.")
    given = [name for name in SOURCES if form.all(name)]
    if len(given) + has_file != 1:
        raise InvalidRequest(
            f"There is {'more than one source of' if given else 'no'} audio.",
            param=given[0] if given else "file",
            remedy=f"Send one of file, {', '.join(SOURCES)}.",
        )
    if has_file:
        return None
    limit = MAX_ID_CHARS if given[0] == "upload_id" else MAX_URL_CHARS
    return given[0], form.text(given[0], max_chars=limit) or ""


def _webhook(form: Form) -> dict[str, str | None]:
    url = form.text("webhook_url", max_chars=MAX_URL_CHARS)
    endpoint = form.text("webhook_endpoint", max_chars=MAX_ID_CHARS)
    if url is not None and endpoint is not None:
        raise InvalidRequest(
            "webhook_url and webhook_endpoint were both sent.", param="webhook_url", remedy="Send one."
        )
    return {"webhook_url": url, "webhook_endpoint": endpoint}


def _deadline(text: str | None) -> Deadline | None:
    if text is None:
        return None
    try:
        if _RFC3339.fullmatch(text.strip()):
            return Deadline(datetime.fromisoformat(text.strip().upper()).timestamp(), from_now=False)
        seconds = float(text)
    except (ValueError, OverflowError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise InvalidRequest(
            "deadline is neither a number nor a time.",
            param="deadline",
            remedy="Send seconds from now, or a time with its zone, as YYYY-MM-DDThh:mm:ssZ.",
        )
    return Deadline(seconds, from_now=True)


def parse_metadata(text: str | None) -> str:
    """Return a caller's metadata as JSON text. Raises ``InvalidRequest`` unless it is a small object of strings."""
    if text is None:
        return "{}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(isinstance(entry, str) for entry in value.values()):
        raise _bad_metadata("metadata is not a JSON object whose values are strings.")
    compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    check_text(compact, "metadata")
    if len(value) > MAX_METADATA_KEYS or len(compact.encode()) > MAX_METADATA_BYTES:
        raise _bad_metadata(f"metadata has more than {MAX_METADATA_KEYS} keys or {MAX_METADATA_BYTES} bytes.")
    return compact


def parse_object(data: bytes) -> dict[str, Any]:
    """Return the object in a JSON body. Raises ``InvalidRequest``."""
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.", remedy="Send a JSON object in UTF-8.") from error
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object.", remedy="Send an object of fields.")
    return value


def fields_of(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return a JSON object of fields as a form has them: numbers, booleans and objects in their spelling.

    Raises ``InvalidRequest`` for a list or an object where none belongs, and for text that UTF-8 cannot say.
    """
    fields = {name: _values(name, value) for name, value in document.items() if value is not None}
    for name, values in fields.items():
        check_text(name, "the name of a field")
        for value in values:
            check_text(value, name)
    return fields


def fingerprint(fields: Mapping[str, list[str]], digests: Sequence[str]) -> str:
    """Return the SHA-256 of everything that was asked for: fields that were not left out, and digests of files."""
    given: dict[str, list[str]] = {}
    for name, values in fields.items():
        given.setdefault(name.removesuffix("[]"), []).extend(value for value in values if value.strip())
    for name in _OBJECTS:
        given[name] = [_sorted_json(value) for value in given.get(name, [])]
    canonical = sorted((name, values) for name, values in given.items() if values)
    return digest_of([canonical, list(digests)])


def digest_of(value: object) -> str:
    """Return the SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def idempotency_key(given: Iterable[str]) -> str | None:
    """Return the key in the Idempotency-Key headers of a request; quotes are optional. Raises ``InvalidRequest``."""
    values = [value.strip() for value in given]
    if not values:
        return None
    text = values[0]
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        text = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if len(values) > 1 or not _VISIBLE.fullmatch(text):
        raise InvalidRequest(
            "The Idempotency-Key is not 1 to 255 visible ASCII characters.",
            param="Idempotency-Key",
            remedy='Send one key, such as "8e03978e-40d5-43dd-bc93-6894a57f9324".',
        )
    return text


def check_text(text: str, name: str) -> None:
    """Raise ``InvalidRequest`` for what no database keeps: half of a surrogate pair, and NUL."""
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        name = name[:64].encode("ascii", "replace").decode()
        raise InvalidRequest(
            f"{name} contains a NUL or an incomplete character.", param=name, remedy="Send plain UTF-8 text."
        )


def _values(name: str, value: Any) -> list[str]:
    if isinstance(value, list) and name in _LISTS:
        return [_spelled(name, entry) for entry in value]
    return [_spelled(name, value)]


def _spelled(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict) and name in _OBJECTS:
        return json.dumps(value)
    kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "null"
    raise InvalidRequest(f"{name[:64]!r} is {kind}.", param=name[:64], remedy="See the field's type in /openapi.json.")


def _sorted_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), sort_keys=True)
    except (ValueError, RecursionError):
        return text


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _bad_deadline(how: str) -> InvalidRequest:
    return InvalidRequest(
        f"The deadline {how}.", param="deadline", remedy="Send seconds from now, or a time within a year."
    )


def _bad_metadata(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="metadata", remedy='Send an object such as {"order": "1234"}.')
