"""Every event that the code logs, found in its source, with what it says: for docs/reference/logs.md."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "tympan"

MEANINGS = {
    "audit_row_is_lost": "An action could not be written to the audit log.",
    "batch_submitted": "A batch was accepted; its jobs carry the id.",
    "job_starts_over": "A worker's model differs from the one a job began with; the job starts over.",
    "queue_message_of_another_version": "A queue message from another version of Tympan arrived; it was handled.",
    "queue_message_refused": "An unknown message was in the job queue; it went to the dead letters.",
    "cached_result_not_erased": "Redis did not answer when results were to be erased; they expire within a day.",
    "periodic_task_crashed": "A periodic task met an unexpected error; it runs again at its next time.",
    "periodic_task_failed": "A periodic task failed; it is tried again.",
    "clock_was_set": "The machine's clock jumped; leases go by the database's clock.",
    "connection_ended": "The other end closed a connection.",
    "database_is_damaged": "The database file is damaged: restore a backup.",
    "database_unavailable": "The database does not answer.",
    "decoder_sandbox_is_incomplete": "This machine cannot enforce some of the decoder's protections.",
    "default_model_cannot_be_loaded": "The default model cannot be loaded; another one answers instead.",
    "drain_time_is_up": "The time to finish running requests is over; the rest are told that the server stops.",
    "draining": "The server was asked to stop and finishes what is running.",
    "egress_answer_cut_short": "A remote host ended its answer too early.",
    "egress_failed": "A request to a remote host failed; callers are told less than this line.",
    "egress_slow": "A remote host was too slow and was given up.",
    "error_ignored": "An error occurred where Python could not raise it.",
    "error_lost": "An error occurred in the event loop outside any task.",
    "fence_rejected": "A worker had lost its lease, so its result was refused; another worker has the step.",
    "preparing_model": "A model's files are being downloaded or checked.",
    "fewer_connections": "The limit on open files allows fewer connections than MAX_CONNECTIONS.",
    "hardware": "Which device and number format were chosen, and why.",
    "default_model_changed": "The default model changed, as decided with `tympan rollout`.",
    "golden_run_begun": "A scheduled run of a golden set has begun.",
    "golden_run_ended": "A run of a golden set has ended; `failed` clips have no result.",
    "golden_run_waits": "The next clips of a run cannot be submitted yet.",
    "quality_alarm": "A quality alarm is firing, see `tympan quality alarms`; with its figures.",
    "quality_alarm_over": "A quality alarm has ended.",
    "job_submitted": "A job was accepted; from here on lines carry its id.",
    "keys_are_not_known_yet": "The API keys have not been read yet; requests are refused until then.",
    "keys_cannot_be_read": "The keys could not be read from the database.",
    "last_use_of_keys_is_lost": "When some keys were last used could not be saved.",
    "step_left_to_others": "This worker has another model than the job began with; another worker takes the step.",
    "limits_not_looked_up": "The tenants' limits could not be read; the last known ones apply.",
    "listening": "A worker is waiting for work.",
    "live_line_failed": "A live connection met an unexpected error.",
    "live_messages_not_read": "A live client does not read its messages and was disconnected.",
    "live_session": "A live session ended.",
    "live_session_failed": "A live session met an unexpected error.",
    "live_session_refused": "A live session was refused before it began.",
    "log_line_broken": "A log line could not be made; its arguments are left out.",
    "lost_work_found": "Work of processes that stopped responding was given to others.",
    "model": "Where the model's files are.",
    "models": "Which models are served.",
    "nobody_has_a_key": "API keys are required and there are none: make one with `tympan keys create`.",
    "old_media_library": "FFmpeg is older than the oldest safe version; ALLOW_OLD_FFMPEG permits it.",
    "stream_broke_off": "An answer could not be sent to its end, because its source failed.",
    "orphaned_audio_removed": "Stored audio that belongs to no job was removed.",
    "ready": "Start is complete: requests are answered, or work is taken.",
    "redis_unavailable": "Redis does not answer; it is tried again after a while. No job depends on it.",
    "redis_news_missed": "Notifications from Redis are missed; the database is polled instead.",
    "request": "A request was answered.",
    "schema_is_missing_or_old": "The database has no tables, or those of an older version: run `tympan migrate`.",
    "settings": "Something in the settings that the operator should look at.",
    "shadow_failed": "The shadow model could not transcribe a window; callers are not affected.",
    "step_broke": "A step of a job met an unexpected error.",
    "step_done": "A step of a job is done.",
    "step_end_not_written": "The end of a step could not be saved; the step is done again.",
    "step_failed": "A step of a job failed; `follows` says what happens next.",
    "step_was_taken": "Another worker has taken this step over.",
    "stop_failed": "A service did not stop in time, or failed while stopping.",
    "stream_not_taken": "A caller did not read a streamed answer and was disconnected.",
    "rollout_of_a_model_not_served": "A model on trial, or promoted, is not among those that this process serves.",
    "thread_crashed": "A thread ended with an unexpected error.",
    "traffic_not_counted": "A transcript could not be added to the traffic statistics.",
    "traffic_not_saved": "Traffic statistics could not be saved; it is tried again.",
    "unexpected_error": "A request met an unexpected error and was answered with status 500.",
    "upload_lock_not_released": "The lock of an upload could not be released; it expires by itself.",
    "upload_lock_not_extended": "The lock of an upload could not be extended.",
    "upload_not_deleted": "The bytes of an upload could not be deleted; a later sweep deletes them.",
    "upload_not_given_back": "An upload that a job did not take could not be given back.",
    "upload_not_released": "An upload that a job used could not be released; a later sweep does it.",
    "usage_not_saved": "Usage by tenant could not be saved; it is tried again.",
    "waiting": "A service that is needed does not answer yet; it is tried again.",
    "webhook_attempt": "A webhook was sent, or an attempt failed.",
    "webhook_attempt_failed": "Sending a webhook met an unexpected error.",
    "webhook_put_off": "A webhook waits because its host has been failing.",
    "webhooks_failed": "Looking for webhooks to send met an unexpected error.",
    "webhooks_not_looked_up": "Webhooks to send cannot be looked up; it is tried again.",
}
"""What each event says."""

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
_AS = {"exception": "error"}
_CRASH_FIELDS = ("error_type", "errno", "where")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: how severe it may be, and which fields it has beside those of every line."""

    name: str
    levels: tuple[str, ...]
    fields: tuple[str, ...]

    @property
    def meaning(self) -> str:
        """What it says; a new one has to be described in ``MEANINGS``, in this file."""
        return MEANINGS.get(self.name, "(not described)")


def events() -> list[Event]:
    """Return every event that the code logs, by name."""
    found: dict[str, tuple[set[str], set[str]]] = {"log_line_broken": ({"error"}, {"error_type"})}
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        aliases = _aliases(tree)
        for name, levels, fields in _logged(tree, aliases):
            known = found.setdefault(name, (set(), set()))
            known[0].update(levels)
            known[1].update(fields)
    return [Event(name, tuple(sorted(found[name][0])), tuple(sorted(found[name][1]))) for name in sorted(found)]


def _logged(tree: ast.AST, aliases: dict[str, set[str]]) -> Iterator[tuple[str, set[str], set[str]]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        first, levels = node.args[0], _levels(node.func, aliases)
        if levels and isinstance(first, ast.Constant) and isinstance(first.value, str):
            crash = set(_CRASH_FIELDS) if "exception" in levels else set()
            yield first.value, {_AS.get(level, level) for level in levels}, _fields(node) | crash


def _levels(function: ast.expr, aliases: dict[str, set[str]]) -> set[str]:
    if isinstance(function, ast.Name):
        return aliases.get(function.id, set())
    if isinstance(function, ast.Attribute) and function.attr in LEVELS and _is_logger(function.value):
        return {function.attr}
    return set()


def _is_logger(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "get_logger"
    return isinstance(value, ast.Name) and value.id == "_LOG"


def _aliases(tree: ast.AST) -> dict[str, set[str]]:
    """Return names that stand for a way to log, as in ``log = _LOG.debug if quiet else _LOG.info``."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.IfExp):
            levels = _levels(node.value.body, {}) | _levels(node.value.orelse, {})
            if levels:
                found[node.targets[0].id] = levels
    return found


def _fields(call: ast.Call) -> set[str]:
    names: set[str] = set()
    for keyword in call.keywords:
        names.update([keyword.arg] if keyword.arg else _CRASH_FIELDS)
    return names
