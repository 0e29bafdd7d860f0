"""Whether a run is worse than its baseline: what is found, what is not, and how often chance alone is an alarm."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden_support import WORDS
from tympan.quality import TOLERANCE_POINTS, report, scores
from tympan.quality.golden import RunDetails, drawn
from tympan.quality.scoring import Counts, Pair, align, count, count_characters, rate_interval
from tympan.quality.verdict import ItemScore, Totals, compare, sign_test, total
from tympan.storage.golden import GoldenClip
from tympan.storage.golden_runs import GoldenResult, GoldenRun


def _said(errors: int, units: int = 10) -> ItemScore:
    return ItemScore(
        is_speech=True, words=Counts(units, errors, 0, 0, 1), characters=Counts(5 * units, errors, 0, 0, 1)
    )


def _silent(*, has_text: bool) -> ItemScore:
    return ItemScore(is_speech=False, has_text=has_text)


def _clip(idx: int, reference: str = WORDS, **fields: object) -> GoldenClip:
    kind = "speech" if reference else "silence"
    plain = {"language": "en", "speaker": None, "tags": (), "sha256": "", "n_bytes": 1}
    return GoldenClip(idx=idx, item=f"c{idx}", kind=kind, reference=reference, **plain | fields)  # type: ignore[arg-type]


def test_clips_are_compared_with_themselves() -> None:
    """Hard clips are no noise: thirty clips with very different errors, each one error worse, are worse."""
    then = {index: _said(index % 9) for index in range(30)}
    now = {index: _said(index % 9 + 1) for index in range(30)}
    found = compare(now, then, "run_1", TOLERANCE_POINTS)
    assert [found.difference_points, found.low_points] == pytest.approx([10.0, 10.0])
    assert found.worse_words
    assert compare(then, then, "run_1", TOLERANCE_POINTS).worse_words is False
    assert compare(then, now, "run_1", TOLERANCE_POINTS).worse_words is False


def test_a_small_difference_is_within_the_tolerance_however_sure() -> None:
    """One error in 400 words in every clip: sure, and not worth an alarm; with no tolerance it is one."""
    then = {index: _said(4, 400) for index in range(50)}
    now = {index: _said(5, 400) for index in range(50)}
    assert compare(now, then, "b", TOLERANCE_POINTS).worse_words is False
    assert compare(now, then, "b", 0.0).worse_words is True


def test_one_clip_that_broke_down_proves_nothing_about_the_others() -> None:
    """The interval of the difference reaches down to nothing, since most draws of the clips may miss it."""
    then = {index: _said(1) for index in range(20)}
    found = compare({**then, 7: _said(10)}, then, "b", TOLERANCE_POINTS)
    assert found.difference_points == pytest.approx(4.5)
    assert (found.low_points, found.worse_words) == (0.0, False)


def test_only_clips_of_both_runs_count() -> None:
    """A sample is compared with the same clips of the whole; nothing in common is no comparison."""
    then = {index: _said(0) for index in range(40)} | {90: _silent(has_text=False)}
    now = {index: _said(3) for index in range(30, 50)} | {91: _silent(has_text=True)}
    found = compare(now, then, "b", TOLERANCE_POINTS)
    assert (found.clips, found.silent, found.worse_words, found.worse_silence) == (10, 0, True, False)
    nothing = compare({1: _said(1)}, {2: _said(1)}, "b", TOLERANCE_POINTS)
    assert (nothing.difference_points, nothing.worse_words, nothing.chance) == (None, False, 1.0)


def test_text_out_of_silence_is_tested_exactly() -> None:
    """Six of six changes for the worse are no chance; six of seven are."""
    then = {index: _silent(has_text=index == 9) for index in range(10)}
    six = {index: _silent(has_text=index < 6 or index == 9) for index in range(10)}
    found = compare(six, then, "b", 0.5)
    assert (found.newly, found.cured, found.chance, found.worse_silence) == (6, 0, 1 / 64, True)
    cured = compare({**six, 9: _silent(has_text=False)}, then, "b", 0.5)
    assert (cured.newly, cured.cured, cured.worse_silence) == (6, 1, False)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_sign_test_is_a_probability_that_falls_with_the_evidence(worse: int, better: int) -> None:
    """And is one half or more when as many changed for the better."""
    chance = sign_test(worse, better)
    assert 0 < chance <= 1
    assert sign_test(worse + 1, better) < chance or chance == 1
    assert chance > 0.5 or worse > better


def test_a_difference_is_told_once_it_is_no_chance_and_matters() -> None:
    """1.5 points more errors, for sure 0.2 to 2.7: the interval need not lie above the tolerance as a whole."""
    then = {index: _said(2, 20) for index in range(60)}
    now = {index: _said(2 + (index % 5 == 0) * 2 - (index % 10 == 1), 20) for index in range(60)}
    found = compare(now, then, "b", TOLERANCE_POINTS)
    assert found.difference_points == pytest.approx(1.5)
    assert found.low_points is not None
    assert 0.0 < found.low_points < TOLERANCE_POINTS
    assert found.worse_words
    assert not compare(now, then, "b", 2.0).worse_words


def test_chance_alone_raises_an_alarm_in_fewer_than_one_of_a_hundred_weeks() -> None:
    """Errors that come and go by chance, as if every week another machine took over, in five hundred weeks.

    Half of the clips differ from the baseline by one or two errors, as often for the better as for the worse.
    """
    toss = random.Random(7)  # noqa: S311 (no secret)
    then = {index: _said(toss.choice((2, 3, 4, 6)), 12) for index in range(60)}
    alarms = 0
    for _ in range(500):
        now = {
            index: _said(score.words.errors + toss.choice((0, 0, 0, 0, 1, -1, 2, -2)), 12)
            for index, score in then.items()
        }
        alarms += compare(now, then, "b", TOLERANCE_POINTS).worse_words
    assert alarms < 5


def test_totals_pool_errors_and_survive_json() -> None:
    """All errors over all words, not the mean of clips."""
    found = total({1: _said(0, 30), 2: _said(5, 10), 3: _silent(has_text=True), 4: _silent(has_text=False)})
    assert found.words == Counts(40, 5, 0, 0, 2)
    assert (found.hallucination_rate, Totals().hallucination_rate) == (0.5, None)
    assert Totals.from_dict(found.as_dict()) == found


def test_scores_survive_json() -> None:
    """And tell of which model they are."""
    spoken = scores.score(_clip(1), "an stone bridge now", "en")
    assert spoken.words == Counts(4, 0, 1, 1, 1)
    assert spoken.characters.units == len("anoldstonebridge")
    quiet = scores.score(_clip(2, ""), " ... ", "en")
    assert (quiet.is_speech, quiet.has_text) == (False, False)
    assert scores.score(_clip(2, ""), "Thank you.", None).has_text
    for found in (spoken, quiet):
        assert scores.from_json(scores.to_json(found, "base")) == found
    results = [GoldenResult(i, "done", score=scores.to_json(quiet, model)) for i, model in enumerate(("a", "b", "b"))]
    assert scores.model_of([*results, GoldenResult(9, "failed", error="x")]) == "b"
    assert scores.model_of([]) is None


def test_characters_are_counted_without_blanks_and_texts_are_aligned() -> None:
    """After Whisper's normalisation."""
    assert count_characters(Pair("A bridge.", "a b ridge")).errors == 0
    assert count(Pair("a bridge", "a b ridge")).errors == 2
    chunks = align(Pair("An old stone bridge", "an bold stone bridge there"))
    assert [(each.kind, each.reference, each.hypothesis) for each in chunks] == [
        ("equal", ("an",), ("an",)), ("substitute", ("old",), ("bold",)),
        ("equal", ("stone", "bridge"), ("stone", "bridge")), ("insert", (), ("there",)),
    ]  # fmt: skip
    assert align(Pair("", "thank you")) == [("insert", (), ("thank", "you"))]
    assert align(Pair("", "")) == []


def test_the_interval_of_a_rate_holds_the_rate() -> None:
    """And is a point when all clips are alike."""
    low, high = rate_interval([Counts(10, n % 4, 0, 0, 1) for n in range(40)])
    assert low < 15 < high
    assert rate_interval([Counts(10, 1, 0, 0, 1)] * 5) == (10.0, 10.0)
    with pytest.raises(ValueError, match="No reference"):
        rate_interval([Counts()])


def _details() -> RunDetails:
    clips = [
        _clip(0, speaker="ann", tags=("phone", "noisy")), _clip(1, speaker="bob"), _clip(2, "", language=None),
        _clip(3, speaker="bob", tags=("phone",)), _clip(4),
    ]  # fmt: skip
    texts = ["an old stone bridge", "old bone bridge", "thank you", "an old bridge", None]
    results = [
        GoldenResult(4, "failed", error="corrupt_media") if text is None else
        GoldenResult(i, "done", text=text, language="en", score=scores.to_json(scores.score(clips[i], text, "en"), "m"))
        for i, text in enumerate(texts)
    ]  # fmt: skip
    run = GoldenRun("run_1", "calls", "gsv_1", "", "m", "succeeded", "request", 1.0, 2.0, 3.0, 5, 1)
    return RunDetails(run, 1, clips, results)


def test_a_run_is_parted_by_speaker_and_tag() -> None:
    """A clip with two tags counts for both; what failed counts for none."""
    parts = {
        each.name: (each.totals.words.clips, each.totals.words.errors) for each in report.groups(_details(), "tag")
    }
    assert parts == {"-": (1, 2), "noisy": (1, 0), "phone": (2, 1)}
    assert [each.name for each in report.groups(_details(), "speaker")] == ["-", "ann", "bob"]
    whole = report.summary(_details()).as_dict()
    assert (whole["clips"], whole["words"]["errors"], whole["hallucinated"], whole["without_speech"]) == (3, 3, 1, 1)
    assert whole["words_interval_percent"][0] <= 25.0 <= whole["words_interval_percent"][1]
    assert report.as_dict(_details())["version"] == 1


def test_the_worst_come_first_with_their_words_side_by_side() -> None:
    """What failed, then what has most errors; what is right is not shown."""
    found = report.worst(_details(), 10)
    assert [each.clip.item for each in found] == ["c4", "c1", "c2", "c3"]
    assert found[0].error == "corrupt_media"
    assert [chunk["kind"] for chunk in found[1].as_dict()["alignment"]] == ["delete", "equal", "substitute", "equal"]
    assert len(report.worst(_details(), 1)) == 1


def test_a_sample_is_drawn_by_the_week() -> None:
    """Another week, another draw; all clips without speech each time."""
    clips = [*(_clip(i) for i in range(50)), _clip(50, "")]
    monday, sunday, later = 1_795_392_000.0, 1_795_392_000.0 + 6 * 86_400, 1_795_392_000.0 + 8 * 86_400
    assert drawn(clips, 10, "a", monday) == drawn(clips, 10, "a", sunday)
    assert drawn(clips, 10, "a", monday) != drawn(clips, 10, "a", later)
    assert len(drawn(clips, 10, "a", monday)) == 11
    assert 50 in drawn(clips, 10, "a", later)
    assert drawn(clips, None, "a", monday) == drawn(clips, 99, "a", monday) == list(range(51))
