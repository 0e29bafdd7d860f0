"""Runs of golden sets as if a server had measured them: rows in the tables, no audio."""

from collections.abc import Mapping, Sequence

from tympan.quality import scores
from tympan.quality.golden import GoldenDesk
from tympan.quality.manifest import SPEECH
from tympan.quality.verdict import compare, interval_of, total
from tympan.storage.golden import GoldenClip, GoldenSet, NewVersion, SetPlan
from tympan.storage.golden_runs import GoldenResult, GoldenRun, Verdict
from tympan.storage.ids import new_id

SAID = "the old stone bridge over the river number"
TOLERANCE_POINTS = 0.5


def make_set(desk: GoldenDesk, name: str, n_speech: int = 12, n_silent: int = 6) -> GoldenSet:
    """Return a set of clips in English and German, and some without speech."""
    said = [
        GoldenClip(n, f"s{n}", SPEECH, ("en", "de")[n % 2], f"{SAID} {n}", f"voice {n % 3}", ("clean",), "0" * 64, 100)
        for n in range(n_speech)
    ]
    silent = [
        GoldenClip(n, f"quiet{n}", "silence", None, "", None, (), "0" * 64, 100)
        for n in range(n_speech, n_speech + n_silent)
    ]
    version = NewVersion(new_id("gsv"), new_id("d"), [*said, *silent])
    return desk.store.put(name, SetPlan("0 3 * * 1"), None, version)


def measure(
    desk: GoldenDesk, name: str, heard: Mapping[int, str | None] | None = None, model: str = "base"
) -> GoldenRun:
    """Run a set: every clip is heard right but for those ``heard`` otherwise, or, where that is ``None``, failed."""
    run = desk.run(name)
    clips = desk.store.clips(run.version_id)
    for clip in clips:
        text = (heard or {}).get(clip.idx, clip.reference)
        if text is None:
            found = GoldenResult(clip.idx, "failed", error="corrupt_media")
        else:
            score = scores.to_json(scores.score(clip, text, "en"), model)
            found = GoldenResult(clip.idx, "done", text=text, language="en", score=score)
        desk.runs.record(run.id, found)
    desk.runs.finish(run, _verdict(desk, run, model, desk.runs.results(run.id)), lambda _: None)
    return desk.runs.get(run.id)


def _verdict(desk: GoldenDesk, run: GoldenRun, model: str, results: Sequence[GoldenResult]) -> Verdict:
    now, baseline = scores.by_clip(results), desk.runs.baseline(run.version_id, run.asked_model)
    then = scores.by_clip(desk.runs.results(baseline)) if baseline else {}
    comparison = compare(now, then, baseline, TOLERANCE_POINTS).as_dict() if baseline else None
    totals = {**total(now).as_dict(), "words_interval_percent": interval_of(now)}
    return Verdict("succeeded", model, len(results) - len(now), totals, comparison, becomes_baseline=baseline is None)
