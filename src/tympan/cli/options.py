"""The flags about text and machine, and what they mean: two dataclasses and two pure functions."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from tympan.cli.known import HELP, known_voices, samples_of
from tympan.domain import DiarizeBy, Options, Suppression, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest
from tympan.languages import language_code
from tympan.options import CHANNELS, MOST_SPEAKERS

MAX_BEAM_SIZE = 10


class Preset(StrEnum):
    """Beam search for the best text, or greedy decoding for the most speed."""

    ACCURATE = "accurate"
    FAST = "fast"


BEAM_SIZES = {Preset.ACCURATE: Options().beam_size, Preset.FAST: 1}
"""What a preset stands for when ``--beam-size`` does not say."""

_VAD_PANEL = "Speech detection"
_DEFAULT_VAD = VadOptions()
_THRESHOLD_HELP = f"Probability above which sound counts as speech; {_DEFAULT_VAD.threshold} unless given."
_MIN_SPEECH_HELP = f"Speech shorter than this is ignored; {_DEFAULT_VAD.min_speech_ms} unless given."
_MIN_SILENCE_HELP = f"Shorter silence does not end a stretch of speech; {_DEFAULT_VAD.min_silence_ms} unless given."
_SPEECH_PAD_HELP = f"Sound kept before and after speech; {_DEFAULT_VAD.speech_pad_ms} unless given."


@dataclass(frozen=True, slots=True)
class DecodeArgs:
    """Flags that decide what the text is."""

    PANEL: ClassVar[str] = "Transcription"

    language: Annotated[
        str | None,
        typer.Option(
            "--language", "-l", metavar="CODE", help="Language spoken, such as en or German; detected if left out."
        ),
    ] = None
    task: Annotated[Task, typer.Option(metavar="TASK", help="transcribe, or translate (into English).")] = (
        Task.TRANSCRIBE
    )
    translate: Annotated[bool, typer.Option("--translate", help="Short for --task translate.")] = False
    preset: Annotated[
        Preset, typer.Option(metavar="NAME", help="accurate (beam search), or fast (greedy, a little less accurate).")
    ] = Preset.ACCURATE
    beam_size: Annotated[
        int | None, typer.Option(min=1, max=MAX_BEAM_SIZE, metavar="N", help="Beams to search; overrides --preset.")
    ] = None
    word_timestamps: Annotated[
        bool, typer.Option("--word-timestamps", help="Give times of words, in verbose_json; takes a little longer.")
    ] = False
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Text that sets style and spelling, as if said just before.")
    ] = None
    multilingual: Annotated[
        bool, typer.Option("--multilingual", help="Detect the language again about every 30 seconds.")
    ] = False
    languages: Annotated[
        str | None, typer.Option(metavar="CODES", help="Languages to detect among, separated by commas.")
    ] = None
    suppress_tokens: Annotated[
        str | None, typer.Option(metavar="NUMBERS", help="Tokens not to write, separated by commas.")
    ] = None
    suppress_numerals: Annotated[bool, typer.Option("--suppress-numerals", help="Write numbers as words.")] = False
    diarize: Annotated[bool, typer.Option("--diarize", help="Tell speakers apart, by their voices or channels.")] = (
        False
    )
    diarize_by: Annotated[
        DiarizeBy, typer.Option(metavar="WAY", help="channels of a stereo file, voices, or auto: what fits the file.")
    ] = DiarizeBy.AUTO
    speakers: Annotated[
        int | None, typer.Option(min=1, max=MOST_SPEAKERS, metavar="N", help="How many people speak.")
    ] = None
    min_speakers: Annotated[
        int | None, typer.Option(min=1, max=MOST_SPEAKERS, metavar="N", help="At least this many speakers.")
    ] = None
    max_speakers: Annotated[
        int | None, typer.Option(min=1, max=MOST_SPEAKERS, metavar="N", help="At most this many speakers.")
    ] = None
    known_speaker: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help=HELP)] = None
    tinydiarize: Annotated[
        bool, typer.Option("--tinydiarize", help="Mark where the speaker changes, with a model made for it.")
    ] = False
    hotwords: Annotated[
        str | None, typer.Option(metavar="WORDS", help="Names and terms to expect, separated by commas.")
    ] = None
    temperature: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="T", help="Sampling temperature; 0 is the most likely text.")
    ] = 0.0
    no_fallback: Annotated[
        bool, typer.Option("--no-fallback", help="Do not decode doubtful windows again at higher temperatures.")
    ] = False
    no_vad: Annotated[
        bool,
        typer.Option(
            "--no-vad", rich_help_panel=_VAD_PANEL, help="Transcribe everything, not only what sounds like speech."
        ),
    ] = False
    vad_threshold: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, metavar="P", rich_help_panel=_VAD_PANEL, help=_THRESHOLD_HELP),
    ] = None
    vad_min_speech_ms: Annotated[
        int | None, typer.Option(min=0, metavar="MS", rich_help_panel=_VAD_PANEL, help=_MIN_SPEECH_HELP)
    ] = None
    vad_min_silence_ms: Annotated[
        int | None, typer.Option(min=0, metavar="MS", rich_help_panel=_VAD_PANEL, help=_MIN_SILENCE_HELP)
    ] = None
    vad_speech_pad_ms: Annotated[
        int | None, typer.Option(min=0, metavar="MS", rich_help_panel=_VAD_PANEL, help=_SPEECH_PAD_HELP)
    ] = None


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """Flags that override settings: which model runs, and on what."""

    PANEL: ClassVar[str] = "Model and machine (override the settings)"

    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Name, folder or 'auto'; see `tympan models list`."),
    ] = None
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, metal or vulkan.")] = None
    compute_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="auto, int8, int8_float16, float16, float32...")
    ] = None
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads of the engine.")] = None
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where models are kept.")] = None
    max_audio_s: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="Longest audio accepted; 4 hours unless set.")
    ] = None


def to_options(args: DecodeArgs) -> Options:
    """Return the domain options that the flags ask for.

    Raises ``InvalidRequest`` when two flags contradict each other or there is no such language.
    """
    return Options(
        task=Task.TRANSLATE if args.translate else args.task,
        language=language_code(args.language) if args.language and args.language != "auto" else None,
        prompt=args.prompt or None,
        hotwords=args.hotwords or None,
        beam_size=args.beam_size or BEAM_SIZES[args.preset],
        temperature=args.temperature,
        temperature_fallback=not args.no_fallback,
        timestamps=Timestamps.WORD if args.word_timestamps else Timestamps.SEGMENT,
        vad=_vad(args),
        speaker_turns=args.tinydiarize,
        **_speakers(args),
        multilingual=args.multilingual,
        languages=tuple(language_code(word) for word in (args.languages or "").split(",") if word.strip()),
        suppression=Suppression(_numbers(args.suppress_tokens), numerals=args.suppress_numerals),
    )


def _speakers(args: DecodeArgs) -> dict[str, Any]:
    told = (args.speakers, args.min_speakers, args.max_speakers)
    if (any(told) or args.known_speaker) and args.diarize_by is DiarizeBy.CHANNELS:
        what = "the number of speakers" if any(told) else "--known-speaker"
        raise InvalidRequest("Channels are two speakers.", remedy=f"Leave {what} out, or ask by voices.")
    if args.speakers and (args.min_speakers or args.max_speakers):
        raise InvalidRequest(
            "--speakers already gives the number.", remedy="Leave --min-speakers and --max-speakers out."
        )
    least, most = args.speakers or args.min_speakers or 1, args.speakers or args.max_speakers or MOST_SPEAKERS
    if least > most:
        raise InvalidRequest("--min-speakers is more than --max-speakers.", remedy="Leave one of them out.")
    known = known_voices(samples_of(args.known_speaker))
    by = DiarizeBy.VOICES if known or (any(told) and not least <= CHANNELS <= most) else args.diarize_by
    wanted = args.diarize or any(told) or bool(known) or args.diarize_by is not DiarizeBy.AUTO
    return {"diarize": wanted, "diarize_by": by, "min_speakers": least, "max_speakers": most, "known_voices": known}


def _numbers(text: str | None) -> tuple[int, ...]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise InvalidRequest("--suppress-tokens is not a list of numbers.", remedy="Separate them by commas.")
    return tuple(sorted({int(word) for word in words}))


def to_overrides(args: EngineArgs) -> dict[str, object]:
    """Return the settings that the flags override, by setting name."""
    values: dict[str, object] = {
        "model": args.model,
        "device": args.device,
        "compute_type": args.compute_type,
        "threads": args.threads,
        "data_dir": args.data_dir,
        "max_audio_s": args.max_audio_s,
    }
    return {name: value for name, value in values.items() if value is not None}


def _vad(args: DecodeArgs) -> VadOptions | None:
    changes: dict[str, float | int] = {
        name: value
        for name, value in (
            ("threshold", args.vad_threshold),
            ("min_speech_ms", args.vad_min_speech_ms),
            ("min_silence_ms", args.vad_min_silence_ms),
            ("speech_pad_ms", args.vad_speech_pad_ms),
        )
        if value is not None
    }
    if not args.no_vad:
        return replace(_DEFAULT_VAD, **changes)  # type: ignore[arg-type]
    if changes:
        raise InvalidRequest("--no-vad contradicts the other --vad flags.", remedy="Leave out one or the other.")
    return None
