"""The results of a batch, one job after another: lines of JSON, or files in an archive that is sent as it is made."""

import json
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from tympan.api.deps import Services
from tympan.api.job_results import Spool, output_of, rendered
from tympan.api.job_views import fault_body
from tympan.api.streaming import Departure, Streams
from tympan.domain import Job, JobState, Output, ResponseFormat, Transcript
from tympan.errors import NotFound

JSON_FORMATS = ("json", "verbose_json")
ENDINGS: dict[ResponseFormat, str] = {
    "json": "json",
    "verbose_json": "json",
    "text": "txt",
    "srt": "srt",
    "vtt": "vtt",
    "tsv": "tsv",
}
"""How the name of a file ends that holds a result in this format."""

_PAGE = 50

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class BatchResults:
    """The results of one finished batch; ``fmt`` is the format, ``None`` for what each job asked for."""

    services: Services
    streams: Streams
    tenant: str
    batch_id: str
    fmt: ResponseFormat | None

    async def lines(self, _departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield a line of JSON for each job, in the order they were handed in."""
        async for job in self._jobs():
            with closing(await self._made(partial(Spool, self.services.staging, self._line(job)))) as spool:
                async for piece in spool.pieces(_departure):
                    yield piece

    async def archive(self, _departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield a zip archive with a file for each job, named after its id."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            async for job in self._jobs():
                await self._made(partial(self._add, archive, job))
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

    def _line(self, job: Job) -> Iterator[str]:
        transcript, head = self._outcome(job)
        text = json.dumps(head, ensure_ascii=False)
        if transcript is None:
            yield text + "\n"
            return
        output = self._output(job)
        yield text[:-1] + ', "result": '
        if output.response_format in JSON_FORMATS:
            yield from rendered(transcript, output)
        else:
            yield json.dumps("".join(rendered(transcript, output)), ensure_ascii=False)
        yield "}\n"

    def _add(self, archive: zipfile.ZipFile, job: Job) -> None:
        transcript, head = self._outcome(job)
        ending = "error.json" if transcript is None else ENDINGS[self._output(job).response_format]
        moment = datetime.fromtimestamp(job.finished_at or job.created_at, UTC)
        entry = zipfile.ZipInfo(f"{job.id}.{ending}", moment.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(entry, "w") as file:
            for piece in [json.dumps(head)] if transcript is None else rendered(transcript, self._output(job)):
                file.write(piece.encode("utf-8", "replace"))

    def _outcome(self, job: Job) -> tuple[Transcript | None, dict[str, Any]]:
        """Return a job's transcript, ``None`` when there is none, and what is said about it either way."""
        head: dict[str, Any] = {"id": job.id, "metadata": json.loads(job.metadata), "state": job.state.value}
        if job.state is not JobState.SUCCEEDED:
            fault = fault_body(job)
            return None, head | {"error": asdict(fault) if fault else None}
        try:
            return self.services.jobs.transcript(self.tenant, job.id)[1], head
        except NotFound as error:
            return None, head | {"error": {"code": error.code, "message": error.message, "remedy": error.remedy}}

    def _output(self, job: Job) -> Output:
        return output_of(job, self.fmt)


class _Sink:
    """Where an archive writes to, and what has been written since it was last asked."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is nothing between this and the reader."""

    def close(self) -> None:
        """Do nothing, as above."""

    def take(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data
