"""Does a text go round in circles? Pure."""

from collections.abc import Sequence

_LONGEST_PHRASE_TOKENS = 24
_MIN_REPEATED_TOKENS = 12
_MIN_REPEATS = 4
_MIN_DOUBLED_TOKENS = 6


def is_said_twice(tokens: Sequence[int]) -> bool:
    """Tell whether the whole text is one phrase of at least six tokens, said twice, or three times."""
    return any(_is_said(tokens, times) for times in (2, 3))


def _is_said(tokens: Sequence[int], times: int) -> bool:
    length, rest = divmod(len(tokens), times)
    return length >= _MIN_DOUBLED_TOKENS and not rest and tokens[:-length] == tokens[length:]


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
