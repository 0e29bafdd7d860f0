"""The search of our own on whisper.cpp: which text it finds, what it asks the decoder, and how it is dictated."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, ggml, pcm, plain, task
from tympan.engine import factory
from tympan.engine.base import EngineSpec
from tympan.engine.models import ResolvedModel
from tympan.engine.onnx.search import BeamSearch
from tympan.engine.whispercpp.beams import Dictation, Past, Rules, Values, likeliest, log_softmax
from tympan.errors import EngineError

TOKENS, END = 40, 39


@pytest.fixture(scope="module")
def fox(spoken_clips: tuple[SpokenClip, ...]) -> SpokenClip:
    """Return a clear English sentence."""
    return next(clip for clip in spoken_clips if clip.path.stem == "quick_brown_fox" and clip.language == "en")


ALL = np.zeros(TOKENS, np.float32)
RULES = Rules(3, 8, END, ALL, let_go=math.inf)


def logits_after(seed: int, text: tuple[int, ...]) -> Values:
    """Return what a made-up model expects after a text, always the same."""
    drawn = np.random.default_rng([seed, *text]).normal(0.0, 2.0, TOKENS).astype(np.float32)
    drawn[END] += 0.7 * len(text)
    return drawn


def searched(seed: int, rules: Rules) -> tuple[int, ...]:
    """Return the text that the search finds."""
    return likeliest(logits_after(seed, ()), lambda text: logits_after(seed, text), rules)


def mean_logprob(seed: int, text: tuple[int, ...]) -> float:
    """Return the mean log-probability of a text that ends."""
    whole = (*text, END)
    steps = [log_softmax(logits_after(seed, whole[:at]))[token] for at, token in enumerate(whole)]
    return float(sum(steps)) / max(1, len(text))


@given(st.integers(0, 10_000), st.integers(1, 5))
@example(1509, 2)
@settings(max_examples=60, deadline=None)
def test_without_letting_go_the_text_is_that_of_the_other_search(seed: int, width: int) -> None:
    """The same rules as the search over rows side by side, which CTranslate2's texts are compared with."""
    search = BeamSearch(width, RULES.cap, END)
    texts: list[tuple[int, ...]] = [()]
    move = search.start(log_softmax(logits_after(seed, ())))
    while move is not None:
        texts = [(*texts[parent], token) for token, parent in zip(move.tokens, move.parents, strict=True)]
        rows = np.stack([log_softmax(logits_after(seed, text)) for text in texts])
        ids = np.argsort(-rows, axis=1)[:, : search.top]
        move = search.advance(np.take_along_axis(rows, ids, axis=1), ids)
    assert searched(seed, replace(RULES, width=width)) == tuple(search.result(0.0).tokens)


def test_letting_go_asks_less_and_seldom_finds_another_text() -> None:
    """Texts far behind the best cost decoding and rarely win, even where nothing is likely as in this model."""
    asked = {math.inf: 0, 3.0: 0}
    same = 0
    for seed in range(60):
        found = []
        for let_go in asked:

            def after(text: tuple[int, ...], let_go: float = let_go, seed: int = seed) -> Values:
                asked[let_go] += 1
                return logits_after(seed, text)

            found.append(likeliest(logits_after(seed, ()), after, replace(RULES, let_go=let_go)))
        same += found[0] == found[1]
    assert asked[3.0] < asked[math.inf]
    assert same >= 54


def test_more_beams_find_likelier_texts() -> None:
    """On the whole; a single beam is greedy search."""
    means = {
        width: np.mean([mean_logprob(seed, searched(seed, replace(RULES, width=width))) for seed in range(40)])
        for width in (1, 5)
    }
    assert means[5] > means[1]


def test_barred_tokens_are_never_written() -> None:
    """However likely they are."""
    barred = ALL.copy()
    barred[:20] = -np.inf
    assert all(min(searched(seed, replace(RULES, barred=barred)), default=20) >= 20 for seed in range(20))


def test_a_text_that_never_ends_stops_at_the_cap() -> None:
    """With the likeliest of those that were followed."""
    never = np.zeros(TOKENS, np.float32)
    never[END], never[7] = -50.0, 1.0
    assert likeliest(never, lambda _: never, replace(RULES, cap=5)) == (7,) * 5


def test_no_numbers_are_an_error() -> None:
    """A search over them would go anywhere."""
    nothing = np.full(TOKENS, np.nan, np.float32)
    with pytest.raises(EngineError, match="no numbers"):
        likeliest(nothing, lambda _: nothing, RULES)


def test_of_the_past_only_what_differs_is_decoded_again() -> None:
    """What two texts share is kept; the last token is always asked for, since its logits are what is wanted."""
    calls: list[tuple[tuple[int, ...], int]] = []

    def decode(tokens: Sequence[int], before: int) -> Values:
        calls.append((tuple(tokens), before))
        return ALL

    past = Past(decode, (90, 91, 92))
    for text in ((1,), (1, 2), (1, 3), (1, 3), (4, 3, 5)):
        past.after(text)
    past.restore()
    assert calls == [((1,), 3), ((2,), 4), ((3,), 4), ((3,), 4), ((4, 3, 5), 3), ((92,), 2)]


def test_a_text_is_dictated_token_by_token_and_rated_by_the_model() -> None:
    """One token is left to choose at a time, then the end."""
    dictation = Dictation(lambda _: Past(lambda tokens, _: logits_after(5, tuple(tokens)), (90,)), RULES)
    written: list[int] = []
    while END not in written and len(written) < 20:
        logits = logits_after(5, tuple(written))
        expected = log_softmax(logits.copy())
        dictation.steer(None, len(written), logits)
        assert np.isfinite(logits).sum() == 1
        written.append(int(np.argmax(logits)))
        assert dictation.logprobs[-1] == pytest.approx(float(expected[written[-1]]))
    assert written[-1] == END
    assert dictation.error is None


def test_an_error_of_the_decoder_ends_the_text_and_is_kept() -> None:
    """It cannot be raised through a library in C."""

    def broken(tokens: Sequence[int], before: int) -> Values:
        raise EngineError("The decoder failed.")

    dictation = Dictation(lambda _: Past(broken, (90,)), RULES)
    logits = logits_after(1, ())
    dictation.steer(None, 0, logits)
    assert int(np.argmax(logits)) == END
    assert isinstance(dictation.error, EngineError)


@pytest.mark.long
@pytest.mark.model
def test_beams_are_kept_on_a_real_model(fox: SpokenClip, tiny_en: ResolvedModel) -> None:
    """The text is right and has the times it has with one beam: what the search asked in between leaves no trace."""
    # A prompt before a shortened context makes this model loop, with one beam too.
    asked = replace(GREEDY, beam_size=3, align=True, full_context=True)
    engine = factory.create(EngineSpec("whispercpp", "t", path=str(ggml("tiny.en")), threads=2))
    greedy, alone, prompted = (
        engine.transcribe([task(pcm(fox.path), params)])[0]
        for params in (replace(asked, beam_size=1), asked, replace(asked, prompt="An animal."))
    )
    engine.close()
    assert plain(alone.text) == plain(prompted.text) == plain(greedy.text) == plain(fox.text)
    assert alone.tokens == greedy.tokens
    assert [(word.start_s, word.end_s) for word in alone.words] == [(word.start_s, word.end_s) for word in greedy.words]
    assert alone.avg_logprob == pytest.approx(greedy.avg_logprob, abs=0.01)
    assert not alone.hit_token_cap
