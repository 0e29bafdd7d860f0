"""Several models in one server, with engines that exist on paper: who is loaded, who waits, who goes."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import pytest

from tests.batching_support import Script, make_task, origin
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.eviction import Rules
from tympan.batching.fleet import MAX_MODELS, Fleet, FleetOptions
from tympan.batching.host import HostOptions
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.recovery import RecoveryPolicy
from tympan.batching.served import Found, ModelPlan, ModelState, SlotOptions
from tympan.engine.base import EngineSpec
from tympan.errors import (
    Cancelled,
    EngineDeviceLost,
    EngineOutOfMemory,
    ModelInUse,
    ModelNotFound,
    ModelUnavailable,
    TympanError,
    Unavailable,
)

MB = 1_000_000
_LIMIT_S = 60.0
_FAST = RecoveryPolicy(backoff_s=0.01, max_backoff_s=0.02)


@dataclass
class Depot:
    """Where engines come from: counts loads, makes them fail, and knows which run now."""

    errors: dict[str, list[TympanError]] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)
    loads: list[str] = field(default_factory=list)
    batchers: list[Batcher] = field(default_factory=list)
    most_at_once: int = 0
    outcomes: list[tuple[str, str]] = field(default_factory=list)

    def make_batcher(self, spec: EngineSpec) -> Batcher:
        """Return a batcher with a scripted host; its load waits for the model's gate, and fails as told."""
        key = f"{spec.model}@{spec.device}"
        script = self.scripts.setdefault(key, Script())
        script.loads = self.errors.get(key, [])[:1]
        del self.errors.get(key, [])[:1]
        self.loads.append(key)

        def make_host(given: EngineSpec, options: HostOptions, wake: Callable[[], None]) -> object:
            if (gate := self.gates.get(key)) is not None:
                gate.wait(_LIMIT_S)
            return script.make_host(given, options, wake)

        batcher = Batcher(spec, BatcherOptions(recovery=_FAST), None, make_host)  # type: ignore[arg-type]
        self.batchers.append(batcher)
        self.most_at_once = max(self.most_at_once, self.running)
        return batcher

    @property
    def running(self) -> int:
        """How many engines have not ended."""
        return sum(batcher.stats().state not in ("closed", "failed") for batcher in self.batchers)

    def on_load(self, model: str, outcome: str) -> None:
        """Take note."""
        self.outcomes.append((model, outcome))

    def on_unload(self, model: str, reason: str) -> None:
        """Take note."""
        self.outcomes.append((model, f"unloaded: {reason}"))


def plan(name: str, memory_mb: int = 60, **changes: bool) -> ModelPlan:
    """Return a model on the CPU."""
    found = Found(EngineSpec("fake", name), memory_mb * MB)
    return ModelPlan(name, lambda: found, **changes)


@dataclass(frozen=True)
class Setup:
    """What a test's fleet is made of."""

    rules: Rules = field(default_factory=lambda: Rules(budget_bytes=100 * MB, dwell_s=0.0))
    slots: SlotOptions = field(
        default_factory=lambda: SlotOptions(wait_s=_LIMIT_S, first_pause_s=0.05, longest_pause_s=0.1)
    )
    stand_in: str | None = None


@contextmanager
def fleet_of(depot: Depot, *plans: ModelPlan, setup: Setup | None = None) -> Iterator[Fleet]:
    """Yield a fleet; afterwards nothing of it may be left."""
    setup = setup or Setup()
    budget = MemoryBudget({"cpu": setup.rules, "cuda": setup.rules})
    options = FleetOptions(replace(setup.slots, observer=depot), setup.stand_in)
    fleet = Fleet(plans, budget, depot.make_batcher, options)
    try:
        yield fleet
    finally:
        for gate in depot.gates.values():
            gate.set()
        fleet.close()
        wait_until(lambda: depot.running == 0)


def wait_until(condition: Callable[[], object], limit_s: float = _LIMIT_S) -> None:
    """Wait until ``condition`` holds, at most ``limit_s``."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "it never came true"
        time.sleep(0.002)


def use(fleet: Fleet, name: str, index: int = 0) -> str:
    """Transcribe one window with a model, and return the text."""
    with fleet.slot(name).hold() as slot:
        return slot.submit(make_task(index), origin()).result(_LIMIT_S).text


def states(fleet: Fleet) -> Mapping[str, str]:
    """Return the state of every model."""
    return {status.name: status.state.value for status in fleet.statuses()}


def test_nothing_is_loaded_before_somebody_asks_and_the_first_who_does_waits() -> None:
    """Then it stays, and what runs can be asked for."""
    depot = Depot()
    with fleet_of(depot, plan("a"), plan("b")) as fleet:
        assert states(fleet) == {"a": "unloaded", "b": "unloaded"}
        assert fleet.ready
        assert fleet.slot("b").ready
        assert fleet.slot("b").info is None
        assert use(fleet, "b")
        assert states(fleet) == {"a": "unloaded", "b": "loaded"}
        assert fleet.slot("b").info is not None
        assert depot.loads == ["b@cpu"]
        assert fleet.stats().windows == 1
        assert fleet.stats().ready
        with pytest.raises(ModelNotFound, match="'c'"):
            fleet.slot("c")
    with pytest.raises(Unavailable, match="shutting down"), fleet.slot("a").hold():
        pass
    assert not fleet.ready


def test_many_who_come_first_cause_one_load() -> None:
    """All of them are answered by it."""
    depot = Depot(gates={"a@cpu": threading.Event()})
    with fleet_of(depot, plan("a")) as fleet:
        texts: list[str] = []
        callers = [threading.Thread(target=lambda: texts.append(use(fleet, "a"))) for _ in range(20)]
        for caller in callers:
            caller.start()
        wait_until(lambda: depot.loads)
        depot.gates["a@cpu"].set()
        for caller in callers:
            caller.join(_LIMIT_S)
        assert len(texts) == 20
        assert len(depot.loads) == 1


def test_who_waits_for_a_load_can_leave_and_the_load_goes_on() -> None:
    """A deadline or a hang-up is looked for all the time, and ends the wait with its own error."""
    depot = Depot(gates={"a@cpu": threading.Event()})
    gone = threading.Event()

    def check() -> None:
        if gone.is_set():
            raise Cancelled

    with fleet_of(depot, plan("a")) as fleet:
        threading.Timer(0.05, gone.set).start()
        with pytest.raises(Cancelled), fleet.slot("a").hold(check):
            pass
        depot.gates["a@cpu"].set()
        assert use(fleet, "a")
        assert len(depot.loads) == 1


def test_the_wait_for_a_model_is_bounded() -> None:
    """Then 503 with a time to come back."""
    depot = Depot(gates={"a@cpu": threading.Event()})
    setup = Setup(slots=SlotOptions(wait_s=0.1))
    with fleet_of(depot, plan("a"), setup=setup) as fleet:
        with pytest.raises(Unavailable, match="it is loading") as caught, fleet.slot("a").hold():
            pass
        assert (caught.value.retry_after_s or 0) > 0
        depot.gates["a@cpu"].set()


def test_a_model_that_does_not_fit_beside_another_takes_its_place() -> None:
    """The other's process ends first; it is still addressable and comes back in the same way."""
    depot = Depot()
    with fleet_of(depot, plan("a"), plan("b")) as fleet:
        use(fleet, "a")
        use(fleet, "b")
        assert states(fleet) == {"a": "unloaded", "b": "loaded"}
        use(fleet, "a")
        assert states(fleet) == {"a": "loaded", "b": "unloaded"}
        assert depot.most_at_once == 1
        assert ("a", "unloaded: room") in depot.outcomes


def test_who_waits_for_room_in_vain_is_told_so() -> None:
    """The model in its way is in use for longer than callers wait."""
    depot = Depot()
    with fleet_of(depot, plan("a"), plan("b"), setup=Setup(slots=SlotOptions(wait_s=0.3))) as fleet:
        with fleet.slot("a").hold(), pytest.raises(Unavailable, match="waiting for other models to free memory"):
            use(fleet, "b")
        assert depot.loads == ["a@cpu"]
        assert use(fleet, "b")


def test_the_one_used_longest_ago_makes_room() -> None:
    """Of three that fit, the fourth takes the place of the first."""
    depot = Depot()
    with fleet_of(depot, *(plan(name, 30) for name in "abcd")) as fleet:
        for name in "abca":
            use(fleet, name)
        use(fleet, "d")
        assert states(fleet) == {"a": "loaded", "b": "unloaded", "c": "loaded", "d": "loaded"}


def test_pinned_models_stay_and_what_can_never_fit_is_refused() -> None:
    """With the reason and a remedy; nobody waits in vain."""
    depot = Depot()
    with fleet_of(depot, plan("a", pinned=True), plan("b", 30), plan("c", 40), plan("big", 90)) as fleet:
        for name in "abc":
            use(fleet, name)
        assert states(fleet) == {"a": "loaded", "b": "unloaded", "c": "loaded", "big": "unloaded"}
        with pytest.raises(Unavailable, match=r"needs 90 MB.*MODEL_MEMORY_MB"):
            use(fleet, "big")
        with pytest.raises(ModelInUse, match="pinned"):
            fleet.slot("a").unload()
        assert states(fleet)["a"] == "loaded"


def test_a_model_in_use_is_not_taken_away_and_nobody_new_gets_ahead_of_who_waits() -> None:
    """Its users finish; then it is the other's turn, and only then that of those who came later."""
    depot, order = Depot(), []
    with fleet_of(depot, plan("a"), plan("b")) as fleet, ExitStack() as stack:
        slot = stack.enter_context(fleet.slot("a").hold())

        def later(name: str) -> None:
            with fleet.slot(name).hold():
                order.append(name)

        second = threading.Thread(target=later, args=("b",))
        second.start()
        wait_until(lambda: fleet.statuses()[1].state is ModelState.LOADING)
        time.sleep(0.15)
        third = threading.Thread(target=later, args=("a",))
        third.start()
        time.sleep(0.15)
        assert slot.submit(make_task(), origin()).result(_LIMIT_S).text
        assert order == []
        stack.close()
        second.join(_LIMIT_S)
        third.join(_LIMIT_S)
        assert order == ["b", "a"]


def test_R7_two_models_over_the_budget_take_turns_without_a_storm() -> None:
    """Called in turn as fast as can be, each load lasts its dwell; everybody is answered."""
    depot, dwell_s, seconds = Depot(), 0.4, 2.4
    setup = Setup(rules=Rules(100 * MB, dwell_s=dwell_s))
    answered: list[str] = []
    with fleet_of(depot, plan("a"), plan("b"), setup=setup) as fleet:
        over = time.monotonic() + seconds

        def call(name: str) -> None:
            while time.monotonic() < over or (len(depot.loads) < 3 and time.monotonic() < over + 30):
                assert use(fleet, name)
                answered.append(name)

        callers = [threading.Thread(target=call, args=("ab"[n % 2],)) for n in range(6)]
        began = time.monotonic()
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(_LIMIT_S)
        took_s = time.monotonic() - began
        assert not any(caller.is_alive() for caller in callers)
        assert len(depot.loads) <= took_s / dwell_s + 1
        assert len(depot.loads) >= 3, "both had a turn"
        assert {"a", "b"} == set(answered)
        assert depot.most_at_once == 1
        assert all(outcome in ("loaded", "unloaded: room") for _, outcome in depot.outcomes)


def test_R6_unloading_while_in_use() -> None:
    """409 while somebody holds it; then it goes, stays addressable, and comes back when asked for."""
    depot = Depot()
    with fleet_of(depot, plan("a")) as fleet:
        with fleet.slot("a").hold() as slot:
            with pytest.raises(ModelInUse, match="in use"):
                fleet.slot("a").unload()
            assert slot.submit(make_task(), origin()).result(_LIMIT_S).text
        assert fleet.slot("a").unload().state is ModelState.UNLOADED
        assert depot.running == 0
        assert fleet.slot("a").unload().state is ModelState.UNLOADED
        assert fleet.slot("a").ready
        assert use(fleet, "a")
        assert depot.loads == ["a@cpu"] * 2


def test_R6_users_and_unloaders_race_500_times() -> None:
    """Whoever holds the model is answered, whoever unloads it is told yes or no, and no engine is left behind."""
    depot, rounds = Depot(), 500
    refused, unloaded, failures = [0], [0], []
    with fleet_of(depot, plan("a"), setup=Setup(rules=Rules())) as fleet:

        def unload(chance: random.Random) -> None:
            for _ in range(rounds):
                time.sleep(chance.random() * 0.002)
                try:
                    fleet.slot("a").unload()
                    unloaded[0] += 1
                except ModelInUse:
                    refused[0] += 1

        def call(chance: random.Random) -> None:
            for index in range(rounds // 2):
                time.sleep(chance.random() * 0.004)
                try:
                    assert use(fleet, "a", index % 3)
                except Exception as error:  # noqa: BLE001 (told below, with the others)
                    failures.append(error)

        racers = [threading.Thread(target=call, args=(random.Random(n),)) for n in range(2)]  # noqa: S311
        racers.append(threading.Thread(target=unload, args=(random.Random(9),)))  # noqa: S311
        for racer in racers:
            racer.start()
        for racer in racers:
            racer.join(110.0)
        assert failures == []
        assert refused[0] + unloaded[0] == rounds
        assert refused[0]
        assert unloaded[0]
        assert depot.most_at_once == 1
        assert len(depot.loads) > 1


def test_a_model_that_nobody_uses_is_unloaded_after_a_while() -> None:
    """Not a pinned one, and not one in use."""
    depot = Depot()
    setup = Setup(rules=Rules(), slots=SlotOptions(idle_s=0.2))
    with fleet_of(depot, plan("a"), plan("p", pinned=True), plan("busy"), setup=setup) as fleet:
        with fleet.slot("busy").hold():
            use(fleet, "a")
            use(fleet, "p")
            wait_until(lambda: states(fleet)["a"] == "unloaded")
            time.sleep(0.3)
            assert states(fleet) == {"a": "unloaded", "p": "loaded", "busy": "loaded"}
        assert ("a", "unloaded: idle") in depot.outcomes


def test_models_that_grow_beyond_the_budget_are_thinned_out() -> None:
    """What a process really takes counts more than the estimate."""
    depot = Depot()
    with fleet_of(depot, plan("a", 40), plan("b", 40)) as fleet:
        use(fleet, "a")
        depot.scripts["b@cpu"] = Script(memory_bytes=90 * MB)
        use(fleet, "b")
        assert states(fleet) == {"a": "loaded", "b": "loaded"}
        wait_until(lambda: states(fleet) == {"a": "unloaded", "b": "loaded"})


@pytest.mark.parametrize(
    "error",
    [
        ModelUnavailable("The folder /nowhere is not a model."),
        EngineOutOfMemory("CUDA failed with error out of memory"),
        TympanError("model.bin is cut short"),
    ],
    ids=["missing", "memory", "broken"],
)
def test_R5_a_load_that_fails_is_told_with_its_cause_and_not_tried_in_a_loop(error: TympanError) -> None:
    """Callers get 503 with the cause at once; the next load waits for its time, and may succeed."""
    depot = Depot(errors={"a@cpu": [error, error]})
    setup = Setup(slots=SlotOptions(first_pause_s=0.3, longest_pause_s=0.3))
    with fleet_of(depot, plan("a"), plan("b"), setup=setup) as fleet:
        for _ in range(20):
            with pytest.raises(Unavailable, match=error.message[:15]) as caught:
                use(fleet, "a")
            assert (caught.value.retry_after_s or 0) > 0
        assert depot.loads == ["a@cpu"]
        assert not fleet.slot("a").ready
        assert states(fleet)["a"] == "failed"
        assert fleet.statuses()[0].failure is not None
        assert use(fleet, "b"), "the others are not harmed"
        wait_until(lambda: _answers(fleet, "a"))
        assert depot.loads.count("a@cpu") == 3
        assert fleet.statuses()[0].failure is None


def _answers(fleet: Fleet, name: str) -> bool:
    try:
        return bool(use(fleet, name))
    except Unavailable:
        return False


def test_R5_files_that_are_not_there_keep_one_model_away() -> None:
    """Whatever looking for them raises becomes the cause; the thread lives on."""
    depot, broken = Depot(), ModelPlan("a", lambda: Found(EngineSpec("fake", str(1 // 0))))
    with fleet_of(depot, broken, plan("b")) as fleet:
        with pytest.raises(Unavailable, match="ZeroDivisionError"):
            use(fleet, "a")
        assert use(fleet, "b")
        assert depot.loads == ["b@cpu"]


def test_R5_another_model_stands_in_where_that_is_configured() -> None:
    """It answers, and says that it was it."""
    depot = Depot(errors={"a@cpu": [ModelUnavailable("gone")]})
    with fleet_of(depot, plan("a"), plan("b"), setup=Setup(stand_in="b")) as fleet, fleet.slot("a").hold() as slot:
        assert slot.name == "b"
        assert slot.submit(make_task(), origin()).result(_LIMIT_S).text


def test_asking_for_a_model_loads_it_at_once_even_after_a_failure() -> None:
    """An operator who has mended it does not wait for the pause to pass."""
    depot = Depot(errors={"a@cpu": [ModelUnavailable("gone")]})
    setup = Setup(slots=SlotOptions(first_pause_s=60.0))
    with fleet_of(depot, plan("a"), setup=setup) as fleet:
        fleet.slot("a").ask()
        with pytest.raises(ModelUnavailable):
            fleet.slot("a").wait_loaded()
        fleet.slot("a").ask()
        wait_until(lambda: states(fleet) == {"a": "loaded"})
        assert fleet.slot("a").ask().loads == 1


def test_the_files_are_looked_for_with_every_load() -> None:
    """They may have been mended or replaced; what is loaded is what lies there."""
    depot, revisions = Depot(), iter(["one", "two"])
    found = ModelPlan("a", lambda: Found(EngineSpec("fake", "a", revision=next(revisions))))
    with fleet_of(depot, found) as fleet:
        for _ in range(2):
            use(fleet, "a")
            fleet.slot("a").unload()
        assert [batcher._spec.revision for batcher in depot.batchers] == ["one", "two"]


def test_R8_a_model_whose_device_is_gone_is_not_ready_and_comes_back_with_it() -> None:
    """Without a spare: windows are refused as unavailable, which keeps jobs; when the device is back, all is well."""
    depot = Depot()
    with fleet_of(depot, plan("a", kept=True)) as fleet:
        use(fleet, "a")
        depot.scripts["a@cpu"].loads = [EngineDeviceLost("no CUDA-capable device is detected")] * 12
        depot.scripts["a@cpu"].steps = [lambda _: EngineDeviceLost("no CUDA-capable device is detected")]
        with pytest.raises(Unavailable, match="no CUDA-capable device"):
            use(fleet, "a")
        assert not fleet.slot("a").ready
        wait_until(lambda: states(fleet)["a"] == "failed")
        wait_until(lambda: _answers(fleet, "a"))
        assert fleet.slot("a").ready


def test_R8_the_cpu_takes_over_where_that_is_configured() -> None:
    """As soon as the engine cannot be loaded on its device, and again on the device after the next unload."""
    depot = Depot()
    found = Found(EngineSpec("fake", "a", device="cuda"), 60 * MB, EngineSpec("fake", "a", device="cpu"))
    with fleet_of(depot, ModelPlan("a", lambda: found, kept=True)) as fleet:
        use(fleet, "a")
        depot.scripts["a@cuda"].loads = [EngineDeviceLost("no CUDA-capable device is detected")] * 12
        depot.scripts["a@cuda"].steps = [lambda _: EngineDeviceLost("no CUDA-capable device is detected")]
        wait_until(lambda: _answers(fleet, "a"))
        assert depot.loads == ["a@cuda", "a@cpu"]
        depot.scripts["a@cuda"].loads = []
        fleet.slot("a").unload()
        assert use(fleet, "a")
        assert depot.loads == ["a@cuda", "a@cpu", "a@cuda"]


def test_closing_ends_loads_that_are_under_way() -> None:
    """Whoever waits for them is told that the server stops."""
    depot = Depot(gates={"a@cpu": threading.Event()})
    failures: list[TympanError] = []

    def call(fleet: Fleet) -> None:
        try:
            use(fleet, "a")
        except TympanError as error:
            failures.append(error)

    with fleet_of(depot, plan("a")) as fleet:
        caller = threading.Thread(target=call, args=(fleet,))
        caller.start()
        wait_until(lambda: depot.batchers)
    caller.join(_LIMIT_S)
    assert [type(error) for error in failures] == [Unavailable]


def test_a_fleet_has_a_few_models() -> None:
    """None, or more than there are threads for, is a mistake of the program."""
    with pytest.raises(ValueError, match=f"1 to {MAX_MODELS}"):
        Fleet([], MemoryBudget(), Depot().make_batcher)
    with pytest.raises(ValueError, match="65"):
        Fleet([plan(str(n)) for n in range(65)], MemoryBudget(), Depot().make_batcher)
