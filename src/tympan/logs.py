"""The log: one line for each event, with the ids of what it belongs to, and nothing that somebody said or keeps secret.

A line is one JSON object (or one line for people). Whatever goes in, from us or from a library, is made harmless on its
way out: control characters are escaped, exceptions are reduced to their type and place, and what looks like a
credential or like the query of an address is cut out.
"""

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Literal, TextIO, TypeAlias

import structlog
from structlog.types import EventDict, Processor

from tympan.errors import TympanError

LogFormat: TypeAlias = Literal["json", "console"]

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task or thread works for; empty outside requests."""

OURS = "tympan"
"""Loggers below this name are ours; those of libraries are heard from warnings up, whatever the level."""

_NOTHING: Mapping[str, str] = MappingProxyType({})
_subject: ContextVar[Mapping[str, str]] = ContextVar("log_subject", default=_NOTHING)

_MAX_CHARS = 2_000
_MAX_ITEMS = 64
_MAX_DEPTH = 3
_LEVELS_OF_LIBRARIES = logging.WARNING
_CREDENTIALS = (
    (re.compile(r"(\w{2,12}://)[^\s/@]{1,400}@"), r"\1(hidden)@"),
    (re.compile(r"(\w{2,12}://[^\s?#'\"]{1,400})[?#][^\s'\"]*"), r"\1?(hidden)"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]{8,}"), r"\1 (hidden)"),
    (
        re.compile(r"(?i)\b(authorization|x-api-key|api-key|cookie)\b(['\"]?\s*[:=,]\s*['\"]?)[^\s'\",;)]{4,}"),
        r"\1\2(hidden)",
    ),
    (re.compile(r"\b(tym_|whsec_|sk-)[A-Za-z0-9_-]{6,}"), r"\1(hidden)"),
)
"""What a secret looks like, and what is logged instead: users in addresses, queries, header values, keys."""


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Have every line that the block logs carry ``ids`` (``job_id``, ``tenant``, ...), in this task or thread."""
    token = _subject.set({**_subject.get(), **ids})
    try:
        yield
    finally:
        _subject.reset(token)


def configure_logging(level: str, fmt: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line, those of libraries included, to ``stream`` (standard error) in one format."""
    shared = _processors()
    handler = _Handler(stream or sys.stderr)
    handler.addFilter(_tame)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _harmless, _renderer(fmt)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], _LEVELS_OF_LIBRARIES))
    logging.getLogger(OURS).setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def log_crashes() -> None:
    """Log, for the rest of this process, what would be printed: errors that end a thread, and Python's warnings."""
    logging.captureWarnings(capture=True)
    threading.excepthook = _on_thread_crash
    sys.unraisablehook = _on_unraisable


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines carry the current ids; ``name`` begins with that of this package."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def crash_report(error: BaseException) -> dict[str, object]:
    """Return what may be logged of an unexpected error: its type and where it arose.

    The message stays out, because it can quote what a user said or sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error_type": type(error).__name__,
        "errno": getattr(error, "errno", None),
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; one that cannot be made is replaced by another that says so, instead of a traceback."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        kind = sys.exc_info()[0]
        line = {"event": "log_line_broken", "level": "error", "logger": record.name[:_MAX_CHARS],
                "error_type": kind.__name__ if kind else None}  # fmt: skip
        try:
            self.stream.write(json.dumps(line) + self.terminator)
            self.flush()
        except (OSError, ValueError):  # Nobody can be told any more: standard error is closed, or its disk full.
            return


def _renderer(fmt: LogFormat) -> Processor:
    if fmt == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)


def _processors() -> list[Processor]:
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_ids,
        _hide_exception_text,
    ]


def _add_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if current := request_id.get():
        event.setdefault("request_id", current)
    for name, value in _subject.get().items():
        event.setdefault(name, value)
    return event


def _hide_exception_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Reduce an attached exception to a crash report, ours and the libraries' alike."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event.update(crash_report(error))
    return event


def _tame(record: logging.LogRecord) -> bool:
    """Put the type or code of each exception among the arguments in place of what it says; every record passes."""
    if isinstance(record.args, tuple):
        record.args = tuple(_kind(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
    return True


def _kind(error: BaseException) -> str:
    return error.code if isinstance(error, TympanError) else type(error).__name__


def _harmless(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Make an event fit for one line: nobody can forge another one, recolour a terminal, or fill the disk."""
    return {_text(str(key)): _plain(value) for key, value in event.items()}


def _plain(value: object, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return _text(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {_text(str(key)): _plain(each, depth + 1) for key, each in list(value.items())[:_MAX_ITEMS]}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(each, depth + 1) for each in list(value)[:_MAX_ITEMS]]
    return type(value).__name__


def _text(text: str) -> str:
    short = text if len(text) <= _MAX_CHARS else text[:_MAX_CHARS] + "..."
    for pattern, instead in _CREDENTIALS:
        short = pattern.sub(instead, short)
    if short.isprintable():
        return short
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in short)


def _on_thread_crash(what: threading.ExceptHookArgs) -> None:
    if what.exc_value is not None:
        name = what.thread.name if what.thread else None
        get_logger(__name__).critical("thread_crashed", thread=name, **crash_report(what.exc_value))


def _on_unraisable(what: "sys.UnraisableHookArgs") -> None:
    error = what.exc_value or what.exc_type()
    get_logger(__name__).error("error_ignored", **crash_report(error))
