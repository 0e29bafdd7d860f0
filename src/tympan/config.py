"""Settings: read once at start from the environment and ``tympan.toml``, checked, frozen.

A field's description is its help text and its row in ``docs/reference/settings.md``. Only the command line and the
bootstrap read settings; everything else is given plain arguments.
"""

import difflib
import ipaddress
import json
import os
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tympan.access.door_settings import DoorFields
from tympan.access.limit_settings import LimitFields
from tympan.api.doors.load_settings import LoadFields
from tympan.api.live.settings import LiveFields
from tympan.engine.model_settings import MAX_ENTRIES, ModelEntry, ModelFields, parse_entries
from tympan.errors import ConfigError
from tympan.jobs.cache_settings import CacheFields
from tympan.quality.settings import QualityFields
from tympan.tracing.settings import TraceFields

ENV_PREFIX = "TYMPAN_"
CONFIG_FILE = "tympan.toml"
CONFIG_FILE_VARIABLE = "TYMPAN_CONFIG"
_OTHER_VARIABLES = frozenset(
    {CONFIG_FILE_VARIABLE, "TYMPAN_DEBUG", "TYMPAN_FAULT", "TYMPAN_API_KEY", "TYMPAN_BENCH_API_KEY"}
)
"""Variables with our prefix that are no settings: the file's place, tracebacks, failures for tests, a client's key."""


def default_data_dir() -> Path:
    """Return where this platform keeps a user's application data."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "tympan"
    base = os.environ.get("XDG_DATA_HOME") or ""
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "share") / "tympan"


class Settings(
    TraceFields, QualityFields, LiveFields, CacheFields, LoadFields, LimitFields, ModelFields, DoorFields, BaseSettings
):
    """Every setting. Build it with ``load``, which explains what is wrong; it never changes afterwards."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    mode: Literal["embedded", "cluster"] = Field(
        "embedded", description="How Tympan runs. `embedded` keeps everything in one process tree on one machine."
    )
    host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address to listen on. Any but a loopback address also needs an API key, or `API_KEYS=open`.",
    )
    port: int = Field(8000, ge=0, le=65535, description="TCP port to listen on; 0 takes any free one.")
    reuse_port: bool = Field(
        False, description="Let several servers share one port; each starts to listen when it is ready."
    )
    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="Folder for models and uploads in progress. Default: the platform's place for application data.",
    )
    model: str = Field(
        "base",
        min_length=1,
        max_length=512,
        description="Model to serve: a catalogue name or alias, a local folder, or `auto` to choose one by hardware.",
    )
    models: Annotated[tuple[ModelEntry, ...], NoDecode] = Field(
        (),
        max_length=MAX_ENTRIES,
        description=(
            "Further models, loaded when they are asked for: names with commas between them. A JSON list (a list or "
            "`[[models]]` in the file) can hold tables with `name` and any of `engine`, `device`, `compute_type`, "
            "`threads`, `options`, `memory_mb`, `pinned`, `preload`; one named as `MODEL` says more about that."
        ),
    )
    engine: Literal["auto", "onnx", "ct2", "whispercpp", "onnx-asr", "fake"] = Field(
        "auto",
        description=(
            "Model runtime: `onnx` (CPU, int8), `ct2` (CTranslate2: GPU and other number formats), `whispercpp` "
            "(whisper.cpp, for ggml models), `onnx-asr` (other networks than Whisper), or `auto` for the fastest that "
            "can serve the model. `fake` gives made-up text at once, without a model, for trying things out."
        ),
    )
    engine_options: dict[str, str] = Field(
        default_factory=dict, description='Options of the model runtime as a JSON object, such as `{"splice": "off"}`.'
    )
    device: Literal["auto", "cpu", "cuda", "metal", "vulkan"] = Field(
        "auto", description="Where the model runs; `metal` and `vulkan` take a ggml model."
    )
    compute_type: str = Field(
        "auto",
        pattern=r"^[a-z0-9_]{1,32}$",
        description="Number format of the weights: `auto`, `int8`, `int8_float16`, `float16`, `float32`, ...",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="Threads of the engine on a CPU; `auto` takes the physical cores."
    )
    diarize_threads: int = Field(
        1,
        ge=1,
        le=256,
        description="Recordings whose speakers are told apart at once, each on one core, at low priority.",
    )
    max_batch_ms: int = Field(
        300,
        ge=10,
        le=60_000,
        description="Longest predicted run of one batch, in milliseconds, while more urgent work waits.",
    )
    max_upload_mb: int = Field(
        100, ge=1, le=1_000_000, description="Largest upload, in megabytes of 1,000,000 bytes; above it 413."
    )
    max_audio_s: float = Field(
        14_400.0, gt=0, le=604_800, description="Longest audio, in seconds counted while decoding; above it 413."
    )
    request_timeout_s: float = Field(
        300.0, gt=0, le=86_400, description="Longest time for one request, in seconds, its upload included; then 408."
    )
    upload_idle_s: float = Field(
        10.0,
        gt=0,
        le=3_600,
        description="Longest pause in an upload, and how long an upload may stay below 500 bytes/s.",
    )
    max_requests: int = Field(
        128,
        ge=1,
        le=10_000,
        description="Most transcription requests at a time, uploading, waiting or running; above it 503.",
    )
    max_connections: int = Field(
        2_000, ge=16, le=100_000, description="Most open HTTP connections; above it idle ones end for new ones."
    )
    max_concurrent: int = Field(
        64, ge=1, le=1_000, description="Most requests decoded and transcribed at the same time; the others wait."
    )
    disk_reserve_mb: int | None = Field(
        None,
        ge=68,
        le=10_000_000,
        description=(
            "Room that stays free on the disk of the data folder, in megabytes of 1,000,000 bytes: an upload that "
            "would take it is refused with 507 before it is read. `auto` is 5 % of the disk, from 68 to 5,000."
        ),
    )
    drain_s: float = Field(
        30.0, ge=0, le=3_600, description="Time that running requests get to finish after SIGTERM, in seconds."
    )
    database_url: SecretStr | None = Field(
        None,
        description="`postgresql://user:password@host/name`. Left out: SQLite in the data folder (`embedded` only).",
    )
    broker_url: SecretStr | None = Field(None, description="`amqp://` URL of RabbitMQ. Only `cluster` needs it.")
    redis_url: SecretStr | None = Field(
        None, description="`redis://` URL; only `cluster` uses it, to tell of progress sooner. Nothing depends on it."
    )
    storage_url: SecretStr | None = Field(
        None,
        description=(
            "Where audio is kept: `s3://bucket/prefix`, `gs://`, `az://`; for other S3 services with "
            "`?endpoint=http://host:9000&region=x`. Keys come from the usual variables of the cloud. "
            "Left out: files in the data folder."
        ),
    )
    secret_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="Seals secrets in the database; the same on every machine. Left out: a file in the data folder.",
    )
    job_slots: int = Field(4, ge=0, le=256, description="Steps of jobs that one process works on at the same time.")
    max_queued_jobs: int = Field(
        1_000_000, ge=1, le=100_000_000, description="Most jobs that may wait; above it 503 with Retry-After."
    )
    retain_audio_days: float = Field(
        1.0,
        ge=0,
        le=3_650,
        description="Days that a job's audio is kept after the job has ended; 0 removes it at once.",
    )
    retain_text_days: float = Field(
        30.0, ge=0, le=36_500, description="Days that a job and its transcript are kept after the job has ended."
    )
    upload_ttl_s: float = Field(
        86_400.0, gt=0, le=2_592_000, description="Time to finish a resumable upload and use it for a job, in seconds."
    )
    max_resumable_mb: int = Field(
        10_000,
        ge=1,
        le=1_000_000,
        description="Largest resumable upload and fetched file, in megabytes of 1,000,000 bytes.",
    )
    heartbeat_s: float = Field(5.0, gt=0, le=600, description="How often a worker extends its leases, in seconds.")
    lease_s: float = Field(
        30.0, gt=0, le=3_600, description="How long a silent worker keeps its work, in seconds; at least 3 heartbeats."
    )
    sweep_s: float = Field(5.0, gt=0, le=600, description="How often lost work is looked for, in seconds.")
    poll_s: float = Field(
        2.0, gt=0, le=600, description="How often an idle worker looks for work by itself, in seconds."
    )
    egress_allow: tuple[str, ...] = Field(
        (),
        description="Private `ip:port` addresses that webhooks and audio URLs may reach anyway, as a JSON list.",
    )
    audio_roots: tuple[str, ...] = Field(
        (),
        description="Folders and `s3://bucket/prefix` places that `audio_object` may name, as a JSON list.",
    )
    offline: bool = Field(False, description="Never use the network to find models.")
    trust_first_use: bool = Field(
        False, description="Accept a model without a published digest and record what arrived."
    )
    allow_old_ffmpeg: bool = Field(False, description="Start with a media library that has known faults.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe line to log.")
    log_format: Literal["console", "json"] = Field("console", description="Log lines for people or for machines.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (not a source of ours)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (as above)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in order: arguments, environment, configuration file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, init_kwargs=_file_values())

    @property
    def disk_reserve_bytes(self) -> int | None:
        """``disk_reserve_mb`` in bytes."""
        return None if self.disk_reserve_mb is None else self.disk_reserve_mb * 1_000_000

    @field_validator("models", mode="before")
    @classmethod
    def _entries(cls, value: object) -> object:
        return parse_entries(value)

    @field_validator("threads", "disk_reserve_mb", mode="before")
    @classmethod
    def _auto(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "auto") else value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.mode == "cluster":
            needed = ("database_url", "broker_url", "storage_url", "secret_key")
            missing = [name.upper() for name in needed if getattr(self, name) is None]
            if missing:
                raise ValueError(f"MODE 'cluster' also needs {', '.join(missing)}")
        if self.lease_s < 3 * self.heartbeat_s:
            raise ValueError("LEASE_S must be at least three times HEARTBEAT_S, or work is taken from live workers")
        return self

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it stands, ready to show; secrets are hidden."""

    name: str
    value: str
    is_default: bool
    description: str


def load(overrides: Mapping[str, object] | None = None) -> Settings:
    """Return the settings of this process; ``overrides`` (from the command line) win over everything.

    Raises ``ConfigError`` that lists every bad value at once, with where it came from.
    """
    try:
        values: dict[str, Any] = dict(overrides or {})
        return Settings(**values)
    except ValidationError as error:
        problems = [_explain(detail, overrides or {}) for detail in error.errors()]
        raise ConfigError(
            "The settings are not valid:\n" + "\n".join(f"  - {problem}" for problem in problems),
            remedy="\nCorrect them in the environment, on the command line or in the configuration file.",
        ) from error


def notes(settings: Settings) -> list[str]:
    """Return what the operator should hear at start: names that mean nothing, and doors that stand open."""
    known = set(Settings.model_fields)
    variables = (name for name in os.environ if name.upper().startswith(ENV_PREFIX))
    found = [
        *_unknown("Environment variable", (n for n in variables if n.upper() not in _OTHER_VARIABLES), known),
        *_unknown(f"Setting in {_file_path() or CONFIG_FILE}:", _file_values(), known),
    ]
    if settings.api_keys == "open" and not is_loopback(settings.host):
        found.append(f"OPEN TO EVERYBODY: anyone who can reach {settings.host} may use this server without a key.")
    if settings.result_cache_mb and settings.mode == "cluster" and settings.redis_url is None:
        found.append("RESULT_CACHE_MB keeps nothing: in a cluster it needs REDIS_URL.")
    return found


def rows(settings: BaseSettings) -> list[SettingRow]:
    """Return every setting with its value, for ``tympan doctor`` and the documentation."""
    fields = type(settings).model_fields
    return [
        SettingRow(
            name=name.upper(),
            value=_shown(getattr(settings, name)),
            is_default=getattr(settings, name) == field.get_default(call_default_factory=True),
            description=field.description or "",
        )
        for name, field in fields.items()
    ]


def is_loopback(host: str) -> bool:
    """Return whether only programs on this machine can reach ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _file_path() -> Path | None:
    if named := os.environ.get(CONFIG_FILE_VARIABLE):
        return Path(named)
    return Path(CONFIG_FILE) if Path(CONFIG_FILE).is_file() else None


def _file_values() -> dict[str, Any]:
    """Read the configuration file; names may be in either case and carry the prefix of the variables or not."""
    path = _file_path()
    if path is None:
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read: {error.strerror}.", remedy=f"Check {CONFIG_FILE_VARIABLE}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.", remedy="Correct that line.") from error
    return {name.lower().removeprefix(ENV_PREFIX.lower()): value for name, value in values.items()}


def _explain(detail: ErrorDetails, overrides: Mapping[str, object]) -> str:
    message = detail["msg"].removeprefix("Value error, ")
    if not detail["loc"]:
        return message
    name = str(detail["loc"][0])
    origin = "command line" if name in overrides else _origin(name)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"][1:])
    return f"{name.upper()}{place} ({origin}): {message}; it is {_shown(detail['input'])!r}"


def _origin(name: str) -> str:
    variable = ENV_PREFIX + name.upper()
    in_environment = any(key.upper() == variable for key in os.environ)
    return f"environment variable {variable}" if in_environment else str(_file_path() or "default")


def _unknown(kind: str, names: Iterable[str], known: set[str]) -> list[str]:
    messages = []
    for name in sorted(names):
        plain = name.lower().removeprefix(ENV_PREFIX.lower())
        if plain not in known:
            near = difflib.get_close_matches(plain, known, n=1, cutoff=0.0)
            messages.append(f"{kind} {name} is not a setting and is ignored. The nearest setting is {near[0].upper()}.")
    return messages


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "(hidden)" if value.get_secret_value() else ""
    if isinstance(value, dict):
        return json.dumps(value)
    return "auto" if value is None else str(value)
