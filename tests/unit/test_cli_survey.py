"""Lengths of files, measured beside the work."""

from collections.abc import Callable
from pathlib import Path, PurePath
from threading import Event

from tympan.cli.progress import NoDisplay
from tympan.cli.sources import Source
from tympan.cli.survey import MAX_FILES, surveying
from tympan.domain import Options, Progress, Transcript
from tympan.engine.base import EngineInfo
from tympan.errors import CorruptMedia

WAIT_S = 10.0


class Board(NoDisplay):
    """A display that notes lengths, and that a given number of them are known."""

    is_visible = True

    def __init__(self, wanted: int) -> None:
        """Expect ``wanted`` lengths."""
        self.lengths: dict[str, float] = {}
        self.complete = Event()
        self._wanted = wanted

    def measured(self, source: Source, total_s: float) -> None:
        """Note a length."""
        self.lengths[source.key] = total_s
        if len(self.lengths) == self._wanted:
            self.complete.set()


class Ruler:
    """A transcriber that can only measure."""

    info: EngineInfo | None = None

    def __init__(self) -> None:
        """Have measured nothing."""
        self.measured: list[str] = []

    def transcribe(
        self, path: Path, options: Options, cancel: Event, on_progress: Callable[[Progress], None]
    ) -> Transcript:
        """Refuse."""
        raise AssertionError(path)

    def hear(self, samples: object) -> dict[str, str]:
        """Refuse."""
        raise AssertionError(samples)

    def measure(self, path: Path, cancel: Event) -> float:
        """Fail on ``broken``, wait for the end on ``endless``, else return 7."""
        self.measured.append(path.name)
        if path.name == "broken":
            raise CorruptMedia
        if path.name == "endless":
            assert cancel.wait(WAIT_S)
        return 7.0


def _sources(*names: str) -> list[Source]:
    return [Source(Path(name), name, PurePath(name), name) for name in names]


def test_lengths_arrive_and_failures_are_left_to_the_work() -> None:
    """Every good file gets its length; a broken one is passed over."""
    board, ruler = Board(2), Ruler()
    with surveying(_sources("a", "broken", "b"), board, ruler):
        assert board.complete.wait(WAIT_S)
    assert board.lengths == {"a": 7.0, "b": 7.0}


def test_only_the_first_files_are_measured() -> None:
    """A folder of thousands costs no more than its first files."""
    board, ruler = Board(MAX_FILES), Ruler()
    with surveying(_sources(*(f"{n}" for n in range(MAX_FILES + 5))), board, ruler):
        assert board.complete.wait(WAIT_S)
    assert len(ruler.measured) == MAX_FILES


def test_the_end_of_the_run_ends_the_survey() -> None:
    """Nobody waits for a length when the work is done."""
    board, ruler = Board(1), Ruler()
    with surveying(_sources("endless", "never"), board, ruler):
        pass
    assert ruler.measured in ([], ["endless"])


def test_without_bars_nothing_is_measured() -> None:
    """A pipe has no bar that needs an end."""
    ruler = Ruler()
    with surveying(_sources("a"), NoDisplay(), ruler):
        pass
    assert ruler.measured == []
