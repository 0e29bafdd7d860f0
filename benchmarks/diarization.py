"""Who spoke: how much of the speech gets the right speaker, how many of the words, and how fast voices are heard.

The error rate is what NIST defined for RT-03 and later: seconds missed, heard where nobody speaks, and given to the
wrong speaker, over the seconds of speech of all speakers, under the mapping of speakers that suits best. Within 0.25 s
of where a turn begins or ends nothing is counted; where two speak at once both count. The manifest's ``segments`` are
the reference. Where the words are known, a word is right if whoever says it speaks in its middle; words outside of all
turns are not counted.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import diarization_peers as others
from benchmarks import introductions
from benchmarks.introductions import LINES, Utterance, audio_of, known_in, line, readers, voice_of, words_named
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, write_result
from tympan.bench.pages import table
from tympan.bootstrap import running
from tympan.bootstrap.diarization import Crowd, Networks, load_networks, turns_of
from tympan.bootstrap.pipeline import Services
from tympan.config import load
from tympan.domain import DiarizeBy, Options, Timestamps, Turn
from tympan.options import KnownVoice
from tympan.pipeline import RequestContext

COLLAR_S, FRAME_S = 0.25, 0.001
SPEED_GOAL, ERROR_GOAL_PERCENT, WORDS_GOAL_PERCENT = 20.0, 15.0, 90.0
_MAX_AUDIO_S = 3600.0
_QUICK = 2
_TALKS = 24
_PARTS = ("missed_s", "false_s", "confused_s")

Spoken = Sequence[tuple[float, float, str]]
"""From when to when who speaks."""


def run(setup: Setup) -> Path:
    """Measure, write ``diarization.json`` and return its path."""
    clips = [clip for clip in setup.clips("f_diarization") if references(setup.corpus)[clip.id]]
    clips = clips[:_QUICK] if setup.quick else clips
    steps = setup.steps("diarization", f"clips={len(clips)}")
    settings = load({"log_level": "warning", "model": setup.model, "compute_type": "int8"})
    networks = load_networks(settings)
    rows = []
    with running(settings) as services, others.started(setup, steps, services.decoder, settings) as peers:
        for clip in clips:
            reference = references(setup.corpus)[clip.id]
            heard = steps.value(f"turns of {clip.id}", partial(_heard, services, networks, clip))
            n_known = len({one["speaker"] for one in reference})
            told = steps.value(f"turns of {clip.id}, number given", partial(_heard, services, networks, clip, n_known))
            work = partial(_words, services, networks, clip, _known(setup.corpus, clip))
            words = steps.value(f"words of {clip.id}", work) if clip.reference else None
            rows.append(row(clip, reference, heard, told, words) | _names(setup.corpus, clip, words))
            peers.hear(clip, reference, heard, COLLAR_S)
        count = _QUICK if setup.quick else _TALKS
        lines = {name: partial(line, services, networks, setup.corpus, name, count) for name in LINES}
        known = {name: steps.value(f"known, {name}", work) for name, work in lines.items()}
    payload = {"model": setup.model_facts(), "licences": licences(clips), "collar_s": COLLAR_S, "rows": rows}
    payload |= {"beside": peers.result()}
    found, judged = total(rows), [*checks(total(rows)), *introductions.checks(known)]
    return write_result(setup.results, "diarization", payload | {"total": found, "known": known}, judged)


def references(corpus: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the reference turns of every recording that has some."""
    lines = (corpus / "f_diarization" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    found = (json.loads(line) for line in lines)
    return {one["id"]: one.get("segments") or [] for one in found}


def _heard(services: Services, networks: Networks, clip: Clip, n: int | None = None) -> dict[str, Any]:
    """Return who spoke when, and the processor time that took; ``n`` people speak, if that is to be known."""
    crowd = Crowd() if n is None else Crowd.of(n)
    begun = time.process_time()
    turns, _ = turns_of(clip.path, services.decoder, networks, crowd, _MAX_AUDIO_S)
    return {"cpu_s": time.process_time() - begun, "turns": _listed(turns)}


def _known(corpus: Path, clip: Clip) -> dict[str, Utterance]:
    """Return whom of a conversation that is joined from read speech a sample names; nobody of another recording."""
    reference = references(corpus)[clip.id]
    return known_in(reference, readers(corpus)) if clip.reference else {}


def _names(corpus: Path, clip: Clip, words: Spoken | None) -> dict[str, Any]:
    said = [(one["start"], one["end"], one["speaker"]) for one in references(corpus)[clip.id]]
    return {"named": None if words is None else words_named(said, words, list(_known(corpus, clip)))}


def _words(
    services: Services, networks: Networks, clip: Clip, known: Mapping[str, Utterance]
) -> list[tuple[float, float, str]]:
    voices = tuple(KnownVoice(name, one.id, voice_of(audio_of(one, services), networks)) for name, one in known.items())
    options = Options(
        language=clip.language, timestamps=Timestamps.WORD, diarize=True, diarize_by=DiarizeBy.VOICES, beam_size=1,
        known_voices=voices,
    )  # fmt: skip
    found = services.transcriber.transcribe(clip.path, options, RequestContext(clip.id))
    return [(word.start_s, word.end_s, segment.speaker or "") for segment in found.segments for word in segment.words]


def _listed(turns: Iterable[Turn]) -> list[tuple[float, float, str]]:
    return [(turn.start_s, turn.end_s, str(turn.speaker)) for turn in turns]


def row(
    clip: Clip,
    reference: Sequence[Mapping[str, Any]],
    heard: Mapping[str, Any],
    told: Mapping[str, Any],
    words: Spoken | None,
) -> dict[str, Any]:
    """Return the figures of one recording."""
    said = [(one["start"], one["end"], one["speaker"]) for one in reference]
    return {
        "clip": clip.id,
        "audio_s": clip.duration_s,
        "speakers": len({speaker for *_, speaker in said}),
        "found": len({speaker for *_, speaker in heard["turns"]}),
        "cpu_s": round(heard["cpu_s"], 3),
        "errors": errors(said, heard["turns"], clip.duration_s),
        "errors_told": errors(said, told["turns"], clip.duration_s),
        "words": None if words is None else words_right(said, words),
    }


def errors(reference: Spoken, found: Spoken, audio_s: float) -> dict[str, float]:
    """Return the seconds of speech that count, and those missed, false and confused."""
    wanted, given = _frames(reference, audio_s), _frames(found, audio_s)
    counted = np.ones(wanted.shape[1], np.bool_)
    for edge_s in (edge for start_s, end_s, _ in reference for edge in (start_s, end_s)):
        first, last = round((edge_s - COLLAR_S) / FRAME_S), round((edge_s + COLLAR_S) / FRAME_S)
        counted[max(0, first) : max(0, last)] = False
    wanted, given = wanted[:, counted], given[:, counted]
    n_wanted, n_given = wanted.sum(axis=0), given.sum(axis=0)
    right = _best(wanted.astype(np.int64) @ given.astype(np.int64).T)
    both = np.minimum(n_wanted, n_given).sum()
    frames = {
        "speech_s": n_wanted.sum(),
        "missed_s": np.maximum(0, n_wanted - n_given).sum(),
        "false_s": np.maximum(0, n_given - n_wanted).sum(),
        "confused_s": both - right,
    }
    return {name: round(float(count) * FRAME_S, 3) for name, count in frames.items()}


def words_right(reference: Spoken, words: Spoken) -> dict[str, int]:
    """Return how many words lie in a turn of the reference, and how many of these have its speaker."""
    names, called = sorted({name for *_, name in reference}), sorted({name for *_, name in words})
    shared = np.zeros((len(names), len(called)), np.int64)
    n_words = 0
    for start_s, end_s, name in words:
        middle_s = (start_s + end_s) / 2
        speaking = {names.index(who) for first_s, last_s, who in reference if first_s <= middle_s <= last_s}
        n_words += bool(speaking)
        for who in speaking:
            shared[who, called.index(name)] += 1
    return {"counted": n_words, "right": min(n_words, _best(shared))}


def _frames(spoken: Spoken, audio_s: float) -> NDArray[np.bool_]:
    names = sorted({name for *_, name in spoken})
    found = np.zeros((max(1, len(names)), round(audio_s / FRAME_S)), np.bool_)
    for start_s, end_s, name in spoken:
        found[names.index(name), round(start_s / FRAME_S) : round(end_s / FRAME_S)] = True
    return found


def _best(shared: NDArray[np.int64]) -> int:
    """Return how much is shared under the best one-to-one mapping; one side should be small."""
    if shared.shape[0] > shared.shape[1]:
        shared = shared.T
    best = {0: 0}  # By which rows are taken, as bits.
    for column in shared.T.tolist():
        found = dict(best)
        for taken, value in best.items():
            for row, more in enumerate(column):
                if not taken >> row & 1:
                    found[taken | 1 << row] = max(found.get(taken | 1 << row, 0), value + more)
        best = found
    return max(best.values())


def total(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the figures of all recordings together: shares of all speech, in percent."""
    out: dict[str, float] = {}
    for key in ("errors", "errors_told"):
        speech_s = sum(one[key]["speech_s"] for one in rows)
        parts = {name: sum(one[key][name] for one in rows) for name in _PARTS}
        out[key] = round(100 * sum(parts.values()) / speech_s, 2)
        out |= {f"{key}_{name}": round(100 * value / speech_s, 2) for name, value in parts.items()}
    worded = [one["words"] for one in rows if one["words"]]
    counted = sum(one["counted"] for one in worded)
    return out | {
        "audio_s": round(sum(one["audio_s"] for one in rows), 1),
        "speed": round(sum(one["audio_s"] for one in rows) / sum(one["cpu_s"] for one in rows), 1),
        "numbers_right": sum(one["found"] == one["speakers"] for one in rows),
        "words": counted,
        "words_right": round(100 * sum(one["right"] for one in worded) / max(1, counted), 2),
        **introductions.total(rows),
    }


def page(result: Mapping[str, Any]) -> list[str]:
    """Return what the page of a result says, paragraph by paragraph."""
    head = ["recording", "s", "speakers", "found", "speech s", "missed", "false", "confused", "number given", "words"]
    rows = [
        [one["clip"], f"{one['audio_s']:.0f}", one["speakers"], one["found"], f"{one['errors']['speech_s']:.1f}",
         *(f"{one['errors'][name]:.1f}" for name in _PARTS), f"{sum(one['errors_told'][name] for name in _PARTS):.1f}",
         f"{one['words']['right']} of {one['words']['counted']}" if one["words"] else "-"]
        for one in result["rows"]
    ]  # fmt: skip
    found = result["total"]
    intro = (
        f"{found['audio_s'] / 60:.1f} minutes. Of the speech {found['errors']:.1f} % is missed "
        f"({found['errors_missed_s']:.1f}), heard where there is none ({found['errors_false_s']:.1f}) or given to the "
        f"wrong speaker ({found['errors_confused_s']:.1f}); {found['errors_told']:.1f} % where the number of speakers "
        f"is given, which was right in {found['numbers_right']} of {len(rows)} recordings unasked. Of {found['words']} "
        f"words {found['words_right']:.1f} % have the right speaker. Voices are heard {found['speed']:.1f} times as "
        f"fast as people speak, by processor time. Nothing counts within {result['collar_s']:g} s of where a turn "
        "begins or ends; speech at once counts for all who speak."
    )
    heads = [intro, "The columns from missed to number given are errors, in seconds."]
    known = introductions.page(result) if "known" in result else ()
    return [*heads, table(head, rows), *others.page(result.get("beside")), *known]


def checks(found: Mapping[str, float]) -> list[Check]:
    """Compare the totals with their goals."""
    return [
        Check(
            "speakers: error rate", f"<= {ERROR_GOAL_PERCENT:g} %", f"{found['errors']:.1f} %",
            found["errors"] <= ERROR_GOAL_PERCENT,
        ),
        Check(
            "speakers: words with the right one", f">= {WORDS_GOAL_PERCENT:g} %",
            f"{found['words_right']:.1f} % of {found['words']:g}", found["words_right"] >= WORDS_GOAL_PERCENT,
        ),
        Check(
            "speakers: voices heard on one core", f">= {SPEED_GOAL:g} x real time", f"{found['speed']:.1f} x",
            found["speed"] >= SPEED_GOAL,
        ),
    ]  # fmt: skip
