"""Turns: who spoke from when to when. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

PAUSE_S = 0.3
"""A pause up to this long does not end a turn: what NIST's evaluations of diarization smoothed over (RT-03 to 09)."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker talking; ``speaker`` counts from 0, in the order in which they are first heard. Turns may overlap."""

    start_s: float
    end_s: float
    speaker: int


def smoothed(turns: Iterable[Turn]) -> list[Turn]:
    """Join turns of one speaker across pauses; return all in order of time, speakers numbered by their first turn."""
    open_turns: dict[int, Turn] = {}
    done: list[Turn] = []
    for turn in sorted(turns, key=lambda turn: turn.start_s):
        last = open_turns.get(turn.speaker)
        if last is not None and turn.start_s - last.end_s <= PAUSE_S:
            open_turns[turn.speaker] = replace(last, end_s=max(last.end_s, turn.end_s))
            continue
        if last is not None:
            done.append(last)
        open_turns[turn.speaker] = turn
    found = sorted([*done, *open_turns.values()], key=lambda turn: (turn.start_s, turn.end_s))
    numbers: dict[int, int] = {}
    return [replace(turn, speaker=numbers.setdefault(turn.speaker, len(numbers))) for turn in found]


def names(turns: Sequence[Turn]) -> list[str]:
    """Return the names of all speakers: ``A``, ``B`` ... ``Z``, then ``S27`` and so on."""
    n_speakers = 1 + max((turn.speaker for turn in turns), default=-1)
    return [chr(ord("A") + n) if n < 26 else f"S{n + 1}" for n in range(n_speakers)]


def rttm(turns: Sequence[Turn], recording: str) -> str:
    """Return turns as Rich Transcription Time Marked text: one ``SPEAKER`` line each, times in seconds.

    A recording's name is one word there: white space in it becomes ``_``.
    """
    speakers = names(turns)
    word = "_".join(recording.split()) or "recording"
    lines = (
        f"SPEAKER {word} 1 {turn.start_s:.3f} {turn.end_s - turn.start_s:.3f} <NA> <NA> {speakers[turn.speaker]}"
        for turn in turns
    )
    return "".join(f"{line} <NA> <NA>\n" for line in lines)
