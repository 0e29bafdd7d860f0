"""The text of a job that somebody waits for, told section by section while the workers are still at the rest.

What is told comes from the database, where finished sections are until their job ends; a signal only says when to look.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence

from tympan.domain import Options, Segment, Transcript
from tympan.errors import Unavailable
from tympan.storage.codec import SectionResult
from tympan.transcript import segments_of


class Telling:
    """Tells of one job's segments in order, each once: those that ``assemble`` will make of the same sections."""

    def __init__(
        self,
        section: Callable[[int], SectionResult | None],
        options: Options,
        tell: Callable[[Sequence[Segment]], None],
    ) -> None:
        """Ask ``section`` for finished sections by number; ``tell`` may take its time, and what it raises is raised."""
        self._section, self._options, self._tell = section, options, tell
        self._next = self._count = 0
        self._said = hashlib.sha256()

    def go_on(self) -> None:
        """Tell of the sections that have been finished since, as far as none is missing between them."""
        while (result := self._section(self._next)) is not None:
            self._next += 1
            segments: list[Segment] = []
            for window in result.windows:
                segments += segments_of(*window.part(), self._options, self._count + len(segments))
            if segments:
                self._count += len(segments)
                self._said.update(_texts(segments))
                self._tell(segments)

    def check(self, transcript: Transcript) -> None:
        """Raise ``Unavailable`` unless ``transcript`` begins with what was told.

        It does not where the job was begun anew with another model after that.
        """
        if hashlib.sha256(_texts(transcript.segments[: self._count])).digest() != self._said.digest():
            raise Unavailable(
                "The work was restarted with another model, and the text has changed.",
                remedy="Try again.",
                retry_after_s=1.0,
            )


def _texts(segments: Iterable[Segment]) -> bytes:
    return "".join(f"{segment.text}\0" for segment in segments).encode("utf-8", "surrogatepass")
