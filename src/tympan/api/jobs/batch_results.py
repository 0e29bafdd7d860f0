"""The results of a batch, one job after another: lines of JSON, or files in an archive that is sent as it is made."""

import json
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import IO, Any, TypeVar

from tympan.api.deps import Services
from tympan.api.jobs.results import Spool, output_of
from tympan.api.jobs.views import FaultBody, fault_body
from tympan.api.wire.streaming import Departure, Streams
from tympan.domain import Job, JobState, ResponseFormat
from tympan.errors import InvalidRequest, NotFound
from tympan.formats import json_object, json_string, pieces
from tympan.formats.sink import Sink
from tympan.jobs.service import StoredResult

JSON_FORMATS = ("json", "verbose_json", "diarized_json")
ENDINGS: dict[ResponseFormat, str] = {
    "json": "json",
    "verbose_json": "json",
    "text": "txt",
    "srt": "srt",
    "vtt": "vtt",
    "tsv": "tsv",
    "diarized_json": "json",
}
"""How the name of a file ends that holds a result in this format."""

_PAGE = 50
_AT_ONCE_BYTES = 256 << 10

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class BatchResults:
    """The results of one finished batch; ``fmt`` is the format, ``None`` for what each job asked for."""

    services: Services
    streams: Streams
    tenant: str
    batch_id: str
    fmt: ResponseFormat | None

    async def lines(self, departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield a line of JSON for each job, in the order they were handed in."""
        async for job in self._jobs():
            with closing(await self._made(partial(self._line, job))) as spool:
                async for piece in spool.pieces(departure):
                    yield piece

    async def archive(self, _departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield a zip archive with a file for each job, named after its id."""
        sink = Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            async for job in self._jobs():
                entry, spool = await self._made(partial(self._file, job))
                with closing(spool), archive.open(entry, "w") as file:
                    more = True
                    while more:
                        more = await self._made(partial(_pack, spool, file))
                        yield sink.take()
        yield sink.take()

    async def _jobs(self) -> AsyncGenerator[Job, None]:
        batches, after = self.services.jobs.batches, ""
        while True:
            page = partial(batches.members, self.tenant, self.batch_id, _PAGE, after)
            found = await self.services.runner.query(page)
            for job in found:
                yield job
            if not found:
                return
            after = found[-1].id

    async def _made(self, work: Callable[[], Made]) -> Made:
        """Return what rendering one job's result returns; few are rendered at a time."""
        async with self.streams.rendering:
            return await self.services.runner.chore(work, self.services.limits.request_timeout_s)

    def _line(self, job: Job) -> Spool:
        def line(result: StoredResult) -> Iterator[str]:
            output = output_of(job, self.fmt)
            rendered = pieces(result, output, timed=True)
            is_json = output.response_format in JSON_FORMATS
            yield from json_object({**_head(job), "result": rendered if is_json else json_string(rendered)})
            yield "\n"

        return self._spool(job, line)[0]

    def _file(self, job: Job) -> tuple[zipfile.ZipInfo, Spool]:
        spool, is_result = self._spool(job, lambda result: pieces(result, output_of(job, self.fmt), timed=True))
        ending = ENDINGS[self.fmt or job.output.response_format] if is_result else "error.json"
        moment = datetime.fromtimestamp(job.finished_at or job.created_at, UTC)
        entry = zipfile.ZipInfo(f"{job.id}.{ending}", moment.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        return entry, spool

    def _spool(self, job: Job, made: Callable[[StoredResult], Iterator[str]]) -> tuple[Spool, bool]:
        """Return what ``made`` makes of a job's result, or why it has none in JSON; and whether it has one."""
        fault = fault_body(job)
        if job.state is JobState.SUCCEEDED:
            try:
                return Spool(self.services.staging, made(self.services.jobs.result(self.tenant, job.id)[1])), True
            except (NotFound, InvalidRequest) as none:  # It has gone, before or while it was read; or has no speakers.
                fault = FaultBody(none.code, none.message, none.remedy)
        error = asdict(fault) if fault else None
        return Spool(self.services.staging, chain(json_object({**_head(job), "error": error}), "\n")), False


def _head(job: Job) -> dict[str, Any]:
    return {"id": job.id, "metadata": json.loads(job.metadata), "state": job.state.value}


def _pack(spool: Spool, file: IO[bytes]) -> bool:
    """Pack some more of ``spool`` into an archive's file; return whether there may be yet more."""
    piece = spool.read(_AT_ONCE_BYTES)
    file.write(piece)
    return len(piece) == _AT_ONCE_BYTES
