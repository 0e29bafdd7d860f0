"""What the person at the terminal sees: transcripts on stdout, everything else on stderr."""

import os
import sys
import traceback
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING

from tympan.errors import (
    Cancelled,
    ConfigError,
    DecoderUnavailable,
    EngineError,
    InvalidRequest,
    ModelError,
    TympanError,
    Unavailable,
)

if TYPE_CHECKING:
    from rich.console import Console

_DEBUG = "TYMPAN_DEBUG"


class ExitCode(IntEnum):
    """What a shell script can tell from the end of a command."""

    OK = 0
    SOME_FAILED = 1
    USAGE = 2
    NOT_USABLE = 3
    INTERRUPTED = 130


def exit_code_for(error: TympanError) -> ExitCode:
    """Return the exit code of a command that ``error`` ended."""
    if isinstance(error, Cancelled):
        return ExitCode.INTERRUPTED
    if isinstance(error, InvalidRequest):
        return ExitCode.USAGE
    if isinstance(error, ConfigError | ModelError | EngineError | Unavailable | DecoderUnavailable):
        return ExitCode.NOT_USABLE
    return ExitCode.SOME_FAILED


@cache
def stderr() -> "Console":
    """Return the console for everything that is not a transcript."""
    from rich.console import Console  # noqa: PLC0415  (keeps ``--help`` quick)

    return Console(stderr=True, highlight=False, soft_wrap=True)


@cache
def stdout() -> "Console":
    """Return the console for results that are meant for people; a pipe gets them without colours."""
    from rich.console import Console  # noqa: PLC0415

    return Console(highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one plain line on stderr."""
    stderr().print(message, markup=False)


def write_stdout(text: str) -> None:
    """Write a transcript to stdout as UTF-8, whatever the locale, ending in a newline."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", errors="replace"))
    if not text.endswith("\n"):
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def show_error(error: TympanError, about: str | None = None) -> None:
    """Print ``error [code] about: message`` and the remedy on stderr."""
    subject = f" {about}" if about else ""
    console = stderr()
    console.print(f"[bold red]error[/] \\[{error.code}]{escaped(subject)}: {escaped(error.message)}")
    if error.remedy:
        console.print(f"  {error.remedy}", markup=False)
    show_traceback(error)


def show_traceback(error: BaseException) -> None:
    """Print where ``error`` came from, when debugging was asked for."""
    if is_debugging():
        traceback.print_exception(error, file=sys.stderr)


def is_debugging() -> bool:
    """Tell whether tracebacks were asked for, with ``--debug`` or ``TYMPAN_DEBUG=1``."""
    return os.environ.get(_DEBUG, "").lower() not in ("", "0", "false", "no")


def turn_debugging_on() -> None:
    """Ask for tracebacks, in this process and in those it starts."""
    os.environ[_DEBUG] = "1"


def printable(text: str) -> str:
    """Return ``text`` without what could upset a terminal or an encoder: control characters, undecodable bytes."""
    decoded = os.fsencode(text).decode("utf-8", errors="replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in decoded)


def escaped(text: str) -> str:
    """Return ``text`` so that the console shows it as it is, brackets included."""
    from rich.markup import escape  # noqa: PLC0415

    return escape(text)


def format_duration(seconds: float) -> str:
    """Return ``12.3 s`` below a minute and a clock above."""
    return f"{seconds:.1f} s" if seconds < 60 else format_clock(seconds)


def format_clock(seconds: float) -> str:
    """Return ``m:ss`` below an hour and ``h:mm:ss`` above."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
