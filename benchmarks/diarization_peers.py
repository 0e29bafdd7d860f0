"""Who speaks, by other packages on the same files; all of them, and Tympan, are scored by pyannote.metrics.

Each program runs in a Python of its own that ``--peer NAME=PYTHON`` names, as ``benchmarks/diarizers.py`` has it. They
take turns with Tympan file by file, hear files of 16 kHz, have one thread each, and have done a recording untimed
before. Decoding is outside of all times.
"""

import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contenders import REPOSITORY, BenchmarkError, Child
from benchmarks.scoring import Clip
from benchmarks.setup import Setup
from benchmarks.store import Steps
from tympan.audio.decode import Decoder
from tympan.bench.pages import table
from tympan.config import Settings
from tympan.diarize import embedding_graph, segmentation_graph
from tympan.diarize.checkpoint import read_tensors
from tympan.diarize.networks import EMBEDDING_FILE, SEGMENTATION_FILE
from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.catalogue import DIARIZATION
from tympan.engine.models import Access, obtain

JUDGE = "pyannote.metrics"
KINDS = ("senko", "sherpa-onnx")
OURS = "Tympan"
_PARTS = ("missed_s", "false_s", "confused_s")
_MAX_AUDIO_S = 3600.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_ENVIRONMENT = dict.fromkeys(_THREADS, "1") | {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
_SEGMENTATION_FACTS = {
    "model_type": "pyannote-segmentation-3.0", "sample_rate": "16000", "window_size": "160000", "num_classes": "7",
    "num_speakers": "3", "powerset_max_classes": "2", "receptive_field_size": "991", "receptive_field_shift": "270",
}  # fmt: skip
_EMBEDDING_FACTS = {
    "framework": "3d-speaker", "language": "zh-en", "url": "", "comment": "CAM++", "sample_rate": "16000",
    "output_dim": "192", "normalize_samples": "0", "feature_normalize_type": "global-mean",
}  # fmt: skip


class Peers:
    """The programs that were named, started; none where none was named."""

    def __init__(
        self, others: Mapping[str, Child], judge: Child | None, steps: Steps, wavs: Callable[[Clip], Path]
    ) -> None:
        """Hear with ``others`` and score by ``judge``."""
        self._others, self._judge, self._steps, self._wavs = others, judge, steps, wavs
        self._rows: list[dict[str, Any]] = []

    def hear(
        self, clip: Clip, reference: Sequence[Mapping[str, Any]], ours: Mapping[str, Any], collar_s: float
    ) -> None:
        """Let all hear a recording, and score what they and we found. Raises ``BenchmarkError``."""
        if self._judge is None:
            return
        wav, said = self._wavs(clip), [(one["start"], one["end"], one["speaker"]) for one in reference]
        if not self._rows:
            for other in self._others.values():
                other.ask({"wav": str(wav)})
        found = {OURS: {"found": ours["turns"], "cpu_s": ours["cpu_s"]}} | {
            name: self._steps.value(f"{name} hears {clip.id}", partial(other.ask, {"wav": str(wav)}))
            for name, other in self._others.items()
        }
        question = {"reference": said, "audio_s": clip.duration_s, "collar_s": collar_s}
        sides = {name: self._scored(question, one) for name, one in found.items()}
        speakers = len({who for *_, who in said})
        self._rows.append({"clip": clip.id, "audio_s": clip.duration_s, "speakers": speakers, "sides": sides})

    def result(self) -> dict[str, Any] | None:
        """Return versions, recordings and totals, or nothing where nobody took part."""
        if self._judge is None:
            return None
        versions = {name: child.told["versions"] for name, child in {JUDGE: self._judge, **self._others}.items()}
        return {"versions": versions, "rows": self._rows, "totals": totals(self._rows)}

    def _scored(self, question: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
        assert self._judge is not None
        errors = self._judge.ask({**question, "found": one["found"]})["found"]
        return {"errors": errors, "found": len({who for *_, who in one["found"]}), "cpu_s": round(one["cpu_s"], 3)}


@contextmanager
def started(setup: Setup, steps: Steps, decoder: Decoder, settings: Settings) -> Iterator[Peers]:
    """Yield the programs that ``setup`` names, started. Raises ``BenchmarkError`` where one is unknown or fails."""
    if unknown := set(setup.peers) - {JUDGE, *KINDS}:
        raise BenchmarkError(f"{', '.join(sorted(unknown))} is no peer. Choose among {', '.join((*KINDS, JUDGE))}.")
    if setup.peers and JUDGE not in setup.peers:
        raise BenchmarkError(f"Peers are scored by {JUDGE}: name its Python too, --peer {JUDGE}=PYTHON.")
    folder = setup.work / "peers"
    with ExitStack() as stack:
        if "sherpa-onnx" in setup.peers:
            write_graphs(obtain(DIARIZATION, settings.data_dir, Access(offline=settings.offline)).path, folder)
        children = {
            name: stack.enter_context(_child(name, setup.peers[name], folder))
            for name in (*KINDS, JUDGE)
            if name in setup.peers
        }
        judge = children.pop(JUDGE, None)
        yield Peers(children, judge, steps, partial(_wav, decoder, folder))


def _child(name: str, python: str, folder: Path) -> Child:
    return Child([python, "-P", str(REPOSITORY / "benchmarks" / "diarizers.py"), name, str(folder)], _ENVIRONMENT)


def _wav(decoder: Decoder, folder: Path, clip: Clip) -> Path:
    """Return the recording as a file that all of them read."""
    path = folder / f"{clip.id}.wav"
    folder.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        for samples in decoder.stream(clip.path, max_audio_s=_MAX_AUDIO_S):
            file.writeframes(samples.tobytes())
    return path


def write_graphs(model: Path, folder: Path) -> None:
    """Write both networks as ONNX files with what ``sherpa-onnx`` wants to be told of them."""
    folder.mkdir(parents=True, exist_ok=True)
    segmentation = {
        name.removeprefix("state_dict."): value for name, value in read_tensors(model / SEGMENTATION_FILE).items()
    }
    graphs = {
        "segmentation": (segmentation_graph.build(segmentation), _SEGMENTATION_FACTS),
        "embedding": (embedding_graph.build(read_tensors(model / EMBEDDING_FILE)), _EMBEDDING_FACTS),
    }
    for name, (graph, facts) in graphs.items():
        (folder / f"{name}.onnx").write_bytes(graph + b"".join(_fact(key, value) for key, value in facts.items()))


def _fact(key: str, value: str) -> bytes:
    """Return an entry of ``ModelProto.metadata_props``; entries may follow the rest of a model."""
    entry = b"".join(
        bytes([number << 3 | 2, len(text)]) + text for number, text in ((1, key.encode()), (2, value.encode()))
    )
    return bytes([14 << 3 | 2, len(entry)]) + entry


def totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the figures of all recordings together by program: shares of all speech, in percent."""
    out = {}
    for name in rows[0]["sides"] if rows else ():
        sides = [row["sides"][name] for row in rows]
        speech_s = sum(side["errors"]["speech_s"] for side in sides)
        parts = {part: 100 * sum(side["errors"][part] for side in sides) / speech_s for part in _PARTS}
        out[name] = {part: round(value, 2) for part, value in parts.items()} | {
            "errors": round(sum(parts.values()), 2),
            "numbers_right": sum(row["speakers"] == side["found"] for row, side in zip(rows, sides, strict=True)),
            "speed": round(sum(row["audio_s"] for row in rows) / sum(side["cpu_s"] for side in sides), 1),
        }
    return out


def percent(errors: Mapping[str, float]) -> float:
    """Return the error rate of one recording."""
    return 100 * sum(errors[part] for part in _PARTS) / max(errors["speech_s"], 1e-9)


def page(result: Mapping[str, Any] | None) -> list[str]:
    """Return what the page says of other packages."""
    if not result:
        return []
    names = list(result["totals"])
    versions = {OURS: "", **{name: _listed(result["versions"][name]) for name in names if name != OURS}}
    heads = ["program", "error rate %", "missed", "false", "confused", "numbers right", "x real time", "versions"]
    rows = [
        [name, f"**{one['errors']:.1f}**", *(f"{one[part]:.1f}" for part in _PARTS),
         f"{one['numbers_right']} of {len(result['rows'])}", f"{one['speed']:.1f}", versions[name]]
        for name, one in result["totals"].items()
    ]  # fmt: skip
    each = [
        [row["clip"], row["speakers"],
         *(f"{percent(row['sides'][name]['errors']):.1f} ({row['sides'][name]['found']})" for name in names)]
        for row in result["rows"]
    ]  # fmt: skip
    intro = (
        f"## Beside other packages\n\nThe same files, scored by {_listed(result['versions'][JUDGE])}; in turns, file "
        "by file, with one thread each. Speed is by processor time, without decoding and loading. "
        "[How](README.md#how) says what each program is given."
    )
    return [intro, table(heads, rows), lost(result), "Error rates in %, and in brackets the number of speakers found:",
            table(["recording", "speakers", *names], each)]  # fmt: skip


def lost(result: Mapping[str, Any]) -> str:
    """Return where another program is better than Tympan, in a sentence."""
    worse = []
    for row in result["rows"]:
        rates = {name: percent(side["errors"]) for name, side in row["sides"].items()}
        best = min(rates, key=lambda name: rates[name])
        if rates[best] < rates[OURS] - 0.05:
            worse.append(f"{row['clip']} ({best})")
    overall = {name: one["errors"] for name, one in result["totals"].items()}
    better = [name for name, rate in overall.items() if rate < overall[OURS]]
    whole = f"{' and '.join(better)} makes fewer errors than Tympan in all" if better else "Tympan makes fewest in all"
    return f"{whole}; of single recordings another is better in {', '.join(worse) or 'none'}."


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())
