"""Which words of an utterance that goes on are stable: pure.

LocalAgreement-2 (Macháček, Dabre, Bojar: Turning Whisper into a real-time transcription system, 2023): what two
hypotheses in a row agree on is stable. Two things are added. A hypothesis need not begin where the utterance does, nor
repeat its stable words to the letter: it is laid along them so that the fewest words differ, and only what follows is
compared. And the last word of a hypothesis is never made stable, since the audio may have broken off inside it.
"""

from collections.abc import Sequence

from tympan.domain import Word


class Agreement:
    """The words of one utterance, as far as they are known."""

    def __init__(self, known: Sequence[Word] = ()) -> None:
        """Start with the words that are stable already."""
        self._stable: list[Word] = list(known)
        self._tail: list[Word] = []

    @property
    def words(self) -> tuple[Word, ...]:
        """Stable words, then the others."""
        return (*self._stable, *self._tail)

    @property
    def n_stable(self) -> int:
        """How many of ``words`` no later hypothesis changes."""
        return len(self._stable)

    @property
    def stable_end_s(self) -> float:
        """Where the last stable word ends; 0 without one."""
        return self._stable[-1].end_s if self._stable else 0.0

    def hear(self, words: Sequence[Word], from_s: float = 0.0) -> None:
        """Take the next hypothesis, made of the audio from ``from_s`` on; its times count like those of all words."""
        beyond = list(words[overlap([w for w in self._stable if w.end_s > from_s], words) :])
        agreed = min(_common(self._tail, beyond), max(0, len(beyond) - 1))
        self._stable += beyond[:agreed]
        self._tail = beyond[agreed:]

    def anchor_s(self, back_s: float) -> float | None:
        """Return the start of a stable word that began ``back_s`` or more before the end of the last stable one."""
        starts = [word.start_s for word in self._stable if word.start_s <= self.stable_end_s - back_s]
        return starts[-1] if starts else None

    def after(self, cut_s: float) -> "Agreement":
        """Return what is known of the utterance that begins at ``cut_s``, where this one was cut."""
        rest = Agreement([word for word in self._stable if _middle(word) >= cut_s])
        rest._tail = [word for word in self._tail if _middle(word) >= cut_s]
        return rest


def _middle(word: Word) -> float:
    return (word.start_s + word.end_s) / 2.0


def spelling(text: str) -> str:
    """Return what has to be equal for two words to be the same one: letters and digits, whatever their case."""
    bare = "".join(char for char in text.casefold() if char.isalnum())
    return bare or text.strip()


def _common(one: Sequence[Word], other: Sequence[Word]) -> int:
    """Return how many words both begin with."""
    for at, (a, b) in enumerate(zip(one, other, strict=False)):
        if spelling(a.text) != spelling(b.text):
            return at
    return min(len(one), len(other))


def overlap(known: Sequence[Word], words: Sequence[Word]) -> int:
    """Return how many of the first ``words`` say again what is ``known``.

    It is the number with the fewest insertions, deletions and replacements. Between equals, and where hardly a word is
    the same, times decide: the next word begins where the last known one ends.
    """
    if not known or not words:
        return 0
    costs = _edits([spelling(word.text) for word in known], [spelling(word.text) for word in words])
    end_s = known[-1].end_s
    least = min(costs)
    if 2 * least > len(known):
        return sum(_middle(word) < end_s for word in words)
    fits = [at for at, cost in enumerate(costs) if cost == least]
    return min(fits, key=lambda at: abs((words[at].start_s if at < len(words) else words[-1].end_s) - end_s))


def _edits(known: Sequence[str], words: Sequence[str]) -> list[int]:
    """Return, for each number of leading ``words``, their edit distance to all of ``known``."""
    row = list(range(len(words) + 1))
    for count, wanted in enumerate(known, 1):
        before, row = row, [count]
        for at, word in enumerate(words):
            row.append(min(before[at + 1] + 1, row[at] + 1, before[at] + (word != wanted)))
    return row
