"""A job as it happens: server-sent events with its state, its progress, and the text of its sections in order.

An event's id says what the caller has: how many sections, up to which millisecond of the audio, and the state. With it
in ``Last-Event-ID`` a stream goes on where another broke off. Sections are forgotten when their job ends; what of the
text had not been sent by then follows in one last ``segment``, or in several when it is long.
"""

import json
import re
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from tympan.api.deps import Services
from tympan.api.jobs.views import ProgressBody, fault_body, progress_body
from tympan.api.wire.streaming import Departure
from tympan.domain import Job, JobState, Segment
from tympan.errors import NotFound, TympanError

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_S = 15.0
POLL_S = 1.0

_RETRY_MS = 2000
_ID = re.compile(r"(\d{1,9})-(\d{1,12})-([a-z]{1,16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Section:
    """Text that has not been sent; ``end_ms`` is where in the audio it ends."""

    index: int
    text: str
    end_ms: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the caller has: sections, milliseconds of audio that they cover, the last state, the last progress."""

    n_sections: int = 0
    end_ms: int = 0
    state: str = "none"
    progress: ProgressBody | None = None

    def __str__(self) -> str:
        """Return it as an event's id."""
        return f"{self.n_sections}-{self.end_ms}-{self.state}"

    def up_to(self, section: Section) -> "Seen":
        """Return what the caller has with ``section``."""
        return replace(self, n_sections=section.index + 1, end_ms=section.end_ms)


@dataclass(frozen=True, slots=True)
class News:
    """A job as it stands, and text that the caller has not got; ``more`` when there is more of that."""

    job: Job
    sections: tuple[Section, ...]
    more: bool = False


def seen_from(last_event_id: str | None) -> Seen:
    """Return what a caller has who sends this ``Last-Event-ID``: nothing, when it is none of ours."""
    found = _ID.fullmatch(last_event_id or "")
    return Seen(int(found[1]), int(found[2]), found[3]) if found else Seen()


class JobEvents:
    """The events of one job for one caller."""

    def __init__(self, services: Services, tenant: str, job_id: str, seen: Seen) -> None:
        """Prepare to tell what is beyond ``seen``."""
        self._services, self._tenant, self._job_id, self._seen = services, tenant, job_id, seen
        self._rest: Iterator[tuple[Section, bool]] | None = None

    async def pieces(self, departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield events until the job has ended, is erased, the caller goes, or the server stops."""
        yield f"retry: {_RETRY_MS}\n\n".encode()
        spoke = time.monotonic()
        while not departure.gone and not self._services.house.draining:
            try:
                news = await self._services.runner.query(self.look)
            except TympanError:
                return  # The caller connects again, after `retry`, and is told what is wrong.
            if said := "".join(self.tell(news)):
                spoke = time.monotonic()
                yield said.encode("utf-8", "replace")
            elif time.monotonic() - spoke > HEARTBEAT_S:
                spoke = time.monotonic()
                yield b": still here\n\n"
            if news.more:
                continue
            if news.job.state.is_terminal:
                return
            await departure.wait(POLL_S)

    def look(self) -> News:
        """Return how the job stands; blocks. Raises ``NotFound``, ``StorageUnavailable``."""
        jobs, seen = self._services.jobs, self._seen
        # Sections first: when they have gone because the job has ended since, its state says so.
        found = jobs.section_texts(self._tenant, self._job_id, seen.n_sections - 1)
        sections = tuple(Section(one.index, one.text, round(one.end_s * 1000)) for one in found)
        job = jobs.live(self._tenant, self._job_id)
        if job.state is not JobState.SUCCEEDED:
            return News(job, sections)
        if self._rest is None:
            self._rest = self._behind(seen.up_to(sections[-1]) if sections else seen)
        rest, more = next(self._rest, (None, False))
        return News(job, (*sections, rest) if rest else sections, more)

    def tell(self, news: News) -> Iterator[str]:
        """Yield the events that are new to the caller, and remember them."""
        job, progress = news.job, progress_body(news.job.progress)
        if job.state.value != self._seen.state and not job.state.is_terminal:
            yield self._state(job)
        for section in news.sections:
            self._seen = self._seen.up_to(section)
            yield self._event("segment", {"index": section.index, "text": section.text})
        if news.more:
            return
        if progress != self._seen.progress:
            self._seen = replace(self._seen, progress=progress)
            yield self._event("progress", asdict(progress))
        if job.state.value != self._seen.state:
            yield self._state(job)

    def _behind(self, seen: Seen) -> Iterator[tuple[Section, bool]]:
        """Yield the text behind ``seen``, which only the result knows any more, and whether more follows."""
        try:
            _, result = self._services.jobs.result(self._tenant, self._job_id)
            last_ms = max(seen.end_ms, round(result.head.duration_s * 1000))
            index, text = seen.n_sections, ""
            for group in result.groups():
                new = [one for one in group if one.text.strip() and _start_ms(one) >= seen.end_ms]
                if new and text:
                    yield Section(index, text, _start_ms(new[0])), True
                    index, text = index + 1, ""
                text = text or " ".join(one.text.strip() for one in new)
        except NotFound:
            return  # It is no longer kept.
        if text:
            yield Section(index, text, last_ms), False

    def _state(self, job: Job) -> str:
        self._seen = replace(self._seen, state=job.state.value)
        fault = fault_body(job)
        return self._event("state", {"state": job.state.value, "error": asdict(fault) if fault else None})

    def _event(self, kind: str, data: dict[str, Any]) -> str:
        return f"id: {self._seen}\nevent: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _start_ms(segment: Segment) -> int:
    return round(segment.start_s * 1000)
