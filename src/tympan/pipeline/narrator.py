"""Who tells of a transcript as it grows: segments in order, each once and when nothing changes it any more."""

from collections import deque
from collections.abc import Callable, Container, Mapping, Sequence

from tympan.domain import Options, Segment, Window, WindowResult
from tympan.transcript import segments_of


class Narrator:
    """Tells of the windows of one request."""

    def __init__(self, options: Options, tell: Callable[[Sequence[Segment]], None]) -> None:
        """Have told nothing yet; ``tell`` may take its time, and what it raises is raised."""
        self._options, self._tell = options, tell
        self._expected: deque[int] = deque()
        self._count = 0

    def expect(self, window: Window) -> None:
        """Take note of the next window in order."""
        self._expected.append(window.index)

    def go_on(self, done: Mapping[int, tuple[Window, WindowResult]], under_way: Container[int]) -> None:
        """Tell of the next windows, as many as are ``done`` and not ``under_way`` once more."""
        news: list[Segment] = []
        while self._expected and self._expected[0] in done and self._expected[0] not in under_way:
            news += segments_of(*done[self._expected.popleft()], self._options, self._count + len(news))
        if news:
            self._count += len(news)
            self._tell(news)
