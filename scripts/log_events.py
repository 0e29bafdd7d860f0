"""Every event that the code logs, found in its source, with what it says: for docs/reference/logs.md."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "tympan"

MEANINGS = {
    "audit_row_is_lost": "What somebody did could not be written to the audit log.",
    "batch_submitted": "A batch was accepted; its jobs carry the id.",
    "begun_anew": "A section's model has other weights than it began with; the job begins anew.",
    "bell_of_another_version": "A doorbell of another version came; it was answered.",
    "bell_refused": "A message that is no doorbell went to the dead letters.",
    "cached_result_not_erased": "Redis was away when results were to be erased; they end by themselves within a day.",
    "chore_broke": "Something done now and then met an error that nobody foresaw.",
    "chore_failed": "Something done now and then failed; it is tried again.",
    "clock_was_set": "The machine's clock jumped; leases were judged by the database's.",
    "connection_ended": "A connection ended because of its other end.",
    "database_is_damaged": "The database's file is not one, or is broken: a backup has to be restored.",
    "database_unavailable": "The database does not answer.",
    "decoder_sandbox_is_incomplete": "This machine cannot enforce some of the decoder's guards.",
    "default_model_cannot_be_loaded": "Another model stands in for the default one.",
    "drain_time_is_up": "Requests that are not answered by now are told that the server stops.",
    "draining": "The server was asked to stop and finishes what is running.",
    "egress_answer_cut_short": "A host ended its answer too early.",
    "egress_failed": "A request to somebody else's host failed; callers are told less.",
    "egress_slow": "A host was too slow and left.",
    "error_ignored": "An error arose where Python can give it to nobody.",
    "error_lost": "An error arose in the event loop where no task took it.",
    "fence_rejected": "A worker lost its lease, and what it wrote was refused.",
    "fetching_model": "A model's files are being fetched.",
    "fewer_connections": "The limit on open files allows fewer connections than are set.",
    "hardware": "What was chosen to compute on, and why.",
    "default_model_changed": "Another model answers those who name none, as was decided by `tympan rollout`.",
    "golden_run_begun": "A scheduled run of a golden set has begun.",
    "golden_run_ended": "A run of a golden set has ended; `failed` clips have no result.",
    "golden_run_waits": "The next clips of a run cannot be handed in yet.",
    "quality_alarm": "Something is wrong with quality, see `tympan quality alarms`; with the alarm's figures.",
    "quality_alarm_over": "It is no longer wrong.",
    "job_submitted": "A job was accepted; from here on lines carry its id.",
    "keys_are_not_known_yet": "The keys have not been read yet; requests are refused until then.",
    "keys_cannot_be_read": "The keys could not be read from the database.",
    "last_use_of_keys_is_lost": "When some keys were last used could not be written down.",
    "left_to_others": "Another worker has the model that a job began with.",
    "limits_not_looked_up": "The limits of tenants could not be read; those known before hold.",
    "listening": "A worker waits for doorbells.",
    "live_line_failed": "A live connection met an error that nobody foresaw.",
    "live_messages_not_read": "A live caller does not read, and was left.",
    "live_session": "A live session ended.",
    "live_session_failed": "A live session met an error that nobody foresaw.",
    "live_session_refused": "A live session was refused before it began.",
    "log_line_broken": "A line could not be made; its arguments are left out.",
    "lost_work_found": "Work of silent workers was given to others.",
    "model": "Where the model's files are.",
    "models": "Which models are served.",
    "nobody_has_a_key": "Keys are asked for and there are none: `tympan keys` makes one.",
    "old_media_library": "FFmpeg is below the floor, and that was allowed.",
    "stream_broke_off": "An answer could not be sent to its end: what it is read from failed or has gone.",
    "orphaned_audio_removed": "Stored audio that belongs to no job was removed.",
    "ready": "Requests are answered, or work is taken.",
    "redis_left_alone": "Redis does not answer; it is left alone for a while.",
    "redis_unheard": "News from Redis are missed; the database is asked instead.",
    "request": "A request was answered.",
    "schema_is_missing_or_old": "The database has no tables, or those of an older version.",
    "settings": "Something about the settings that the operator should know.",
    "shadow_failed": "The shadow model could not hear a window again; callers are not concerned.",
    "step_broke": "A step of a job met an error that nobody foresaw.",
    "step_done": "A step of a job is done.",
    "step_end_not_written": "The end of a step could not be written; it is done again.",
    "step_failed": "A step of a job failed; `follows` says what comes next.",
    "step_was_taken": "A step belongs to somebody else by now.",
    "stop_failed": "A part did not stop in time, or failed while stopping.",
    "stream_not_taken": "A caller did not read a streamed answer, and was left.",
    "rollout_of_a_model_not_served": "A model on trial, or promoted, is not among those that this process serves.",
    "thread_crashed": "A thread ended with an error that nobody foresaw.",
    "traffic_not_counted": "What a transcript was like could not be counted.",
    "traffic_not_saved": "Counts of traffic could not be written down; it is tried again.",
    "unexpected_error": "A request met an error that nobody foresaw, and was answered 500.",
    "upload_lock_left": "The lock of an upload could not be given back; it ends by itself.",
    "upload_lock_not_extended": "The lock of an upload could not be extended.",
    "upload_not_deleted": "The bytes of an upload could not be deleted; a sweep does it.",
    "upload_not_given_back": "An upload that a job did not take could not be given back.",
    "upload_not_released": "An upload that a job took could not be released; a sweep does it.",
    "usage_not_saved": "What tenants used could not be written down; it is tried again.",
    "waiting": "Something that is needed does not answer yet.",
    "webhook_attempt": "An event was sent, or could not be.",
    "webhook_attempt_failed": "Sending an event met an error that nobody foresaw.",
    "webhook_put_off": "An event waits because its host was answering badly.",
    "webhooks_failed": "Looking for events to send met an error that nobody foresaw.",
    "webhooks_wait": "Events to send cannot be looked up; it is tried again.",
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
