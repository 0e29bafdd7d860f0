"""Beam search and sampling, over small made-up models whose answers depend on the whole text so far."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tympan.engine.asking import Decoded
from tympan.engine.onnx.search import BeamSearch, Hypothesis, Ids, Sampling, Search, Values

END = 0
LETTERS = (1, 2)
TOKENS = 20

Text = tuple[int, ...]
Model = Callable[[Text], Values]
"""Log-probabilities of all tokens after a text."""


def normalised(logits: Values) -> Values:
    """Return log-probabilities."""
    found: Values = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
    return found


def random_model(seed: int, spoken: Sequence[int] = (), tokens: int = TOKENS) -> Model:
    """Return a model with a random answer to every text.

    Tokens other than ``spoken`` (if given) are hopeless, and a text that has one never ends.
    """

    def answer(text: Text) -> Values:
        digest = hashlib.blake2b(repr((seed, text)).encode(), digest_size=8).digest()
        logits = np.random.default_rng(int.from_bytes(digest, "little")).normal(0.0, 1.5, tokens)
        if spoken:
            astray = not set(text) <= set(spoken)
            logits[[END] if astray else [token for token in range(tokens) if token not in spoken]] = -60.0
        return normalised(logits.astype(np.float32))

    return answer


def script(answers: dict[Text, dict[int, float]]) -> Model:
    """Return a model that gives some tokens these log-probabilities after a text, and the rest next to none."""

    def answer(text: Text) -> Values:
        found: Values = -90 - np.arange(TOKENS).astype(np.float32)
        for token, value in answers.get(text, {}).items():
            found[token] = value
        return found

    return answer


def top_of(values: Values, count: int) -> tuple[Values, Ids]:
    """Return the largest values and their numbers, as the decoder gives them; all by number for 0."""
    ids = np.argsort(-values, kind="stable")[:count] if count else np.arange(len(values))
    return values[ids], ids


def run(search: Search, model: Model, no_speech_prob: float = 0.0) -> tuple[Decoded, list[list[Text]]]:
    """Feed a search from a model until it ends; return its text, and the rows' texts after every step."""
    rows: list[Text] = [()] * search.width
    steps = []
    move = search.start(model(()))
    while move is not None:
        assert len(move.tokens) == len(move.parents) == search.width
        rows = [(*rows[parent], token) for token, parent in zip(move.tokens, move.parents, strict=True)]
        steps.append(rows)
        assert len(steps) <= search.cap
        answers = [top_of(model(row), search.top) for row in rows]
        move = search.advance(np.stack([best for best, _ in answers]), np.stack([ids for _, ids in answers]))
    return search.result(no_speech_prob), steps


def greedy(model: Model, cap: int) -> tuple[Text, float, bool]:
    """Return the likeliest token after the likeliest token: text, sum of log-probabilities, and whether it ended."""
    text: Text = ()
    total = 0.0
    while len(text) < cap:
        values = model(text)
        token = int(np.argmax(values))
        total += float(values[token])
        if token == END:
            return text, total, True
        text = (*text, token)
    return text, total, False


def every_text(model: Model, cap: int) -> dict[tuple[Text, bool], float]:
    """Return all texts of letters, ended or as long as the cap, with their mean log-probabilities."""
    found = {}
    for length in range(cap + 1):
        for text in product(LETTERS, repeat=length):
            total = sum(float(model(text[:i])[token]) for i, token in enumerate(text))
            if length < cap:
                found[text, True] = (total + float(model(text)[END])) / max(1, length)
            else:
                found[text, False] = total / length
    return found


# ------------------------------------------------------------------------------------------------------ beam search


@given(seed=st.integers(0, 10_000), cap=st.integers(1, 9))
def test_a_beam_of_one_takes_the_likeliest_token_each_time(seed: int, cap: int) -> None:
    """Greedy search, up to the end token or the cap, with Whisper's mean that counts the end token."""
    model = random_model(seed, spoken=range(6))
    text, total, ended = greedy(model, cap)
    found, _ = run(BeamSearch(1, cap, END), model, 0.25)
    assert (tuple(found.tokens), found.hit_cap, found.no_speech_prob) == (text, not ended, 0.25)
    assert found.avg_logprob == pytest.approx(total / (len(text) + 1), rel=1e-4)


@settings(deadline=None)
@example(seed=8, cap=3)
@given(seed=st.integers(0, 10_000), cap=st.integers(1, 3))
def test_a_beam_as_wide_as_the_choice_finds_the_best_text_of_all(seed: int, cap: int) -> None:
    """With room for every text of two letters, the one with the best mean log-probability is found."""
    model = random_model(seed, spoken=(END, *LETTERS))
    texts = every_text(model, cap)
    (text, ended), mean = max(texts.items(), key=lambda item: item[1])
    found, _ = run(BeamSearch(8, cap, END), model)
    assert (tuple(found.tokens), found.hit_cap) == (text, not ended)
    assert found.avg_logprob == pytest.approx(mean * max(1, len(text)) / (len(text) + 1), rel=1e-4, abs=1e-6)


@given(seed=st.integers(0, 10_000), width=st.integers(1, 5), cap=st.integers(1, 7))
def test_the_rows_are_the_likeliest_texts_that_go_on(seed: int, width: int, cap: int) -> None:
    """After a step the rows are different texts of that length, likeliest first, and continue rows of the last step."""
    model = random_model(seed)
    _, steps = run(BeamSearch(width, cap, END), model)
    before: list[Text] = [()]
    for length, rows in enumerate(steps, start=1):
        values = {(*text, token): total(model, (*text, token)) for text in set(before) for token in range(1, TOKENS)}
        assert rows == sorted(values, key=values.__getitem__, reverse=True)[:width]
        assert {len(row) for row in rows} == {length}
        before = rows


def total(model: Model, text: Text) -> float:
    """Return a text's sum of log-probabilities."""
    return sum(float(model(text[:i])[token]) for i, token in enumerate(text))


@pytest.mark.parametrize(("rank", "accepted"), [(0, True), (1, True), (2, False)])
def test_an_end_counts_only_among_the_likeliest_candidates(rank: int, accepted: bool) -> None:  # noqa: FBT001
    """With two beams the end token has to be first or second; as the third choice it is passed over."""
    ladder = [-0.5, -1.0, -1.5]
    values = dict(zip((1, 2, 3), (-5.0, -5.5, -6.0), strict=True))
    values |= dict(zip((1, 2), [value for i, value in enumerate(ladder) if i != rank], strict=True))
    model = script({(): {**values, END: ladder[rank]}, **{(token,): {4: -9.0, 5: -9.5} for token in (1, 2)}})
    found, steps = run(BeamSearch(2, 2, END), model)
    assert steps == [[(1,), (2,)]]
    assert (found.tokens == []) == accepted
    assert found.hit_cap != accepted


def test_the_search_stops_when_as_many_texts_have_ended_as_there_are_beams() -> None:
    """Two ended texts end a search with two beams, although what is still alive could become likelier."""
    model = script(
        {
            (): {1: -0.1, 2: -0.2},
            (1,): {3: -0.1, END: -3.0},
            (2,): {3: -0.1, END: -2.9},
            (1, 3): {END: -2.0, 4: -4.0},
            (2, 3): {END: -1.0, 4: -4.0},
            (1, 3, 4): {END: 0.0},
        }
    )
    found, steps = run(BeamSearch(2, 10, END), model)
    assert [len(rows[0]) for rows in steps] == [1, 2]
    assert found.tokens == [2, 3]
    assert not found.hit_cap
    assert found.avg_logprob == pytest.approx((-0.2 - 0.1 - 1.0) / 3)


def test_one_ended_text_does_not_end_the_search() -> None:
    """A longer text with a better mean wins over one that ended before, whatever their sums."""
    model = script(
        {
            (): {END: -0.9, 1: -0.2, 2: -1.0},
            (1,): {3: -0.3, 4: -0.8},
            (1, 3): {5: -0.2, 6: -0.3},
            (1, 3, 5): {END: -0.4, 7: -2.0},
        }
    )
    found, steps = run(BeamSearch(2, 10, END), model)
    assert len(steps) == 3
    assert found.tokens == [1, 3, 5]
    assert found.avg_logprob == pytest.approx(-1.1 / 4)


def test_at_the_cap_the_live_texts_compete_with_the_ended_ones() -> None:
    """Where the best live text is likelier per token, it wins and says that it was cut; else the ended one wins."""
    answers = {(): {1: -0.2, 2: -0.4}, (1,): {END: -1.0, 3: -0.1}, (2,): {3: -5.0}}
    cut, _ = run(BeamSearch(2, 2, END), script(answers))
    assert (cut.tokens, cut.hit_cap) == ([1, 3], True)
    answers[1,] = {END: -0.1, 3: -4.0}
    ended, _ = run(BeamSearch(2, 2, END), script(answers))
    assert (ended.tokens, ended.hit_cap) == ([1], False)


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("cap", [1, 2, 7])
def test_a_text_without_end_stops_at_its_cap(width: int, cap: int) -> None:
    """The cap is never passed, and is reported."""
    found, steps = run(BeamSearch(width, cap, END), random_model(4, spoken=range(1, TOKENS)))
    assert (len(found.tokens), found.hit_cap) == (cap, True)
    assert len(steps) == cap - 1


def test_nothing_said_has_the_ends_own_log_probability() -> None:
    """No division by zero: the end token alone is the mean."""
    found, steps = run(BeamSearch(1, 5, END), script({(): {END: -0.25}}))
    assert found == Decoded([], -0.25, 0.0, hit_cap=False, logprobs=())
    assert steps == []


def test_the_merit_is_a_mean_and_defined_for_no_text() -> None:
    """The end token adds its log-probability and no length."""
    text = Hypothesis((), 0.0).then(7, -0.5, END).then(8, -1.5, END)
    assert (text.tokens, text.merit, text.ended) == ((7, 8), -0.75, False)
    assert text.logprobs == (-0.5, -1.0)
    assert text.then(END, -2.5, END).logprobs == (-0.5, -1.0)
    ended = text.then(END, -2.5, END)
    assert (ended.tokens, ended.merit, ended.ended) == ((7, 8), -1.25, True)
    assert Hypothesis((), -0.5).merit == -0.5


# --------------------------------------------------------------------------------------------------------- sampling


@given(seed=st.integers(0, 10_000), width=st.integers(1, 4), temperature=st.floats(0.2, 2.0))
def test_the_same_window_draws_the_same_text(seed: int, width: int, temperature: float) -> None:
    """Nothing but the model's answers decides: two searches agree in every row at every step."""
    model = random_model(seed, spoken=range(5))
    first, second = (run(Sampling(width, 8, END, temperature), model) for _ in range(2))
    assert first == second


def test_rows_differ() -> None:
    """``best_of`` draws are different draws, not copies of one."""
    _, steps = run(Sampling(5, 8, END, 1.0), random_model(1, spoken=range(1, TOKENS)))
    assert len(set(steps[-1])) == 5


@given(seed=st.integers(0, 10_000), cap=st.integers(1, 8))
def test_of_the_texts_drawn_the_likeliest_is_kept(seed: int, cap: int) -> None:
    """The rows' texts, cut at their ends, compete by their mean log-probability without the temperature."""
    model = random_model(seed, spoken=range(4))
    sampling = Sampling(3, cap, END, 1.5)
    found, _ = run(sampling, model)
    means = {}
    for text in sampling._texts:
        ended = len(text.tokens) < cap or text.ended
        score = total(model, (*text.tokens, END) if text.ended else text.tokens)
        assert ended == text.ended
        means[text.tokens] = (score / max(1, len(text.tokens)), score / (len(text.tokens) + 1), not ended)
    best = max(means, key=lambda tokens: means[tokens][0])
    assert tuple(found.tokens) == best
    assert found.avg_logprob == pytest.approx(means[best][1], rel=1e-4, abs=1e-6)
    assert found.hit_cap == means[best][2]


def test_a_row_that_has_ended_keeps_its_place_and_its_text() -> None:
    """The rows that go on are not moved, and what the ended row is fed changes nothing."""
    sampling = Sampling(2, 4, END, 1.0)
    sampling._texts = [Hypothesis((7,), -1.0, ended=True), Hypothesis((8,), -1.0)]
    certain = np.full((2, TOKENS), -90.0, np.float32)
    certain[:, 9] = 0.0
    ids = np.tile(np.arange(TOKENS), (2, 1))
    move = sampling.advance(certain, ids)
    assert move is not None
    assert (move.parents, move.tokens[1]) == ([0, 1], 9)
    assert [text.tokens for text in sampling._texts] == [(7,), (8, 9)]


def test_a_neighbour_that_ends_leaves_the_other_rows_draws_alone() -> None:
    """The second row draws the same tokens whether or not the first has ended."""
    model = random_model(3, spoken=range(1, TOKENS))
    free, ended = Sampling(2, 6, END, 1.0), Sampling(2, 6, END, 1.0)
    ended._texts = [Hypothesis((), -1.0, ended=True), Hypothesis((), 0.0)]
    _, free_steps = run(free, model)
    _, ended_steps = run(ended, model)
    assert [rows[1] for rows in free_steps] == [rows[1] for rows in ended_steps]


@pytest.mark.parametrize("cap", [1, 2, 6])
def test_a_drawn_text_stops_at_its_cap(cap: int) -> None:
    """Never longer, and reported."""
    found, steps = run(Sampling(3, cap, END, 1.0), random_model(4, spoken=range(1, TOKENS)))
    assert (len(found.tokens), found.hit_cap, len(steps)) == (cap, True, cap - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature: float) -> None:
    """20 000 draws over five tokens follow the distribution, sharpened or flattened by the temperature."""
    draws = 20_000
    values = normalised(np.array([-0.5, 0.0, 1.0, -2.0, 0.3], np.float32))
    sampling = Sampling(draws, 5, END, temperature)
    sampling.start(values)
    counts = Counter(text.tokens or (END,) for text in sampling._texts)
    expected = np.exp(normalised(values / np.float32(temperature)))
    found = np.array([counts[token,] / draws for token in range(5)])
    assert found == pytest.approx(expected, abs=0.015)


def test_a_forbidden_token_is_never_drawn() -> None:
    """Minus infinity stays impossible at any temperature."""
    values = np.array([-np.inf, -1.0, -np.inf, -0.5], np.float32)
    sampling = Sampling(2000, 3, 3, 5.0)
    sampling.start(values)
    assert {text.tokens for text in sampling._texts} == {(1,), ()}
