"""The benchmark of live speech: how delays are counted, judged and printed."""

from typing import Any

import pytest

from benchmarks.live import latency_checks
from benchmarks.live_streams import Seen, delays
from benchmarks.render import page
from tympan.domain import Segment, Word
from tympan.live import Final, Partial, SpeechStarted


def words(text: str, from_s: float = 0.0) -> tuple[Word, ...]:
    """Return words of half a second each."""
    return tuple(Word(f" {name}", from_s + at / 2, from_s + (at + 1) / 2, 0.9) for at, name in enumerate(text.split()))


def final(text: str, utterance: int = 0, start_s: float = 0.0, end_s: float = 3.0) -> Final:
    """Return a final."""
    return Final(utterance, start_s, end_s, text, (Segment(0, start_s, end_s, text),), "en")


def test_a_word_is_late_by_the_time_from_its_end_until_a_partial_has_it() -> None:
    """Shown, stable and final are counted apart; what partials misheard is counted, not timed."""
    seen = [
        Seen(0.2, SpeechStarted(0, 0.0)),
        Seen(0.8, Partial(0, words("the"), 0)),
        Seen(1.4, Partial(0, words("the cat"), 1)),
        Seen(2.0, Partial(0, words("the cat mat"), 2)),
        Seen(2.5, final("the cat sat")),
    ]
    found = delays(seen, words("the cat sat"))
    assert found.shown == pytest.approx([0.3, 0.4])
    assert found.stable == pytest.approx([0.9, 1.0])
    assert found.final == pytest.approx([1.0])
    assert (found.words, found.only_final, found.never_shown) == (3, 1, 0)
    assert (found.stable_words, found.stable_changed) == (2, 0)


def test_a_word_is_not_read_before_it_is_said() -> None:
    """An earlier word of the same spelling does not count for a later one."""
    seen = [Seen(0.4, Partial(0, words("no"), 0)), Seen(2.0, final("no way no"))]
    found = delays(seen, words("no way no"))
    assert found.shown == pytest.approx([-0.1])
    assert (found.only_final, found.never_shown) == (2, 0)


def test_words_that_nobody_hears_and_words_that_change_are_counted() -> None:
    """A stable word that the final has not, and a said word that nothing has."""
    seen = [Seen(1.0, Partial(0, words("a dog"), 2)), Seen(2.0, final("a cat"))]
    found = delays(seen, words("a bird"))
    assert (found.words, found.never_shown, found.stable_words, found.stable_changed) == (2, 1, 2, 1)


def test_utterances_are_counted_apart() -> None:
    """Words belong to the utterance that they lie in."""
    seen = [Seen(1.0, final("one", 0, 0.0, 0.6)), Seen(4.0, final("two", 1, 2.0, 2.6))]
    found = delays(seen, [*words("one"), *words("two", 2.0)])
    assert found.final == pytest.approx([0.5, 1.5])


def row(streams: int, p95_s: float) -> dict[str, Any]:
    """Return a row as it is measured."""
    spread = {"median": p95_s / 2, "p95": p95_s, "max": p95_s, "n": 10}
    return {
        "streams": streams,
        **dict.fromkeys(("shown_s", "stable_s", "final_s"), spread),
        "words": 10,
        "only_final": 1,
        "never_shown": 0,
        "stable_words": 8,
        "stable_changed": 1,
        "counts": {"partials": 20, "late_partials": 2},
    }


def test_goals_are_judged_on_one_stream_and_streams_are_counted() -> None:
    """The most streams that keep both goals."""
    checks = latency_checks([row(1, 0.5), row(4, 0.9), row(8, 1.2)])
    assert [check.met for check in checks] == [True, True, True]
    assert checks[2].measured == "4 (tried 1, 4, 8)"
    assert [check.met for check in latency_checks([row(1, 1.2)])] == [False, True, False]


def test_the_page_has_a_row_for_every_number_of_streams() -> None:
    """And the parts that were measured, no others."""
    document = {
        "name": "live",
        "date": "2030-01-01T00:00:00",
        "machine": {"cpu": "x", "cores": 2, "ram_gib": 8, "kernel": "6"},
        "versions": {"onnxruntime": "1", "ctranslate2": "4", "faster-whisper": "1"},
        "git_commit": "0" * 40,
        "git_dirty": False,
        "command": "python -m benchmarks.run live",
        "checks": [],
        "result": {"track_s": 45.0, "gap_s": 1.2, "latency": [row(1, 0.5), row(4, 0.9)]},
    }
    text = page(document)
    assert "| 4 | 0.45 / 0.90 / 0.90 |" in text
    assert "12.5 %" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in lines if "0.45" in line or "streams" in line}) == 1
    assert "Final text" not in text
