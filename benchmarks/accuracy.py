"""Word errors of the served text: English read speech, and other languages, against faster-whisper."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import Contender, Job
from benchmarks.scoring import Clip, licences
from benchmarks.setup import Setup
from benchmarks.store import Check, Steps, write_result
from tympan.quality.scoring import CHARACTER_LANGUAGES, Bootstrap, Counts, Pair, count, paired_bootstrap

CONCURRENCY = 8
CHUNK = 40
QUICK_CLIPS = 6
ENGLISH_GOAL_POINTS = 0.2
LANGUAGES_GOAL_POINTS = 0.3
SINGLE_GOAL_POINTS = {"de": 1.0, "es": 1.0}

Texts = dict[str, str]


def english(setup: Setup, beams: Sequence[int] = (1, 5)) -> Path:
    """Measure English read speech at each beam width, write ``accuracy.json`` and return its path."""
    clips = _with_reference(setup, "a_english_read")
    steps, rows = setup.steps("accuracy", f"clips={len(clips)}"), []
    with setup.server("accuracy") as http, setup.baseline() as baseline:
        for beam in beams:
            ours = texts_of(steps, f"tympan, beam {beam}", http, clips, beam=beam, concurrency=CONCURRENCY)
            bare = texts_of(
                steps, f"faster-whisper, beam {beam}", baseline, clips, beam=beam, variant=setup.default_variant
            )
            rows.append(
                {"beam": beam, **compare(clips, ours, bare), "clips": _clip_rows(clips, tympan=ours, bare=bare)}
            )
    payload = {"model": setup.model_facts(), "set": "a_english_read", "licences": licences(clips), "rows": rows}
    return write_result(setup.results, "accuracy", payload, [_english_check(row) for row in rows])


def languages(setup: Setup, full_context: Mapping[str, str], beams: Sequence[int] = (1, 5)) -> Path:
    """Measure other languages against our own full-context decoding and faster-whisper; write ``languages.json``.

    ``full_context`` holds the settings that turn the short encoder inputs off.
    """
    clips = _with_reference(setup, "c_languages")
    steps, rows = setup.steps("languages", f"clips={len(clips)}"), []
    with ExitStack() as stack:
        http = stack.enter_context(setup.server("languages"))
        full = stack.enter_context(setup.server("languages-full-context", full_context))
        baseline = stack.enter_context(setup.baseline())
        for beam in beams:
            options: dict[str, Any] = {"beam": beam, "concurrency": CONCURRENCY}
            ours = texts_of(steps, f"tympan, beam {beam}", http, clips, **options)
            plain = texts_of(steps, f"full context, beam {beam}", full, clips, **options)
            options = {"beam": beam, "variant": setup.default_variant}
            bare = texts_of(steps, f"faster-whisper, beam {beam}", baseline, clips, **options)
            rows.append({"beam": beam, **_language_row(clips, ours, plain, bare)})
    payload = {
        "model": setup.model_facts(),
        "set": "c_languages",
        "licences": licences(clips),
        "full_context": dict(full_context),
        "rows": rows,
    }
    return write_result(setup.results, "languages", payload, _language_checks(rows))


def texts_of(steps: Steps, key: str, contender: Contender, clips: Sequence[Clip], **options: Any) -> Texts:
    """Return the text of every clip, some clips a step, so that a broken-off run loses little."""
    texts: Texts = {}
    for start in range(0, len(clips), CHUNK):
        chunk = clips[start : start + CHUNK]
        step, job = f"{key}, {start} to {start + len(chunk)}", Job.of(chunk, **options)
        lasting = bool(job.variant)  # only the baseline has variants
        texts |= steps.outcome(step, partial(contender.run, job), lasting=lasting).texts
    return texts


def counts_of(clips: Sequence[Clip], texts: Texts) -> list[Counts]:
    """Score each clip's text."""
    return [count(Pair(clip.reference or "", texts[clip.id], clip.language or "en")) for clip in clips]


def grouped(clips: Sequence[Clip], counts: Sequence[Counts], key: Callable[[Clip], str]) -> dict[str, Counts]:
    """Pool the counts of each group that ``key`` names, sorted by name."""
    groups: dict[str, Counts] = {}
    for clip, item in zip(clips, counts, strict=True):
        groups[key(clip)] = groups.get(key(clip), Counts()) + item
    return dict(sorted(groups.items()))


def bootstrap_of(clips: Sequence[Clip], ours: Texts, other: Texts) -> Bootstrap:
    """Return how far our pooled rate lies above the other's, with its interval."""
    return paired_bootstrap(
        [clip.reference or "" for clip in clips],
        [ours[clip.id] for clip in clips],
        [other[clip.id] for clip in clips],
        languages=[clip.language or "en" for clip in clips],
    )


def compare(clips: Sequence[Clip], ours: Texts, other: Texts) -> dict[str, Any]:
    """Return pooled counts of both sides, the difference with its interval, and the counts by source."""
    mine, theirs = counts_of(clips, ours), counts_of(clips, other)
    by_source = zip(
        grouped(clips, mine, lambda clip: clip.source).items(),
        grouped(clips, theirs, lambda clip: clip.source).values(),
        strict=True,
    )
    return {
        "tympan": sum(mine, Counts()).as_dict(),
        "faster_whisper": sum(theirs, Counts()).as_dict(),
        "difference": asdict(bootstrap_of(clips, ours, other)),
        "by_source": {name: {"tympan": a.as_dict(), "faster_whisper": b.as_dict()} for (name, a), b in by_source},
    }


def _with_reference(setup: Setup, name: str) -> list[Clip]:
    clips = [clip for clip in setup.clips(name) if clip.reference is not None]
    # Every n-th clip, so that a smoke run sees more than one source.
    return clips[:: max(1, len(clips) // QUICK_CLIPS)][:QUICK_CLIPS] if setup.quick else clips


def _clip_rows(clips: Sequence[Clip], **sides: Texts) -> list[dict[str, Any]]:
    """Return each clip's errors on each side."""
    rows: list[dict[str, Any]] = []
    for clip in clips:
        # References and texts belong to the recordings' owners; they stay in the work folder.
        row: dict[str, Any] = {"id": clip.id}
        for side, texts in sides.items():
            row[side] = count(Pair(clip.reference or "", texts[clip.id], clip.language or "en")).errors
        rows.append(row)
    return rows


def _language_row(clips: Sequence[Clip], ours: Texts, full: Texts, bare: Texts) -> dict[str, Any]:
    sides = {"tympan": ours, "full_context": full, "faster_whisper": bare}
    counts = {side: counts_of(clips, texts) for side, texts in sides.items()}
    by_language = {side: grouped(clips, values, lambda clip: clip.language or "en") for side, values in counts.items()}
    return {
        "pooled": {side: sum(values, Counts()).as_dict() for side, values in counts.items()},
        "versus_full_context": asdict(bootstrap_of(clips, ours, full)),
        "versus_faster_whisper": asdict(bootstrap_of(clips, ours, bare)),
        # The two settings must not be the same program: if every text agrees, the switch did nothing.
        "texts_equal_to_full_context": sum(ours[clip.id] == full[clip.id] for clip in clips),
        "by_language": {
            language: {
                "unit": "character" if language in CHARACTER_LANGUAGES else "word",
                **{side: by_language[side][language].as_dict() for side in sides},
            }
            for language in by_language["tympan"]
        },
        "clips": _clip_rows(clips, **sides),
    }


def _english_check(row: Mapping[str, Any]) -> Check:
    points = row["difference"]["difference_points"]
    interval = f"{points:+.2f} points [{row['difference']['low_points']:+.2f}, {row['difference']['high_points']:+.2f}]"
    name = f"word errors, English read speech, beam {row['beam']}"
    return Check(name, f"<= +{ENGLISH_GOAL_POINTS} points", interval, points <= ENGLISH_GOAL_POINTS)


def _switch_check(name: str, row: Mapping[str, Any]) -> Check:
    """Guard the comparison itself: two settings that never differ are one setting, and its figures say nothing."""
    differing = row["pooled"]["tympan"]["clips"] - row["texts_equal_to_full_context"]
    return Check(f"{name}: full context is another setting", ">= 1 text differs", str(differing), differing > 0)


def _language_checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    checks = []
    for row in rows:
        points = row["versus_full_context"]["difference_points"]
        name, goal = f"other languages, beam {row['beam']}", LANGUAGES_GOAL_POINTS
        checks.append(Check(f"{name}: pooled", f"<= +{goal} points", f"{points:+.2f} points", points <= goal))
        checks.append(_switch_check(name, row))
        for language, goal in SINGLE_GOAL_POINTS.items():
            sides = row["by_language"].get(language)
            if sides is not None:
                points = sides["tympan"]["rate_percent"] - sides["full_context"]["rate_percent"]
                text = f"{points:+.2f} points"
                checks.append(Check(f"{name}: {language}", f"<= +{goal} points", text, points <= goal))
    return checks
