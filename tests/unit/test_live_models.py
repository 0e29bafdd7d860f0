"""A live session keeps its model loaded until it ends, in order or not, while others want its memory."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.live_support import OPTIONS, HearsLoudness, eventually, feed, joined, quiet, spoken, until
from tests.pipeline_support import ArraySource
from tests.unit.test_fleet import Depot, Setup, fleet_of, plan, states, use
from tympan.batching.eviction import Rules
from tympan.batching.fleet import Fleet
from tympan.errors import ModelInUse, Unavailable
from tympan.live import Final, LiveLimits, LiveSession
from tympan.pipeline import RequestContext
from tympan.pipeline.models import ModelTranscriber

_ONE = joined(quiet(0.5), spoken(1, 2, 3), quiet(1.0))
_IMPATIENT = Setup(slots=replace(Setup().slots, wait_s=0.3))


def _session(
    fleet: Fleet, model: str, clock: Callable[[], float] = time.monotonic, limits: LiveLimits | None = None
) -> LiveSession:
    transcriber = ModelTranscriber(ArraySource([]), HearsLoudness(), fleet.slot(model))
    return LiveSession(transcriber, OPTIONS, RequestContext(f"live-{model}"), None, limits, clock)


def _loaded(fleet: Fleet, model: str) -> bool:
    return states(fleet)[model] == "loaded"


@pytest.mark.parametrize("patience_s", [0.0, 60.0], ids=["waits for nobody", "is asked to make room"])
def test_the_model_of_a_session_is_not_evicted_for_another(patience_s: float) -> None:
    """Whoever wants the other model is told to come later; the session goes on, and makes room when it ends."""
    depot = Depot()
    setup = replace(_IMPATIENT, rules=Rules(100_000_000, dwell_s=0.0, patience_s=patience_s))
    with fleet_of(depot, plan("a"), plan("b"), setup=setup) as fleet:
        with _session(fleet, "a") as session:
            feed(session, _ONE)
            until(session, Final)
            time.sleep(0.1)  # A pause: nothing of the session is in the engine.
            for _ in range(3):
                with pytest.raises(Unavailable):
                    use(fleet, "b")
            assert _loaded(fleet, "a")
            assert depot.loads == ["a@cpu"]
            feed(session, _ONE)
            until(session, Final)
        assert use(fleet, "b")
        assert depot.loads == ["a@cpu", "b@cpu"]
        assert [what for what in depot.outcomes if what[1].startswith("unloaded")] == [("a", "unloaded: room")]


def test_an_abandoned_session_lets_its_model_go() -> None:
    """Nobody sends, nobody reads, nobody closes it: it ends by itself, and then there is room."""
    now_s = [0.0]
    with fleet_of(Depot(), plan("a"), plan("b"), setup=_IMPATIENT) as fleet:
        session = _session(fleet, "a", lambda: now_s[0], LiveLimits(idle_s=60.0))
        feed(session, joined(quiet(0.5), spoken(1, 2)))
        eventually(lambda: _loaded(fleet, "a"))
        now_s[0] = 59.0
        with pytest.raises(Unavailable):
            use(fleet, "b")
        assert session.alive
        now_s[0] = 130.0
        eventually(lambda: not session.alive)
        assert use(fleet, "b")
        assert fleet.slot("a").status().uses == 0


def test_R6_the_model_of_a_session_cannot_be_unloaded_and_is_never_idle() -> None:
    """However long nobody speaks; once the session has ended both can happen."""
    with fleet_of(Depot(), plan("a"), setup=Setup(slots=replace(Setup().slots, idle_s=0.05))) as fleet:
        with _session(fleet, "a") as session:
            feed(session, quiet(0.5))
            eventually(lambda: _loaded(fleet, "a"))
            time.sleep(0.4)
            assert _loaded(fleet, "a")
            with pytest.raises(ModelInUse):
                fleet.slot("a").unload()
            assert fleet.slot("a").status().uses == 1
        eventually(lambda: states(fleet)["a"] == "unloaded")


def test_a_session_whose_model_waits_for_room_takes_audio_meanwhile() -> None:
    """It hears what was said before its model was there; one that is closed while it waits leaves nobody waiting."""
    before = threading.active_count()
    with fleet_of(Depot(), plan("a"), plan("b")) as fleet:
        first = _session(fleet, "a")
        feed(first, quiet(0.5))
        eventually(lambda: _loaded(fleet, "a"))
        second, third = _session(fleet, "b"), _session(fleet, "b")
        second.feed(_ONE)
        third.feed(_ONE)
        time.sleep(0.2)
        third.close()
        assert not _loaded(fleet, "b")
        first.close()
        assert isinstance(until(second, Final)[-1], Final)
        second.close()
        assert fleet.slot("b").status().uses == 0
    eventually(lambda: threading.active_count() <= before)
