"""Window results to one transcript: times in the source, segments, words, tokens and the account of seconds."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tympan.domain import (
    SAMPLE_RATE_HZ,
    SPEAKER_TURN,
    DecodeStats,
    Options,
    Piece,
    Segment,
    Task,
    Timestamps,
    TokenChance,
    Transcript,
    Window,
    WindowResult,
    Word,
)
from tympan.transcript import Totals, assemble, segments_of, source_time_s

ENGLISH = (("en", 0.9), ("de", 0.06))


def window(*pieces_s: tuple[float, float], index: int = 0) -> Window:
    """Return a window of pieces given as start and end in the source, in seconds."""
    pieces, at = list[Piece](), 0
    for start_s, end_s in pieces_s:
        n_samples = round((end_s - start_s) * SAMPLE_RATE_HZ)
        pieces.append(Piece(at, round(start_s * SAMPLE_RATE_HZ), n_samples))
        at += n_samples
    return Window(index, np.zeros(at, np.int16), tuple(pieces))


def word(text: str, start_s: float, end_s: float, *tokens: int) -> Word:
    """Return a word at a time of its window."""
    return Word(text, start_s, end_s, 0.9, tokens)


def result(*words: Word, text: str | None = None, tokens: tuple[int, ...] = (1, 2)) -> WindowResult:
    """Return what an engine said, with or without word times."""
    return WindowResult(
        text="".join(w.text for w in words) if text is None else text,
        tokens=tuple(t for w in words for t in w.tokens) or tokens,
        language="en",
        language_probabilities=ENGLISH,
        avg_logprob=-0.3,
        no_speech_prob=0.02,
        compression_ratio=1.2,
        temperature=0.2,
        full_context=True,
        words=words,
    )


def join(
    *parts: tuple[Window, WindowResult], timestamps: Timestamps = Timestamps.WORD, audio_s: float = 100.0
) -> Transcript:
    """Return the transcript of some windows."""
    totals = Totals(round(audio_s * SAMPLE_RATE_HZ), 20 * SAMPLE_RATE_HZ, "demo", DecodeStats(windows=len(parts)))
    return assemble(parts, ENGLISH, Options(timestamps=timestamps), totals)


def spoken(texts: Sequence[str], each_s: float = 0.5, gap_s: float = 0.0) -> list[Word]:
    """Return words one after the other, each with a token of its own."""
    return [word(text, n * (each_s + gap_s), n * (each_s + gap_s) + each_s, n) for n, text in enumerate(texts)]


THREE = window((10, 12), (20, 21), (50, 53))


@pytest.mark.parametrize(
    ("time_s", "start_s", "end_s"),
    [
        (0.0, 10.0, 10.0),
        (1.5, 11.5, 11.5),
        (2.0, 20.0, 12.0),
        (2.25, 20.25, 20.25),
        (3.0, 50.0, 21.0),
        (5.5, 52.5, 52.5),
        (6.0, 53.0, 53.0),
        (9.0, 53.0, 53.0),
        (-0.5, 10.0, 10.0),
    ],
)
def test_a_time_in_the_window_has_its_place_in_the_source(time_s: float, start_s: float, end_s: float) -> None:
    """At a seam, an end belongs to the piece before and a start to the piece after; nothing lies outside."""
    assert source_time_s(THREE, time_s) == start_s
    assert source_time_s(THREE, time_s, is_end=True) == end_s


def test_words_stay_inside_the_piece_they_start_in() -> None:
    """A word that the model stretches over a cut silence ends where its piece ends."""
    transcript = join((THREE, result(word(" one", 1.5, 2.5), word(" two", 2.5, 3.0), word(" three", 3.0, 3.4))))
    assert [(w.text, w.start_s, w.end_s) for w in transcript.words] == [
        (" one", 11.5, 12.0),
        (" two", 20.5, 21.0),
        (" three", 50.0, 50.4),
    ]


def test_times_never_run_backwards() -> None:
    """Words beyond the audio, empty words and seams: start <= end, and starts in order."""
    words = [word(" a", 0.0, 0.0), word(" b", 1.9, 2.0), word(" c", 2.0, 2.0), word(" d", 5.9, 6.4), word(" e", 6.4, 7)]
    transcript = join((THREE, result(*words)))
    assert all(w.start_s <= w.end_s <= 53.0 for w in transcript.words)
    starts = [w.start_s for w in transcript.words]
    assert starts == sorted(starts)


def texts(transcript: Transcript) -> list[str]:
    """Return the segments' texts."""
    return [segment.text for segment in transcript.segments]


@pytest.mark.parametrize("mark", [".", "?", "!", "。", "？", "…", "।", "؟"])
def test_a_sentence_is_a_segment(mark: str) -> None:
    """Marks of many scripts end one."""
    transcript = join((window((0, 10)), result(*spoken([" So", f" it{mark}", " And", " on"]))))
    assert texts(transcript) == [f" So it{mark}", " And on"]


def test_a_turn_of_speakers_ends_a_segment() -> None:
    """As a model marked it, in the middle of a sentence or behind its end."""
    words = [" So", " it", f" is{SPEAKER_TURN}", " Is", f" it?{SPEAKER_TURN}", " Yes"]
    transcript = join((window((0, 10)), result(*spoken(words))))
    assert texts(transcript) == [f" So it is{SPEAKER_TURN}", f" Is it?{SPEAKER_TURN}", " Yes"]


def test_a_comma_ends_a_segment_only_when_it_is_long_already() -> None:
    """Short clauses stay together, after seven seconds the next comma is taken."""
    short = join((window((0, 20)), result(*spoken([" so,", " and", " on"]))))
    assert texts(short) == [" so, and on"]
    long = join((window((0, 20)), result(*spoken([" w"] * 4 + [" w,"] + [" w"] * 10 + [" w,"] + [" w"] * 2))))
    assert [text.count("w") for text in texts(long)] == [16, 2]


def test_a_pause_ends_a_segment() -> None:
    """Over a second of silence between two words, in the window or cut out of it."""
    inside = join((window((0, 20)), result(word(" a", 0, 1), word(" b", 2.0, 3), word(" c", 4.1, 5))))
    assert texts(inside) == [" a b", " c"]
    cut_out = join(
        (window((0, 1), (1.8, 3), (9, 10)), result(word(" a", 0, 1), word(" b", 1, 2.2), word(" c", 2.2, 3)))
    )
    assert texts(cut_out) == [" a b", " c"]
    assert [(s.start_s, s.end_s) for s in cut_out.segments] == [(0.0, 3.0), (9.0, 9.8)]


def test_talk_without_marks_is_split_by_length() -> None:
    """No segment is longer than fifteen seconds, and no word is lost."""
    transcript = join((window((0, 28)), result(*spoken([" w"] * 56))))
    assert len(transcript.segments) == 2
    assert all(segment.end_s - segment.start_s <= 15.0 for segment in transcript.segments)
    assert transcript.text == " ".join(["w"] * 56)


def test_without_word_times_a_window_is_a_segment_over_all_its_pieces() -> None:
    """Times, tokens and confidence come from the window."""
    transcript = join((THREE, result(text=" Hello. There.", tokens=(4, 5))), timestamps=Timestamps.NONE)
    (segment,) = transcript.segments
    unrated = replace(segment, confidence=None, hallucination_score=None)
    assert unrated == Segment(0, 10.0, 53.0, " Hello. There.", (4, 5), 0.2, -0.3, 1.2, 0.02)


def test_words_are_given_only_when_asked_for() -> None:
    """Segments are cut by word times either way."""
    part = (window((0, 10)), result(*spoken([" So", " it.", " And", " on"])))
    with_words, without = join(part), join(part, timestamps=Timestamps.SEGMENT)
    assert [w.text for w in with_words.words] == [" So", " it.", " And", " on"]
    assert without.words == ()
    assert [replace(segment, words=()) for segment in with_words.segments] == list(without.segments)


def test_a_segment_has_the_tokens_of_its_words() -> None:
    """No token is lost or given twice."""
    transcript = join(
        (window((0, 10)), result(word(" So", 0, 1, 1, 2), word(" it.", 1, 2, 3), word(" On", 2, 3, 4, 5)))
    )
    assert [segment.tokens for segment in transcript.segments] == [(1, 2, 3), (4, 5)]


def test_windows_follow_one_another_with_segments_numbered_through() -> None:
    """An empty window leaves no segment and no gap in the numbers."""
    transcript = join(
        (window((0, 5)), result(*spoken([" One.", " Two."]))),
        (window((10, 15), index=1), result(text="")),
        (window((20, 25), index=2), result(*spoken([" Three."]))),
    )
    assert [(s.id, s.text, s.start_s) for s in transcript.segments] == [
        (0, " One.", 0.0),
        (1, " Two.", 0.5),
        (2, " Three.", 20.0),
    ]
    assert transcript.text == "One. Two. Three."


def test_languages_without_spaces_are_joined_without_any() -> None:
    """The engine's texts bring their own spaces, so Japanese gets none."""
    transcript = join(
        (window((0, 5)), result(*spoken(["今日は", "晴れ。", "明日", "も"]))),
        (window((10, 15), index=1), result(text="晴れです。")),
    )
    assert texts(transcript) == ["今日は晴れ。", "明日も", "晴れです。"]
    assert transcript.text == "今日は晴れ。明日も晴れです。"


def test_every_second_is_accounted_for() -> None:
    """All audio, what VAD called speech, what no window held, and what the text covers."""
    transcript = join(
        (window((0, 5), (6, 8)), result(*spoken([" a", " b."], each_s=1.0))),
        (window((10, 13), index=1), result(text=" c")),
        audio_s=30.0,
    )
    account = transcript.accounting
    assert (account.audio_s, account.speech_s) == (30.0, 20.0)
    assert account.dropped_s == 30.0 - 7.0 - 3.0
    assert account.covered_s == pytest.approx(2.0 + 3.0)
    assert transcript.duration_s == 30.0


def test_nothing_is_dropped_when_windows_hold_more_than_the_audio() -> None:
    """The last frame's padding never makes the account negative."""
    assert join((window((0, 5)), result(text=" c")), audio_s=4.99).accounting.dropped_s == 0


def test_no_windows_give_an_empty_transcript() -> None:
    """Silence is a result: no text, no segment, everything dropped."""
    totals = Totals(5 * SAMPLE_RATE_HZ, 0, "demo")
    transcript = assemble([], (), Options(language="fr"), totals)
    assert (transcript.text, transcript.segments, transcript.words) == ("", (), ())
    assert (transcript.language, transcript.language_probability, transcript.languages) == ("fr", 0.0, ())
    assert transcript.accounting.dropped_s == transcript.accounting.audio_s == 5.0


def test_language_task_and_model_are_told() -> None:
    """The first language is the one used; runners-up stay visible."""
    totals = Totals(16_000, 16_000, "demo", DecodeStats(windows=3, fallbacks=1))
    transcript = assemble([], ENGLISH, Options(task=Task.TRANSLATE), totals)
    assert (transcript.language, transcript.language_probability, transcript.languages) == ("en", 0.9, ENGLISH)
    assert (transcript.task, transcript.model, transcript.stats) == (Task.TRANSLATE, "demo", totals.stats)


# ---------------------------------------------------------------------------------------------------------- confidence


def test_each_segment_is_as_sure_as_its_own_words() -> None:
    """Two sentences of one window: the one whose words were likely has more confidence and less of a doubt."""
    sure, unsure = word(" Yes.", 0.0, 1.0, 1), replace(word(" Maybe so.", 1.0, 2.0, 2), probability=0.3)
    first, second = join((window((0.0, 2.0)), result(sure, unsure))).segments
    assert first.confidence == pytest.approx(0.9, abs=0.03)
    assert second.confidence == pytest.approx(0.3, abs=0.05)
    assert (first.hallucination_score or 1.0) < (second.hallucination_score or 0.0)


def test_without_words_a_segment_is_as_sure_as_its_window() -> None:
    """The mean log-probability of the whole text is all there is."""
    (segment,) = join((window((0.0, 2.0)), result(text=" Yes."))).segments
    assert segment.confidence == pytest.approx(np.exp(-0.3), abs=0.03)


def test_silence_under_the_text_counts_against_it() -> None:
    """The same words over sound that is no speech have less confidence."""
    spoken, quiet = window((0.0, 2.0)), replace(window((0.0, 2.0)), speech_peak=0.05)
    over = [join((place, result(text=" Yes."))).segments[0] for place in (spoken, quiet)]
    assert (over[0].hallucination_score or 1.0) < 0.1 < (over[1].hallucination_score or 0.0)
    assert (over[0].confidence or 0.0) > (over[1].confidence or 1.0)


def test_text_that_the_model_does_not_rate_has_no_confidence() -> None:
    """Nothing is known of how sure it was; what else speaks against the text still counts."""
    unrated = replace(result(text=" Yes."), avg_logprob=0.0, is_rated=False)
    (segment,) = join((window((0.0, 2.0)), unrated)).segments
    assert segment.confidence is None
    assert segment.hallucination_score is not None


def test_chances_of_tokens_go_with_the_words_that_they_spell() -> None:
    """A segment has those of its words; without words the window is one segment and has them all."""
    chances = tuple(TokenChance(tuple(f" {n}.".encode()), -n / 10) for n in range(4))
    words = (Word(" 0. 1.", 0.0, 1.0, 0.9, (0, 1)), Word(" 2.", 1.0, 1.5, 0.9, (2,)), Word(" 3.", 1.5, 2.0, 0.9, (3,)))
    said = WindowResult(
        " 0. 1. 2. 3.",
        (0, 1, 2, 3),
        "en",
        (),
        -0.1,
        0.0,
        1.0,
        0.0,
        full_context=True,
        words=words,
        token_chances=chances,
    )
    spoken = segments_of(window((0.0, 2.0)), said, Options())
    assert [segment.token_chances for segment in spoken] == [chances[:2], chances[2:3], chances[3:]]
    whole = segments_of(window((0.0, 2.0)), replace(said, words=()), Options())
    assert [segment.token_chances for segment in whole] == [chances]
