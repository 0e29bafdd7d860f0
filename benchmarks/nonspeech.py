"""Invented text: what is answered to recordings and drawn sounds in which nobody speaks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy import Texts, texts_of
from benchmarks.contenders import Contender
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, write_result
from benchmarks.synth import KINDS, write_clips

SEED = 1
SYNTHESISED_GOAL_PERCENT = 1.0
CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """How many sounds are drawn, and how many of them the slower settings hear (taken in turns over the kinds)."""

    synthesised: int = 504
    subset: int = 112
    beam: int = 5


@dataclass(frozen=True, slots=True)
class Arm:
    """One setting of one contender, and how many of the drawn sounds it hears."""

    name: str
    contender: Contender
    synthesised: int
    options: Mapping[str, Any]


def run(setup: Setup, plan: Plan) -> Path:
    """Measure, write ``nonspeech.json`` and return its path. No language is given: it is detected, as by default."""
    recorded = [clip for clip in setup.clips("d_nonspeech") if clip.reference == ""]
    if setup.quick:
        recorded = recorded[:4]
    drawn = write_clips(setup.work / "synthesised", plan.synthesised, SEED)
    steps = setup.steps("nonspeech", f"clips={len(recorded)} drawn={len(drawn)} beam={plan.beam}")
    with setup.server("nonspeech") as http, setup.baseline() as bare:
        rows = [_row(steps, arm, recorded, drawn) for arm in _arms(setup, plan, http, bare)]
    payload = {
        "model": setup.model_facts(),
        "set": "d_nonspeech",
        "licences": licences(recorded),
        "beam": plan.beam,
        "seed": SEED,
        "kinds": list(KINDS),
        "rows": rows,
    }
    return write_result(setup.results, "nonspeech", payload, checks(rows))


def checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Compare the default setting with its goals: no text on the set, at most 1 % on drawn sounds."""
    default = next(row for row in rows if row["name"] == "Tympan, VAD on")
    recorded, drawn = default["recorded"], default["synthesised"]
    share = drawn["percent"]
    return [
        Check(
            "no speech: recordings with text",
            "none",
            f"{recorded['with_text']} of {recorded['clips']}",
            recorded["with_text"] == 0,
        ),
        Check(
            "no speech: drawn sounds with text",
            "<= 1 % of >= 500",
            f"{share:.2f} % of {drawn['clips']}",
            share <= SYNTHESISED_GOAL_PERCENT and drawn["clips"] >= 500,
        ),
    ]


def _arms(setup: Setup, plan: Plan, http: Contender, bare: Contender) -> list[Arm]:
    ours: dict[str, Any] = {"beam": plan.beam, "concurrency": CONCURRENCY}
    theirs: dict[str, Any] = {"beam": plan.beam, "variant": setup.default_variant}
    return [
        Arm("Tympan, VAD on", http, plan.synthesised, ours),
        Arm("Tympan, VAD off", http, plan.subset, {**ours, "vad": False}),
        Arm("faster-whisper, VAD on", bare, plan.subset, {**theirs, "vad": True}),
        Arm("faster-whisper, VAD off", bare, plan.subset, {**theirs, "vad": False}),
    ]


def _row(steps: Steps, arm: Arm, recorded: Sequence[Clip], drawn: Sequence[Clip]) -> dict[str, Any]:
    heard = drawn[: arm.synthesised]
    options: dict[str, Any] = {"give_language": False, **arm.options}
    texts = texts_of(steps, f"{arm.name}, recorded", arm.contender, recorded, **options)
    others = texts_of(steps, f"{arm.name}, drawn", arm.contender, heard, **options)
    return {"name": arm.name, "recorded": share_of(recorded, texts), "synthesised": share_of(heard, others, kinds=True)}


def share_of(clips: Sequence[Clip], texts: Texts, *, kinds: bool = False) -> dict[str, Any]:
    """Return how many clips got any text, which ones, and what; with ``kinds`` also how many of each kind."""
    found = {clip.id: texts[clip.id] for clip in clips if texts[clip.id].strip()}
    out: dict[str, Any] = {
        "clips": len(clips),
        "with_text": len(found),
        "percent": round(100.0 * len(found) / max(1, len(clips)), 3),
        "texts": found,
    }
    if kinds:
        out["by_kind"] = dict(Counter(next(kind for kind in KINDS if id_.startswith(kind)) for id_ in found))
    return out
