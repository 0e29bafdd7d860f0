"""The first step of a job: hear the whole file once and cut it into sections."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tympan.domain import Ranking, Window
from tympan.faultpoints import reach
from tympan.jobs.media import section_prefix
from tympan.jobs.sections import SectionCutter, write_section
from tympan.pipeline import RequestContext
from tympan.pipeline.transcriber import Transcriber
from tympan.storage.blob_port import translated
from tympan.storage.blobs import BlobStore
from tympan.storage.codec import Prepared
from tympan.storage.work import Claim, Cut, WorkStore


class Preparation:
    """One run of ``prepare``: windows come in, sections go out. The first one waits for the second or the end.

    A file that is one section finds out its language while it is transcribed, like any request. Sections of a longer
    one may run anywhere, so the language they are decoded in is found out before the first of them starts.
    """

    def __init__(self, transcriber: Transcriber, work: WorkStore, blobs: BlobStore, section_s: float) -> None:
        """Cut sections of about ``section_s``."""
        self._transcriber, self._work, self._blobs, self._section_s = transcriber, work, blobs, section_s
        self._languages: Ranking = ()
        self._held: tuple[Window, ...] | None = None
        self.n_sections = 0
        self._end = 0

    def run(self, claim: Claim, path: Path, context: RequestContext, scratch: Path) -> Prepared:
        """Cut the file at ``path``; each section can be claimed as soon as it is cut. Return what was learnt.

        Raises ``LeaseLost``, ``MediaError`` and its kin, ``TooLong``, ``Cancelled``, ``InsufficientStorage``.
        """
        speech = self._transcriber.listen(claim.job.options)
        with closing(speech.windows(path, context)) as windows:
            for section in self._sections(windows, claim):
                if self._held is not None:
                    self._let_go(self._held, claim, context, scratch)
                self._held = section
        if self._held is not None:
            self._put(self._held, claim, scratch, speech.audio_samples)
        return Prepared(speech.audio_samples, speech.speech_samples, self._languages)

    def _sections(self, windows: Iterator[Window], claim: Claim) -> Iterator[tuple[Window, ...]]:
        cutter = SectionCutter(self._section_s, self._work.section_ends(claim))
        for window in windows:
            if (section := cutter.add(window)) is not None:
                yield section
        if (section := cutter.rest()) is not None:
            yield section

    def _let_go(self, section: tuple[Window, ...], claim: Claim, context: RequestContext, scratch: Path) -> None:
        """Hand out a section that is known not to be the last."""
        if not self._languages:
            self._settle(section, claim, context)
        self._put(section, claim, scratch, section[-1].end_sample)

    def _settle(self, section: tuple[Window, ...], claim: Claim, context: RequestContext) -> None:
        given = claim.job.options.language
        self._languages = ((given, 1.0),) if given else self._transcriber.rank_languages(section, context)
        if self._languages:
            self._work.settle_language(claim, self._languages)

    def _put(self, section: tuple[Window, ...], claim: Claim, scratch: Path, end: int) -> None:
        cut = Cut(self.n_sections, self._end, end)
        self.n_sections, self._end = self.n_sections + 1, end
        path = scratch / f"{claim.job.id}-{cut.index:05d}"
        try:
            with translated():
                write_section(path, section)
            self._blobs.adopt(f"{section_prefix(claim.job.id, cut.index)}pcm", path)
        finally:
            path.unlink(missing_ok=True)
        reach("section.put")
        self._work.add_section(claim, cut)
