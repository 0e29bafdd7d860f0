"""Form fields about who speaks: what tells speakers apart, how many there are, and what known ones are called. Pure."""

import re
from typing import Any, Final

from tympan.api.fields.forms import Form, Parameter, bad
from tympan.domain import DiarizeBy, ResponseFormat, Task
from tympan.errors import InvalidRequest, UnsupportedOption
from tympan.options import CHANNELS, MOST_KNOWN, MOST_SPEAKERS, KnownVoice

MAX_SPEAKER_CHARS = 64

SPEAKER_FORMATS: tuple[ResponseFormat, ...] = ("diarized_json", "rttm")
"""The formats that are about who speaks: speakers are told apart for them unasked."""

_COUNTS: Final = ("num_speakers", "min_speakers", "max_speakers")
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MOST_SPEAKERS}
_NAMES, _SAMPLES = "known_speaker_names", "known_speaker_references"

SPEAKER_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "diarize",
        {"type": "boolean", "default": False},
        "Name who speaks, in `verbose_json`, `srt` and `vtt`; always in `diarized_json` and `rttm`.",
        ours=True,
    ),
    Parameter(
        "diarize_by",
        {"type": "string", "enum": tuple(DiarizeBy), "default": "auto"},
        "What tells speakers apart: the two `channels` of a stereo recording, their `voices`, or what fits it.",
        ours=True,
    ),
    Parameter("num_speakers", _COUNT, "How many people speak, if that is known.", ours=True),
    Parameter("min_speakers", {**_COUNT, "default": 1}, "At least so many people speak.", ours=True),
    Parameter("max_speakers", {**_COUNT, "default": MOST_SPEAKERS}, "At most so many.", ours=True),
)
"""Our fields about speakers."""

KNOWN_SPEAKER_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "known_speaker_names[]",
        {"type": "array", "items": {"type": "string", "maxLength": MAX_SPEAKER_CHARS}, "maxItems": MOST_KNOWN},
        "What known speakers are called: those of these samples, or else of the left and the right channel.",
    ),
    Parameter(
        "known_speaker_references[]",
        {"type": "array", "items": {"type": "string"}, "maxItems": MOST_KNOWN},
        "A sample of the voice for each name, of 2 to 30 s: data URLs (`data:audio/wav;base64,...`), or files.",
    ),
)
"""OpenAI's."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(rf"[^\s\x00-\x1f\x7f<>&](?:[^\x00-\x1f\x7f<>&]{{0,{MAX_SPEAKER_CHARS - 2}}}[^\s\x00-\x1f\x7f<>&])?")


def speaker_options(form: Form, task: Task, fmt: ResponseFormat) -> dict[str, Any]:
    """Return the options about who speaks. Raises ``InvalidRequest`` for fields that contradict one another."""
    wanted = _diarize(form, task, fmt)
    given = [name for name in ("diarize_by", *_COUNTS, _NAMES, _SAMPLES) if form.all(name)]
    if given and not wanted:
        raise InvalidRequest(
            f"{given[0]} is for speakers that are told apart.",
            param=given[0],
            remedy="Ask for diarized_json or diarize=true, or leave it out.",
        )
    by = DiarizeBy(form.choice("diarize_by", tuple(DiarizeBy), DiarizeBy.AUTO))
    least, most = crowd_of(form)
    known = _known_voices(form)
    way = _by_sample(by) if known else _way(by, least, most, is_named=bool(form.all(_NAMES)))
    return {
        "diarize": wanted,
        "diarize_by": way,
        "min_speakers": least,
        "max_speakers": most,
        "known_voices": known,
    }


def crowd_of(form: Form) -> tuple[int, int]:
    """Return how many people speak, at least and at most. Raises ``InvalidRequest``."""
    exactly, least, most = (form.integer(name, 1, MOST_SPEAKERS) for name in _COUNTS)
    if exactly is not None and (least is not None or most is not None):
        raise InvalidRequest(
            "num_speakers says it all.", param="num_speakers", remedy="Leave min_speakers and max_speakers out."
        )
    found = exactly or least or 1, exactly or most or MOST_SPEAKERS
    if found[0] > found[1]:
        raise InvalidRequest(
            "min_speakers is more than max_speakers.", param="min_speakers", remedy="Lower it, or leave one out."
        )
    return found


def by_number(least: int, most: int) -> DiarizeBy:
    """Return what may tell so many speakers apart: channels are two."""
    return DiarizeBy.AUTO if least <= CHANNELS <= most else DiarizeBy.VOICES


def _way(by: DiarizeBy, least: int, most: int, *, is_named: bool) -> DiarizeBy:
    if by is DiarizeBy.VOICES and is_named:
        raise UnsupportedOption(
            "Names alone are for channels: whose voice it is shows a sample.",
            param=_NAMES,
            remedy="Send known_speaker_references too, or diarize_by=channels.",
        )
    is_possible = by_number(least, most) is DiarizeBy.AUTO
    if (by is DiarizeBy.CHANNELS or is_named) and not is_possible:
        raise InvalidRequest(
            "Two channels are two speakers.", param="num_speakers", remedy="Leave it out, or send diarize_by=voices."
        )
    if is_named:  # Who names left and right knows that there is somebody on either.
        return DiarizeBy.CHANNELS
    return by if is_possible else DiarizeBy.VOICES


def _diarize(form: Form, task: Task, fmt: ResponseFormat) -> bool:
    about_speakers = fmt in SPEAKER_FORMATS
    wanted = form.flag("diarize", default=about_speakers)
    if fmt == "diarized_json" and task is Task.TRANSLATE:
        raise InvalidRequest(
            "There is no diarized_json of a translation.", param="response_format", remedy="Ask for verbose_json."
        )
    if about_speakers and not wanted:
        raise InvalidRequest(f"{fmt} needs speakers.", param="diarize", remedy="Leave diarize out.")
    return wanted


def _by_sample(by: DiarizeBy) -> DiarizeBy:
    """Return what tells speakers apart who are known by a sample: voices, whatever channels there are."""
    if by is DiarizeBy.CHANNELS:
        raise InvalidRequest(
            "Samples are of voices, and channels are to be told apart.",
            param=_SAMPLES,
            remedy="Send diarize_by=voices, or the names alone: they are for the left and the right channel then.",
        )
    return DiarizeBy.VOICES


def _known_voices(form: Form) -> tuple[KnownVoice, ...]:
    """Return who is known by a sample, which is not heard yet: what stands here are digests."""
    names, samples = form.all(_NAMES), form.all(_SAMPLES)
    if not samples:
        return ()
    if len(samples) != len(names):
        raise bad(_SAMPLES, "as long as known_speaker_names", "a sample for each name")
    if len(set(samples)) < len(samples):
        raise bad(_SAMPLES, "a list of different samples", "a sample of each voice")
    if not all(map(_DIGEST.fullmatch, samples)):
        raise bad(_SAMPLES, "a list of data URLs", "data:audio/wav;base64,... and the like")
    return tuple(KnownVoice(name, sample) for name, sample in zip(names, samples, strict=True))


def speaker_names(form: Form) -> tuple[str, ...]:
    """Return the names of the speakers of channels, in their order; those of voices are in the options.

    Raises ``InvalidRequest`` for what OpenAI would not take, ``UnsupportedOption`` for more names than channels.
    """
    names = form.all(_NAMES)
    if len(names) > MOST_KNOWN:
        raise bad(_NAMES, "a short list", f"at most {MOST_KNOWN} names")
    for name in names:
        if not _NAME.fullmatch(name):
            raise bad(_NAMES, "a list of short names", f"1 to {MAX_SPEAKER_CHARS} characters, without <, > and &")
    if len(set(names)) < len(names):
        raise bad(_NAMES, "a list of different names", "each name once")
    if form.all(_SAMPLES):
        return ()
    if len(names) > CHANNELS:
        raise UnsupportedOption(
            "More than two speakers are known by samples of their voices.",
            param=_NAMES,
            remedy="Send known_speaker_references too, one for each name; names alone are for two channels.",
        )
    return tuple(names)
