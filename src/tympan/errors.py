"""Everything that can go wrong, in one tree.

A class's docstring is its default message. ``code`` is the same word on every route, in the command line and in
reports; ``retryable`` says whether the same call can succeed later. HTTP statuses live in ``api/errors.py`` alone.

::

    TympanError                     internal_error
    ├─ InvalidRequest               invalid_request
    │  ├─ UnsupportedOption         unsupported_option
    │  ├─ UnsupportedLanguage       unsupported_language
    │  └─ MediaError                unsupported_media
    │     ├─ UnsupportedMedia       unsupported_media
    │     ├─ EmptyAudio             empty_audio
    │     ├─ NoAudioStream          no_audio_stream
    │     ├─ CorruptMedia           corrupt_media
    │     ├─ MediaCrash             media_crash
    │     └─ MediaTimeout           media_timeout
    ├─ TooLarge                     too_large
    │  └─ TooLong                   too_long
    ├─ ModelError                   model_error
    │  ├─ ModelNotFound             model_not_found
    │  ├─ ModelUnavailable          model_unavailable
    │  ├─ ModelUnpinned             model_unpinned
    │  └─ ModelDigestMismatch       model_digest_mismatch
    ├─ NotFound                     not_found
    ├─ Conflict                     conflict
    │  ├─ JobNotFinished            job_not_finished        retryable
    │  ├─ JobNotRetryable           job_not_retryable
    │  ├─ IdempotencyMismatch       idempotency_mismatch
    │  ├─ ModelInUse                model_in_use            retryable
    │  └─ UploadOffsetMismatch      upload_offset_mismatch
    ├─ UploadLocked                 upload_locked           retryable
    ├─ UploadExpired                upload_expired
    ├─ ChecksumMismatch             checksum_mismatch
    ├─ ProtocolVersion              protocol_version
    ├─ AddressRefused               address_refused
    ├─ FetchFailed                  fetch_failed            retryable
    ├─ MediaMissing                 media_missing
    ├─ MediaChanged                 media_changed
    ├─ DeadlinePassed               deadline_passed
    ├─ Quarantined                  quarantined
    ├─ StorageUnavailable           storage_unavailable     retryable
    ├─ Overloaded                   overloaded              retryable
    ├─ Unavailable                  unavailable             retryable
    ├─ RequestTimeout               request_timeout         retryable
    ├─ Cancelled                    cancelled
    ├─ DecoderUnavailable           decoder_unavailable     retryable
    ├─ InsufficientStorage          insufficient_storage    retryable
    ├─ ConfigError                  config_error
    └─ EngineError                  engine_failed           retryable
       ├─ EngineOutOfMemory         engine_out_of_memory    retryable
       ├─ EngineDeviceLost          engine_device_lost      retryable
       ├─ EngineHang                engine_hang             retryable
       └─ AudioQuarantined          audio_quarantined
"""

from typing import ClassVar


class TympanError(Exception):
    """Something went wrong inside Tympan."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        remedy: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Describe one failure.

        ``param`` names the request field at fault, ``remedy`` says what the caller can do, ``retry_after_s`` is when
        the same call is worth repeating.
        """
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.param = param
        self.remedy = remedy
        self.retry_after_s = retry_after_s
        super().__init__(self.message)

    def __str__(self) -> str:
        """Return the cause, and the remedy when there is one."""
        return f"{self.message} {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keep every field when the error crosses a process boundary."""
        return (_rebuild, (type(self), self.message, self.param, self.remedy, self.retry_after_s))


def _rebuild(
    cls: type[TympanError], message: str, param: str | None, remedy: str | None, retry_after_s: float | None
) -> TympanError:
    return cls(message, param=param, remedy=remedy, retry_after_s=retry_after_s)


class InvalidRequest(TympanError):
    """The request is not valid."""

    code = "invalid_request"


class UnsupportedOption(InvalidRequest):
    """The chosen model or engine cannot honour this option."""

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


class CorruptMedia(MediaError):
    """The audio is damaged and nothing of it could be decoded."""

    code = "corrupt_media"


class MediaCrash(MediaError):
    """The decoder crashed on this file."""

    code = "media_crash"


class MediaTimeout(MediaError):
    """Decoding this file took longer than its share of time."""

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
    """The state of things does not allow this now."""

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
    """Somebody uses this model, or it is pinned: it cannot be unloaded."""

    code = "model_in_use"
    retryable = True


class UploadOffsetMismatch(Conflict):
    """The upload does not stand at this offset."""

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
    """This version of the upload protocol is not spoken here."""

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
    """Every process that worked on this job has died."""

    code = "quarantined"


class StorageUnavailable(TympanError):
    """The database or the object storage does not answer."""

    code = "storage_unavailable"
    retryable = True


class Overloaded(TympanError):
    """The server is at capacity."""

    code = "overloaded"
    retryable = True


class Unavailable(TympanError):
    """The server is starting, draining or without a working engine."""

    code = "unavailable"
    retryable = True


class RequestTimeout(TympanError):
    """The request did not finish within its time limit."""

    code = "request_timeout"
    retryable = True


class Cancelled(TympanError):
    """The caller has gone or cancelled the request."""

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
    """The engine died every time it worked on this audio."""

    code = "audio_quarantined"
    retryable = False
