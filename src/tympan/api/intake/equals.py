"""Calls that are equal to an earlier one: answered with what was made then, where an operator has results kept."""

from collections.abc import Callable

from tympan.api.deps import Services, Transcriber
from tympan.domain import Options, Transcript
from tympan.errors import StorageUnavailable
from tympan.pipeline import RequestContext

HIT_HEADER = "tympan-cache"
"""Told with an answer that was not worked on again: ``hit``."""

HIT = "hit"


class EqualCalls:
    """What one call is equal to: known once its file has been read and its model is loaded."""

    def __init__(self, services: Services, transcriber: Transcriber, context: RequestContext) -> None:
        """Look for results of the caller's tenant."""
        self._services, self._transcriber, self._context = services, transcriber, context

    async def find(self, sha256: str, options: Options) -> Transcript | None:
        """Return the transcript of an equal call, ``None`` when there is none, or it cannot be had soon."""
        results, facts = self._services.results, self._transcriber.info
        if not (results.is_on and sha256 and facts):
            return None
        key, context = results.key(sha256, options, facts), self._context
        try:
            return await self._services.runner.query(lambda: results.find(context.tenant, key, context.max_audio_s))
        except StorageUnavailable:
            return None

    def keeping(self, sha256: str, options: Options, work: Callable[[], Transcript]) -> Callable[[], Transcript]:
        """Return ``work`` that has its transcript kept, unless another engine took over meanwhile."""
        results, before = self._services.results, self._transcriber.info
        if not (results.is_on and sha256 and before):
            return work
        key = results.key(sha256, options, before)

        def work_and_keep() -> Transcript:
            transcript = work()
            if self._transcriber.info == before:
                results.keep(self._context.tenant, key, before, transcript)
            return transcript

        return work_and_keep
