"""Eyes on what a server depends on: they never keep anybody waiting, and a moment's trouble is none."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.api.support import wait_for
from tympan.api.watches import Condition, Finding, Findings, Sight, Watch, Watches

_SILENT = Finding(Condition.DOWN, "It does not answer.", "Look at it.")
_BAD = Finding(Condition.DEGRADED, "It is late.", "Wait.")


class Patient:
    """Answers a look as it is told, or not at all."""

    def __init__(self) -> None:
        """Be well."""
        self.answers: list[Callable[[], Findings]] = []
        self.looks = 0
        self.woken = threading.Event()

    def look(self) -> Findings:
        """Answer what comes next, then that all is well."""
        self.looks += 1
        return self.answers.pop(0)() if self.answers else {"it": Finding()}

    def hang(self) -> Findings:
        """Answer when woken."""
        self.woken.wait(30)
        return {"it": Finding()}


@pytest.fixture
def patient() -> Iterator[Patient]:
    """Return somebody to look at, who is woken at the end."""
    it = Patient()
    yield it
    it.woken.set()


def _watch(patient: Patient, patience_s: float = 30.0) -> Watch:
    return Watch(Sight(("it", "its kin"), patient.look, _SILENT), period_s=0.01, patience_s=patience_s)


def test_what_hangs_is_said_to_be_silent_and_nobody_waits(patient: Patient) -> None:
    """All that is seen through it counts as silent; once it answers again, all is well again."""
    patient.answers = [patient.hang]
    with Watches([_watch(patient, patience_s=0.05)]) as watches:
        wait_for(lambda: watches.findings() == {"it": _SILENT, "its kin": _SILENT}, 10)
        began = time.monotonic()
        watches.findings()
        assert time.monotonic() - began < 1.0
        patient.woken.set()
        wait_for(lambda: watches.findings() == {"it": Finding()}, 10)


def test_one_bad_look_is_none_and_two_are(patient: Patient) -> None:
    """A moment's trouble is looked at again before it is told."""
    patient.answers = [lambda: {"it": Finding()}, lambda: {"it": _BAD}]
    seen = set[Condition]()
    with Watches([_watch(patient)]) as watches:
        wait_for(lambda: _note(seen, watches) and patient.looks > 4, 10)
        assert seen <= {Condition.OK}
        patient.answers = [lambda: {"it": _BAD}] * 5_000
        wait_for(lambda: watches.findings()["it"] is _BAD, 10)


def _note(seen: set[Condition], watches: Watches) -> bool:
    seen |= {finding.condition for finding in watches.findings().values()}
    return True


def test_a_look_that_breaks_is_an_answer_too(patient: Patient) -> None:
    """Whatever it raises, the thread goes on and what is looked at counts as silent."""

    def broken() -> Findings:
        raise ValueError("odd")

    patient.answers = [broken, broken]
    watch = _watch(patient)
    with Watches([watch]) as watches:
        wait_for(lambda: patient.looks > 2, 10)
        wait_for(lambda: watches.findings() == {"it": Finding()}, 10)


def test_before_the_first_look_nothing_is_told(patient: Patient) -> None:
    """No guess is made."""
    patient.answers = [patient.hang]
    with Watches([_watch(patient)]) as watches:
        assert watches.findings() == {}
