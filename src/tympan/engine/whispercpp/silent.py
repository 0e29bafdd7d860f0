"""Tokens that Whisper is not to write: brackets, notes and other marks that nobody says (``suppress_tokens="-1"``)."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from tympan.engine.tokens import Vocabulary

_SIGNS: Final = tuple('"#()*+/:;<=>@[\\]^_`{|}~「」『』♩♪♫♬♭♮♯')
_RUNS: Final = (
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"),
    *("[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
_WORD_STARTS: Final = (" -", " '")
"""A hyphen or an apostrophe is said inside of a word, not at its start."""


def barred(vocabulary: Vocabulary, n_vocab: int) -> NDArray[np.float32]:
    """Return, for each token, 0 if it may be written and minus infinity if not: special tokens may not, but the end."""
    found = np.zeros(n_vocab, np.float32)
    found[vocabulary.end + 1 :] = -np.inf
    spellings = [space + sign for sign in (*_SIGNS, *_RUNS) for space in ("", " ")]
    for spelling in (*spellings, *_WORD_STARTS):
        tokens = vocabulary.encode(spelling)
        if len(tokens) == 1:
            found[tokens[0]] = -np.inf
    return found
