"""The benchmarks' arithmetic: what is counted, pooled, resampled and refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scoring import Clip, SetError, licences, load_set
from benchmarks.wer_eval import report_on
from tympan.quality.scoring import Counts, Pair, count, paired_bootstrap, score, units


def write_manifest(folder: Path, *rows: dict[str, object]) -> Path:
    """Write a set named ``s`` with an empty audio file for each row; return the corpus folder."""
    (folder / "s").mkdir()
    for row in rows:
        (folder / "s" / str(row["audio"])).write_bytes(b"")
    (folder / "s" / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return folder


def row(**changes: object) -> dict[str, object]:
    """Return a complete manifest row."""
    whole: dict[str, object] = {"id": "ls-1", "audio": "a.wav", "duration_s": 2.5, "language": "en", "reference": "hi"}
    return {**whole, **changes}


def test_a_manifest_becomes_clips_in_its_order(tmp_path: Path) -> None:
    """Every line is a clip; keys that are not needed are ignored."""
    corpus = write_manifest(tmp_path, row(extra=[1]), row(id="lj001-2", audio="b.wav", reference=None, license="CC0"))
    first, second = load_set(corpus, "s")
    assert first == Clip("ls-1", tmp_path / "s" / "a.wav", 2.5, "en", "hi")
    assert (second.id, second.reference, second.source, second.license) == ("lj001-2", None, "lj", "CC0")
    assert licences([first, second, second]) == ["CC0"]


def test_a_clip_without_speech_has_no_language(tmp_path: Path) -> None:
    """``none`` is the manifest's word for nothing spoken; it is no language to ask a server for."""
    (clip,) = load_set(write_manifest(tmp_path, row(language="none", reference="")), "s")
    assert clip.language is None
    assert clip.reference == ""


def test_a_missing_set_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """The error names the file and the option."""
    with pytest.raises(SetError, match=r"manifest\.jsonl.*--corpus"):
        load_set(tmp_path, "s")


def test_a_row_without_a_key_is_refused_by_line(tmp_path: Path) -> None:
    """The error names the line and the key."""
    broken = row()
    del broken["duration_s"]
    with pytest.raises(SetError, match=r"line 1: duration_s missing"):
        load_set(write_manifest(tmp_path, broken), "s")


def test_a_row_without_its_audio_is_refused(tmp_path: Path) -> None:
    """A clip that cannot be sent is found before any measuring starts."""
    corpus = write_manifest(tmp_path, row())
    (corpus / "s" / "a.wav").unlink()
    with pytest.raises(SetError, match=r"there is no .*a\.wav"):
        load_set(corpus, "s")


def test_english_is_normalised_as_whisper_does() -> None:
    """Case, punctuation, contractions and number words do not count as errors."""
    assert count(Pair("Mister Hale, it's twenty-one.", "mr hale it is 21")).errors == 0


def test_other_languages_keep_their_letters() -> None:
    """The basic normaliser drops case and punctuation, not umlauts."""
    assert units("Schöne Grüße!", "de") == ["schöne", "grüße"]


@pytest.mark.parametrize("language", ["zh", "ja"])
def test_languages_without_spaces_are_scored_by_character(language: str) -> None:
    """Spaces do not matter, a wrong character is one error of four."""
    assert count(Pair("今天 天气", "今天天汽", language)) == Counts(units=4, substitutions=1, clips=1)


def test_each_kind_of_error_is_told_apart() -> None:
    """One word replaced, one left out, one added."""
    assert count(Pair("red green blue black", "red grey blue")).deletions == 1
    assert count(Pair("red green blue black", "red grey blue")).substitutions == 1
    assert count(Pair("red green", "red green blue")) == Counts(units=2, insertions=1, clips=1)


def test_text_for_an_empty_reference_is_all_insertions() -> None:
    """A clip in which nobody speaks adds errors and no reference words."""
    counts = count(Pair("", "thank you for watching"))
    assert (counts.units, counts.insertions, counts.rate) == (0, 4, 100.0)
    assert count(Pair("", "")).rate == 0.0


def test_an_empty_hypothesis_is_all_deletions() -> None:
    """A server that answers nothing has an error rate of 100 %."""
    counts = count(Pair("three words here", ""))
    assert (counts.deletions, counts.rate) == (3, 100.0)


def test_the_pooled_rate_weighs_clips_by_their_words() -> None:
    """One error in one word and none in nine is 10 %, not 50 %."""
    pooled = score([("word", "bird", "en"), ("one two three four five six seven eight nine",) * 2 + ("en",)])
    assert pooled.clips == 2
    assert pooled.rate == pytest.approx(100.0 * pooled.errors / pooled.units)
    assert pooled.errors == 1


def test_the_difference_has_the_sign_of_the_worse_side() -> None:
    """Positive means that the first system errs more; it is in points of the pooled rate."""
    refs, wrong = ["red green blue black"] * 20, ["red green blue white"] * 20
    worse = paired_bootstrap(refs, wrong, refs, resamples=200)
    assert worse.difference_points == pytest.approx(25.0)
    assert (worse.low_points, worse.high_points, worse.share_above_zero) == (25.0, 25.0, 1.0)
    assert paired_bootstrap(refs, refs, wrong, resamples=200).difference_points == pytest.approx(-25.0)


def test_the_interval_covers_the_difference_and_repeats() -> None:
    """One error in twenty clips is uncertain: the interval includes none and more; the seed makes it repeatable."""
    refs = ["red green blue black"] * 20
    hyps = ["red green blue white", *refs[1:]]
    once, again = (paired_bootstrap(refs, hyps, refs) for _ in range(2))
    assert once == again
    assert once.low_points == 0.0 < once.difference_points < once.high_points
    assert once.resamples == 10_000


def test_lists_of_different_length_are_refused() -> None:
    """A shifted list would pair texts with other clips' references."""
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap(["a"], ["a", "b"], ["a"])


def test_references_without_words_are_refused() -> None:
    """There is no rate to compare."""
    with pytest.raises(ValueError, match="No reference"):
        paired_bootstrap([""], ["a"], ["b"])


@given(st.lists(st.integers(0, 30), min_size=4, max_size=4), st.lists(st.integers(0, 30), min_size=4, max_size=4))
def test_pooling_adds_every_field(first: list[int], second: list[int]) -> None:
    """Pooled errors are the sum of errors, in any order."""
    a, b = Counts(*first), Counts(*second)
    assert (a + b).errors == a.errors + b.errors
    assert a + b == b + a
    assert (a + b).units == a.units + b.units


def test_a_report_leaves_out_clips_without_a_reference(tmp_path: Path) -> None:
    """They can be transcribed but not scored; the others are grouped by source."""
    known = Clip("ls-1", tmp_path, 1.0, "en", "red green")
    unknown = Clip("lj-1", tmp_path, 1.0, "en", None)
    report = report_on([known, unknown], ["red", "blue"])
    assert report.pooled == Counts(units=2, deletions=1, clips=1)
    assert list(report.by(lambda clip: clip.source)) == ["ls"]
    assert report.worst(1)[0][1] == "red"
    assert "50.00 %" in report.describe()
