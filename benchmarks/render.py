"""Results as Markdown: one page for each JSON file, and a summary of all goals."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import (
    capacity,
    diarization,
    drift,
    golden,
    limits,
    live_socket,
    overload,
    seams,
    servers_page,
    timestamps,
    trust,
)
from tympan.bench.pages import table

Row = Mapping[str, Any]

_SIDES = {"tympan": "Tympan", "full_context": "Tympan, full context", "faster_whisper": "faster-whisper"}


def render(results: Path, pages: Path) -> list[Path]:
    """Write ``PAGES/NAME.md`` for every ``RESULTS/NAME.json`` that has a page, and ``summary.md``; return the paths."""
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))]
    documents = [document for document in documents if document["name"] in _BODIES]
    written = [_write(pages / f"{document['name']}.md", page(document)) for document in documents]
    return [*written, _write(pages / "summary.md", summary(documents))]


def page(document: Row) -> str:
    """Return one result's page."""
    name = document["name"]
    body = _BODIES[name](document["result"])
    return "\n\n".join([f"# {_TITLES[name]}", _provenance(document), _goals(document["checks"]), *body]) + "\n"


def summary(documents: Iterable[Row]) -> str:
    """Return the page of all goals."""
    rows = [
        [f"[{_TITLES[document['name']]}]({document['name']}.md)", c["figure"], c["goal"], c["measured"], _met(c)]
        for document in documents
        for c in document["checks"]
    ]
    head = "Generated from `results/*.json`; [README](README.md) states the method."
    return "\n\n".join(["# Goals and figures", head, table(["page", "figure", "goal", "measured", "met"], rows)]) + "\n"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _met(check: Row) -> str:
    return "yes" if check["met"] else "**no**"


def _goals(checks: Sequence[Row]) -> str:
    rows = [[check["figure"], check["goal"], check["measured"], _met(check)] for check in checks]
    return "## Goals\n\n" + table(["figure", "goal", "measured", "met"], rows)


def _provenance(document: Row) -> str:
    machine, versions = document["machine"], document["versions"]
    weights = document["result"].get("model", {})
    model = f"model {weights['name']} (weights {weights['sha256'][:12]}), " if weights else ""
    dirty = " with uncommitted changes" if document["git_dirty"] else ""
    return (
        f"Measured {document['date'][:10]} on {machine['cpu'] or 'an unnamed processor'}, {machine['cores']} cores, "
        f"{machine['ram_gib']} GiB, Linux {machine['kernel']}; {model}"
        f"onnxruntime {versions['onnxruntime']}, ctranslate2 {versions['ctranslate2']}, "
        f"faster-whisper {versions['faster-whisper']}; commit `{document['git_commit'][:12]}`{dirty}. "
        f"Ratios are what to compare; absolute figures hold for this machine alone.{_credits(document)}\n\n"
        f"```\n{document['command']}\n```"
    )


def _credits(document: Row) -> str:
    licences = document["result"].get("licences", [])
    return f"\n\nRecordings: {'; '.join(licences)}." if licences else ""


def _short(result: Row) -> list[str]:
    head = ["beam", "c", "ratio (median)", "each pair", "Tympan HTTP", "faster-whisper", "its shape", "HTTP / loop"]
    rows = [
        [
            row["beam"], row["concurrency"], f"{row['ratio']:.2f}x",
            ", ".join(f"{ratio:.2f}" for ratio in row["ratios"]),
            f"{row['rate']['http']:.1f}x", f"{row['rate']['faster_whisper']:.1f}x", row["variant"],
            f"{100 * row['http_share']:.1f} %",
        ]
        for row in result["rows"]
    ]  # fmt: skip
    intro = (
        f"{len(result['clips'])} clips, {result['audio_s']} s of audio, {result['pairs']} pairs. Speeds are "
        "audio-seconds a second, medians. The shape is threads x workers."
    )
    plain = result["without_timestamps"]
    note = (
        f"For information: faster-whisper told to leave timestamp tokens out ({plain['variant']}, beam "
        f"{plain['beam']}, c = {plain['concurrency']}) does {plain['rate']:.1f} audio-seconds a second."
    )
    return [intro, table(head, rows), _latencies(result["rows"]), note]


def _latencies(rows: Sequence[Row]) -> str:
    def cell(values: Row) -> str:
        return f"{values['p50']:.2f} / {values['p95']:.2f}"

    sides = ("http", "faster_whisper")
    cells = [[row["beam"], row["concurrency"], *(cell(row["latency_s"][side]) for side in sides)] for row in rows]
    return table(["beam", "c", "Tympan p50 / p95 s", "faster-whisper p50 / p95 s"], cells)


def _counts(values: Row) -> list[str]:
    return [
        f"{values['rate_percent']:.2f} %",
        f"{values['substitutions']} / {values['deletions']} / {values['insertions']}",
    ]


def _interval(values: Row) -> str:
    return f"{values['difference_points']:+.2f} [{values['low_points']:+.2f}, {values['high_points']:+.2f}]"


def _errors(row: Row) -> str:
    ours, bare = row["tympan"], row["faster_whisper"]
    head = ["source", "clips", "words", "Tympan", "sub / del / ins", "faster-whisper", "sub / del / ins"]
    groups = {"**all**": {"tympan": ours, "faster_whisper": bare}, **row["by_source"]}
    rows = [
        [
            name,
            side["tympan"]["clips"],
            side["tympan"]["units"],
            *_counts(side["tympan"]),
            *_counts(side["faster_whisper"]),
        ]
        for name, side in groups.items()
    ]
    note = (
        f"Difference in points, with the 95 % interval of a paired bootstrap over clips "
        f"({row['difference']['resamples']} resamples): {_interval(row['difference'])}."
    )
    return f"{note}\n\n{table(head, rows)}"


def _accuracy(result: Row) -> list[str]:
    return [f"## Beam {row['beam']}\n\n{_errors(row)}" for row in result["rows"]]


def _languages(result: Row) -> list[str]:
    return [_language_section(row) for row in result["rows"]]


def _language_section(row: Row) -> str:
    head = ["language", "unit", "clips", "units"]
    for side in _SIDES.values():
        head += [side, "sub / del / ins"]
    rows = [["**all**", "", *_language_cells(row["pooled"])]]
    rows += [[name, sides["unit"], *_language_cells(sides)] for name, sides in row["by_language"].items()]
    clips, equal = row["pooled"]["tympan"]["clips"], row["texts_equal_to_full_context"]
    same = " **All texts agree: the switch to full context had no effect.**" if equal == clips else ""
    return (
        f"## Beam {row['beam']}\n\nDifference in points, with its 95 % interval: "
        f"{_interval(row['versus_full_context'])} against our own full-context decoding, "
        f"{_interval(row['versus_faster_whisper'])} against faster-whisper. {equal} of {clips} texts agree with full "
        f"context to the letter.{same}\n\n{table(head, rows)}"
    )


def _language_cells(sides: Row) -> list[object]:
    cells: list[object] = [sides["tympan"]["clips"], sides["tympan"]["units"]]
    for side in _SIDES:
        cells += _counts(sides[side])
    return cells


def _longform(result: Row) -> list[str]:
    intro = (
        f"{result['audio_s']} s of audio, one file at a time, {result['pairs']} passes. Baseline: {result['baseline']}."
    )
    return [intro, *(_long_section(row) for row in result["rows"])]


def _long_section(row: Row) -> str:
    head = ["file", "language", "s", "ratio", "Tympan", "sub / del / ins", "batched", "sub / del / ins"]
    rows = [
        [
            f["id"],
            f["language"],
            f"{f['duration_s']:.0f}",
            f"{f['ratio']:.2f}x",
            *_counts(f["tympan"]),
            *_counts(f["batched"]),
        ]
        for f in row["files"]
    ]
    each = ", ".join(f"{ratio:.2f}" for ratio in row["ratios"])
    return (
        f"## Beam {row['beam']}\n\n{row['ratio']:.2f}x the batched pipeline (passes: {each}); "
        f"{row['rate']['http']:.1f} against {row['rate']['batched']:.1f} audio-seconds a second.\n\n"
        f"{table(head, rows)}\n\n{_errors(row['errors'])}"
    )


def _nonspeech(result: Row) -> list[str]:
    head = ["setting", "recordings with text", "drawn sounds with text", "by kind"]
    rows = [
        [row["name"], _share(row["recorded"]), _share(row["synthesised"]),
         ", ".join(f"{kind} {n}" for kind, n in sorted(row["synthesised"]["by_kind"].items())) or "-"]
        for row in result["rows"]
    ]  # fmt: skip
    texts = [
        [row["name"], clip, text[:80]]
        for row in result["rows"][:2]
        for clip, text in [*row["recorded"]["texts"].items(), *row["synthesised"]["texts"].items()][:20]
    ]
    seen = table(["setting", "clip", "text"], texts) if texts else "No setting of Tympan gave any text."
    intro = f"Beam {result['beam']}, language detected, seed {result['seed']}. Drawn: {', '.join(result['kinds'])}."
    return [intro, table(head, rows), f"## What Tympan wrote (at most 20 a setting)\n\n{seen}"]


def _share(part: Row) -> str:
    return f"{part['with_text']} of {part['clips']} ({part['percent']:.1f} %)"


def _memory(result: Row) -> list[str]:
    head = ["file", "engine", "model MiB", "idle RSS", "peak RSS", "above model", "peak PSS", "above model", "took s"]
    rows = [
        [f"{row['hours']:g} h", row["engine"], row["model_mib"], row["idle"]["peak_rss_mib"], row["peak_rss_mib"],
         row["above_model_mib"], row["peak_pss_mib"], row["above_model_pss_mib"], row["wall_s"]]
        for row in result["rows"]
    ]  # fmt: skip
    parts = [
        [f"{row['hours']:g} h, {row['engine']}", p["command"][:70], round(p["rss_mib"]), round(p["pss_mib"])]
        for row in result["rows"]
        for p in row["at_peak"]
    ]
    intro = (
        "MiB, sums over the server's whole process tree, sampled every 50 ms. RSS counts a page shared by two "
        "processes twice, PSS once."
    )
    at_peak = "## Processes at the peak\n\n" + table(["file", "process", "RSS", "PSS"], parts)
    return [intro, table(head, rows), at_peak]


def _ready(result: Row) -> list[str]:
    rows = [
        [f"`{row['command']}`", f"{row['median_s']:.2f}", ", ".join(f"{t:.2f}" for t in row["runs_s"])]
        for row in result["rows"]
    ]
    return ["Seconds from spawn to `/readyz` 200 on warm caches.", table(["command", "median", "runs"], rows)]


def _live(result: Row) -> list[str]:
    sections = {"latency": _live_latency, "text": _live_text, "memory": _live_memory}
    return [section(result) for name, section in sections.items() if name in result]


def _live_latency(result: Row) -> str:
    def cell(values: Row) -> str:
        return f"{values['median']:.2f} / {values['p95']:.2f} / {values['max']:.2f}"

    head = [
        "streams",
        "shown",
        "stable",
        "final",
        "words",
        "in no partial",
        "nowhere",
        "stable, then changed",
        "partials",
        "left out",
    ]
    rows = [
        [row["streams"], cell(row["shown_s"]), cell(row["stable_s"]), cell(row["final_s"]), row["words"],
         f"{100 * row['only_final'] / row['words']:.1f} %", f"{100 * row['never_shown'] / row['words']:.1f} %",
         f"{100 * row['stable_changed'] / max(1, row['stable_words']):.1f} %",
         row["counts"]["partials"], row["counts"]["late_partials"]]
        for row in result["latency"]
    ]  # fmt: skip
    intro = (
        f"Seconds (median / p95 / greatest) from the end of a word until it is first read, until it is stable, and "
        f"from the end of an utterance's last word until its final text. Every stream plays {result['track_s']:.0f} s "
        f"of clips with {result['gap_s']} s of silence between them. Words in no partial were misheard until the final."
    )
    return f"## Delays at the pace of speech\n\n{intro}\n\n{table(head, rows)}"


def _live_text(result: Row) -> str:
    head = ["model", "set", "words", "live", "sub / del / ins", "file", "sub / del / ins", "difference", "utterances"]
    rows = [
        [row["model"], row["set"], row["live"]["units"], *_counts(row["live"]), *_counts(row["file"]), _interval(row),
         row["utterances"]]
        for row in result["text"]
    ]  # fmt: skip
    return f"## Final text against the file's\n\n{table(head, rows)}"


def _live_memory(result: Row) -> str:
    memory = result["memory"]
    sizes = ", ".join(f"{size:.1f}" for size in memory["resident_mib"])
    return (
        f"## Memory of one session\n\nResident MiB of the process that holds the session, after each quarter of "
        f"{memory['minutes']} minutes of audio: {sizes}."
    )


def _ggml(result: Row) -> list[str]:
    head = ["format", "MB", "beam", "VAD", "CTranslate2", "whisper.cpp", "sub / del / ins", "difference", "same texts"]
    rows = [
        [row["form"], row["size_mb"], row["beam"], "on" if row["vad"] else "off",
         _counts(row["before"])[0], *_counts(row["after"]), _interval(row["difference"]),
         f"{row['texts_equal']} of {row['after']['clips']}"]
        for row in result["rows"]
    ]  # fmt: skip
    intro = (
        "Word errors of one model's weights on CTranslate2 (int8) and, exported to ggml, on whisper.cpp; both through "
        "a server with its defaults. Differences in points with the 95 % interval of a paired bootstrap over clips."
    )
    return [intro, table(head, rows)]


def _seams(result: Row) -> list[str]:
    intro = (
        f"{result['audio_s']} s of audio. A *cut* lies inside speech, between windows that touch; *window* is a seam "
        "with silence left out, *piece* one between two stretches of speech in one window. Near means within three "
        "reference words of a seam of Tympan, on both sides of the comparison: faster-whisper's sequential decoding "
        "has no such seams, so its errors there say how hard these words are."
    )
    notes = [
        f"Beam {row['beam']}: word errors {row['errors']['tympan']['rate_percent']:.2f} % against "
        f"{row['errors']['sequential']['rate_percent']:.2f} %, difference in points with the 95 % interval of a paired "
        f"bootstrap over files {_interval(row['difference'])}."
        for row in result["rows"]
    ]
    return [intro, *notes, *_sections(seams.body(result))]


def _sections(parts: Iterable[tuple[str, list[str], list[list[Any]]]]) -> list[str]:
    return [f"## {title}\n\n{table(head, rows)}" for title, head, rows in parts]


_BODIES: dict[str, Callable[[Row], list[str]]] = {
    "short": _short,
    "accuracy": _accuracy,
    "languages": _languages,
    "longform": _longform,
    "seams": _seams,
    "timestamps": lambda result: [timestamps.INTRO, *_sections(timestamps.body(result))],
    "trust": lambda result: [trust.INTRO, *_sections(trust.body(result))],
    "drift": lambda result: [drift.INTRO, *_sections(drift.body(result))],
    "golden": lambda result: [golden.INTRO, *_sections(golden.body(result))],
    "nonspeech": _nonspeech,
    "diarization": diarization.page,
    "memory": _memory,
    "ready": _ready,
    "live": _live,
    "live_socket": lambda result: [live_socket.INTRO, *_sections(live_socket.body(result))],
    "ggml": _ggml,
    "limits": lambda result: [limits.INTRO, *_sections(limits.body(result))],
    "capacity": capacity.body,
    "servers": servers_page.body,
    "overload": lambda result: [overload.INTRO, *_sections(overload.body(result))],
}

_TITLES = {
    "short": "Short clips",
    "accuracy": "Word errors, English",
    "languages": "Word errors, other languages",
    "longform": "Long files",
    "seams": "Seams of long files",
    "timestamps": "Times of words",
    "trust": "Confidence and made-up text",
    "drift": "Changes of live traffic",
    "golden": "Golden sets",
    "nonspeech": "Text where nobody speaks",
    "diarization": "Who speaks",
    "memory": "Memory",
    "ready": "Start",
    "live": "Live speech",
    "live_socket": "Live speech over a WebSocket",
    "ggml": "Word errors of ggml exports",
    "limits": "The machine's limit",
    "capacity": "Capacity",
    "servers": "Beside other servers",
    "overload": "Overload",
}
