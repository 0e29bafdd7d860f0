"""The results of jobs: rendered in pieces, away from the event loop, and sent from the disk when they are large."""

import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import Response

from tympan.api.deps import services_of
from tympan.api.fields.speakers import SPEAKER_FORMATS
from tympan.api.intake.equals import HIT, HIT_HEADER
from tympan.api.wire.streaming import Departure, StreamResponse, streams_of
from tympan.domain import Job, Output, ResponseFormat, Shape
from tympan.errors import InsufficientStorage, InvalidRequest
from tympan.formats import media_type, pieces

PIECE_BYTES = 64 << 10
IN_MEMORY_BYTES = 256 << 10
"""Results up to this size do not touch the disk."""


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

    def __init__(self, folder: Path, pieces: Iterator[str]) -> None:
        """Write ``pieces``, into ``folder`` if need be. Raises ``InsufficientStorage``."""
        with ExitStack() as undo:
            self._file: IO[bytes] = undo.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, dir=str(folder)))
            try:
                for piece in pieces:
                    self._file.write(piece.encode("utf-8", "replace"))
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


async def result_answer(
    request: Request, tenant: str, job_id: str, asked: tuple[ResponseFormat | None, Shape | None]
) -> Response:
    """Return a finished job's result, in the format and shape it was asked for unless ``asked`` says others.

    Raises ``NotFound``, ``JobNotFinished``, ``InsufficientStorage``, ``StorageUnavailable``, ``Overloaded``.
    """
    jobs = services_of(request).jobs

    def found() -> tuple[Iterator[str], str]:
        job, result = jobs.result(tenant, job_id)
        if result.head.is_cached:
            request.state.answer_headers[HIT_HEADER] = HIT
        output = output_of(job, *asked)
        return pieces(result, output, timed=True), media_type(output.response_format)

    return await spooled_answer(request, found)


async def spooled_answer(request: Request, found: Callable[[], tuple[Iterator[str], str]]) -> Response:
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
