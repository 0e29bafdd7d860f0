"""Transcripts as people have corrected them: checked against the audio, and read like any other transcript."""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, pairwise

from tympan.domain import Job, JobState, Segment, Transcript
from tympan.errors import InvalidRequest, JobNotFinished
from tympan.formats.readable import Readable
from tympan.storage.edits import Edit, EditedSegment, EditStore, EditText
from tympan.storage.jobs import JobStore
from tympan.storage.results import StoredResult

__all__ = ["Edit", "EditDesk", "EditText", "EditedResult", "EditedSegment"]

_SLACK_S = 0.5
"""By so much a time may lie behind the end of the audio: its length is rounded, and engines round up."""

_SAME_S = 0.0015
_AT_ONCE = 250
_WIDE = ("W", "F")


class EditDesk:
    """The edited versions of jobs; every call blocks."""

    def __init__(self, store: JobStore) -> None:
        """Look jobs up in ``store``."""
        self._store = store
        self._edits = EditStore(store.database)

    def find(self, tenant: str, job_id: str) -> Edit:
        """Return a job's edited version. Raises ``NotFound``, also where there is none."""
        return self._edits.find(tenant, job_id)

    def save(self, tenant: str, job_id: str, text: EditText, expected: int | None) -> Edit:
        """Store ``text`` in the place of revision ``expected``, ``None`` for where there is none; return it.

        Raises ``NotFound``, ``JobNotFinished``, ``InvalidRequest`` that names the field, ``Conflict``.
        """
        job = self._store.get(tenant, job_id)
        if job.state is not JobState.SUCCEEDED:
            raise JobNotFinished(
                f"The job is {job.state.value}: it has no transcript to edit.", remedy="Wait until it has finished."
            )
        _check(text, self._store.result(tenant, job_id))
        return self._edits.save(tenant, job_id, text, expected)

    def drop(self, tenant: str, job_id: str, expected: int | None = None) -> None:
        """Erase the edited version, the original stays. Raises ``NotFound``, ``Conflict``."""
        self._edits.drop(tenant, job_id, expected)

    def result(self, job: Job, original: StoredResult) -> "EditedResult":
        """Return a job's edited version as a transcript. Raises ``NotFound`` where there is none."""
        return EditedResult(original, self.find(job.tenant, job.id), job.output.speakers)


class EditedResult:
    """An edited version to be read like any transcript: speakers have their names, the text is that of the segments.

    What was not changed keeps what the original says about it: words, tokens, confidence.
    """

    def __init__(self, original: Readable, edit: Edit, known: Sequence[str] = ()) -> None:
        """Read ``edit`` beside ``original``; ``known`` are names of the speakers ``A``, ``B`` and so on."""
        self._original, self._edit = original, edit
        letters = (chr(ord("A") + place) for place in range(26))
        self._names = {**dict(zip(letters, known, strict=False)), **edit.speakers}

    @property
    def head(self) -> Transcript:
        """The original's transcript, whose text and segments are not looked at."""
        return self._original.head

    @property
    def has_speakers(self) -> bool:
        """Whether it says who speaks."""
        return any(segment.speaker for segment in self._edit.segments)

    def texts(self) -> Iterator[str]:
        """Yield the text in pieces: segments with a space between them, but where a script has none."""
        before = ""
        for segment in self._edit.segments:
            if text := segment.text.strip():
                yield f" {text}" if before and not (_is_wide(before) and _is_wide(text[0])) else text
                before = text[-1]

    def groups(self) -> Iterator[Sequence[Segment]]:
        """Yield the segments, some hundred at a time."""
        segments = self._segments()
        while group := tuple(islice(segments, _AT_ONCE)):
            yield group

    def _segments(self) -> Iterator[Segment]:
        original = chain.from_iterable(self._original.groups())
        held = next(original, None)
        for edited in self._edit.segments:
            while held is not None and held.start_s < edited.start_s - _SAME_S:
                held = next(original, None)
            name = self._names.get(edited.speaker, edited.speaker) if edited.speaker else None
            if held is not None and _is_same(held, edited):
                yield replace(held, id=edited.id, speaker=name)
            else:
                yield Segment(edited.id, edited.start_s, edited.end_s, f" {edited.text.strip()}", speaker=name)


def _is_same(original: Segment, edited: EditedSegment) -> bool:
    """Return whether nothing but the speaker was changed."""
    apart_s = max(abs(original.start_s - edited.start_s), abs(original.end_s - edited.end_s))
    return apart_s <= _SAME_S and original.text.strip() == edited.text.strip()


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in _WIDE


def _check(text: EditText, original: Readable) -> None:
    """Raise ``InvalidRequest`` that names the segment and its field when ``text`` cannot be of this audio."""
    end_s = original.head.duration_s + _SLACK_S
    for place, segment in enumerate(text.segments):
        if segment.end_s < segment.start_s:
            raise _bad(place, "end", "lies before its start", "A segment ends where it starts, or later.")
        if segment.end_s > end_s:
            raise _bad(place, "end", f"is after the end of the audio, {original.head.duration_s:.3f} s", "Lower it.")
    for place, (before, after) in enumerate(pairwise(text.segments), start=1):
        if after.start_s < before.start_s:
            raise _bad(place, "start", "lies before that of the segment before it", "Send segments in order.")
    _check_ids(text)
    _check_speakers(text, original)


def _check_ids(text: EditText) -> None:
    seen: set[int] = set()
    for place, segment in enumerate(text.segments):
        if segment.id in seen:
            raise _bad(place, "id", f"is {segment.id}, as another one's", "Give each segment an id of its own.")
        seen.add(segment.id)


def _check_speakers(text: EditText, original: Readable) -> None:
    """Let the speakers be those who are named, or whom the original knows."""
    unnamed = {segment.speaker for segment in text.segments if segment.speaker} - set(text.speakers)
    if not unnamed:
        return
    unknown = unnamed - {segment.speaker for group in original.groups() for segment in group}
    for place, segment in enumerate(text.segments):
        if segment.speaker in unknown:
            raise _bad(
                place, "speaker", f"is {segment.speaker!r}, who is not among the speakers", "Add it to speakers."
            )


def _bad(place: int, field: str, what: str, remedy: str) -> InvalidRequest:
    name = f"segments.{place}.{field}"
    return InvalidRequest(f"{name} {what}.", param=name, remedy=remedy)
