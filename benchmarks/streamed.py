"""How soon the first words of a stream are there: ``python -m benchmarks.streamed RECORDING``.

One recording goes to a running server, with ``stream=true`` and without, in turn. What counts: seconds to the first
delta and between deltas, seconds to the end, and whether both say the same.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import soundfile

from benchmarks.facts import provenance
from benchmarks.server import Server
from tympan.bench.pages import provenance_line, table

LENGTHS_S = (30, 300)
ROUNDS = 3
COMMAND = "python -m benchmarks.streamed RECORDING"

_LIMIT_S = 600.0
_ROUTE = "/v1/audio/transcriptions"


def streamed(url: str, audio: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return when what came, in seconds from the first byte sent, and the text."""
    started, deltas, text = time.perf_counter(), list[float](), ""
    asked = {**fields, "stream": "true"}
    with (
        audio.open("rb") as file,
        httpx.stream("POST", url + _ROUTE, files={"file": file}, data=asked, timeout=_LIMIT_S) as it,
    ):
        it.raise_for_status()
        for line in it.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if event["type"] == "transcript.text.delta":
                deltas.append(time.perf_counter() - started)
            elif event["type"] == "transcript.text.done":
                text = event["text"]
    gaps = [after - before for before, after in pairwise(deltas)]
    return {
        "first_s": deltas[0],
        "longest_gap_s": max(gaps, default=0.0),
        "deltas": len(deltas),
        "total_s": time.perf_counter() - started,
        "text": text,
    }


def whole(url: str, audio: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return how long the call without a stream takes, and the text."""
    started = time.perf_counter()
    with audio.open("rb") as file:
        answer = httpx.post(url + _ROUTE, files={"file": file}, data=fields, timeout=_LIMIT_S)
    answer.raise_for_status()
    return {"total_s": time.perf_counter() - started, "text": answer.json()["text"]}


def case(url: str, audio: Path, fields: dict[str, str]) -> dict[str, Any]:
    """Return the medians of some rounds, in which both kinds of call take turns."""
    rounds = [(streamed(url, audio, fields), whole(url, audio, fields)) for _ in range(ROUNDS)]
    told = [one for one, _ in rounds]
    names = ("first_s", "longest_gap_s", "deltas", "total_s")
    return {
        **{name: statistics.median(one[name] for one in told) for name in names},
        "whole_s": statistics.median(one["total_s"] for _, one in rounds),
        "same_text": all(one["text"] == other["text"] for one, other in rounds),
    }


def measure(recording: Path, data_dir: str) -> dict[str, Any]:
    """Return the figures for the beginning of ``recording`` in each length, with the language given and without."""
    samples, rate_hz = soundfile.read(recording, dtype="int16")
    cases: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"TYMPAN_DATA_DIR": data_dir} if data_dir else {}
        with Server(settings, Path(folder) / "log") as server:
            model = server.health()["model"]
            for length_s in LENGTHS_S:
                audio = Path(folder) / f"{length_s}.wav"
                soundfile.write(audio, samples[: length_s * rate_hz], rate_hz)
                for language in ("en", ""):
                    name = f"{length_s} s, {language or 'detected'}"
                    cases[name] = case(server.base_url, audio, {"language": language})
    return {"model": model, "cases": cases}


def page(document: dict[str, Any]) -> str:
    """Return the page about these figures."""
    rows = [
        (
            name,
            f"{one['first_s']:.1f} s",
            f"{one['longest_gap_s']:.1f} s",
            round(one["deltas"]),
            f"{one['total_s']:.1f} s",
            f"{one['whole_s']:.1f} s",
            "yes" if one["same_text"] else "NO",
        )
        for name, one in document["cases"].items()
    ]
    head = ("audio, language", "first delta", "longest gap", "deltas", "last event", "without a stream", "same text")
    return "\n".join(
        [
            "# Streamed text",
            "",
            f"How soon the first words are there, with the model {document['model']}; medians of {ROUNDS} rounds.",
            "",
            provenance_line(document),
            "",
            table(head, rows),
            "",
        ]
    )


def main() -> None:
    """Measure, and write ``streamed.json`` and its page."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recording", type=Path, help="English speech of five minutes or more")
    parser.add_argument("--data-dir", default="", help="where models are kept")
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/results"))
    given = parser.parse_args()
    busy = round(os.getloadavg()[0], 1)
    document = {"name": "streamed", **provenance(), "command": COMMAND, "load_average": busy}
    document |= measure(given.recording, given.data_dir)
    (given.results / "streamed.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    (given.results.parent / "streamed.md").write_text(page(document), encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
