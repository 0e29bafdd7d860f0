"""Form fields about who speaks: what tells speakers apart, how many there are, and what known ones are called. Pure."""

import re
from typing import Any, Final

from tympan.api.fields.forms import Form, Parameter, bad
from tympan.domain import DiarizeBy, ResponseFormat, Task
from tympan.errors import InvalidRequest, UnsupportedOption
from tympan.options import CHANNELS, MOST_SPEAKERS

MAX_SPEAKERS = 4
MAX_SPEAKER_CHARS = 64

SPEAKER_FORMATS: tuple[ResponseFormat, ...] = ("diarized_json", "rttm")
"""The formats that are about who speaks: speakers are told apart for them unasked."""

_COUNTS: Final = ("num_speakers", "min_speakers", "max_speakers")
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MOST_SPEAKERS}
_VOICES = "known_speaker_references"

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
        {"type": "array", "items": {"type": "string", "maxLength": MAX_SPEAKER_CHARS}, "maxItems": CHANNELS},
        "Names for the speakers of the left and the right channel, instead of `A` and `B`.",
    ),
    Parameter(
        "known_speaker_references[]",
        {"type": "array", "items": {"type": "string"}, "maxItems": MAX_SPEAKERS},
        "Refused: whose voice it is is not looked up.",
    ),
)
"""OpenAI's."""

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w.+=-]+)*;base64,[A-Za-z0-9+/]+={0,2}", re.ASCII)
_NAME = re.compile(rf"[^\s\x00-\x1f\x7f<>&](?:[^\x00-\x1f\x7f<>&]{{0,{MAX_SPEAKER_CHARS - 2}}}[^\s\x00-\x1f\x7f<>&])?")


def speaker_options(form: Form, task: Task, fmt: ResponseFormat) -> dict[str, Any]:
    """Return the options about who speaks. Raises ``InvalidRequest`` for fields that contradict one another."""
    wanted = _diarize(form, task, fmt)
    given = [name for name in ("diarize_by", *_COUNTS, "known_speaker_names") if form.all(name)]
    if given and not wanted:
        raise InvalidRequest(
            f"{given[0]} is for speakers that are told apart.",
            param=given[0],
            remedy="Ask for diarized_json or diarize=true, or leave it out.",
        )
    by = DiarizeBy(form.choice("diarize_by", tuple(DiarizeBy), DiarizeBy.AUTO))
    least, most = crowd_of(form)
    return {
        "diarize": wanted,
        "diarize_by": _way(by, least, most, is_named=bool(form.all("known_speaker_names"))),
        "min_speakers": least,
        "max_speakers": most,
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
            "Names are for channels: nobody knows here whose voice it is.",
            param="known_speaker_names",
            remedy="Leave them out, or send diarize_by=channels.",
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


def speaker_names(form: Form) -> tuple[str, ...]:
    """Return the names of known speakers, which are given to channels in their order.

    Raises ``InvalidRequest`` for what OpenAI would not take, ``UnsupportedOption`` for what takes knowing voices.
    """
    names, references = form.all("known_speaker_names"), form.all("known_speaker_references")
    _check_references(names, references)
    for name in names:
        if not _NAME.fullmatch(name):
            allowed = f"1 to {MAX_SPEAKER_CHARS} characters, without <, > and &"
            raise bad("known_speaker_names", "a list of short names", allowed)
    if len(set(names)) < len(names):
        raise bad("known_speaker_names", "a list of different names", "each name once")
    if len(names) > CHANNELS:
        raise UnsupportedOption(
            "Known speakers are those of the two channels of a recording.",
            param="known_speaker_names",
            remedy="Send at most two names: of the left and of the right channel.",
        )
    return tuple(names)


def _check_references(names: list[str], references: list[str]) -> None:
    if len(names) > MAX_SPEAKERS:
        raise bad("known_speaker_names", "a short list", f"at most {MAX_SPEAKERS} names")
    if not references:
        return
    if len(references) != len(names):
        raise bad("known_speaker_references", "as long as known_speaker_names", "a sample for each name")
    if not all(_DATA_URL.fullmatch(reference) for reference in references):
        raise bad("known_speaker_references", "a list of data URLs", "data:audio/wav;base64,... and the like")
    raise _no_voices()


def too_long_field(name: str, max_bytes: int) -> InvalidRequest | UnsupportedOption:
    """Return the error for a field of more than ``max_bytes``: samples of voices are refused at any length."""
    if name.removesuffix("[]") == _VOICES:
        return _no_voices()
    shown = name[:40]
    return InvalidRequest(
        f"The field {shown!r} is longer than {max_bytes >> 10} kB.", param=shown, remedy="Shorten it."
    )


def _no_voices() -> UnsupportedOption:
    return UnsupportedOption(
        "Whose voice it is is not looked up.",
        param=_VOICES,
        remedy="Leave it out: voices are told apart without; known_speaker_names name the channels, left and right.",
    )
