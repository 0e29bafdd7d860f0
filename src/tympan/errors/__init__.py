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
    │     ├─ NotStereo              not_stereo
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
    ├─ Unauthenticated              invalid_api_key
    ├─ InsufficientScope            insufficient_scope
    ├─ ForeignOrigin                foreign_origin
    ├─ RateLimited                  rate_limit_exceeded     retryable
    │  ├─ TooManyFailures           too_many_failures       retryable
    │  └─ QuotaExceeded             insufficient_quota      retryable
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

from tympan.errors.access import (
    ForeignOrigin,
    InsufficientScope,
    QuotaExceeded,
    RateLimited,
    TooManyFailures,
    Unauthenticated,
)
from tympan.errors.base import TympanError
from tympan.errors.kinds import (
    AddressRefused,
    AudioQuarantined,
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    Conflict,
    CorruptMedia,
    DeadlinePassed,
    DecoderUnavailable,
    EmptyAudio,
    EngineDeviceLost,
    EngineError,
    EngineHang,
    EngineOutOfMemory,
    FetchFailed,
    IdempotencyMismatch,
    InsufficientStorage,
    InvalidRequest,
    JobNotFinished,
    JobNotRetryable,
    MediaChanged,
    MediaCrash,
    MediaError,
    MediaMissing,
    MediaTimeout,
    ModelDigestMismatch,
    ModelError,
    ModelInUse,
    ModelNotFound,
    ModelUnavailable,
    ModelUnpinned,
    NoAudioStream,
    NotFound,
    NotStereo,
    Overloaded,
    ProtocolVersion,
    Quarantined,
    RequestTimeout,
    StorageUnavailable,
    TooLarge,
    TooLong,
    Unavailable,
    UnsupportedLanguage,
    UnsupportedMedia,
    UnsupportedOption,
    UploadExpired,
    UploadLocked,
    UploadOffsetMismatch,
)

__all__ = [
    "AddressRefused",
    "AudioQuarantined",
    "Cancelled",
    "ChecksumMismatch",
    "ConfigError",
    "Conflict",
    "CorruptMedia",
    "DeadlinePassed",
    "DecoderUnavailable",
    "EmptyAudio",
    "EngineDeviceLost",
    "EngineError",
    "EngineHang",
    "EngineOutOfMemory",
    "FetchFailed",
    "ForeignOrigin",
    "IdempotencyMismatch",
    "InsufficientScope",
    "InsufficientStorage",
    "InvalidRequest",
    "JobNotFinished",
    "JobNotRetryable",
    "MediaChanged",
    "MediaCrash",
    "MediaError",
    "MediaMissing",
    "MediaTimeout",
    "ModelDigestMismatch",
    "ModelError",
    "ModelInUse",
    "ModelNotFound",
    "ModelUnavailable",
    "ModelUnpinned",
    "NoAudioStream",
    "NotFound",
    "NotStereo",
    "Overloaded",
    "ProtocolVersion",
    "Quarantined",
    "QuotaExceeded",
    "RateLimited",
    "RequestTimeout",
    "StorageUnavailable",
    "TooLarge",
    "TooLong",
    "TooManyFailures",
    "TympanError",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedLanguage",
    "UnsupportedMedia",
    "UnsupportedOption",
    "UploadExpired",
    "UploadLocked",
    "UploadOffsetMismatch",
]
