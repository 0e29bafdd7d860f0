"""The errors of requests, models, jobs, storage and engines."""

from tympan.errors.base import TympanError


class InvalidRequest(TympanError):
    """The request is not valid."""

    code = "invalid_request"


class UnsupportedOption(InvalidRequest):
    """The chosen model or engine does not support this option."""

    code = "unsupported_option"


class UnsupportedLanguage(InvalidRequest):
    """The model does not know this language."""

    code = "unsupported_language"


class MediaError(InvalidRequest):
    """The audio cannot be used."""

    code = "unsupported_media"


class UnsupportedMedia(MediaError):
    """The file is not audio in a format Tympan accepts."""

    code = "unsupported_media"


class EmptyAudio(MediaError):
    """The file holds no audio samples."""

    code = "empty_audio"


class NoAudioStream(MediaError):
    """The file has no audio stream."""

    code = "no_audio_stream"


class NotStereo(MediaError):
    """Speakers can be told apart in recordings with two channels only."""

    code = "not_stereo"


class CorruptMedia(MediaError):
    """The audio is damaged and nothing of it could be decoded."""

    code = "corrupt_media"


class MediaCrash(MediaError):
    """The decoder crashed on this file."""

    code = "media_crash"


class MediaTimeout(MediaError):
    """Decoding this file took longer than allowed."""

    code = "media_timeout"


class TooLarge(TympanError):
    """The upload is larger than the limit."""

    code = "too_large"


class TooLong(TooLarge):
    """The audio is longer than the limit."""

    code = "too_long"


class ModelError(TympanError):
    """The model cannot be used."""

    code = "model_error"


class ModelNotFound(ModelError):
    """There is no model of this name."""

    code = "model_not_found"


class ModelUnavailable(ModelError):
    """No source could supply the model's files."""

    code = "model_unavailable"


class ModelUnpinned(ModelError):
    """The catalogue holds no verified digest for this model."""

    code = "model_unpinned"


class ModelDigestMismatch(ModelError):
    """A model file is not the one the catalogue names."""

    code = "model_digest_mismatch"


class NotFound(TympanError):
    """There is nothing here."""

    code = "not_found"


class Conflict(TympanError):
    """This cannot be done in the present state."""

    code = "conflict"


class JobNotFinished(Conflict):
    """The job has no result yet."""

    code = "job_not_finished"
    retryable = True


class JobNotRetryable(Conflict):
    """Only a job that failed, expired or was cancelled can be tried again."""

    code = "job_not_retryable"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used for another request."""

    code = "idempotency_mismatch"


class ModelInUse(Conflict):
    """The model is in use or pinned, so it cannot be unloaded."""

    code = "model_in_use"
    retryable = True


class UploadOffsetMismatch(Conflict):
    """The upload is not at this offset."""

    code = "upload_offset_mismatch"


class UploadLocked(TympanError):
    """Another request is writing to this upload."""

    code = "upload_locked"
    retryable = True


class UploadExpired(TympanError):
    """The upload was not finished in time and has been removed."""

    code = "upload_expired"


class ChecksumMismatch(TympanError):
    """The bytes that arrived do not match their checksum."""

    code = "checksum_mismatch"


class ProtocolVersion(TympanError):
    """This version of the upload protocol is not supported."""

    code = "protocol_version"


class AddressRefused(TympanError):
    """This address may not be reached from here."""

    code = "address_refused"


class FetchFailed(TympanError):
    """The audio could not be fetched from its address."""

    code = "fetch_failed"
    retryable = True


class MediaMissing(TympanError):
    """The audio of this job is no longer stored."""

    code = "media_missing"


class MediaChanged(TympanError):
    """The stored audio is not what was uploaded."""

    code = "media_changed"


class DeadlinePassed(TympanError):
    """The deadline passed before the job was done."""

    code = "deadline_passed"


class Quarantined(TympanError):
    """Every process that worked on this job crashed."""

    code = "quarantined"


class StorageUnavailable(TympanError):
    """The database or the object storage is not answering."""

    code = "storage_unavailable"
    retryable = True


class Overloaded(TympanError):
    """The server is at capacity."""

    code = "overloaded"
    retryable = True
    position: int | None = None
    """Which place among its tenant's requests this one would have had."""
    eta_s: float | None = None
    """In how many seconds it would have been done, about."""


class Unavailable(TympanError):
    """The server is starting, stopping or without a working engine."""

    code = "unavailable"
    retryable = True


class RequestTimeout(TympanError):
    """The request did not finish within its time limit."""

    code = "request_timeout"
    retryable = True


class Cancelled(TympanError):
    """The caller disconnected or cancelled the request."""

    code = "cancelled"


class DecoderUnavailable(TympanError):
    """The media decoder process could not be started."""

    code = "decoder_unavailable"
    retryable = True


class InsufficientStorage(TympanError):
    """The disk has no room for the upload."""

    code = "insufficient_storage"
    retryable = True


class ConfigError(TympanError):
    """A setting is not valid."""

    code = "config_error"


class EngineError(TympanError):
    """The engine failed on this audio."""

    code = "engine_failed"
    retryable = True


class EngineOutOfMemory(EngineError):
    """The device ran out of memory."""

    code = "engine_out_of_memory"


class EngineDeviceLost(EngineError):
    """The device failed and its engine is being restarted."""

    code = "engine_device_lost"


class EngineHang(EngineError):
    """The engine made no progress and was restarted."""

    code = "engine_hang"


class AudioQuarantined(EngineError):
    """The engine crashed every time it worked on this audio."""

    code = "audio_quarantined"
    retryable = False
