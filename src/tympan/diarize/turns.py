"""Turns of one speaker made one across pauses. Pure."""

from collections.abc import Iterable
from dataclasses import replace

from tympan.domain import Turn

PAUSE_S = 0.3
"""A pause up to this long does not end a turn: what NIST's evaluations of diarization smoothed over (RT-03 to 09)."""


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
