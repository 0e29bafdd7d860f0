"""Audio that a job names instead of carrying: checked when the job comes in, fetched when it is prepared."""

from collections.abc import Callable
from pathlib import Path

from tympan.domain import Source, SourceKind
from tympan.egress import DownloadLimits, Egress
from tympan.storage.objects_in import ObjectSource

__all__ = ["ObjectSource", "SourceGuard", "UrlFetcher"]


class UrlFetcher:
    """Fetches from web addresses through the egress guard."""

    def __init__(self, egress: Egress) -> None:
        """Fetch through ``egress``."""
        self._egress = egress

    def fetch(self, location: str, target: Path, max_bytes: int, cancelled: Callable[[], bool]) -> int:
        """Write the audio at a web address to ``target`` and return its size. Raises what ``Egress.download`` does."""
        return self._egress.download(location, target, DownloadLimits(max_bytes=max_bytes), cancelled)


class SourceGuard:
    """Says no early: to addresses that could not be fetched later either."""

    def __init__(self, egress: Egress, objects: ObjectSource) -> None:
        """Ask these two."""
        self._egress, self._objects = egress, objects

    def check(self, source: Source) -> None:
        """Raise ``InvalidRequest`` or ``AddressRefused`` for an address that may not be read; nothing is sent."""
        if source.kind is SourceKind.URL:
            self._egress.check(source.location, "audio_url")
        elif source.kind is SourceKind.OBJECT:
            self._objects.check(source.location)
