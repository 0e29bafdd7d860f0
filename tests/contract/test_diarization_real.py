"""The real networks on spoken clips: voices are told apart, counted, and placed in time."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conftest import SpokenClip
from tests.media import wav
from tests.pipeline_support import SOURCE, HearsAll, WindowDesk, answer
from tests.real_model import pcm
from tests.voices_support import Sound
from tympan.bootstrap.diarization import Crowd, Networks, Turn, load_networks
from tympan.cli import app
from tympan.cli.console import exit_code_for
from tympan.config import load
from tympan.diarize.features import filter_banks
from tympan.diarize.known import Known, sampled
from tympan.diarize.networks import EMBEDDING_FILE, SEGMENTATION_FILE
from tympan.diarize.recording import Recording
from tympan.diarize.tracks import Tracker
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Timestamps, WindowResult, WindowTask, Word
from tympan.engine import models
from tympan.engine.catalogue import DIARIZATION
from tympan.errors import ModelUnavailable, TympanError
from tympan.pipeline import RequestContext, Transcriber
from tympan.pipeline.introductions import LEAST_SHARE
from tympan.pipeline.voices import VoiceDesk

pytestmark = pytest.mark.model

Speak = Callable[..., tuple[Samples, list[tuple[float, float, str]]]]
VOICES = ("en", "fr", "it", "ja", "zh")


@pytest.fixture(scope="module")
def networks(model_data_dir: Path) -> Networks:
    """Return the networks, fetched if need be."""
    return load_networks(load({"data_dir": model_data_dir}))


@pytest.fixture(scope="module")
def clips(spoken_clips: tuple[SpokenClip, ...]) -> Mapping[str, list[Samples]]:
    """Return longer clips by language: each has a voice of its own."""
    found: dict[str, list[Samples]] = {}
    for clip in spoken_clips:
        samples = pcm(clip.path)
        if len(samples) > 2 * SAMPLE_RATE_HZ:
            found.setdefault(clip.language, []).append(_trimmed(samples))
    return found


def _trimmed(samples: Samples) -> Samples:
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 500)
    return samples[loud[0] : loud[-1] + 1]


@pytest.fixture(scope="module")
def speak(clips: Mapping[str, list[Samples]]) -> Speak:
    """Return what joins clips of voices, with half a second between them, and says where each is."""

    def joined(voices: Sequence[str]) -> tuple[Samples, list[tuple[float, float, str]]]:
        parts, said, at = [], [], 0
        for number, voice in enumerate(voices):
            clip = clips[voice][number % len(clips[voice])]
            parts += [np.zeros(SAMPLE_RATE_HZ // 2, np.int16), clip]
            at += SAMPLE_RATE_HZ // 2
            said.append((at / SAMPLE_RATE_HZ, (at + len(clip)) / SAMPLE_RATE_HZ, voice))
            at += len(clip)
        return np.concatenate([*parts, np.zeros(SAMPLE_RATE_HZ // 2, np.int16)]), said

    return joined


def heard(networks: Networks, samples: Samples) -> list[Turn]:
    """Return the turns of a recording of anybody."""
    recording = Recording(networks)
    recording.push(samples)
    return recording.finish(Crowd())


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_voices_are_counted_and_told_apart(networks: Networks, speak: Speak, n: int) -> None:
    """As many as there are; four fifths of the speech have its speaker's name, and nothing else is taken for speech."""
    samples, said = speak([VOICES[(3 * k + k // n) % n] for k in range(12)])
    turns = heard(networks, samples)
    assert len({turn.speaker for turn in turns}) == n
    named: Counter[tuple[str, int]] = Counter()
    for start_s, end_s, voice in said:
        for turn in turns:
            named[voice, turn.speaker] += max(0, round(100 * (min(turn.end_s, end_s) - max(turn.start_s, start_s))))
    best = {voice: max(range(n), key=lambda speaker: named[voice, speaker]) for voice in VOICES[:n]}
    assert sorted(best.values()) == list(range(n))
    speech = sum(100 * (end_s - start_s) for start_s, end_s, _ in said)
    assert sum(named[voice, speaker] for voice, speaker in best.items()) >= 0.8 * speech
    assert sum(named.values()) <= sum(100 * (turn.end_s - turn.start_s) for turn in turns) <= speech + 100 * 6.5


def test_two_at_once_are_two(networks: Networks, clips: Mapping[str, list[Samples]]) -> None:
    """Where one falls into the other's word, both are told."""
    first, second = clips["en"][0][: 2 * SAMPLE_RATE_HZ], clips["ja"][0][: 2 * SAMPLE_RATE_HZ]
    alone = [np.zeros(8_000, np.int16), clips["en"][1], np.zeros(8_000, np.int16), clips["ja"][1]]
    both = (first.astype(np.int32) + second).clip(-32_768, 32_767).astype(np.int16)
    samples = np.concatenate([*alone, np.zeros(8_000, np.int16), both, np.zeros(8_000, np.int16)])
    turns = heard(networks, samples)
    middle_s = (len(samples) - 8_000) / SAMPLE_RATE_HZ - 1.0
    assert {turn.speaker for turn in turns if turn.start_s <= middle_s <= turn.end_s} == {0, 1}


def test_what_is_no_speech_has_no_turns(networks: Networks) -> None:
    """Silence, noise and a hum; nothing at all."""
    noise = np.random.default_rng(0).normal(0, 1_000, 15 * SAMPLE_RATE_HZ).astype(np.int16)
    hum = (3_000 * np.sin(np.arange(15 * SAMPLE_RATE_HZ) * (2 * np.pi * 50 / SAMPLE_RATE_HZ))).astype(np.int16)
    for samples in (np.zeros(15 * SAMPLE_RATE_HZ, np.int16), noise, hum, noise[:0]):
        assert heard(networks, samples) == []


def test_a_voice_is_the_same_at_any_loudness_and_in_any_company(
    networks: Networks, clips: Mapping[str, list[Samples]]
) -> None:
    """Its vector has length 1; half as loud it is the same, and another language's voice is another."""
    voice = networks.embedding(filter_banks(clips["en"][0]))
    assert np.linalg.norm(voice) == pytest.approx(1.0, abs=1e-5)
    assert voice @ networks.embedding(filter_banks(clips["en"][0] // 2)) > 0.99
    assert voice @ networks.embedding(filter_banks(clips["en"][1])) > 0.6
    assert voice @ networks.embedding(filter_banks(clips["zh"][0])) < 0.4


def test_weights_that_are_others_are_named(tmp_path: Path, model_data_dir: Path, networks: Networks) -> None:
    """Files that were mixed up are refused, with the first weight that is missing."""
    folder = models.obtain(DIARIZATION, model_data_dir).path
    (tmp_path / SEGMENTATION_FILE).symlink_to(folder / EMBEDDING_FILE)
    (tmp_path / EMBEDDING_FILE).symlink_to(folder / SEGMENTATION_FILE)
    with pytest.raises(ModelUnavailable, match="has no weights"):
        Networks.load(tmp_path)


def test_words_are_given_to_voices(networks: Networks, speak: Speak) -> None:
    """Of words as an engine would time them, four fifths have the right name."""
    samples, said = speak(["en", "fr"] * 6)
    words = [(start_s + n * 0.4, voice) for start_s, end_s, voice in said for n in range(int((end_s - start_s) / 0.4))]

    def reply(task: WindowTask) -> WindowResult:
        """Write down the words that begin in a window."""
        piece = task.window.pieces[0]
        first_s, last_s = (at / SAMPLE_RATE_HZ for at in (piece.source_sample, piece.source_sample + piece.n_samples))
        inside = [(at_s, voice) for at_s, voice in words if first_s <= at_s < last_s]
        found = tuple(Word(f" {voice}", at_s - first_s, at_s - first_s + 0.4, 0.9) for at_s, voice in inside)
        return replace(answer(task), text="".join(word.text for word in found), words=found)

    made = Transcriber(Sound(samples), HearsAll(), WindowDesk(reply=reply), max_window_s=20.0)
    made.voices = VoiceDesk(lambda: networks)
    options = Options(diarize=True, timestamps=Timestamps.WORD)
    found = made.transcribe(SOURCE, options, RequestContext("r"))
    made.voices.close()
    named = Counter((word.text.strip(), segment.speaker) for segment in found.segments for word in segment.words)
    assert {speaker for _, speaker in named} == {"A", "B"}
    assert named["en", "A"] + named["fr", "B"] >= 0.8 * named.total() > 20
    assert found.provenance.speakers == "voices"


@pytest.fixture
def call(tmp_path: Path, speak: Speak, model_data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a recording of two voices, and have commands find the networks."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(model_data_dir))
    path = tmp_path / "a call.wav"
    samples, _ = speak(["en", "ja", "en", "ja"])
    path.write_bytes(wav(samples[:, None] / 32_768, SAMPLE_RATE_HZ))
    return path


@pytest.mark.usefixtures("networks")
def test_the_command_writes_lines_rttm_and_json(call: Path) -> None:
    """Two speakers in turn; a number that is given is obeyed."""

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ["diarize", str(call), *words])
        assert done.exit_code == 0, done.output
        return done.stdout

    lines = run().splitlines()
    assert [line.split()[-1] for line in lines] == ["A", "B", "A", "B"]
    assert lines[0].startswith("0:00 - 0:0")
    marked = [line.split() for line in run("--format", "rttm").splitlines()]
    assert [(line[0], line[1], line[7]) for line in marked] == [("SPEAKER", "a_call", name) for name in "ABAB"]
    facts = json.loads(run("--format", "json", "--threads", "2"))
    assert facts["speakers"] == ["A", "B"]
    assert [turn["speaker"] for turn in facts["turns"]] == ["A", "B", "A", "B"]
    assert 0 < facts["turns"][-1]["end"] <= facts["duration"]
    assert {line.split()[-1] for line in run("--speakers", "1").splitlines()} == {"A"}


@pytest.mark.usefixtures("networks")
def test_the_command_refuses_what_it_cannot_do(call: Path, tmp_path: Path) -> None:
    """With the cause, and by the exit code: what is no file, no audio, a contradiction."""
    (text := tmp_path / "notes.txt").write_text("no audio")
    cases = [
        ([str(tmp_path / "nowhere.wav")], 2, "There is no file"),
        ([str(text)], 2, "not audio"),
        ([str(call), "--min-speakers", "3", "--max-speakers", "2"], 2, "more than --max-speakers"),
        ([str(call), "--speakers", "0"], 2, ""),
    ]
    for words, code, message in cases:
        done = CliRunner().invoke(app, ["diarize", *words])
        assert isinstance(done.exception, TympanError | SystemExit)
        if isinstance(done.exception, TympanError):
            assert exit_code_for(done.exception) == code
        else:
            assert done.exit_code == code
        assert message in f"{done.output}{done.exception}"


def test_a_sample_names_its_voice_and_no_other(
    networks: Networks, clips: Mapping[str, list[Samples]], speak: Speak
) -> None:
    """The sample is another clip of the voice; that of somebody who is not there names nobody."""

    def known(name: str, voice: str) -> Known:
        tracker = Tracker(networks)
        tracker.push(clips[voice][-1])
        found = sampled(tracker.finish())
        assert found.voice is not None
        assert found.share >= LEAST_SHARE
        return Known(name, found.voice)

    samples, said = speak(["en", "fr", "en", "fr"])
    recording = Recording(networks)
    recording.push(samples)
    turns = recording.finish(Crowd(), known=[known("Ann", "en"), known("Eve", "zh")])
    assert {turn.name for turn in turns} == {"Ann", None}
    for start_s, end_s, voice in said:
        middle_s = (start_s + end_s) / 2
        speaking = {turn.name for turn in turns if turn.start_s <= middle_s <= turn.end_s}
        assert speaking <= ({"Ann"} if voice == "en" else {None})


@pytest.mark.usefixtures("networks")
def test_the_command_calls_known_speakers_by_name(
    call: Path, clips: Mapping[str, list[Samples]], tmp_path: Path
) -> None:
    """Decoded and heard as a recording is; what is no sample is refused by the name of the speaker."""
    sample = tmp_path / "sample.wav"
    sample.write_bytes(wav(clips["ja"][-1][:, None] / 32_768, SAMPLE_RATE_HZ))
    done = CliRunner().invoke(app, ["diarize", "--known-speaker", f"Yuki={sample}", "--format", "json", str(call)])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["speakers"] == ["A", "Yuki"]
    done = CliRunner().invoke(app, ["diarize", "--known-speaker", f"Yuki={call.parent / 'no'}", str(call)])
    assert isinstance(done.exception, TympanError)
