"""The flags of ``tympan bench``, as dataclasses, and how their lists are read."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, TypeVar

import typer

from tympan.bench.interfaces import Api
from tympan.errors import InvalidRequest

T = TypeVar("T")

_LIST = "Several: with commas between them."


@dataclass(frozen=True, slots=True)
class AudioArgs:
    """What is transcribed."""

    PANEL: ClassVar[str] = "Audio"

    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Audio files, or folders of them; without, speech that Tympan brings."),
    ] = None
    length: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS", help=f"Make audio of these lengths; 5,30,120,600 when no PATH is given. {_LIST}"
        ),
    ] = None
    language: Annotated[
        str | None, typer.Option("--language", "-l", metavar="CODE", help="Language spoken, such as en.")
    ] = None
    no_wer: Annotated[bool, typer.Option("--no-wer", help="Do not count word errors.")] = False


@dataclass(frozen=True, slots=True)
class GridArgs:
    """What is varied; every combination is measured."""

    PANEL: ClassVar[str] = "What is varied"

    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAMES", help=f"Models; the server's unless given. {_LIST}")
    ] = None
    engine: Annotated[str | None, typer.Option(metavar="KINDS", help=f"Runtimes: auto, onnx, ct2... {_LIST}")] = None
    compute_type: Annotated[
        str | None, typer.Option(metavar="TYPES", help=f"Number formats: auto, int8, float32... {_LIST}")
    ] = None
    threads: Annotated[
        str | None,
        typer.Option(metavar="N", help=f"Threads of an engine; 1,2,4,8 on a CPU and 4 on a GPU unless given. {_LIST}"),
    ] = None
    replicas: Annotated[str, typer.Option(metavar="N", help=f"Engines at work at the same time. {_LIST}")] = "1"
    batch: Annotated[str, typer.Option(metavar="N", help=f"Windows in a batch, at most. {_LIST}")] = "16"


@dataclass(frozen=True, slots=True)
class MeasureArgs:
    """How it is measured, and on what."""

    PANEL: ClassVar[str] = "How"

    rounds: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="How often each cell is measured.")] = 3
    beam_size: Annotated[int, typer.Option(min=1, max=10, metavar="N", help="Beams to search; 1 is greedy.")] = 5
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, metal or vulkan.")] = None
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where models are kept.")] = None
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier run has measured.")] = False


@dataclass(frozen=True, slots=True)
class OutputArgs:
    """Where results go."""

    PANEL: ClassVar[str] = "Output"

    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for JSON, Markdown, charts and the journal.")
    ] = Path("tympan-bench")
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no table; errors only.")] = False


@dataclass(frozen=True, slots=True)
class ServerArgs:
    """Which server, and how it is spoken to."""

    PANEL: ClassVar[str] = "Server"

    url: Annotated[str, typer.Argument(metavar="URL", help="Address, such as http://127.0.0.1:8000.")]
    api: Annotated[
        Api,
        typer.Option(metavar="NAME", help="openai, inference (whisper.cpp) or asr (whisper-asr-webservice)."),
    ] = Api.OPENAI
    model: Annotated[str, typer.Option("--model", "-m", metavar="NAME", help="Model to name in requests.")] = (
        "whisper-1"
    )
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Another field of every request, such as beam_size=1; repeatable."),
    ] = None
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            envvar=["TYMPAN_API_KEY", "TYMPAN_BENCH_API_KEY"],
            help="Bearer token; better in TYMPAN_API_KEY.",
        ),
    ] = None
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, metavar="SECONDS", help="Limit for one request.")] = (
        120.0
    )


@dataclass(frozen=True, slots=True)
class SentArgs:
    """What is sent."""

    PANEL: ClassVar[str] = "Audio"

    audio: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Audio file, or folder of them; repeatable. Else speech that Tympan brings."),
    ] = None
    length: Annotated[
        str | None,
        typer.Option(
            metavar="SECONDS",
            help="Make audio of these lengths, as length:weight; 5:6,30:3,120:1 without --audio.",
        ),
    ] = None
    language: Annotated[
        str | None, typer.Option("--language", "-l", metavar="CODE", help="Language to name in requests.")
    ] = None
    no_wer: Annotated[bool, typer.Option("--no-wer", help="Do not count word errors.")] = False


@dataclass(frozen=True, slots=True)
class LoadArgs:
    """How much, and for how long."""

    PANEL: ClassVar[str] = "Load"

    rate: Annotated[
        float | None,
        typer.Option(min=0.001, max=100_000, metavar="N", help="Requests a second, at random moments."),
    ] = None
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", min=1, metavar="N", help="Users who wait for their answers.")
    ] = None
    duration: Annotated[
        float | None, typer.Option(min=0.1, max=604_800, metavar="SECONDS", help="How long to start requests.")
    ] = None
    requests: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, metavar="N", help="How many requests to start.")
    ] = None
    warm_up: Annotated[
        int, typer.Option(min=0, max=1000, metavar="N", help="Requests sent first, one by one, that do not count.")
    ] = 3
    max_in_flight: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="With --rate: requests beyond this many at once are not sent and count as errors."
        ),
    ] = 256
    seed: Annotated[int, typer.Option(metavar="N", help="Random seed: the same seed gives the same load.")] = 1


@dataclass(frozen=True, slots=True)
class CompareArgs:
    """Which results, and how strictly."""

    first: Annotated[Path, typer.Argument(metavar="A.json", help="The result to compare with.")]
    second: Annotated[Path, typer.Argument(metavar="B.json", help="The result that is judged.")]
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.9999, metavar="SHARE", help="How sure a verdict has to be.")
    ] = 0.99
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=0.9, metavar="SHARE", help="Loss of speed that is never called worse.")
    ] = 0.02


def listed(text: str, kind: Callable[[str], T], option: str) -> tuple[T, ...]:
    """Return the values between commas, each once; raises ``InvalidRequest`` for one that is no ``kind``."""
    found: list[T] = []
    for part in (part.strip() for part in text.split(",")):
        try:
            found.append(kind(part))
        except ValueError as error:
            raise InvalidRequest(
                f"{part!r} cannot be in {option}.", remedy="Write values with commas between them, such as 1,2,4."
            ) from error
    return tuple(dict.fromkeys(found))


def counting(text: str) -> int:
    """Return a whole number from 1 to 1024; raises ``ValueError``."""
    number = int(text)
    if not 1 <= number <= 1024:
        raise ValueError(text)
    return number


def named(text: str) -> str:
    """Return a name as it is; raises ``ValueError`` when it is empty."""
    if not text:
        raise ValueError(text)
    return text


def weighted(text: str) -> tuple[float, float]:
    """Return seconds and weight from ``SECONDS`` or ``SECONDS:WEIGHT``; raises ``ValueError``."""
    seconds, _, weight = text.partition(":")
    value = float(seconds), float(weight or 1)
    if not 0 < value[1] < 1e9:
        raise ValueError(text)
    return value
