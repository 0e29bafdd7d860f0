"""Whisper's decoder in int8 for processors: where most of the time goes once encoding is cheap.

CTranslate2's own decoder packs the weights anew at every step on current processors, and attends to all 1500 positions
of the 30 s although most of them are the same silence in every window. This one does neither. Figures:
``docs/decisions/``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tympan.engine.asking import Decoded
from tympan.engine.onnx.decoder_graph import cross_graph, step_graph, vocabulary_size
from tympan.engine.onnx.dimensions import Dimensions
from tympan.engine.onnx.memory import Heard, Past, Stored, Tail, stay_or_fill
from tympan.engine.onnx.runtime import Crew, Rows, Session
from tympan.engine.onnx.search import Ids, Move, Search, Values
from tympan.engine.onnx.warping import cheapest_path, follow, shares
from tympan.engine.onnx.weights import Weights
from tympan.engine.splice import Encoded

TAIL_POOL = 10
"""Neighbouring positions of silence that share a key and a value; see ``docs/decisions/``."""
TAIL_EXACT = 100
"""Positions at its end that do not: 2 s."""

LARGE_POSITIONS = 900
"""Windows beyond these 18 s gain nothing from being encoded side by side (138 ms a window instead of 134 at 30 s)."""

_EMBEDDINGS = "decoder/embeddings/weight"

_FLOAT_BYTES = 4
_HALF_BYTES = 2

Alignment = list[tuple[int, int]]
"""Pairs (token, encoder position) along one monotone path."""

AtEnd = Callable[[int, Heard, int], None]
"""Takes a window's number, and where it is heard."""

_SPARE = 0.25
"""Share of windows whose search has ended from which on they are dropped; dropping moves others into their places."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Token numbers with a meaning, and which tokens may not come, after the first and as the first."""

    start: int
    end: int
    no_speech: int
    languages: tuple[int, ...]
    suppressed: frozenset[int]
    suppressed_first: frozenset[int]
    alignment_heads: tuple[tuple[int, int], ...]
    """(layer, head) pairs whose attention follows the speech."""


@dataclass(frozen=True, slots=True, eq=False)
class Masks:
    """What is added to the logits of the first answers and of later ones: minus infinity for what may not come."""

    first: Values
    later: Values


class Int8Decoder:
    """A decoder for windows whose encoding ends soon after their speech. ``generate`` calls must not overlap."""

    def __init__(self, weights: Weights, marks: Marks, silence: Encoded, *, threads: int, signed: bool) -> None:
        """Build the graphs; ``silence`` is the encoding of 30 s of it, ``signed`` as in ``step_graph``."""
        self._size = Dimensions.of(weights, "decoder")
        self._tokens = vocabulary_size(weights)
        self._marks = marks
        self._weights = weights
        self._positions = weights.real("decoder/position_encodings/encodings")
        self._cross = Crew(cross_graph(weights, signed=signed), threads)
        self._step = Session(step_graph(weights, signed=signed), threads)
        [tail] = self._cross.map(_stored, [silence])
        self._tail = Tail(tail, TAIL_POOL, TAIL_EXACT)
        self._text_mask = self._forbid(range(marks.end, self._tokens))[None]
        self._own_masks = self.masks((), blank=True)

    def close(self) -> None:
        """End the threads."""
        self._cross.close()

    def give_back(self) -> None:
        """Give the system what encoding has left: 54 MiB for 30 s of base, which decoding can use."""
        self._cross.give_back(encoded=np.zeros((1, self._size.width), np.float32))

    def window_bytes(self, positions: int, rows: int, tokens: int) -> int:
        """Return the memory that one window takes while ``rows`` texts of ``tokens`` are decoded for it."""
        size = self._size
        heard = (positions + self._tail.after(positions)) * (size.width + size.heads * _FLOAT_BYTES)
        return 2 * size.layers * (heard + rows * tokens * size.width * _HALF_BYTES)

    def masks(self, banned: Iterable[int], *, blank: bool) -> Masks:
        """Return masks for the model's own choice and ``banned``; with ``blank`` no text begins with nothing."""
        never = self._marks.suppressed | frozenset(banned)
        first = never | self._marks.suppressed_first if blank else never
        return Masks(np.stack([self._forbid(()), self._forbid(first)]), self._forbid(never)[None])

    def listen(self, encoded: Sequence[Encoded]) -> Heard:
        """Return windows, prepared to be decoded together."""
        heard = Heard([len(one) for one in encoded], self._tail)

        def fill(cross: Session, window: int) -> None:
            heard.fill(window, _stored(cross, encoded[window]))

        self._cross.map(fill, range(len(encoded)), large=len(encoded[0]) > LARGE_POSITIONS)
        return heard

    def languages(self, heard: Heard) -> list[list[tuple[int, float]]]:
        """Return, per window, all language tokens with their probabilities, likeliest first."""
        known = self._marks.languages
        mask = np.full((1, self._tokens), -np.inf, np.float32)
        mask[0, list(known)] = 0.0
        starts = [[self._marks.start]] * len(heard)
        best, ids = self._feed(self._rows(heard, 1), starts, ([0], mask), len(known))
        chances = np.exp(best[:, 0])
        return [
            list(zip(tokens, values, strict=True))
            for tokens, values in zip(ids[:, 0].tolist(), chances.tolist(), strict=True)
        ]

    def generate(
        self,
        heard: Heard,
        prompts: Sequence[Sequence[int]],
        searches: Sequence[Search],
        at_end: AtEnd | None = None,
        masks: Masks | None = None,
    ) -> list[Decoded]:
        """Return every window's text. Prompts have one length, searches one kind and width; ``heard`` is used up.

        ``at_end`` is called once for each window, when its search has ended and it can still be heard. ``masks`` says
        what may not be written; without them it is the model's own choice.
        """
        allowed = masks or self._own_masks
        told = len(prompts[0])
        rows = self._rows(heard, told)
        asked = [prompts[0].index(self._marks.start), told - 1]
        answers, _ = self._feed(rows, prompts, (asked, allowed.first), 0)
        silent = np.exp(answers[:, 0, self._marks.no_speech]).tolist()
        moves = [search.start(answers[i, -1]) for i, search in enumerate(searches)]
        rows.spread(searches[0].width, told + max(search.cap for search in searches))
        rows.mask = allowed.later
        self._continue(rows, searches, moves, at_end)
        return [search.result(chance) for search, chance in zip(searches, silent, strict=True)]

    def align(
        self, heard: Heard, speech: int, lead: Sequence[int], tokens: Sequence[int]
    ) -> tuple[Alignment, list[float]]:
        """Return where ``tokens`` are spoken within the first ``speech`` positions, and their probabilities.

        ``heard`` is one window; ``lead`` is the prompt up to the first of ``tokens``. The decoder hears the silence
        too, or it would find words unlikely that it has just chosen; but they are looked for in the speech alone, since
        silence attracts the last.
        """
        fed = [[*lead, *tokens, self._marks.end]]
        rows = self._rows(heard, len(fed[0]), watched=sorted({layer for layer, _ in self._marks.alignment_heads}))
        first = len(lead) - 1
        asked = range(first, first + len(tokens))
        answers, _ = self._feed(rows, fed, (asked, self._text_mask), 0)
        heads = [rows.attention(layer)[0, head, :, :speech] for layer, head in self._marks.alignment_heads]
        path = cheapest_path(-follow(shares(np.stack(heads)))[first:-1])
        return path, np.exp(answers[0, np.arange(len(tokens)), list(tokens)]).tolist()

    def _continue(
        self, rows: Rows, searches: Sequence[Search], moves: Sequence[Move | None], at_end: AtEnd | None
    ) -> None:
        """Feed the searches until all have ended."""
        width, top = searches[0].width, searches[0].top
        windows = list(range(len(searches)))
        while any(moves):
            alive = [i for i, move in enumerate(moves) if move is not None]
            if len(alive) <= len(moves) * (1.0 - _SPARE):
                _take_leave(rows.heard, windows, moves, at_end)
                kept = stay_or_fill(alive)
                rows.keep(kept, width)
                searches, moves = [searches[i] for i in kept], [moves[i] for i in kept]
                windows = [windows[i] for i in kept]
            rows.past.reorder(_parents(moves, width))
            tokens = _tokens(moves, width, self._marks.end)
            best, ids = self._feed(rows, tokens, ([0], rows.mask), top)
            groups = [slice(i * width, (i + 1) * width) for i in range(len(moves))]
            moves = [
                search.advance(best[group, 0], ids[group, 0]) if move is not None else None
                for search, move, group in zip(searches, moves, groups, strict=True)
            ]
        _take_leave(rows.heard, windows, moves, at_end)

    def _rows(self, heard: Heard, capacity: int, watched: Sequence[int] = ()) -> Rows:
        size = self._size
        past = Past((2 * size.layers, len(heard), size.heads, capacity, size.head_width))
        return Rows(self._step, heard, past, self._tokens, watched)

    def _feed(
        self, rows: Rows, tokens: Sequence[Sequence[int]], asked: tuple[Sequence[int], Values], top: int
    ) -> tuple[Values, Ids]:
        """Feed rows of tokens; ``asked`` says after which of them to answer, and what must not be answered."""
        first = rows.past.length
        x: Values = self._weights.rows(_EMBEDDINGS, tokens) + self._positions[first : first + len(tokens[0])]
        answers = rows.feed(x, *asked, top)
        rows.past.add(tokens)
        return answers

    def _forbid(self, tokens: Iterable[int]) -> Values:
        mask = np.zeros(self._tokens, np.float32)
        mask[list(tokens)] = -np.inf
        return mask


def _stored(cross: Session, encoded: Encoded) -> list[Stored]:
    """Return keys and values in turn, layer by layer."""
    arrays = cross.outputs(encoded=np.ascontiguousarray(encoded, np.float32))
    return [Stored(numbers, scales) for numbers, scales in zip(arrays[0::2], arrays[1::2], strict=True)]


def _take_leave(heard: Heard, windows: Sequence[int], moves: Sequence[Move | None], at_end: AtEnd | None) -> None:
    """Tell of the windows whose search has ended."""
    for place, (window, move) in enumerate(zip(windows, moves, strict=True)):
        if move is None and at_end:
            at_end(window, heard, place)


def _parents(moves: Sequence[Move | None], width: int) -> list[int]:
    """Return, per row, the row that it continues; rows that are over continue themselves."""
    own = list(range(width))
    return [i * width + parent for i, move in enumerate(moves) for parent in (move.parents if move else own)]


def _tokens(moves: Sequence[Move | None], width: int, end: int) -> list[list[int]]:
    return [[token] for move in moves for token in (move.tokens if move else [end] * width)]
