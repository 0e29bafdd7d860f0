"""What every process that listens for HTTP has in common: its limits, its address, how it says that it is there."""

import contextlib
import os
import resource
import sys
from contextlib import AbstractContextManager
from typing import NoReturn

from tympan import __version__, config, telemetry, tracing
from tympan.api.deps import Limits
from tympan.api.doors.live_bounds import LineLimits, LiveBounds
from tympan.api.server import Address, check_free
from tympan.bootstrap.memory import return_large_blocks
from tympan.bootstrap.pipeline import Services
from tympan.config import Settings

_FORCED_EXIT = 130
_LOG = telemetry.get_logger(__name__)


def open_address(settings: Settings) -> Address:
    """Return where to listen, after setting up log and memory. Raises ``ConfigError`` when the address is taken."""
    return_large_blocks()
    telemetry.configure_logging(settings.log_level, settings.log_format)
    telemetry.log_crashes()
    for note in config.notes(settings):
        _LOG.warning("settings", note=note)
    room = _room_for_connections(settings.max_connections)
    address = Address(settings.host, settings.port, settings.drain_s, settings.reuse_port, room)
    check_free(address)
    return address


def traced(settings: Settings, role: str) -> AbstractContextManager[None]:
    """Return a block in which traces are recorded, if there is a place for them; ``role`` is what is done here."""
    return tracing.recording(settings.otlp_endpoint, settings.trace_share, role, __version__)


def _room_for_connections(wanted: int) -> int:
    """Return how many connections to allow: each may need a second file; the limit on those is raised if it can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    if resource.RLIM_INFINITY != soft < 2 * wanted:
        soft = min(2 * wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)
    if room < wanted:
        _LOG.warning("fewer_connections", wanted=wanted, room=room, remedy="Raise the limit on open files (ulimit -n).")
    return room


def limits_of(settings: Settings) -> Limits:
    """Return what requests may take."""
    return Limits(
        max_upload_bytes=settings.max_upload_mb * 1_000_000,
        max_audio_s=settings.max_audio_s,
        request_timeout_s=settings.request_timeout_s,
        upload_idle_s=settings.upload_idle_s,
        max_requests=settings.max_requests,
        max_concurrent=settings.max_concurrent,
        disk_reserve_bytes=settings.disk_reserve_bytes,
        max_wait_s=settings.max_wait_s,
        reattach_s=settings.reattach_s,
        live=LiveBounds(
            max_sessions=settings.max_live_sessions,
            line=LineLimits(idle_s=settings.live_idle_s),
        ),
    )


def announce(settings: Settings, services: Services, url: str, took_s: float) -> None:
    """Say in the log how the decoder is protected, and on standard output that requests are answered, and where."""
    report = services.decoder.sandbox
    _LOG.info("ready", took_s=round(took_s, 2), sandbox=list(report.lines))
    if report.missing:
        _LOG.warning("decoder_sandbox_is_incomplete", missing=list(report.missing))
    with contextlib.suppress(OSError):  # Nobody reads it, or its disk is full: requests are answered all the same.
        sys.stdout.write(_banner(settings, services, url))
        sys.stdout.flush()


def _banner(settings: Settings, services: Services, url: str) -> str:
    info = services.transcriber.info
    what = f"{info.engine}, {info.device}, {info.compute_type}" if info else ""
    line = f"Tympan {__version__} serves {services.model.id} ({what}) at {url}\n"
    if not sys.stdout.isatty():
        return line  # Whoever reads a log can do without what follows.
    page = "  Web UI: open this address in a browser\n" if settings.web_ui else ""
    return f"{line}{page}  Data:   {settings.data_dir}\n  Stop:   Ctrl-C\n"


def exit_at_once() -> NoReturn:
    """End the process now; its children notice, and what lies in staging is swept at the next start."""
    os._exit(_FORCED_EXIT)
