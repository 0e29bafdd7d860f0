"""What a batch may be asked for with: a manifest in JSON, or a form with several files. Pure functions."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tympan.api.fields.forms import Form
from tympan.api.fields.jobs import (
    JOB_FIELDS,
    MAX_ID_CHARS,
    MAX_URL_CHARS,
    SOURCES,
    WEBHOOKS,
    JobAsk,
    fields_of,
    parse_job,
    parse_metadata,
)
from tympan.api.fields.transcription import REPEATABLE
from tympan.errors import InvalidRequest, TympanError
from tympan.jobs.batches import MAX_ITEMS, refuse_items

MANIFEST_FIELDS = frozenset({"items", "defaults", "metadata", *WEBHOOKS})
ITEM_FIELDS = JOB_FIELDS - {*WEBHOOKS, "file"}


@dataclass(frozen=True, slots=True)
class BatchAsk:
    """What one batch is asked for with; the webhook is told once, when the last of its jobs has ended."""

    items: tuple[JobAsk, ...]
    webhook_url: str | None
    webhook_endpoint: str | None
    metadata: str


def parse_manifest(document: Mapping[str, Any], check: Callable[[JobAsk], None]) -> BatchAsk:
    """Return what a manifest asks for; ``check`` raises what else can be said against one item.

    Raises ``InvalidRequest`` that names every item at fault.
    """
    own = {name: value for name, value in document.items() if name not in ("items", "defaults")}
    form = Form(fields_of(own), MANIFEST_FIELDS)
    form.refuse_unknown()
    items, defaults = document.get("items"), document.get("defaults") or {}
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        raise InvalidRequest(
            f"items is not a list of 1 to {MAX_ITEMS} jobs.",
            param="items",
            remedy="Split a longer list into several batches.",
        )
    _check_defaults(defaults)
    asked: list[JobAsk] = []
    refuse_items(_parse_items(items, defaults, check, asked), len(items))
    return _with_webhook(form, asked)


def parse_files(fields: Mapping[str, list[str]], n_files: int) -> BatchAsk:
    """Return what a form with ``n_files`` files asks for: its options go for each of them."""
    form = Form(fields, JOB_FIELDS, REPEATABLE)
    shared = {name: values for name, values in fields.items() if name not in (*WEBHOOKS, "metadata")}
    ask = parse_job(shared, has_file=True)
    return _with_webhook(form, [ask] * n_files)


def _check_defaults(defaults: Any) -> None:
    if not isinstance(defaults, dict):
        raise InvalidRequest("defaults is not an object.", param="defaults", remedy="Send fields of a job.")
    if any(name in defaults for name in SOURCES):
        raise InvalidRequest("defaults may not name audio.", param="defaults", remedy="Name audio in each item.")
    try:
        parse_job({**fields_of(defaults), "audio_url": ["-"]}, has_file=False, known=ITEM_FIELDS)
    except TympanError as error:
        raise type(error)(
            error.message, param=f"defaults.{error.param}" if error.param else "defaults", remedy=error.remedy
        ) from error


def _parse_items(
    items: list[Any], defaults: Mapping[str, Any], check: Callable[[JobAsk], None], asked: list[JobAsk]
) -> Iterator[tuple[int, TympanError]]:
    """Fill ``asked``, and yield number and error of items that cannot be read."""
    taken: set[str] = set()
    for number, item in enumerate(items):
        try:
            if not isinstance(item, dict):
                raise InvalidRequest("It is not an object.")
            ask = parse_job(fields_of({**defaults, **item}), has_file=False, known=ITEM_FIELDS)
            check(ask)
            _refuse_second(ask, taken)
        except TympanError as error:
            yield number, error
        else:
            asked.append(ask)


def _refuse_second(ask: JobAsk, taken: set[str]) -> None:
    if ask.upload_id is None:
        return
    if ask.upload_id in taken:
        raise InvalidRequest("An earlier item uses this upload already.", param="upload_id", remedy="Use each once.")
    taken.add(ask.upload_id)


def _with_webhook(form: Form, items: list[JobAsk]) -> BatchAsk:
    url = form.text("webhook_url", max_chars=MAX_URL_CHARS)
    endpoint = form.text("webhook_endpoint", max_chars=MAX_ID_CHARS)
    if url is not None and endpoint is not None:
        raise InvalidRequest(
            "webhook_url and webhook_endpoint were both sent.", param="webhook_url", remedy="Send one."
        )
    return BatchAsk(tuple(items), url, endpoint, parse_metadata(form.text("metadata", max_chars=1 << 15)))
