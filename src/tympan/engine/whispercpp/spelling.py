"""The vocabulary of a ggml file as a tokenizer: text to tokens and back, without a ``tokenizer.json``.

A word's number is its rank: pairs of neighbours are joined, the one with the lowest rank first, until none can be
(Sennrich et al. 2016, byte-pair encoding, as GPT-2 and Whisper use it).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from tokenizers.pre_tokenizers import ByteLevel

from tympan.engine.byte_level import byte_of


class ByteSpelling:
    """A byte-level vocabulary with special tokens."""

    def __init__(self, words: Sequence[bytes], special: Mapping[str, int]) -> None:
        """Use ``words`` in the order of their numbers; ``special`` are further tokens by their spelling."""
        self._words = words
        self._special = dict(special)
        self._ranks = {word: rank for rank, word in enumerate(words)}
        self._divide = ByteLevel(add_prefix_space=False, use_regex=True)

    def token_to_id(self, token: str) -> int | None:
        """Return the number of a special token, or ``None``."""
        return self._special.get(token)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of plain text."""
        pieces = (piece for piece, _ in self._divide.pre_tokenize_str(text))
        return [token for piece in pieces for token in self._joined(bytes(byte_of()[letter] for letter in piece))]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of plain tokens; bytes that are no character become U+FFFD."""
        return b"".join(self._words[token] for token in tokens if token < len(self._words)).decode(errors="replace")

    def octets(self, token: int) -> bytes:
        """Return the bytes of a plain token."""
        return self._words[token]

    def _joined(self, piece: bytes) -> list[int]:
        parts = [piece[place : place + 1] for place in range(len(piece))]
        unknown = len(self._ranks)
        while len(parts) > 1:
            ranks = [self._ranks.get(left + right, unknown) for left, right in pairwise(parts)]
            best = min(range(len(ranks)), key=ranks.__getitem__)
            if ranks[best] == unknown:
                break
            parts[best : best + 2] = [parts[best] + parts[best + 1]]
        return [self._ranks[part] for part in parts if part in self._ranks]
