"""The audio of jobs as it is stored, to be read again by whom it belongs to."""

from dataclasses import dataclass

from tympan.audio.signatures import describe
from tympan.domain import Job, SourceKind
from tympan.errors import MediaMissing
from tympan.jobs.media import media_key
from tympan.storage.blobs import BlobStore, StoredFile
from tympan.storage.jobs import JobStore

UNKNOWN_TYPE = "application/octet-stream"

_HEAD_BYTES = 512
_TYPES = {
    "a WAV file": "audio/wav",
    "a FLAC file": "audio/flac",
    "an Ogg file": "audio/ogg",
    "an MP3 file": "audio/mpeg",
    "an AAC file": "audio/aac",
    "an MP4 or M4A file": "video/mp4",
    "a Matroska or WebM file": "video/x-matroska",
    "an AIFF file": "audio/aiff",
    "a CAF file": "audio/x-caf",
    "an AMR file": "audio/amr",
    "an AU file": "audio/basic",
}
_SOUND_BRANDS = (b"M4A ", b"M4B ", b"F4A ")


@dataclass(frozen=True, slots=True)
class Recording:
    """A job's stored audio, and the media type that its first bytes look like, whatever was said of it."""

    file: StoredFile
    media_type: str


class Recordings:
    """Hands out stored audio; every call blocks."""

    def __init__(self, store: JobStore, blobs: BlobStore) -> None:
        """Look jobs up in ``store`` and their audio in ``blobs``."""
        self._store, self._blobs = store, blobs

    def find(self, tenant: str, job_id: str) -> Recording:
        """Return a job's audio. Raises ``NotFound``, ``MediaMissing`` where none is stored, ``StorageUnavailable``."""
        job = self._store.get(tenant, job_id)
        try:
            file = self._blobs.open(media_key(job.id))
            head = file.read(0, _HEAD_BYTES)
        except MediaMissing as error:
            raise _missing(job) from error
        return Recording(file, media_type_of(head))


def media_type_of(head: bytes) -> str:
    """Return the media type of a file by its first bytes: one that a player knows, else ``UNKNOWN_TYPE``."""
    kind = _TYPES.get(describe(head)[0], UNKNOWN_TYPE)
    if kind == "video/mp4" and head[8:12] in _SOUND_BRANDS:
        return "audio/mp4"
    if kind == "video/x-matroska" and b"webm" in head[:64]:
        return "video/webm"
    if kind == UNKNOWN_TYPE and len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return "audio/mpeg"  # A frame of MP3 whose version and protection are other than usual.
    return kind


def _missing(job: Job) -> MediaMissing:
    if job.source.kind is not SourceKind.STORED and not job.state.is_terminal:
        return MediaMissing("The audio of this job has not been fetched yet.", remedy="Ask again when the job runs.")
    return MediaMissing(
        "The audio of this job is no longer stored.",
        remedy="Play your own copy; the operator sets with RETAIN_AUDIO_DAYS how long audio is kept.",
    )
