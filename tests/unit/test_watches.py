"""Eyes on what a server depends on: they never keep anybody waiting, and a moment's trouble is none."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.api.support import wait_for
from tympan.api.watches import PartReport, PartReports, PartState, Sight, Watch, Watches

_SILENT = PartReport(PartState.DOWN, "It does not answer.", "Look at it.")
_BAD = PartReport(PartState.DEGRADED, "It is late.", "Wait.")


class Patient:
    """Answers a look as it is told, or not at all."""

    def __init__(self) -> None:
        """Be well."""
        self.answers: list[Callable[[], PartReports]] = []
        self.looks = 0
        self.woken = threading.Event()

    def look(self) -> PartReports:
        """Answer what comes next, then that all is well."""
        self.looks += 1
        return self.answers.pop(0)() if self.answers else {"it": PartReport()}

    def hang(self) -> PartReports:
        """Answer when woken."""
        self.woken.wait(30)
        return {"it": PartReport()}


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
        wait_for(lambda: watches.reports() == {"it": _SILENT, "its kin": _SILENT}, 10)
        began = time.monotonic()
        watches.reports()
        assert time.monotonic() - began < 1.0
        patient.woken.set()
        wait_for(lambda: watches.reports() == {"it": PartReport()}, 10)


def test_one_bad_look_is_none_and_two_are(patient: Patient) -> None:
    """A moment's trouble is looked at again before it is told."""
    patient.answers = [lambda: {"it": PartReport()}, lambda: {"it": _BAD}]
    seen = set[PartState]()
    with Watches([_watch(patient)]) as watches:
        wait_for(lambda: _note(seen, watches) and patient.looks > 4, 10)
        assert seen <= {PartState.OK}
        patient.answers = [lambda: {"it": _BAD}] * 5_000
        wait_for(lambda: watches.reports()["it"] is _BAD, 10)


def _note(seen: set[PartState], watches: Watches) -> bool:
    seen |= {finding.state for finding in watches.reports().values()}
    return True


def test_a_look_that_breaks_is_an_answer_too(patient: Patient) -> None:
    """Whatever it raises, the thread goes on and what is looked at counts as silent."""

    def broken() -> PartReports:
        raise ValueError("odd")

    patient.answers = [broken, broken]
    watch = _watch(patient)
    with Watches([watch]) as watches:
        wait_for(lambda: patient.looks > 2, 10)
        wait_for(lambda: watches.reports() == {"it": PartReport()}, 10)


def test_before_the_first_look_nothing_is_told(patient: Patient) -> None:
    """No guess is made."""
    patient.answers = [patient.hang]
    with Watches([_watch(patient)]) as watches:
        assert watches.reports() == {}
