"""The ladder of attempts at a window: when to climb, what to try, when to stop and which result to keep."""

from dataclasses import replace

import numpy as np
import pytest

from tympan import fallback
from tympan.confidence.repetition import is_said_twice, repeats
from tympan.domain import Abilities, DecodeParams, Options, Task, Timestamps, Window, WindowResult

GOOD = WindowResult(
    text=" Hello.",
    tokens=(1, 2, 3),
    language="en",
    language_probabilities=(("en", 0.9),),
    avg_logprob=-0.2,
    no_speech_prob=0.01,
    compression_ratio=1.1,
    temperature=0.0,
    full_context=False,
)
GUESS = replace(GOOD, avg_logprob=-1.4)
LOOP = replace(GOOD, compression_ratio=2.5)
UNSURE = fallback.SURE_WHEN_SPLICED - 0.1


def window(speech_peak: float = 1.0, duration_s: float = 1.0) -> Window:
    """Return a window in which somebody speaks, or hardly."""
    return Window(0, np.zeros(round(duration_s * 16_000), np.int16), (), speech_peak)


def test_a_model_without_temperatures_climbs_no_ladder() -> None:
    """A guess at full context is what it has to say."""
    can = Abilities(temperatures=False)
    guess = replace(GUESS, full_context=True)
    assert len(climb(guess, fallback.within(Options(), can))) == 1
    assert len(climb(guess, fallback.within(Options(), Abilities()))) > 1


def climb(result: WindowResult, options: Options | None = None) -> list[DecodeParams]:
    """Return every attempt made when each of them ends as badly as ``result``."""
    chosen = options or Options()
    attempts = [fallback.first_attempt(chosen, None)]
    while len(attempts) < 50:
        last = attempts[-1]
        got = replace(result, full_context=result.full_context or last.full_context, temperature=last.temperature)
        following = fallback.next_attempt(window(), last, got, chosen)
        if following is None:
            return attempts
        attempts.append(following)
    raise AssertionError("The ladder has no end.")


def rungs(result: WindowResult, options: Options | None = None) -> list[tuple[bool, float]]:
    """Return full context and temperature of every attempt."""
    return [(params.full_context, params.temperature) for params in climb(result, options)]


def test_the_first_attempt_is_what_was_asked_for() -> None:
    """Every option of the decoder is passed on; word or segment times ask for alignment."""
    options = Options(
        task=Task.TRANSLATE,
        prompt="p",
        hotwords="h",
        beam_size=3,
        best_of=2,
        temperature=0.4,
        timestamps=Timestamps.NONE,
    )
    expected = DecodeParams(Task.TRANSLATE, "fr", "p", "h", 3, 2, 0.4, full_context=False, align=False)
    assert fallback.first_attempt(options, "fr") == expected
    assert fallback.first_attempt(replace(options, timestamps=Timestamps.SEGMENT), None).align
    assert fallback.first_attempt(replace(options, timestamps=Timestamps.WORD), None).align


def test_a_good_result_is_not_tried_again() -> None:
    """One attempt, with or without the full context."""
    assert rungs(GOOD) == [(False, 0.0)]
    assert rungs(replace(GOOD, full_context=True)) == [(False, 0.0)]


BAD = {
    "guess": GUESS,
    "compresses": LOOP,
    "token cap": replace(GOOD, hit_token_cap=True),
    "repeats": replace(GOOD, tokens=(5, 6, 7) * 6),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_result_climbs_full_context_first_then_temperature(bad: WindowResult) -> None:
    """The context comes back before any dice are thrown, and 1.0 is the top."""
    assert rungs(bad) == [(False, 0.0), (True, 0.0), (True, 0.2), (True, 0.4), (True, 0.6), (True, 0.8), (True, 1.0)]


def test_a_result_that_had_the_full_context_goes_on_to_temperature() -> None:
    """An engine that never shortened the context is not asked the same thing twice."""
    assert rungs(replace(GUESS, full_context=True))[:2] == [(False, 0.0), (True, 0.2)]


def test_without_fallback_only_the_context_is_mended() -> None:
    """The caller's temperature stays; the shortened context was not the caller's choice."""
    assert rungs(GUESS, Options(temperature_fallback=False)) == [(False, 0.0), (True, 0.0)]
    assert rungs(replace(GUESS, full_context=True), Options(temperature_fallback=False)) == [(False, 0.0)]


def test_the_ladder_starts_at_the_callers_temperature() -> None:
    """From 0.5 there are two steps left, from 1.0 none."""
    assert rungs(GUESS, Options(temperature=0.5)) == [(False, 0.5), (True, 0.5), (True, 0.7), (True, 0.9)]
    assert rungs(GUESS, Options(temperature=1.0)) == [(False, 1.0), (True, 1.0)]


def test_the_caller_says_what_is_bad() -> None:
    """Both thresholds are options."""
    lenient = Options(logprob_threshold=-2.0, compression_ratio_threshold=3.0)
    assert rungs(GUESS, lenient) == rungs(LOOP, lenient) == [(False, 0.0)]
    strict = Options(logprob_threshold=-0.1)
    assert len(rungs(GOOD, strict)) > 1


def test_another_attempt_keeps_the_language_that_was_heard() -> None:
    """The language is detected once per window, and everything else stays as asked."""
    attempts = climb(replace(GUESS, language="de"), Options(prompt="p", beam_size=2))
    assert [params.language for params in attempts[1:]] == ["de"] * (len(attempts) - 1)
    assert {(params.prompt, params.beam_size) for params in attempts} == {("p", 2)}


@pytest.mark.parametrize(
    ("language", "avg_logprob", "expected"),
    [
        ("de", UNSURE, [(False, 0.0), (True, 0.0)]),
        ("en", UNSURE, [(False, 0.0)]),
        ("de", fallback.SURE_WHEN_SPLICED, [(False, 0.0)]),
    ],
)
def test_only_other_languages_than_english_need_certainty_at_a_shortened_context(
    language: str, avg_logprob: float, expected: list[tuple[bool, float]]
) -> None:
    """Unsure German is decoded again at full context, and no further; English is not."""
    assert rungs(replace(GOOD, language=language, avg_logprob=avg_logprob)) == expected


def test_no_text_is_not_decoded_again_for_certainty() -> None:
    """An empty window in German stays empty."""
    assert rungs(replace(GOOD, language="de", avg_logprob=UNSURE, tokens=(), text="")) == [(False, 0.0)]


@pytest.mark.parametrize(
    ("speech_peak", "no_speech_prob", "avg_logprob", "expected"),
    [
        (1.0, 0.9, -1.4, True),
        (1.0, 0.9, -0.9, False),
        (1.0, 0.6, -1.4, False),
        (1.0, 0.0, -5.0, False),
        (0.1, 0.0, -0.5, True),
        (0.1, 0.0, -0.3, False),
        (0.1, 0.9, -0.3, False),
        (0.2, 0.0, -0.5, False),
    ],
)
def test_silence(speech_peak: float, no_speech_prob: float, avg_logprob: float, expected: bool) -> None:  # noqa: FBT001
    """The model's doubt and its word for silence together, or VAD's word and a lesser doubt."""
    result = replace(GOOD, no_speech_prob=no_speech_prob, avg_logprob=avg_logprob)
    assert fallback.is_silence(window(speech_peak), result, Options()) is expected


def test_a_loop_where_nobody_speaks_is_tried_at_full_context_and_then_counts_as_silence() -> None:
    """Noise makes confident loops; speech that the detection missed gets its one chance."""
    options, quiet = Options(), window(0.1)
    first = fallback.first_attempt(options, "en")
    again = fallback.next_attempt(quiet, first, LOOP, options)
    assert again is not None
    assert (again.full_context, again.temperature) == (True, 0.0)
    whole = replace(LOOP, full_context=True)
    assert fallback.next_attempt(quiet, again, whole, options) is None
    assert fallback.is_silence(quiet, fallback.best_of(quiet, [LOOP, whole], options), options)
    sound = replace(GOOD, full_context=True)
    assert not fallback.is_silence(quiet, fallback.best_of(quiet, [LOOP, sound], options), options)
    assert not fallback.is_silence(window(), whole, options)


def test_silence_is_not_decoded_again() -> None:
    """Raising the temperature over silence only makes text up."""
    silent = replace(GUESS, no_speech_prob=0.9)
    first = fallback.first_attempt(Options(), None)
    assert fallback.next_attempt(window(), first, silent, Options()) is None
    assert fallback.next_attempt(window(0.1), first, replace(LOOP, avg_logprob=-0.5), Options()) is None
    assert fallback.next_attempt(window(), first, replace(LOOP, avg_logprob=-0.5), Options()) is not None


COUNTED = tuple(token for n in range(40) for token in (1, 100 + n, 2))

LOOPS = {
    "one token, 12 times": (7,) * 12,
    "pair, 6 times": (7, 8) * 6,
    "three, 4 times": (7, 8, 9) * 4,
    "after good text": (1, 2, 3, 4, 5, *(7, 8, 9, 10) * 4),
    "before good text": (*(7, 8, 9, 10) * 4, 1, 2, 3, 4, 5),
    "24 tokens, 4 times": tuple(range(24)) * 4,
    "cut off in the middle": (*(7, 8, 9, 10) * 4, 7, 8),
}
NO_LOOPS = {
    "nothing": (),
    "no no no": (7, 7, 7),
    "eleven times one token": (7,) * 11,
    "five pairs": (7, 8) * 5,
    "a sentence said three times": tuple(range(10)) * 3,
    "almost four times": (*tuple(range(10)) * 3, *range(9)),
    "25 tokens, 4 times": tuple(range(25)) * 4,
    "a counted list": COUNTED,
    "a refrain with verses between": tuple(x for n in range(6) for x in (1, 2, 3, 4, 200 + n)),
    "all different": tuple(range(200)),
}


@pytest.mark.parametrize("tokens", LOOPS.values(), ids=LOOPS.keys())
def test_a_phrase_said_over_and_over_is_a_loop(tokens: tuple[int, ...]) -> None:
    """Four times in a row and twelve tokens at least, wherever in the text."""
    assert repeats(tokens)


@pytest.mark.parametrize("tokens", NO_LOOPS.values(), ids=NO_LOOPS.keys())
def test_what_people_say_is_no_loop(tokens: tuple[int, ...]) -> None:
    """Emphasis, lists and refrains pass."""
    assert not repeats(tokens)


def test_the_likeliest_result_is_kept() -> None:
    """Whatever its place on the ladder."""
    worse, better = replace(GUESS, avg_logprob=-1.8), replace(GUESS, temperature=0.4)
    assert fallback.best_of(window(), [worse, better, worse], Options()) is better


def test_a_likely_loop_loses_against_any_other_text() -> None:
    """Loops are sure of themselves, so certainty does not count among them and text."""
    assert fallback.best_of(window(), [LOOP, GUESS], Options()) is GUESS
    assert fallback.best_of(window(), [LOOP, GUESS], Options(compression_ratio_threshold=3.0)) is LOOP


def test_among_loops_the_likeliest_is_kept() -> None:
    """Something is returned even when nothing is good."""
    worse = replace(LOOP, avg_logprob=-0.9)
    assert fallback.best_of(window(), [worse, LOOP], Options()) is LOOP


# -------------------------------------------------------------------------------------------------- text said twice

TWICE = replace(GOOD, tokens=(1, 2, 3, 4, 5, 6) * 2, avg_logprob=-0.05)
"""Sure of itself, and the same sentence two times."""


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ((), False),
        ((1, 2, 3, 4, 5, 6) * 2, True),
        (tuple(range(40)) * 2, True),
        ((1, 2, 3, 4, 5) * 2, False),
        ((1, 2, 3, 4, 5, 6), False),
        ((1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 7), False),
        ((1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7), False),
        ((7, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6), False),
        ((1, 2, 3, 4, 5, 6) * 3, True),
        ((1, 2, 3, 4, 5) * 3, False),
        ((1, 2, 3, 4, 5, 6) * 2 + (1, 2, 3, 4, 5, 7), False),
        ((1, 2, 3, 4, 5, 6) * 4, True),
    ],
)
def test_a_text_is_said_twice_when_its_halves_or_thirds_are_equal(tokens: tuple[int, ...], expected: bool) -> None:  # noqa: FBT001
    """The whole text, and at least six tokens of it: short exclamations are said twice by people."""
    assert is_said_twice(tokens) is expected


def test_a_text_said_twice_at_a_shortened_context_is_decoded_again_at_full_context() -> None:
    """In English too, however sure, and without dice."""
    first = fallback.first_attempt(Options(), None)
    following = fallback.next_attempt(window(), first, TWICE, Options(temperature_fallback=False))
    assert following == replace(first, full_context=True, language="en")


def test_a_text_said_twice_at_full_context_stands() -> None:
    """Somebody did say it twice: it is not tried again."""
    full = replace(TWICE, full_context=True)
    attempt = replace(fallback.first_attempt(Options(), "en"), full_context=True)
    assert fallback.next_attempt(window(), attempt, full, Options()) is None
    assert rungs(TWICE) == [(False, 0.0), (True, 0.0)]


def test_a_spliced_text_said_twice_loses_to_a_sound_one() -> None:
    """Its certainty does not count; at full context it does."""
    once = replace(GOOD, full_context=True, avg_logprob=-0.6)
    assert fallback.best_of(window(), [TWICE, once], Options()) is once
    full = replace(TWICE, full_context=True)
    assert fallback.best_of(window(), [full, once], Options()) is full
    assert fallback.best_of(window(), [TWICE, full], Options()) is full


def test_a_spliced_text_said_twice_is_better_than_nothing() -> None:
    """Alone, or against a loop, by likelihood."""
    assert fallback.best_of(window(), [TWICE], Options()) is TWICE
    assert fallback.best_of(window(), [TWICE, LOOP], Options()) is TWICE


# ----------------------------------------------------------------------------------------------------- text cut off


@pytest.mark.parametrize(
    ("duration_s", "tokens", "sparse"),
    [
        (25.0, 18, True),
        (25.0, 29, True),
        (25.0, 30, False),
        (5.0, 5, True),
        (5.0, 6, False),
        (4.9, 1, False),
        (25.0, 0, False),
    ],
)
def test_a_text_is_sparse_when_nobody_speaks_so_slowly(duration_s: float, tokens: int, sparse: bool) -> None:  # noqa: FBT001
    """A short window may hold one word, and no text at all is another matter."""
    result = replace(GOOD, tokens=tuple(range(tokens)))
    assert fallback.is_sparse(window(duration_s=duration_s), result, Options()) is sparse


def test_without_vad_a_window_may_hold_little_speech() -> None:
    """Then its length says nothing about how much was said."""
    assert not fallback.is_sparse(window(duration_s=25.0), GOOD, Options(vad=None))


def test_a_sparse_text_at_a_shortened_context_is_decoded_again_and_the_longer_one_kept() -> None:
    """Even where the shorter one is likelier: what was left out has no probability."""
    long, options = window(duration_s=25.0), Options(temperature_fallback=False)
    first = fallback.first_attempt(options, "en")
    again = fallback.next_attempt(long, first, GOOD, options)
    assert again is not None
    assert again.full_context
    whole = replace(GOOD, tokens=tuple(range(70)), full_context=True, avg_logprob=-0.4)
    assert fallback.next_attempt(long, again, whole, options) is None
    assert fallback.best_of(long, [GOOD, whole], options) is whole


def test_a_sparse_text_at_full_context_stands() -> None:
    """Somebody may really have spoken so little."""
    long = window(duration_s=25.0)
    first = fallback.first_attempt(Options(), "en")
    whole = replace(GOOD, full_context=True)
    assert fallback.next_attempt(long, replace(first, full_context=True), whole, Options()) is None
    assert fallback.best_of(long, [GOOD, whole], Options()) is whole


# ---------------------------------------------------------------------------------------------------- made-up text

MADE_UP = replace(GOOD, text=" Thanks for watching!", avg_logprob=-0.7, no_speech_prob=0.55)
"""Within every other limit, but a phrase of videos, unsure, and the model half doubts that anybody speaks."""


def test_text_that_was_more_likely_made_up_than_said_is_decoded_again() -> None:
    """The whole ladder, although no other sign is beyond its limit."""
    assert not fallback.is_doubtful(MADE_UP, Options())
    assert fallback.is_suspicious(window(), MADE_UP, Options())
    assert len(rungs(MADE_UP)) == 7
    assert rungs(MADE_UP, Options(temperature_fallback=False)) == [(False, 0.0), (True, 0.0)]


def test_a_phrase_alone_is_not_enough() -> None:
    """Said with certainty, the farewell of a video is what somebody said."""
    assert rungs(replace(MADE_UP, avg_logprob=-0.2, no_speech_prob=0.1)) == [(False, 0.0)]


def test_text_that_was_probably_said_is_kept_before_a_likelier_one_that_was_not() -> None:
    """The likeliest of those, then the likeliest of the rest: made-up text is kept where there is nothing else."""
    said = replace(GOOD, avg_logprob=-0.9)
    assert fallback.best_of(window(), [MADE_UP, said], Options()) is said
    assert fallback.best_of(window(), [replace(MADE_UP, avg_logprob=-0.8), MADE_UP], Options()) is MADE_UP
