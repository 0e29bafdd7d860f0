"""The results of jobs: rendered in pieces, away from the event loop, and sent from the disk when they are large."""

import json
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from tympan.api.deps import services_of
from tympan.api.fields.speakers import SPEAKER_FORMATS
from tympan.api.intake.equals import HIT, HIT_HEADER
from tympan.api.wire.streaming import Departure, StreamResponse, streams_of
from tympan.domain import Job, Output, ResponseFormat, Shape
from tympan.errors import InsufficientStorage, InvalidRequest
from tympan.formats import docx, media_type, pieces
from tympan.jobs.edits import EditedResult
from tympan.jobs.service import StoredResult

PIECE_BYTES = 64 << 10
IN_MEMORY_BYTES = 256 << 10
"""Results up to this size do not touch the disk."""


ResultFormat: TypeAlias = ResponseFormat | Literal["docx"]
"""Formats of results: those of transcriptions, and a document, which is no text."""

_NAMES = ("file", "filename", "file_name", "name", "title")
"""Members of a job's metadata that may say what its audio is called."""


@dataclass(frozen=True, slots=True)
class Asked:
    """How a result is to be rendered; ``None`` is what the job asked for. ``edited`` is as somebody corrected it."""

    fmt: ResultFormat | None = None
    shape: Shape | None = None
    edited: bool = False


def output_of(job: Job, fmt: ResponseFormat | None, shape: Shape | None = None) -> Output:
    """Return how a job's result is to be rendered, in ``fmt`` and ``shape``; ``None`` is what the job asked for.

    Raises ``InvalidRequest`` for speakers who were not told apart.
    """
    output = job.output
    if fmt in SPEAKER_FORMATS and not job.options.diarize:
        raise InvalidRequest(
            "The job did not tell speakers apart.", param="format", remedy="Hand it in again with diarize=true."
        )
    return replace(output, response_format=fmt or output.response_format, shape=shape or output.shape)


class Spool:
    """A result on its way out: in memory, or in a file without a name when it is large. Close it."""

    def __init__(self, folder: Path, pieces: Iterator[str] | Iterator[bytes]) -> None:
        """Write ``pieces``, into ``folder`` if need be. Raises ``InsufficientStorage``."""
        with ExitStack() as undo:
            self._file: IO[bytes] = undo.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(folder)))
            try:
                for piece in pieces:
                    self._file.write(piece.encode("utf-8", "replace") if isinstance(piece, str) else piece)
                self.n_bytes = self._file.tell()
                self._file.seek(0)
            except OSError as error:
                raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.") from error
            undo.pop_all()

    def read(self, n_bytes: int = PIECE_BYTES) -> bytes:
        """Return the next piece, nothing at the end."""
        return self._file.read(n_bytes)

    async def pieces(self, _departure: Departure) -> AsyncGenerator[bytes, None]:
        """Yield the rest in pieces. Each is read from what has just been written: the disk is not waited for."""
        while piece := self.read():
            yield piece

    def close(self) -> None:
        """Drop the result."""
        self._file.close()


async def result_answer(request: Request, tenant: str, job_id: str, asked: Asked) -> Response:
    """Return a finished job's result, in the format and shape it was asked for unless ``asked`` says others.

    Raises ``NotFound``, ``JobNotFinished``, ``InsufficientStorage``, ``StorageUnavailable``, ``Overloaded``.
    """
    jobs = services_of(request).jobs

    def found() -> tuple[Iterator[str] | Iterator[bytes], str]:
        job, result = jobs.result(tenant, job_id)
        if result.head.is_cached:
            request.state.answer_headers[HIT_HEADER] = HIT
        return _rendered(job, jobs.edits.result(job, result) if asked.edited else result, asked)

    answer = await spooled_answer(request, found)
    if asked.fmt == "docx":
        answer.headers["content-disposition"] = f'attachment; filename="{job_id}.docx"'
    return answer


def _rendered(
    job: Job, result: StoredResult | EditedResult, asked: Asked
) -> tuple[Iterator[str] | Iterator[bytes], str]:
    speakers = job.output.speakers
    if isinstance(result, EditedResult):
        speakers = ()  # They have their names already.
        if result.has_speakers:
            job = replace(job, options=replace(job.options, diarize=True))
    if asked.fmt == "docx":
        return docx.docx(result, Output(speakers=speakers), title_of(job)), docx.MEDIA_TYPE
    output = replace(output_of(job, asked.fmt, asked.shape), speakers=speakers)
    return pieces(result, output, timed=True), media_type(output.response_format)


def title_of(job: Job) -> str:
    """Return what a job's audio is called: by its metadata or its address, else the job's id."""
    told = json.loads(job.metadata)
    named = next((told[name] for name in _NAMES if isinstance(told.get(name), str) and told[name].strip()), "")
    return named or unquote(PurePosixPath(urlsplit(job.source.location).path).name) or job.id


async def spooled_answer(
    request: Request, found: Callable[[], tuple[Iterator[str] | Iterator[bytes], str]]
) -> Response:
    """Return what ``found`` gives, pieces and their media type, once the last piece is there; both may block.

    Raises what either raises, ``InsufficientStorage``, ``StorageUnavailable``.
    """
    services, streams = services_of(request), streams_of(request)

    def make() -> tuple[Spool, str]:
        rendered, kind = found()
        return Spool(services.staging, rendered), kind

    async with streams.rendering:
        spool, kind = await services.runner.chore(make, services.limits.request_timeout_s)
    if spool.n_bytes > IN_MEMORY_BYTES:
        return StreamResponse(streams, spool.pieces, kind, spool.close)
    with closing(spool):
        return Response(spool.read(IN_MEMORY_BYTES), media_type=kind)
