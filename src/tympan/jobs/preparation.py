"""The first step of a job: hear the whole file once and cut it into sections."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from tympan.domain import Ranking, Window
from tympan.faultpoints import reach
from tympan.jobs.media import section_prefix
from tympan.jobs.sections import SectionCutter, read_section, write_section
from tympan.pipeline import RequestContext
from tympan.pipeline.transcriber import Transcriber
from tympan.storage.blobs import BlobStore
from tympan.storage.codec import Prepared
from tympan.storage.work import Claim, Cut, WorkStore


@dataclass(frozen=True, slots=True)
class _Section:
    """A section that is written and not yet handed out, and where its last window ends in the source."""

    path: Path
    end_sample: int


class Preparation:
    """One run of ``prepare``: windows come in, sections go out. Each waits on disk for the next one or the end.

    A file that is one section finds out its language while it is transcribed, like any request. Sections of a longer
    one may run anywhere, so their language and their model are settled before the first of them starts.
    """

    def __init__(
        self, transcriber: Transcriber, work: WorkStore, blobs: BlobStore, section_s: float, model: str
    ) -> None:
        """Cut sections of about ``section_s``, all to be transcribed by ``model`` if the job names none."""
        self._transcriber, self._work, self._blobs, self._section_s = transcriber, work, blobs, section_s
        self._model = model
        self._languages: Ranking = ()
        self._held: _Section | None = None
        self.n_sections = 0
        self._end = 0

    def run(self, claim: Claim, path: Path, context: RequestContext, scratch: Path) -> Prepared:
        """Cut the file at ``path``; each section can be claimed as soon as it is cut. Return what was learnt.

        Raises ``LeaseLost``, ``MediaError`` and its kin, ``TooLong``, ``Cancelled``, ``InsufficientStorage``.
        """
        speech = self._transcriber.listen(claim.job.options)
        try:
            with closing(speech.windows(path, context)) as windows:
                for section in self._sections(windows, claim, scratch):
                    held, self._held = self._held, section
                    if held is not None:
                        self._let_go(held, section, claim, context)
            if self._held is not None:
                self._put(self._held, claim, speech.audio_samples)
            turns = speech.turns()
        finally:
            speech.close()
            if self._held is not None:
                self._held.path.unlink(missing_ok=True)
        return Prepared(speech.audio_samples, speech.speech_samples, self._languages, speech.condition, turns)

    def _sections(self, windows: Iterator[Window], claim: Claim, scratch: Path) -> Iterator[_Section]:
        """Write one section after the other as its windows come, so that none is in memory."""
        cutter = SectionCutter(self._section_s, self._work.section_ends(claim))
        for index in count():
            path = scratch / f"{claim.job.id}-{index:05d}"
            end = write_section(path, cutter.section(windows))
            if end is None:
                path.unlink()
                return
            yield _Section(path, end)

    def _let_go(self, section: _Section, following: _Section, claim: Claim, context: RequestContext) -> None:
        """Hand out a section that is known not to be the last."""
        try:
            if not self._languages:
                self._settle((section, following), claim, context)
            self._put(section, claim, section.end_sample)
        finally:
            section.path.unlink(missing_ok=True)

    def _settle(self, sections: Iterable[_Section], claim: Claim, context: RequestContext) -> None:
        """Settle the language, by as many windows as a request on one machine asks: two short sections have them."""
        given = claim.job.options.language
        if given:
            self._languages = ((given, 1.0),)
        else:
            windows = chain.from_iterable(read_section(section.path) for section in sections)
            self._languages = self._transcriber.rank_languages(windows, context, claim.job.options.languages)
        if self._languages:
            self._work.settle(claim, self._languages, self._model)

    def _put(self, section: _Section, claim: Claim, end: int) -> None:
        cut = Cut(self.n_sections, self._end, end)
        self.n_sections, self._end = self.n_sections + 1, end
        self._blobs.adopt(f"{section_prefix(claim.job.id, cut.index)}pcm", section.path)
        reach("section.put")
        self._work.add_section(claim, cut)
