"""``tympan diarize``: who spoke when in a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, format_clock, printable, say, write_stdout
from tympan.cli.display import pull_bar, waiting
from tympan.cli.known import HELP, heard, samples_of
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest

if TYPE_CHECKING:
    from tympan.bootstrap.diarization import Turn

_MOST = 20


class Layout(StrEnum):
    """How turns are written."""

    TEXT = "text"
    RTTM = "rttm"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class DiarizeArgs:
    """What to listen to, and what is known of it."""

    PANEL: ClassVar[str] = "Listening"

    file: Annotated[Path, typer.Argument(metavar="FILE", help="Audio or video of any format; channels are mixed.")]
    speakers: Annotated[int | None, typer.Option(min=1, max=_MOST, metavar="N", help="How many people speak.")] = None
    at_least: Annotated[
        int, typer.Option("--min-speakers", min=1, max=_MOST, metavar="N", help="At least this many speakers.")
    ] = 1
    at_most: Annotated[
        int, typer.Option("--max-speakers", min=1, max=_MOST, metavar="N", help="At most this many speakers.")
    ] = _MOST
    known_speaker: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help=HELP)] = None
    layout: Annotated[
        Layout, typer.Option("--format", "-f", help="Lines for people, RTTM for tools of the trade, or JSON.")
    ] = Layout.TEXT
    threads: Annotated[int, typer.Option(min=1, metavar="N", help="Processor cores to use.")] = 1


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "diarize")(diarize)


def diarize(args: DiarizeArgs) -> int:
    """Find out who speaks when in a file, without writing what is said.

    Speakers are called A, B and so on, in the order in which they are first heard; who has
    the voice of a --known-speaker bears that name. Their number is found unless it is
    given. The networks, 34 MB, are fetched the first time.

    Exit codes: 0 done, 2 wrong usage or no audio, 3 no usable model or setting.
    """
    from tympan.audio.decode import Decoder  # noqa: PLC0415
    from tympan.bootstrap.diarization import Crowd, introduced, load_networks, rttm, turns_of  # noqa: PLC0415

    if not args.file.is_file():
        raise InvalidRequest(f"There is no file {printable(str(args.file))}.")
    if args.at_least > args.at_most:
        raise InvalidRequest("--min-speakers is more than --max-speakers.", remedy="Leave one of them out.")
    samples = samples_of(args.known_speaker)
    settings = load_settings({})
    crowd = Crowd.of(args.speakers) if args.speakers else Crowd(args.at_least, args.at_most)
    with pull_bar("diarization") as report:
        networks = load_networks(settings, args.threads, report)
    with waiting("listening", quiet=False), Decoder() as decoder:
        voices = heard(samples, lambda found: introduced(found, decoder, networks))
        turns, audio_s = turns_of(args.file, decoder, networks, crowd, settings.max_audio_s, voices)
    if args.layout is Layout.RTTM:
        write_stdout(rttm(turns, args.file.stem).removesuffix("\n"))
    elif args.layout is Layout.JSON:
        write_stdout(json.dumps(_facts(turns, audio_s), indent=2))
    else:
        _show(turns)
    return ExitCode.OK


def _facts(turns: "Sequence[Turn]", audio_s: float) -> dict[str, object]:
    from tympan.bootstrap.diarization import names  # noqa: PLC0415

    speakers = names(turns)
    return {
        "duration": round(audio_s, 3),
        "speakers": speakers,
        "turns": [
            {"start": round(turn.start_s, 3), "end": round(turn.end_s, 3), "speaker": speakers[turn.speaker]}
            for turn in turns
        ],
    }


def _show(turns: "Sequence[Turn]") -> None:
    from tympan.bootstrap.diarization import names  # noqa: PLC0415

    speakers = names(turns)
    if not turns:
        say("Nobody was heard to speak.")
    for turn in turns:
        write_stdout(f"{format_clock(turn.start_s)} - {format_clock(turn.end_s)}  {speakers[turn.speaker]}")
