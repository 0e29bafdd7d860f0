"""What ``tympan doctor --url`` asks a running deployment, and what its answers mean.

The questions go to one process after the other where a proxy deals them out, as those of its clients do.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeAlias

from tympan import __version__
from tympan.cli.checks import Check, Status
from tympan.cli.errand import Reply, Unreachable
from tympan.cli.probes import clip_bytes

Ask: TypeAlias = Callable[[str, str, bytes | None, Mapping[str, str]], Reply]
"""Method, path, body, headers; returns the answer. Raises ``Unreachable``."""

_NEEDS_KEY = "Give a key with --api-key, or in TYMPAN_API_KEY; it needs the scope {scope!r}."
_OLD_S = 5.0
_CONDITIONS = {"ok": Status.OK, "degraded": Status.WARN, "down": Status.FAIL}
_FACTS = ("runtime", "device", "in_house", "predicted_wait_s", "free_mb", "waiting", "lag_s", "states")


def examine_deployment(ask: Ask) -> Iterator[Check]:
    """Yield every check, as its answer comes; without an answer to the first there are no others."""
    try:
        alive = ask("GET", "/livez", None, {})
    except Unreachable as error:
        yield Check("Reachable", Status.FAIL, error.message, error.remedy)
        return
    yield _reached(alive)
    if not _is_tympan(alive):
        return
    yield _guarded("Ready", lambda: _ready(ask("GET", "/readyz", None, {})))
    yield from _parts(ask)
    yield _guarded("Metrics", lambda: _metrics(ask("GET", "/metrics", None, {})))
    yield _guarded("Transcription", lambda: _transcription(ask))


def _guarded(name: str, question: Callable[[], Check]) -> Check:
    try:
        return question()
    except Unreachable as error:
        return Check(name, Status.FAIL, error.message, error.remedy)


def _is_tympan(alive: Reply) -> bool:
    return alive.status == 200 and alive.json().get("status") == "alive"


def _reached(alive: Reply) -> Check:
    took = f"answered in {alive.took_s * 1000:.0f} ms"
    if _is_tympan(alive):
        slow = alive.took_s > 1.0
        remedy = "Look at the server's CPU load, and at the network between."
        return Check("Reachable", Status.WARN if slow else Status.OK, took, remedy if slow else "")
    if 300 <= alive.status < 400:
        place = alive.headers.get("location", "elsewhere")[:200]
        return Check("Reachable", Status.FAIL, f"{alive.status}: it sends to {place}", "Use that address.")
    remedy = "Check the address: what answers there is not Tympan, or a proxy that cannot reach it."
    return Check("Reachable", Status.FAIL, f"/livez is answered with status {alive.status}", remedy)


def _ready(reply: Reply) -> Check:
    if reply.status == 200:
        return Check("Ready", Status.OK, "requests are taken")
    return Check("Ready", Status.FAIL, reply.words(), "See what is down below; /readyz turns to 200 by itself.")


def _parts(ask: Ask) -> Iterator[Check]:
    """Yield what ``/health`` says, part by part."""
    try:
        reply = ask("GET", "/health", None, {})
    except Unreachable as error:
        yield Check("Health", Status.FAIL, error.message, error.remedy)
        return
    health = reply.json()
    if "status" not in health:
        yield Check("Health", Status.FAIL, reply.words(), "Update the server: it does not describe itself.")
        return
    yield _whole(health)
    if health.get("version") != __version__:
        detail = f"the server is {health.get('version')}, this is {__version__}"
        yield Check(
            "Version", Status.WARN, detail, "Use the same version for both: what is said here may be out of date."
        )
    parts = health.get("components")
    for name, part in parts.items() if isinstance(parts, dict) else ():
        if isinstance(part, dict) and part.get("status") in _CONDITIONS:
            yield _part(str(name), part)


def _whole(health: Mapping[str, Any]) -> Check:
    word = str(health["status"])
    status = {"healthy": Status.OK, "degraded": Status.WARN, "loading": Status.WARN}.get(word, Status.FAIL)
    detail = f"{word}; {health.get('queued_requests')} requests inside, {health.get('avg_latency_ms')} ms on average"
    remedy = "Wait until the model is loaded." if word == "loading" else "See below which parts are not well."
    return Check("Health", status, detail, "" if status is Status.OK else remedy)


def _part(name: str, part: Mapping[str, Any]) -> Check:
    facts = ", ".join(f"{fact} {part[fact]}" for fact in _FACTS if part.get(fact) is not None)
    detail = str(part.get("reason") or facts or "well")
    return Check(f"Part {name}", _CONDITIONS[part["status"]], detail[:300], str(part.get("remedy") or "")[:300])


def _metrics(reply: Reply) -> Check:
    if reply.status in (401, 403):
        return Check("Metrics", Status.WARN, reply.words(), _NEEDS_KEY.format(scope="metrics"))
    if reply.status != 200:
        return Check("Metrics", Status.FAIL, reply.words(), "Prometheus cannot see this server either.")
    samples = _samples(reply.body.decode("utf-8", "replace"))
    answers = _total(samples, "tympan_http_responses_total")
    errors = sum(
        value for name, value in samples if name.startswith("tympan_http_responses_total") and 'status="5' in name
    )
    detail = f"{len(samples)} series; {answers:.0f} answers since the start, {errors:.0f} of them errors of the server"
    if answers and errors / answers > 0.05:
        remedy = "tympan_error_codes_total says which errors; docs/howto/respond-to-alerts.md what they mean."
        return Check("Metrics", Status.WARN, detail, remedy)
    return Check("Metrics", Status.OK, detail)


def _samples(text: str) -> list[tuple[str, float]]:
    found = []
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            with suppress(ValueError):
                found.append((name, float(value)))
    return found


def _total(samples: list[tuple[str, float]], name: str) -> float:
    return sum(value for sample, value in samples if sample.partition("{")[0] == name)


def _transcription(ask: Ask) -> Check:
    """Have a second of a tone transcribed, the way clients do."""
    boundary = uuid.uuid4().hex
    head = {"content-type": f"multipart/form-data; boundary={boundary}"}
    began = time.monotonic()
    reply = ask("POST", "/v1/audio/transcriptions", _form(boundary, clip_bytes()), head)
    took_s = time.monotonic() - began
    if reply.status == 200 and isinstance(reply.json().get("text"), str):
        status = Status.WARN if took_s > _OLD_S else Status.OK
        remedy = (
            "Many requests were waiting, or the engine is slow: see the part requests." if status is Status.WARN else ""
        )
        return Check("Transcription", status, f"1 s of audio transcribed in {took_s * 1000:.0f} ms", remedy)
    if reply.status in (401, 403):
        return Check("Transcription", Status.WARN, reply.words(), _NEEDS_KEY.format(scope="transcribe"))
    remedy = {
        413: "Let the proxy take larger bodies: this one had 32 kB.",
        429: "The limit of the key's tenant is reached; use another key, or wait.",
        503: "See which part is down or full above; then try again.",
        504: "Let the proxy wait longer than REQUEST_TIMEOUT_S.",
        507: "Free disk space below DATA_DIR.",
    }.get(reply.status, "Look for the request in the server's log, by its id.")
    return Check("Transcription", Status.FAIL, reply.words(), remedy)


def _form(boundary: str, clip: bytes) -> bytes:
    fields = {"model": "whisper-1", "language": "en", "vad": "false", "response_format": "json"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="tone.wav"\r\n\r\n'
    return "".join([*parts, file]).encode() + clip + f"\r\n--{boundary}--\r\n".encode()
