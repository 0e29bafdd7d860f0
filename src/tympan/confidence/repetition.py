"""Does a text go round in circles? Pure."""

from collections.abc import Sequence

_LONGEST_PHRASE_TOKENS = 24
_MIN_REPEATED_TOKENS = 12
_MIN_REPEATS = 4
_MIN_DOUBLED_TOKENS = 6


def is_said_twice(tokens: Sequence[int]) -> bool:
    """Tell whether the whole text is one phrase of at least six tokens, said twice."""
    half, odd = divmod(len(tokens), 2)
    return half >= _MIN_DOUBLED_TOKENS and not odd and tokens[:half] == tokens[half:]


def repeats(tokens: Sequence[int]) -> bool:
    """Tell whether some phrase of up to 24 tokens is said four times or more in a row, over at least 12 tokens."""
    n = len(tokens)
    for length in range(1, min(_LONGEST_PHRASE_TOKENS, n // _MIN_REPEATS) + 1):
        wanted = max(_MIN_REPEATS * length, _MIN_REPEATED_TOKENS) - length
        run = 0
        for i in range(n - length):
            run = run + 1 if tokens[i] == tokens[i + length] else 0
            if run >= wanted:
                return True
    return False
