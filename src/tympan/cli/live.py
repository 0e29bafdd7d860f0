"""``tympan live``: text while somebody speaks, from standard input or from a file played at the pace of speech."""

import os
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, printable, show_error, stderr, write_stdout
from tympan.cli.options import EngineArgs, to_overrides
from tympan.cli.services import load_settings, open_services
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples
from tympan.errors import InvalidRequest, TympanError
from tympan.languages import language_code

if TYPE_CHECKING:
    from rich.text import Text

    from tympan.bootstrap import Services
    from tympan.live import Event, LiveSession, Partial

_BLOCK = SAMPLE_RATE_HZ // 10
_PATIENCE_S = 60.0
_STDIN_HELP = "A file, or - for raw samples on standard input: 16 bits, mono, 16 kHz."
_SILENCE_HELP = "Silence that ends an utterance; below 800 ms words get lost."


@dataclass(frozen=True, slots=True)
class LiveArgs:
    """What to listen to, and how."""

    PANEL: ClassVar[str] = "Listening"

    source: Annotated[str, typer.Argument(metavar="SOURCE", help=_STDIN_HELP)]
    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", metavar="CODE", help="Language spoken, such as en or German; detected if left out."
        ),
    ] = None
    silence_ms: Annotated[int, typer.Option(min=100, max=10_000, metavar="MS", help=_SILENCE_HELP)] = 800
    fast: Annotated[
        bool, typer.Option("--fast", help="Read a file as fast as possible, not at the pace of speech.")
    ] = False


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "live")(live)


def live(source: LiveArgs, engine: EngineArgs) -> int:
    """Transcribe live: write text while somebody speaks.

    Each utterance is printed on stdout when it has ended. On a terminal the text so far is
    shown before: bright is final, dim may still change.

    Exit codes: 0 all done, 1 something was lost, 2 wrong usage,
    3 no usable model, engine or setting, 130 interrupted.
    """
    if source.source != "-" and not Path(source.source).is_file():
        raise InvalidRequest(f"There is no file {printable(source.source)}.")
    settings = load_settings(to_overrides(engine))
    language = language_code(source.language) if source.language and source.language != "auto" else None
    with open_services(settings) as services:
        return _listen(services, source, Options(language=language))


def _listen(services: "Services", source: LiveArgs, options: Options) -> int:
    from tympan.live import LiveOptions, LiveSession, Turns  # noqa: PLC0415
    from tympan.pipeline import RequestContext  # noqa: PLC0415

    max_audio_s = services.settings.max_audio_s
    context = RequestContext(uuid.uuid4().hex, max_audio_s=max_audio_s)
    listening = LiveOptions(turns=Turns(silence_ms=source.silence_ms))
    is_file = source.source != "-"
    blocks = services.decoder.stream(Path(source.source), max_audio_s=max_audio_s) if is_file else _standard_input()
    with LiveSession(services.transcriber, options, context, listening) as session:
        feeder = _Feeder(session, blocks, at_pace=is_file and not source.fast)
        feeder.start()
        lost = _show(session.events())
    if feeder.failure is not None:
        raise feeder.failure
    return ExitCode.SOME_FAILED if lost else ExitCode.OK


class _Feeder(threading.Thread):
    """Hands audio to a session, as fast as it comes or at the pace of speech."""

    def __init__(self, session: "LiveSession", blocks: Iterable[Samples], *, at_pace: bool) -> None:
        super().__init__(name="live-feeder", daemon=True)
        self._session = session
        self._blocks = blocks
        self._at_pace = at_pace
        self.failure: TympanError | None = None

    def run(self) -> None:
        """Feed everything; a failure ends the session, and is kept."""
        try:
            self._feed()
        except TympanError as error:
            # A session that failed tells its reader; this is for audio that could not be read.
            self.failure = error if self._session.alive else None
            self._session.close()

    def _feed(self) -> None:
        begin_s, fed = time.monotonic(), 0
        for block in self._blocks:
            for at in range(0, len(block), _BLOCK):
                part = block[at : at + _BLOCK]
                fed += len(part)
                if self._at_pace:
                    time.sleep(max(0.0, begin_s + fed / SAMPLE_RATE_HZ - time.monotonic()))
                self._session.feed(part, timeout_s=_PATIENCE_S)
        self._session.finish()


def _standard_input() -> Iterator[Samples]:
    """Yield what comes on standard input, as it comes; half a sample at the end is left out."""
    import numpy as np  # noqa: PLC0415

    rest = b""
    while data := os.read(sys.stdin.fileno(), 2 * _BLOCK):
        data = rest + data
        whole = len(data) // 2 * 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], dtype="<i2").astype(np.int16)


def _show(events: Iterable["Event"]) -> int:
    """Write finals to stdout and partials to the terminal; return how many utterances were lost."""
    from rich.live import Live  # noqa: PLC0415

    from tympan.live import Final, Lost, Partial  # noqa: PLC0415

    lost = 0
    with Live(console=stderr(), transient=True, auto_refresh=False, redirect_stdout=False) as line:
        for event in events:
            if isinstance(event, Partial) and stderr().is_terminal:
                line.update(_text(event), refresh=True)
            elif isinstance(event, Final) and event.text:
                line.update("", refresh=True)
                write_stdout(event.text)
            elif isinstance(event, Lost):
                lost += 1
                show_error(event.error, f"from {event.start_s:.1f} to {event.end_s:.1f} s")
    return lost


def _text(partial: "Partial") -> "Text":
    from rich.text import Text  # noqa: PLC0415

    between = " " if partial.stable and partial.tail else ""
    return Text.assemble(partial.stable, between, (partial.tail, "dim"))
