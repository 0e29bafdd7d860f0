"""The graphs on a model of a few thousand random weights, against plain NumPy, and what company does to a window."""

import mmap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import tiny_whisper
from tests.tiny_whisper import BANDS, HEADS, LAYERS, TOKENS, WIDTH, Reals, Reference, log_softmax
from tympan.engine.asking import Decoded
from tympan.engine.onnx.decoder import TAIL_EXACT, TAIL_POOL, Int8Decoder, Marks, _stored
from tympan.engine.onnx.decoder_graph import cross_graph
from tympan.engine.onnx.encoder_graph import encoder_graph
from tympan.engine.onnx.memory import Heard, Stored
from tympan.engine.onnx.runtime import Crew, Session
from tympan.engine.onnx.search import BeamSearch, Sampling, Search
from tympan.engine.onnx.weights import Weights
from tympan.errors import EngineError

START, END, NO_SPEECH, LANGUAGES, SUPPRESSED, SUPPRESSED_FIRST = 31, 30, 36, (32, 33, 34), {37, 5}, {6}
PROMPT = [START, 32, 35]
MARKS = Marks(START, END, NO_SPEECH, LANGUAGES, frozenset(SUPPRESSED), frozenset(SUPPRESSED_FIRST), ((0, 1), (1, 0)))
LENGTHS = [3, 50, 90, 17, 130, 64, 1, 77]
"""Encoder positions of the windows of speech in these tests."""

NOTHING_FORBIDDEN = np.zeros((1, TOKENS), np.float32)

TOLERANCE = 0.06
"""What 8 bits may cost, relative to the size of what is compared; a mistake in a graph costs ten times that."""


def noise(seed: int, *shape: int) -> Reals:
    """Return numbers that are the same for the same seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def speech(window: int) -> Reals:
    """Return a made-up encoding of one of the windows."""
    return noise(100 + window, LENGTHS[window], WIDTH)


def distance(found: Reals, expected: Reals) -> float:
    """Return how far two arrays are apart, relative to how far ``expected`` is from its mean."""
    assert found.shape == expected.shape
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Return the model as it is read from its file."""
    return Weights(tiny_whisper.write(tmp_path_factory.mktemp("tiny"), tiny_whisper.variables()))


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Return the model in plain NumPy."""
    return Reference(tiny_whisper.variables())


@pytest.fixture(scope="module")
def silence() -> Reals:
    """Return an encoding of silence: it changes slowly, as a real one does."""
    slow = np.repeat(noise(1, 16, WIDTH), 10, axis=0)
    return slow + np.float32(0.01) * noise(2, *slow.shape)


@pytest.fixture(scope="module")
def decoder(weights: Weights, silence: Reals) -> Int8Decoder:
    """Return the decoder."""
    return Int8Decoder(weights, MARKS, silence, threads=1, signed=False)


def resident_mib() -> float:
    """Return this process's memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 2**20


def stored(decoder: Int8Decoder, encoded: Reals) -> list[Stored]:
    """Return the keys and values of one window."""
    return decoder._cross.map(_stored, [encoded])[0]


def said(decoder: Int8Decoder, windows: Sequence[int], searches: Sequence[Search]) -> list[Decoded]:
    """Decode some of the windows together."""
    heard = decoder.listen([speech(window) for window in windows])
    return decoder.generate(heard, [PROMPT] * len(windows), searches)


def search(kind: str, cap: int) -> Search:
    """Return a new search."""
    return Sampling(3, cap, END, 0.9) if kind == "samples" else BeamSearch({"greedy": 1, "beams": 3}[kind], cap, END)


def caps_of(windows: Sequence[int]) -> list[int]:
    """Return a cap per window, so that searches end at different times."""
    return [4 + 3 * window for window in windows]


def everything_heard(encoded: Reals, silence: Reals) -> tuple[Reals, Reals]:
    """Return what a window is decoded with, speech and pooled silence and its end, and how often each counts."""
    edge = len(silence) - TAIL_EXACT
    begin = min(-(-len(encoded) // TAIL_POOL) * TAIL_POOL, edge)
    pooled = silence[begin:edge].reshape(-1, TAIL_POOL, WIDTH).mean(axis=1)
    end = silence[max(edge, len(encoded)) :]
    counts = [1.0] * len(encoded) + [float(TAIL_POOL)] * len(pooled) + [1.0] * len(end)
    return np.concatenate([encoded, pooled, end]), np.array(counts, np.float32)


# ---------------------------------------------------------------------------------------------------------- encoder


@pytest.mark.parametrize("frames", [2, 50, 400])
def test_the_encoder_is_whispers(weights: Weights, reference: Reference, frames: int) -> None:
    """Within what 8 bits cost, at any length; frames are halved."""
    mel = noise(9, BANDS, frames)
    (found,) = Session(encoder_graph(weights, signed=False), 1).outputs(mel=mel[None])
    assert found.shape == (frames // 2, WIDTH)
    assert distance(found, reference.encode(mel)) < TOLERANCE


def test_signed_and_unsigned_encoders_give_the_same(weights: Weights) -> None:
    """Products of whole numbers are exact both ways: not a bit differs."""
    mel = noise(9, 1, BANDS, 60)
    signed, unsigned = (Session(encoder_graph(weights, signed=flag), 1).outputs(mel=mel) for flag in (True, False))
    assert len(signed) == len(unsigned) == 1
    assert np.array_equal(signed[0], unsigned[0])


def test_keys_and_values_are_whispers(decoder: Int8Decoder, reference: Reference) -> None:
    """By layer, key before value, split into heads."""
    parts = stored(decoder, speech(1))
    for layer in range(LAYERS):
        for part, expected in zip(parts[2 * layer :], reference.keys_and_values(speech(1), layer), strict=False):
            assert part.numbers.shape == (HEADS, LENGTHS[1], WIDTH // HEADS)
            assert distance(part.real().transpose(1, 0, 2).reshape(-1, WIDTH), expected) < TOLERANCE
    assert len(parts) == 2 * LAYERS


def test_a_row_of_zeros_is_a_row_of_biases(decoder: Int8Decoder, weights: Weights) -> None:
    """Nothing to scale by is no reason for a division by zero, nor for harm to the neighbours."""
    encoded = speech(1)
    whole = stored(decoder, encoded)
    encoded[7] = 0.0
    holed = stored(decoder, encoded)
    bias = weights.real("decoder/layer_0/attention/linear_1/bias")[:WIDTH]
    assert holed[0].real()[:, 7].ravel() == pytest.approx(bias, abs=float(np.abs(bias).max()) / 127)
    rest = [i for i in range(len(encoded)) if i != 7]
    for one, other in zip(holed, whole, strict=True):
        assert np.array_equal(one.numbers[:, rest], other.numbers[:, rest])
        assert np.array_equal(one.scales[..., rest], other.scales[..., rest])


@pytest.mark.parametrize("bound", [True, False])
def test_what_onnx_runtime_raises_is_an_engine_error(weights: Weights, bound: bool) -> None:  # noqa: FBT001
    """With arrays bound to names, and without."""
    session = Session(cross_graph(weights, signed=False), 1)
    wrong = np.zeros((3, WIDTH + 1), np.float32)
    run = (lambda: session.run(session.binding())) if bound else (lambda: session.outputs(encoded=wrong))
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        run()


def test_many_inputs_are_run_side_by_side_with_the_same_bits(weights: Weights) -> None:
    """Fewer than there are threads are run one after the other; results come in the order of the inputs."""
    crew = Crew(cross_graph(weights, signed=False), 2)
    seen: set[int] = set()

    def run(session: Session, window: int) -> bytes:
        seen.add(id(session))
        return _stored(session, speech(window))[0].numbers.tobytes()

    alone = [crew.map(run, [window])[0] for window in range(len(LENGTHS))]
    assert len(seen) == 1
    assert crew.map(run, range(len(LENGTHS))) == alone
    assert len(seen) == 2
    crew.close()


def test_large_inputs_are_run_one_after_the_other(weights: Weights) -> None:
    """With all threads each, however many there are."""
    crew = Crew(cross_graph(weights, signed=False), 2)
    seen = crew.map(lambda session, window: (id(session), window), range(5), large=True)
    assert seen == [(id(crew._together), window) for window in range(5)]
    crew.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read where Linux shows it")
def test_memory_of_intermediate_results_is_kept_until_it_is_given_back(weights: Weights) -> None:
    """Until then the next run finds it; afterwards results are the same as before."""
    crew = Crew(cross_graph(weights, signed=False), 1)
    small, large = np.ones((1, WIDTH), np.float32), np.ones((200_000, WIDTH), np.float32)
    before = crew.map(_stored, [small])[0]
    at_first = resident_mib()
    crew.map(lambda session, one: len(session.outputs(encoded=one)), [large])
    kept = resident_mib() - at_first
    crew.give_back(encoded=small)
    assert kept > large.nbytes / 2**20
    assert resident_mib() - at_first < kept / 3
    after = crew.map(_stored, [small])[0]
    assert all(np.array_equal(mine.numbers, theirs.numbers) for mine, theirs in zip(after, before, strict=True))


def test_a_failure_side_by_side_is_raised(weights: Weights) -> None:
    """As one of the engine's own errors, and the crew goes on."""
    crew = Crew(cross_graph(weights, signed=False), 2)
    wrong = np.zeros((3, WIDTH + 1), np.float32)
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        crew.map(_stored, [speech(0), wrong, speech(1)])
    assert len(crew.map(_stored, [speech(0), speech(1)])) == 2
    crew.close()


def test_a_session_keeps_no_copy_of_its_graph(weights: Weights) -> None:
    """The runtime's wrapper would, beside the weights it made of it; should it rename the attribute, this notices."""
    graph = cross_graph(weights, signed=False)
    assert Session(graph, 1)._session._model_bytes is None
    assert onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])._model_bytes == graph


# ------------------------------------------------------------------------------------------------------------ steps


class Stepper:
    """Windows that are fed tokens, without a search."""

    def __init__(self, decoder: Int8Decoder, windows: Sequence[int]) -> None:
        """Listen to these windows."""
        self._decoder = decoder
        heard = decoder.listen([speech(window) for window in windows])
        self.rows = decoder._rows(heard, 40, watched=range(LAYERS))

    def feed(self, tokens: Sequence[Sequence[int]], pick: Sequence[int]) -> Reals:
        """Return log-probabilities ``[rows, picked, tokens]``."""
        return self._decoder._feed(self.rows, tokens, (pick, NOTHING_FORBIDDEN), 0)[0].copy()


def test_steps_are_whispers_decoder(decoder: Int8Decoder, reference: Reference, silence: Reals) -> None:
    """A prompt at once and then token by token give what the whole text gives at once: answers and attention."""
    text = [*PROMPT, 3, 9, 4, 4, 21]
    stepper = Stepper(decoder, [1])
    answers = [*stepper.feed([PROMPT], range(len(PROMPT)))[0]]
    shares = [[stepper.rows.attention(layer)[0].copy()] for layer in range(LAYERS)]
    for token in text[len(PROMPT) :]:
        answers.append(stepper.feed([[token]], [0])[0, 0])
        for layer in range(LAYERS):
            shares[layer].append(stepper.rows.attention(layer)[0].copy())
    encoded, counts = everything_heard(speech(1), silence)
    logits, attention = reference.attend(encoded, text, counts)
    assert distance(np.stack(answers), log_softmax(logits)) < TOLERANCE
    for layer in range(LAYERS):
        found = np.concatenate(shares[layer], axis=1)
        assert distance(found[..., : len(encoded)], attention[layer]) < 3 * TOLERANCE
        assert not found[..., len(encoded) :].any()


def test_signed_and_unsigned_decoders_give_the_same(decoder: Int8Decoder, weights: Weights, silence: Reals) -> None:
    """Not a bit differs, through prompt and steps."""
    other = Int8Decoder(weights, MARKS, silence, threads=1, signed=True)
    for one, two in zip(stored(decoder, speech(1)), stored(other, speech(1)), strict=True):
        assert np.array_equal(one.real(), two.real())
    unsigned, signed = Stepper(decoder, [0, 2]), Stepper(other, [0, 2])
    for tokens, pick in (([PROMPT, PROMPT], [0, 2]), ([[7], [8]], [0]), ([[1], [2]], [0])):
        assert np.array_equal(signed.feed(tokens, pick), unsigned.feed(tokens, pick))


@pytest.mark.parametrize("company", [[0, 4], [4, 0], [2, 4, 0, 5], [0, 0]])
def test_a_window_gets_the_same_bits_alone_and_beside_longer_ones(decoder: Int8Decoder, company: list[int]) -> None:
    """Answers to prompt and steps do not differ in their last bit, wherever the window stands."""
    alone, beside = Stepper(decoder, [0]), Stepper(decoder, company)
    place = company.index(0)
    for tokens, pick in ((PROMPT, [0, 2]), ([7], [0]), ([1], [0]), ([19], [0])):
        others = [[token + 1 for token in tokens]] * len(company)
        others[place] = tokens
        assert np.array_equal(alone.feed([tokens], pick)[0], beside.feed(others, pick)[place])


def test_rows_of_one_window_do_not_mix(decoder: Int8Decoder) -> None:
    """Three texts side by side over one window are what each is on its own."""
    beams = Stepper(decoder, [3])
    beams.feed([PROMPT], [2])
    beams.rows.spread(3, 20)
    texts = [[1, 2, 3], [4, 5, 6], [1, 5, 9]]
    together = [beams.feed([[text[i]] for text in texts], [0])[:, 0] for i in range(3)]
    for row, text in enumerate(texts):
        single = Stepper(decoder, [3])
        single.feed([PROMPT], [2])
        for i, token in enumerate(text):
            assert together[i][row] == pytest.approx(single.feed([[token]], [0])[0, 0], abs=1e-4)


def test_windows_that_stay_do_not_notice_who_left(decoder: Int8Decoder) -> None:
    """After two of four windows of two rows are dropped, the rows left give the same bits as without the others."""
    windows, kept = [0, 1, 2, 3], [3, 1]
    crowd = Stepper(decoder, windows)
    crowd.feed([PROMPT] * 4, [2])
    crowd.rows.spread(2, 20)
    crowd.feed([[token] for token in range(8)], [0])
    crowd.rows.keep(kept, 2)
    after = crowd.feed([[11], [12], [13], [14]], [0])
    for place, window in enumerate(kept):
        alone = Stepper(decoder, [windows[window]])
        alone.feed([PROMPT], [2])
        alone.rows.spread(2, 20)
        alone.feed([[2 * window], [2 * window + 1]], [0])
        expected = alone.feed([[11 + 2 * place], [12 + 2 * place]], [0])
        assert np.array_equal(after[2 * place : 2 * place + 2], expected)


def test_the_likeliest_come_first_and_the_mask_forbids(decoder: Int8Decoder) -> None:
    """With ``top`` the answers are the largest log-probabilities and their tokens, after the mask."""
    stepper = Stepper(decoder, [2])
    everything = stepper.feed([PROMPT], [2])[0, 0]
    again = Stepper(decoder, [2])
    mask = NOTHING_FORBIDDEN.copy()
    best_token = int(np.argmax(everything))
    mask[0, best_token] = -np.inf
    best, ids = decoder._feed(again.rows, [PROMPT], ([2], mask), 4)
    order = [token for token in np.argsort(-everything, kind="stable").tolist() if token != best_token][:4]
    assert ids[0, 0].tolist() == order
    left = np.delete(everything, best_token)
    assert best[0, 0] == pytest.approx(everything[order] - np.log(np.exp(left).sum()), abs=1e-4)


def test_attention_is_asked_for_after_feeding(decoder: Int8Decoder) -> None:
    """There is nothing to look at before."""
    with pytest.raises(RuntimeError, match="Nothing has been fed"):
        Stepper(decoder, [0]).rows.attention(0)


# ---------------------------------------------------------------------------------------------------------- decoder


@pytest.mark.parametrize("kind", ["greedy", "beams", "samples"])
def test_a_texts_mean_is_what_the_model_gives_it(
    decoder: Int8Decoder, reference: Reference, silence: Reals, kind: str
) -> None:
    """The mean log-probability reported is that of the text under the plain model, with the forbidden tokens out."""
    for window in (1, 4):
        (found,) = said(decoder, [window], [search(kind, 9)])
        encoded, counts = everything_heard(speech(window), silence)
        logits, _ = reference.attend(encoded, [*PROMPT, *found.tokens], counts)
        logits[:, sorted(SUPPRESSED)] = -np.inf
        logits[len(PROMPT) - 1, sorted(SUPPRESSED_FIRST)] = -np.inf
        chances = log_softmax(logits[len(PROMPT) - 1 :])
        told = found.tokens if found.hit_cap else [*found.tokens, END]
        expected = sum(float(chances[i, token]) for i, token in enumerate(told)) / (len(found.tokens) + 1)
        assert found.avg_logprob == pytest.approx(expected, abs=0.15)
        assert len(found.tokens) == 9 if found.hit_cap else len(found.tokens) < 9


def test_the_chance_of_no_speech_is_that_after_the_start_token(
    decoder: Int8Decoder, reference: Reference, silence: Reals
) -> None:
    """Whatever stands before it in the prompt, and nothing forbidden."""
    for lead in ([], [12, 13]):
        heard = decoder.listen([speech(1)])
        (found,) = decoder.generate(heard, [[*lead, *PROMPT]], [BeamSearch(1, 3, END)])
        encoded, counts = everything_heard(speech(1), silence)
        logits, _ = reference.attend(encoded, [*lead, START], counts)
        assert np.log(found.no_speech_prob) == pytest.approx(log_softmax(logits)[-1, NO_SPEECH], abs=0.3)


@pytest.mark.parametrize("kind", ["greedy", "beams", "samples"])
def test_each_window_is_heard_once_more_at_its_end(decoder: Int8Decoder, kind: str) -> None:
    """Words are placed then, with the same result as if the window had been alone, whoever has left before."""
    windows = [1, 4, 0, 3, 2]
    placed: dict[int, tuple[list[tuple[int, int]], list[float]]] = {}

    def place_words(window: int, heard: Heard, place: int) -> None:
        assert window not in placed
        placed[window] = decoder.align(heard.alone(place), LENGTHS[windows[window]], PROMPT, [3, 9, 4])

    searches = [search(kind, cap) for cap in caps_of(windows)]
    decoder.generate(decoder.listen([speech(w) for w in windows]), [PROMPT] * len(windows), searches, place_words)
    assert placed == {
        n: decoder.align(decoder.listen([speech(w)]), LENGTHS[w], PROMPT, [3, 9, 4]) for n, w in enumerate(windows)
    }


def test_forbidden_tokens_never_come(decoder: Int8Decoder) -> None:
    """Some never, some not as the first token; of two hundred wild texts none has them, and the rest all occur."""
    sampling = Sampling(200, 20, END, 8.0)
    said(decoder, [1], [sampling])
    texts = [text.tokens for text in sampling._texts]
    first, anywhere = {text[0] for text in texts if text}, {token for text in texts for token in text}
    assert anywhere == set(range(TOKENS)) - SUPPRESSED - {END}
    assert not first & SUPPRESSED_FIRST
    assert len(first) > 25


@pytest.mark.parametrize("kind", ["greedy", "beams", "samples"])
@settings(max_examples=12, deadline=None)
@given(windows=st.permutations(range(len(LENGTHS))), count=st.integers(2, len(LENGTHS)))
def test_a_text_is_the_same_alone_and_in_any_company(
    decoder: Int8Decoder, kind: str, windows: list[int], count: int
) -> None:
    """Text and log-probabilities are equal to the last bit, in any order, while neighbours end and leave."""
    chosen = windows[:count]
    together = said(decoder, chosen, [search(kind, cap) for cap in caps_of(chosen)])
    for window, found in zip(chosen, together, strict=True):
        assert [found] == said(decoder, [window], [search(kind, cap) for cap in caps_of([window])])


def test_searches_of_the_test_end_at_different_times(decoder: Int8Decoder) -> None:
    """What the test above needs to mean something: texts of many lengths, most of them different."""
    texts = said(decoder, range(8), [search("beams", cap) for cap in caps_of(range(8))])
    assert len({len(text.tokens) for text in texts}) >= 4
    assert len({tuple(text.tokens) for text in texts}) >= 7


def test_a_beam_is_at_least_as_likely_as_it_looks(decoder: Int8Decoder) -> None:
    """Over the windows together, three beams find likelier texts than one."""
    caps = caps_of(range(8))
    greedy, beams = (said(decoder, range(8), [search(kind, cap) for cap in caps]) for kind in ("greedy", "beams"))
    means = [np.mean([one.avg_logprob for one in texts]) for texts in (greedy, beams)]
    assert means[1] > means[0]


def test_languages_are_those_of_the_plain_model(decoder: Int8Decoder, reference: Reference, silence: Reals) -> None:
    """All known ones, likeliest first, with chances that sum to one, window by window."""
    windows = [1, 4, 2]
    heard = decoder.listen([speech(window) for window in windows])
    for window, found in zip(windows, decoder.languages(heard), strict=True):
        encoded, counts = everything_heard(speech(window), silence)
        logits, _ = reference.attend(encoded, [START], counts)
        expected = np.exp(log_softmax(logits[0, list(LANGUAGES)]))
        chances = [chance for _, chance in found]
        assert dict(found) == pytest.approx(dict(zip(LANGUAGES, expected.tolist(), strict=True)), abs=0.1)
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) == pytest.approx(1.0, abs=1e-5)


def test_asking_for_languages_leaves_the_text_alone(decoder: Int8Decoder) -> None:
    """The windows are heard afterwards as if nobody had asked."""
    heard = decoder.listen([speech(1)])
    decoder.languages(heard)
    assert decoder.generate(heard, [PROMPT], [BeamSearch(3, 9, END)]) == said(decoder, [1], [BeamSearch(3, 9, END)])


def test_alignment_looks_in_the_speech_and_hears_the_silence_too(
    decoder: Int8Decoder, reference: Reference, silence: Reals
) -> None:
    """A monotone path over tokens and positions, from corner to corner; chances among words only, as when decoding."""
    tokens = [3, 9, 4, 21, 8]
    path, chances = decoder.align(decoder.listen([speech(1)]), LENGTHS[1], PROMPT, tokens)
    assert path[0] == (0, 0)
    assert path[-1] == (len(tokens), LENGTHS[1] - 1)
    assert all((b[0] - a[0], b[1] - a[1]) in {(0, 1), (1, 0), (1, 1)} for a, b in pairwise(path))
    encoded, counts = everything_heard(speech(1), silence)
    logits, _ = reference.attend(encoded, [*PROMPT, *tokens], counts)
    words = log_softmax(logits[len(PROMPT) - 1 :, :END])
    expected = [float(words[i, token]) for i, token in enumerate(tokens)]
    assert np.log(chances) == pytest.approx(expected, abs=0.5)
    assert np.corrcoef(np.log(chances), expected)[0, 1] > 0.99


def test_alignment_ends_with_the_speech(decoder: Int8Decoder) -> None:
    """What is encoded beyond it is heard, but no word is put there."""
    path, _ = decoder.align(decoder.listen([speech(4)]), 40, PROMPT, [3, 9, 4])
    assert path[-1] == (3, 39)


def test_alignment_does_not_depend_on_what_came_before(decoder: Int8Decoder) -> None:
    """Neither on the memory used by the last group nor on the last alignment; and it leaves decoding as it was."""
    first = decoder.align(decoder.listen([speech(3)]), LENGTHS[3], PROMPT, [3, 9])
    text = said(decoder, range(8), [BeamSearch(2, 9, END) for _ in range(8)])
    decoder.align(decoder.listen([speech(4)]), 100, PROMPT, [1, 2, 3])
    assert decoder.align(decoder.listen([speech(3)]), LENGTHS[3], PROMPT, [3, 9]) == first
    assert said(decoder, range(8), [BeamSearch(2, 9, END) for _ in range(8)]) == text


def test_a_window_takes_the_memory_it_is_said_to(decoder: Int8Decoder) -> None:
    """All that speech and tail take but the padding, and all that the texts' own past takes."""
    heard = Heard([100], decoder._tail)
    taken = sum(array.nbytes for array in (*heard.numbers, *heard.scales))
    estimated = decoder.window_bytes(100, 0, 0)
    per_position = taken // heard.bias.shape[-1]
    assert estimated == per_position * (100 + 60)
    assert abs(taken - estimated) <= per_position * 64
    own = decoder._rows(heard, 40).past.store.nbytes
    assert decoder.window_bytes(100, 5, 40) - estimated == 5 * own


def decoder_of(folder: Path, stored: tiny_whisper.Variables, silence: Reals) -> Int8Decoder:
    """Return the decoder of other variables."""
    return Int8Decoder(Weights(tiny_whisper.write(folder, stored)), MARKS, silence, threads=1, signed=False)


def test_an_own_projection_is_used(tmp_path: Path, decoder: Int8Decoder, silence: Reals) -> None:
    """A model whose output matrix is not its embeddings answers with that matrix."""
    stored = tiny_whisper.variables()
    stored["decoder/projection/weight"] = stored["decoder/embeddings/weight"][::-1].copy()
    turned = Stepper(decoder_of(tmp_path, stored, silence), [1]).feed([PROMPT], [2])
    assert turned[0, 0] == pytest.approx(Stepper(decoder, [1]).feed([PROMPT], [2])[0, 0, ::-1], abs=1e-5)


@pytest.mark.parametrize(
    "names",
    [
        [f"decoder/layer_{n}/{part}/weight" for n in range(LAYERS) for part in ("ffn/linear_0", "attention/linear_1")],
        ["decoder/embeddings/weight"],
    ],
    ids=["layers", "embeddings"],
)
def test_a_model_stored_as_int8_reads_like_itself(
    tmp_path: Path, decoder: Int8Decoder, silence: Reals, names: list[str]
) -> None:
    """A quantised conversion gives nearly the answers of the full one."""
    small = decoder_of(tmp_path, tiny_whisper.as_int8(tiny_whisper.variables(), names), silence)
    found, expected = (Stepper(one, [1]).feed([PROMPT], [0, 1, 2])[0] for one in (small, decoder))
    assert distance(found, expected) < TOLERANCE
