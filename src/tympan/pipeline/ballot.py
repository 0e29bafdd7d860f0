"""Which language a request is in: pure. Its windows vote until one is sure or enough have spoken."""

from collections.abc import Sequence

from tympan.domain import Ranking

SURE_OF_LANGUAGE = 0.5
"""Below this probability another window is asked, up to ``LANGUAGE_VOTES`` in all."""

LANGUAGE_VOTES = 3

_REPORTED = 5


class Ballot:
    """The votes of one request's first windows."""

    def __init__(self, given: str | None, *, is_told: bool = True) -> None:
        """Start without votes; a language that the caller has ``given`` needs none.

        Nor is anything decided by vote where the model does not tell the language, or where every window has its own:
        ``is_told``.
        """
        self.language = given
        self._is_told = is_told
        self.ranking: Ranking = ((given, 1.0),) if given else ()
        self._votes: list[dict[str, float]] = []

    @property
    def is_settled(self) -> bool:
        """Whether the language is known, or as well known as it will ever be."""
        return self.language is not None or not self._is_told

    def add(self, probabilities: Sequence[tuple[str, float]]) -> None:
        """Count a window's vote, and close the ballot when it is sure or the last."""
        self._votes.append(dict(probabilities))
        if self.is_settled:
            self.ranking = self._means()
            return
        best = max(self._votes[-1].values(), default=0.0)
        if best >= SURE_OF_LANGUAGE or len(self._votes) >= LANGUAGE_VOTES:
            self.close()

    def close(self) -> None:
        """Settle on the language with the best mean; without votes there is none."""
        if self.is_settled or not self._votes:
            return
        self.ranking = self._means()
        self.language = self.ranking[0][0]

    def _means(self) -> Ranking:
        names = {name for vote in self._votes for name in vote}
        means = {name: sum(vote.get(name, 0.0) for vote in self._votes) / len(self._votes) for name in names}
        return tuple(sorted(means.items(), key=lambda pair: -pair[1])[:_REPORTED])
