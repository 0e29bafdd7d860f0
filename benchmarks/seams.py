"""Seams of long files: are words lost or said twice where Tympan cuts, more than elsewhere and than without cuts?

Three kinds of seam: a ``cut`` lies inside speech, between two windows that touch; ``window`` is one between two windows
with silence left out between them, ``piece`` one between two stretches of speech joined in one window. A seam's *zone*
is the three reference words on either side of it. The control is faster-whisper's sequential decoding, which slides
over the file and has no seams of this kind: its errors are counted in the same zones, and elsewhere.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy import Texts, compare, texts_of
from benchmarks.scoring import Clip, licences
from benchmarks.seam_counts import ELSEWHERE, KINDS, Alignment, Part, Tally, as_dict, tally, zones
from benchmarks.setup import Setup
from benchmarks.store import Check, write_result
from tympan.quality.scoring import bootstrap_difference, units

ERROR_GOAL_POINTS = 0.5
QUICK_FILES = 2
SIDES = {"tympan": "Tympan", "sequential": "faster-whisper, sequential"}

Tallies = dict[str, dict[str, Tally]]
"""By side, then by zone."""


def run(setup: Setup, beams: Sequence[int] = (1, 5)) -> Path:
    """Measure at each beam width, write ``seams.json`` and return its path."""
    clips = [clip for clip in setup.clips("b_longform") if clip.reference]
    if setup.quick:
        clips = sorted(clips, key=lambda clip: clip.duration_s)[:QUICK_FILES]
    steps, rows = setup.steps("seams", f"clips={len(clips)}"), []
    with setup.in_process("pieces") as ours, setup.baseline() as bare:
        for beam in beams:
            told = texts_of(steps, f"tympan, beam {beam}", ours, clips, beam=beam)
            texts = texts_of(steps, f"sequential, beam {beam}", bare, clips, beam=beam, variant=setup.default_variant)
            parts = {key: [Part(*one) for one in json.loads(value)] for key, value in told.items()}
            rows.append({"beam": beam, **row_of(clips, parts, texts)})
    payload = {
        "model": setup.model_facts(),
        "set": "b_longform",
        "licences": licences(clips),
        "audio_s": round(sum(clip.duration_s for clip in clips), 1),
        "rows": rows,
    }
    return write_result(setup.results, "seams", payload, checks(rows))


def row_of(clips: Sequence[Clip], parts: Mapping[str, Sequence[Part]], texts: Texts) -> dict[str, Any]:
    """Return the figures of one beam width from the parts of our texts and the other side's texts."""
    ours = {key: "".join(part.text for part in told).strip() for key, told in parts.items()}
    each = [_tallies(clip, parts[clip.id], ours[clip.id], texts[clip.id]) for clip in clips]
    errors = compare(clips, ours, texts)
    seams = [Counter(part.kind for part in parts[clip.id] if part.kind in KINDS) for clip in clips]
    return {
        "seams": {kind: sum(one[kind] for one in seams) for kind in KINDS},
        "errors": {"tympan": errors["tympan"], "sequential": errors["faster_whisper"]},
        "difference": errors["difference"],
        "zones": {side: _pooled([one[side] for one in each]) for side in SIDES},
        "excess": asdict(_excess(each)),
        "files": [
            {"id": clip.id, "duration_s": clip.duration_s, "language": clip.language, "seams": dict(counted),
             **{side: _near(one[side]) for side in SIDES}}
            for clip, counted, one in zip(clips, seams, each, strict=True)
        ],
    }  # fmt: skip


def _tallies(clip: Clip, parts: Sequence[Part], ours: str, other: str) -> Tallies:
    language = clip.language or "en"
    reference = units(clip.reference or "", language)
    mine = Alignment(reference, units(ours, language))
    zoned = zones(mine, parts, language)
    return {"tympan": tally(mine, zoned), "sequential": tally(Alignment(reference, units(other, language)), zoned)}


def _pooled(each: Sequence[dict[str, Tally]]) -> dict[str, Any]:
    return {zone: as_dict(sum((one[zone] for one in each), Tally())) for zone in (*KINDS, ELSEWHERE)}


def _zone(tallied: Mapping[str, Tally]) -> Tally:
    return sum((tallied[kind] for kind in KINDS), Tally())


def _near(tallied: Mapping[str, Tally]) -> dict[str, Any]:
    return {"near": as_dict(_zone(tallied)), ELSEWHERE: as_dict(tallied[ELSEWHERE])}


def _excess(each: Sequence[Tallies]) -> Any:
    """Return how many more words of a hundred we lose or add near seams, with the interval over files."""
    pairs = [(_zone(one["tympan"]), _zone(one["sequential"])) for one in each]
    return bootstrap_difference(
        [mine.lost_or_added - theirs.lost_or_added for mine, theirs in pairs], [mine.units for mine, _ in pairs]
    )


def checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Compare word errors with the goal, and what is lost or added near seams with the other side's."""
    out = []
    for row in rows:
        points, excess = row["difference"]["difference_points"], row["excess"]
        name = f"seams, beam {row['beam']}"
        goal = f"<= +{ERROR_GOAL_POINTS} points"
        out.append(Check(f"{name}: word errors", goal, f"{points:+.2f} points", points <= ERROR_GOAL_POINTS))
        text = f"{excess['difference_points']:+.2f} [{excess['low_points']:+.2f}, {excess['high_points']:+.2f}]"
        goal = "no more than sequential, within chance"
        out.append(Check(f"{name}: lost or added near seams, points", goal, text, excess["low_points"] <= 0.0))
    return out


def body(result: Mapping[str, Any]) -> Sequence[tuple[str, list[str], list[list[Any]]]]:
    """Return the page's tables: title, head, rows."""
    told = ("sub / lost / added", "said again", "lost or added per 1000")
    zone_head = ["where", "words", *(f"{side}: {what}" for side in SIDES.values() for what in told)]
    places = (f"{side}, {where}" for where in ("near", ELSEWHERE) for side in SIDES.values())
    file_head = ["file", "s", "cut / window / piece", *places]
    out = []
    for row in result["rows"]:
        out.append((f"Beam {row['beam']}, by kind of seam", zone_head, _zone_rows(row)))
        out.append((f"Beam {row['beam']}, words lost or added of how many, by file", file_head, _file_rows(row)))
    return out


def _zone_rows(row: Mapping[str, Any]) -> list[list[Any]]:
    rows = []
    for zone in (*KINDS, ELSEWHERE):
        name = f"{zone} ({row['seams'][zone]})" if zone in KINDS else zone
        cells: list[Any] = [name, row["zones"]["tympan"][zone]["units"]]
        for side in SIDES:
            one = row["zones"][side][zone]
            cells += [f"{one['substitutions']} / {one['deletions']} / {one['insertions']}", one["repeats"],
                      one["lost_or_added_per_1000"]]  # fmt: skip
        rows.append(cells)
    return rows


def _file_rows(row: Mapping[str, Any]) -> list[list[Any]]:
    def cell(one: Mapping[str, Any]) -> str:
        return f"{one['deletions'] + one['insertions']} of {one['units']}"

    return [
        [one["id"], f"{one['duration_s']:.0f}", " / ".join(str(one["seams"].get(kind, 0)) for kind in KINDS),
         *(cell(one[side]["near"]) for side in SIDES), *(cell(one[side][ELSEWHERE]) for side in SIDES)]
        for one in row["files"]
    ]  # fmt: skip
