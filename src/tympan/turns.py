"""Turns: who spoke from when to when, and what speakers are called. Pure. Read ``Turn`` from ``tympan.domain``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker talking; ``speaker`` counts from 0, in the order in which they are first heard. Turns may overlap.

    ``name`` is that of a speaker who is known by a sample of the voice; all turns of a speaker have it then.
    """

    start_s: float
    end_s: float
    speaker: int
    name: str | None = None


def speaker_name(number: int) -> str:
    """Return what a speaker is called who has no name: ``A`` ... ``Z``, then ``S27`` and so on."""
    return _LETTERS[number] if number < len(_LETTERS) else f"S{number + 1}"


def speaker_number(name: str) -> int | None:
    """Return which speaker is called so, from 0; ``None`` for a name that ``speaker_name`` does not give."""
    if len(name) == 1 and name in _LETTERS:
        return _LETTERS.index(name)
    digits = name.removeprefix("S")
    return int(digits) - 1 if digits != name and digits.isascii() and digits.isdigit() else None


def names(turns: Sequence[Turn]) -> list[str]:
    """Return the names of all speakers, in the order of their numbers.

    Who is not known is called ``A``, ``B`` and so on, in the order in which they are first heard, unless somebody who
    is known has that name.
    """
    known = {turn.speaker: turn.name for turn in turns if turn.name is not None}
    taken = set(known.values())
    others = (name for name in map(speaker_name, count()) if name not in taken)
    return [known.get(n) or next(others) for n in range(1 + max((turn.speaker for turn in turns), default=-1))]


def rttm(turns: Sequence[Turn], recording: str) -> str:
    """Return turns as ``rttm_text`` writes them, speakers by the names they have here."""
    speakers = names(turns)
    return rttm_text(((turn.start_s, turn.end_s, speakers[turn.speaker]) for turn in turns), recording)


def rttm_text(said: Iterable[tuple[float, float, str]], recording: str = "recording") -> str:
    """Return who spoke from when to when as Rich Transcription Time Marked text: a ``SPEAKER`` line each, in seconds.

    A name is one word there, of a recording as of a speaker: white space in it becomes ``_``.
    """
    word = "_".join(recording.split()) or "recording"
    return "".join(
        f"SPEAKER {word} 1 {start_s:.3f} {end_s - start_s:.3f} <NA> <NA> {'_'.join(name.split())} <NA> <NA>\n"
        for start_s, end_s, name in said
    )
