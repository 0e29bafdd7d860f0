"""Speakers who are known by a sample of their voice: whom a sample names, in conversations joined from read speech.

Samples are utterances of 3 to 10 s that are in no conversation with their reader. In every conversation one speaker has
no sample, and two samples are of people who do not speak in it: they should name nobody.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store import Check
from tympan.bench.pages import table
from tympan.bootstrap.diarization import Crowd, Networks
from tympan.bootstrap.pipeline import Services
from tympan.diarize.known import Known, packed, sampled, unpacked
from tympan.diarize.recording import Recording
from tympan.diarize.tracks import Tracker
from tympan.domain import SAMPLE_RATE_HZ, Samples

KNOWN_GOAL_PERCENT, FALSE_GOAL_PERCENT = 90.0, 2.0

STRANGERS = 2
"""Samples of people who are not there."""

LINES: Mapping[str, tuple[bool, bool]] = {
    "as recorded": (False, False),
    "by telephone": (True, True),
    "by telephone, samples as recorded": (True, False),
}
"""How conversations are heard, and whether these and samples have a telephone's band."""

_SHORTEST_S, _LONGEST_S = 3.0, 10.0
_FEWEST = 3
_UTTERANCES = 12
_BAND_HZ = (300.0, 3_400.0)
_MU = 255.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clip of read speech."""

    id: str
    speaker: str
    path: Path
    duration_s: float


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation: its samples, from when to when who speaks, and an utterance to know each of some people by."""

    samples: Samples
    said: Sequence[tuple[float, float, str]]
    known: Mapping[str, Utterance]


def readers(corpus: Path) -> dict[str, list[Utterance]]:
    """Return the utterances of every reader who has some that may be samples, beside others."""
    folder = corpus / "a_english_read"
    found: dict[str, list[Utterance]] = {}
    for line in (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        one = json.loads(line)
        if one.get("speaker") and "unknown" not in one["speaker"]:
            clip = Utterance(one["id"], one["speaker"], folder / one["audio"], one["duration_s"])
            found.setdefault(clip.speaker, []).append(clip)
    return {name: clips for name, clips in found.items() if len(clips) >= _FEWEST}


def known_in(said: Sequence[Mapping[str, Any]], people: Mapping[str, list[Utterance]]) -> dict[str, Utterance]:
    """Return samples for a conversation of the corpus: of all who speak but the last, and of strangers."""
    used, there = {one["id"] for one in said}, sorted({one["speaker"] for one in said})
    strangers = [name for name in sorted(people) if name not in there][:STRANGERS]
    return {name: _sample(people[name], used) for name in (*there[:-1], *strangers) if name in people}


def _sample(clips: Sequence[Utterance], used: set[str]) -> Utterance:
    fitting = (clip for clip in clips if clip.id not in used and _SHORTEST_S <= clip.duration_s <= _LONGEST_S)
    return next(fitting)


def talks(people: Mapping[str, list[Utterance]], services: Services, count: int, *, phone: bool) -> Iterator[Talk]:
    """Yield conversations of two to four people, the same each time, by telephone if so asked."""
    draw = np.random.default_rng(58)
    for number in range(count):
        names = [str(name) for name in draw.permutation(sorted(people))[: 2 + number % 3 + STRANGERS]]
        strangers, there = names[:STRANGERS], names[STRANGERS:]
        known = {name: _sample(people[name], set()) for name in (*there[:-1], *strangers)}
        parts: list[Samples] = []
        said, at_s = [], 0.0
        for turn in range(_UTTERANCES):
            speaker = there[turn % len(there)]
            own = [clip for clip in people[speaker] if clip != known.get(speaker) and clip.duration_s <= _LONGEST_S]
            clip = own[int(draw.integers(len(own)))]
            audio = trimmed(audio_of(clip, services))
            pause = np.zeros(round(draw.uniform(0.2, 0.8) * SAMPLE_RATE_HZ), np.int16)
            parts += [pause, audio]
            at_s += len(pause) / SAMPLE_RATE_HZ
            said.append((at_s, at_s + len(audio) / SAMPLE_RATE_HZ, speaker))
            at_s = said[-1][1]
        whole = np.concatenate(parts)
        yield Talk(by_telephone(whole) if phone else whole, said, known)


def audio_of(clip: Utterance, services: Services) -> Samples:
    """Return the samples of an utterance."""
    return np.concatenate(list(services.decoder.stream(clip.path, max_audio_s=60.0)))


def trimmed(audio: Samples) -> Samples:
    """Return an utterance without the silence around it."""
    loud = np.flatnonzero(np.abs(audio.astype(np.int32)) > 0.02 * np.abs(audio.astype(np.int32)).max())
    return audio[loud[0] : loud[-1] + 1]


def by_telephone(audio: Samples) -> Samples:
    """Return the audio in a telephone's band, in the steps of its eight bits."""
    spectrum, hz = np.fft.rfft(audio), np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE_HZ)
    spectrum[(hz < _BAND_HZ[0]) | (hz > _BAND_HZ[1])] = 0
    level = np.clip(np.fft.irfft(spectrum, len(audio)) / 32_768, -1, 1)
    steps = np.round(np.sign(level) * np.log1p(_MU * np.abs(level)) / np.log1p(_MU) * 127) / 127
    heard: Samples = (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(_MU)) / _MU * 32_767).astype(np.int16)
    return heard


def voice_of(audio: Samples, networks: Networks) -> str:
    """Return the voice in a sample, as Tympan keeps it."""
    tracker = Tracker(networks)
    tracker.push(audio)
    found = sampled(tracker.finish())
    if found.voice is None:
        raise ValueError("There is no speech in a sample.")
    return packed(found.voice)


def line(services: Services, networks: Networks, corpus: Path, name: str, count: int) -> dict[str, float]:
    """Return how many seconds of conversations, heard as ``LINES`` has it, bear the right name and a wrong one."""
    phone, sample_by_phone = LINES[name]
    people, total = readers(corpus), {"known_s": 0.0, "right_s": 0.0, "wrong_s": 0.0, "others_s": 0.0, "false_s": 0.0}
    for talk in talks(people, services, count, phone=phone):
        known = []
        for person, clip in talk.known.items():
            audio = audio_of(clip, services)
            voice = voice_of(by_telephone(audio) if sample_by_phone else audio, networks)
            known.append(Known(person, unpacked(voice)))
        recording = Recording(networks)
        recording.push(talk.samples)
        for key, value in _named(talk, [(t.start_s, t.end_s, t.name) for t in recording.finish(Crowd(), known=known)]):
            total[key] += value
    return {key: round(value, 1) for key, value in total.items()} | {"conversations": count}


def _named(talk: Talk, turns: Sequence[tuple[float, float, str | None]]) -> Iterator[tuple[str, float]]:
    """Yield seconds of utterances: of who is known, those with the right name and with another; and of the others."""
    for start_s, end_s, speaker in talk.said:
        names = {name for *_, name in turns if name is not None}
        covered = {name: _overlap(start_s, end_s, [t for t in turns if t[2] == name]) for name in names}
        wrong = sum(seconds for name, seconds in covered.items() if name != speaker)
        if speaker in talk.known:
            yield from (("known_s", end_s - start_s), ("right_s", covered.get(speaker, 0.0)), ("wrong_s", wrong))
        else:
            yield from (("others_s", end_s - start_s), ("false_s", wrong))


def _overlap(start_s: float, end_s: float, turns: Sequence[tuple[float, float, str | None]]) -> float:
    return sum(max(0.0, min(end_s, last_s) - max(start_s, first_s)) for first_s, last_s, _ in turns)


def words_named(
    reference: Sequence[tuple[float, float, str]], words: Sequence[tuple[float, float, str]], known: Sequence[str]
) -> dict[str, int]:
    """Return how many words of people who are known have their name, and how many of others have a name."""
    counts = {"known": 0, "right": 0, "others": 0, "false": 0}
    for start_s, end_s, name in words:
        middle_s = (start_s + end_s) / 2
        speaking = {who for first_s, last_s, who in reference if first_s <= middle_s <= last_s}
        if speaking & set(known):
            counts["known"] += 1
            counts["right"] += name in speaking
        elif speaking:
            counts["others"] += 1
            counts["false"] += name in known
    return counts


def total(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the words of all recordings, and how many bear the right name or one that is not theirs, in percent."""
    found = [one["named"] for one in rows if one.get("named")]
    sums = {key: sum(one[key] for one in found) for key in ("known", "right", "others", "false")}
    return {
        "known_words": sums["known"],
        "known_right": round(100 * sums["right"] / max(1, sums["known"]), 2),
        "other_words": sums["others"],
        "other_named": round(100 * sums["false"] / max(1, sums["others"]), 2),
    }


def page(result: Mapping[str, Any]) -> list[str]:
    """Return what the page of a result says of samples, paragraph by paragraph."""
    return ["## Known by a sample", _intro(result), _table(result)]


def _intro(result: Mapping[str, Any]) -> str:
    found = result["total"]
    return (
        "Of each conversation all speakers but one are known by a sample, an utterance of 3 to 10 s that is not in it, "
        f"and {STRANGERS} samples are of people who do not speak. Of {found['known_words']} words of speakers who are "
        f"known, in the conversations above, {found['known_right']:.1f} % bear the right name; of "
        f"{found['other_words']} words of the others {found['other_named']:.1f} % bear one. The table has "
        "conversations of two to four of the same readers, by seconds of speech; the telephone is a band of 300 to "
        "3400 Hz in eight bits."
    )


def _table(result: Mapping[str, Any]) -> str:
    head = ["heard", "conversations", "speech of known s", "right name", "wrong name", "speech of others s", "named"]
    rows = [
        [name, one["conversations"], f"{one['known_s']:.0f}", _share(one["right_s"], one["known_s"]),
         _share(one["wrong_s"], one["known_s"]), f"{one['others_s']:.0f}", _share(one["false_s"], one["others_s"])]
        for name, one in result["known"].items()
    ]  # fmt: skip
    return table(head, rows)


def _share(part: float, whole: float) -> str:
    return f"{100 * part / max(whole, 0.1):.1f} %"


def checks(known: Mapping[str, Mapping[str, float]]) -> list[Check]:
    """Compare what samples name, of speech as it was recorded, with the goals."""
    one = known["as recorded"]
    right = 100 * one["right_s"] / one["known_s"]
    false = 100 * (one["false_s"] + one["wrong_s"]) / (one["others_s"] + one["known_s"])
    return [
        Check(
            "speakers: known ones with their name", f">= {KNOWN_GOAL_PERCENT:g} %", f"{right:.1f} %",
            right >= KNOWN_GOAL_PERCENT,
        ),
        Check(
            "speakers: speech with a wrong name", f"<= {FALSE_GOAL_PERCENT:g} %", f"{false:.1f} %",
            false <= FALSE_GOAL_PERCENT,
        ),
    ]  # fmt: skip
