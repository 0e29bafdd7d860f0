"""``/v1/models`` and requests that name a model: engines that exist on paper, behind real routes."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
import pytest

from tests.api.support import CLIP, Facts, ScriptedTranscriber, Site
from tests.unit.test_fleet import Depot, plan, wait_until
from tympan.api.model_names import OPENAI_NAMES, Division, ModelCard, find, names_of
from tympan.api.picking import candidate_for, pick
from tympan.api.registry import FixedRegistry
from tympan.batching.eviction import Rules
from tympan.batching.fleet import Fleet, FleetOptions
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.served import SlotOptions
from tympan.batching.slot import ModelSlot
from tympan.bootstrap.registry import ConfiguredModel, LocalRegistry
from tympan.config import load
from tympan.domain import Options
from tympan.engine.model_settings import ModelEntry
from tympan.errors import ModelNotFound, ModelUnavailable


@dataclass
class Harbour:
    """A server with three models: ``a`` is the default, ``b`` is pinned, ``c`` cannot be loaded."""

    site: Site
    depot: Depot
    fleet: Fleet
    heard: list[str]

    def ask(self, method: str, path: str = "", **kwargs: object) -> httpx.Response:
        """Return the answer of a route under ``/v1/models``."""
        return httpx.request(method, f"{self.site.url}/v1/models{path}", timeout=20, **kwargs)  # type: ignore[arg-type]

    def say(self, model: str) -> httpx.Response:
        """Transcribe a clip with a model."""
        return self.site.post(data={"model": model, "response_format": "verbose_json"})


@pytest.fixture
def harbour(make_site: Callable[..., Site], tmp_path: Path) -> Iterator[Harbour]:
    """Return a server whose engines are scripted and whose pipelines note which model they are."""
    depot, heard = Depot(errors={"c@cpu": [ModelUnavailable("It is cut short.")] * 9}), []
    slots = SlotOptions(wait_s=10.0, first_pause_s=60.0)
    fleet = Fleet(
        [plan("a"), plan("b", pinned=True), plan("c")],
        MemoryBudget({"cpu": Rules(10**9, dwell_s=0.0)}),
        depot.make_batcher,
        FleetOptions(slots),
    )
    cards = [ModelCard("a", ("anna",), 1), ModelCard("b", ("anna", "whisper-1"), 2), ModelCard("c", (), 3)]
    settings = load({"data_dir": tmp_path})
    configured_models = [ConfiguredModel(ModelEntry(card.id, preload=card.id == "b"), card, settings) for card in cards]

    class Pipe(ScriptedTranscriber):
        def __init__(self, slot: ModelSlot) -> None:
            super().__init__()
            self.slot = slot

        def transcribe(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            heard.append(self.slot.name)
            with self.slot.hold():
                return super().transcribe(*args, **kwargs)  # type: ignore[arg-type]

    registry = LocalRegistry(fleet, configured_models, names_of(cards, {"mine": "b"}), Pipe)  # type: ignore[arg-type]
    site = make_site()
    site.services.backend.arrive_all(registry)
    yield Harbour(site, depot, fleet, heard)
    fleet.close()


def test_every_model_is_listed_with_how_it_stands(harbour: Harbour) -> None:
    """In OpenAI's shape, the default first and once more as whisper-1; aliases are those that lead to it."""
    listed = harbour.ask("GET").json()
    assert listed["object"] == "list"
    assert [(model["id"], model["served_as"], model["state"]) for model in listed["data"]] == [
        ("a", "a", "unloaded"), ("whisper-1", "a", "unloaded"), ("b", "b", "unloaded"), ("c", "c", "unloaded"),
    ]  # fmt: skip
    assert [model["aliases"] for model in listed["data"]] == [["anna"], ["anna"], ["mine"], []]
    assert [model["pinned"] for model in listed["data"]] == [False, False, True, False]
    assert [model["default"] for model in listed["data"]] == [True, True, False, False]
    assert {model["object"] for model in listed["data"]} == {"model"}
    assert harbour.ask("GET", "/mine").json()["served_as"] == "b"


def test_a_request_goes_to_the_model_that_it_names(harbour: Harbour) -> None:
    """By id, alias, or the default's names; an unknown one is refused after the upload, with what there is."""
    for name in ("b", "mine", "a", "anna", "whisper-1", "gpt-4o-transcribe"):
        assert harbour.say(name).status_code == 200
    harbour.site.post()
    assert harbour.heard == ["b", "b", "a", "a", "a", "a", "a"]
    refused = harbour.say("d")
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "'a', 'b', 'c' or 'whisper-1'" in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"] == "model"


def test_a_model_is_loaded_and_unloaded_by_request(harbour: Harbour) -> None:
    """202 while it is on its way, 200 when it is there; unloaded it stays in the list."""
    gate = harbour.depot.gates["a@cpu"] = threading.Event()
    begun = harbour.ask("POST", "/a")
    assert (begun.status_code, begun.json()["state"]) == (202, "loading")
    assert harbour.ask("DELETE", "/a").status_code == 409
    gate.set()
    loaded = harbour.ask("POST", "/a?wait=true")
    assert (loaded.status_code, loaded.json()["state"], loaded.json()["engine"]) == (200, "loaded", "fake")
    assert harbour.ask("POST", "/a").status_code == 200
    gone = harbour.ask("DELETE", "/anna").json()
    assert (gone["deleted"], gone["state"], gone["id"]) == (True, "unloaded", "anna")
    assert harbour.ask("DELETE", "/a").status_code == 200
    assert harbour.depot.loads == ["a@cpu"]
    assert harbour.say("a").status_code == 200
    assert harbour.depot.loads == ["a@cpu"] * 2


def test_R6_a_model_in_use_is_not_unloaded_by_request(harbour: Harbour) -> None:
    """409 that is worth trying again; the list shows who uses it. A pinned one is never unloaded so."""
    with harbour.fleet.slot("a").hold():
        refused = harbour.ask("DELETE", "/a")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_in_use")
        assert harbour.ask("GET", "/a").json()["in_use"] == 1
    assert harbour.ask("DELETE", "/a").status_code == 200
    assert harbour.ask("POST", "/b?wait=1").status_code == 200
    assert "pinned" in harbour.ask("DELETE", "/b").json()["error"]["message"]


def test_R5_a_model_that_cannot_be_loaded_says_why(harbour: Harbour) -> None:
    """To whoever loads it, whoever uses it, and in the list; the server stays ready for the others."""
    refused = harbour.ask("POST", "/c?wait=true")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert "cut short" in refused.json()["error"]["message"]
    failed = harbour.say("c")
    assert (failed.status_code, int(failed.headers["retry-after"]) > 30) == (503, True)
    assert "cut short" in failed.json()["error"]["message"]
    shown = harbour.ask("GET", "/c").json()
    assert (shown["state"], shown["error"]) == ("failed", "It is cut short.")
    assert httpx.get(f"{harbour.site.url}/readyz").status_code == 200
    assert harbour.say("a").status_code == 200
    health = httpx.get(f"{harbour.site.url}/health").json()
    models = health["components"]["models"]
    assert models["states"] == {"a": "loaded", "b": "unloaded", "c": "failed"}
    assert (health["status"], models["status"], models["reason"]) == ("degraded", "degraded", "Not to be loaded: c.")
    assert health["accepting_requests"] is True
    assert health["model_loaded"] is True


def test_only_what_is_listed_can_be_loaded(harbour: Harbour) -> None:
    """No path, no download, nothing unknown."""
    for name in ("small", "../../etc", "/etc/passwd", "Systran/faster-whisper-small", "%2e%2e"):
        assert harbour.ask("POST", f"/{name}").status_code in (404, 405), name
        assert harbour.ask("DELETE", f"/{name}").status_code in (404, 405), name
    assert harbour.ask("POST", "/a?wait=perhaps").status_code == 400
    assert harbour.ask("POST", "/a?force=1").status_code == 400
    assert harbour.depot.loads == []


def test_jobs_name_their_model(harbour: Harbour) -> None:
    """What is stored is the id; an unknown one is refused at once."""
    files = {"file": ("clip.wav", CLIP)}
    made = httpx.post(f"{harbour.site.url}/v1/jobs", files=files, data={"model": "mine"}, timeout=20)
    assert (made.status_code, made.json()["model"]) == (202, "b")
    assert httpx.post(f"{harbour.site.url}/v1/jobs", files=files, data={"model": "d"}, timeout=20).status_code == 404


def test_models_are_in_the_metrics(harbour: Harbour) -> None:
    """Loaded or not, and what they take."""
    harbour.say("a")
    metrics = httpx.get(f"{harbour.site.url}/metrics").text
    assert 'tympan_model_loaded{model="a"} 1.0' in metrics
    assert 'tympan_model_loaded{model="b"} 0.0' in metrics


def test_models_to_preload_are_loaded_behind_a_server_that_is_ready(harbour: Harbour) -> None:
    """And no others."""
    registry = harbour.site.services.backend.registry
    assert isinstance(registry, LocalRegistry)
    registry.preload()
    wait_until(lambda: registry.view("b").state == "loaded")
    assert harbour.depot.loads == ["b@cpu"]


def test_another_model_can_become_the_default(harbour: Harbour) -> None:
    """It is loaded, and answers those who name none; the old one stays."""
    registry = harbour.site.services.backend.registry
    assert isinstance(registry, LocalRegistry)
    assert registry.promote("mine").is_default
    harbour.site.post()
    harbour.say("whisper-1")
    harbour.say("a")
    assert harbour.heard == ["b", "b", "a"]
    assert [(view.card.id, view.is_default) for view in registry.views()] == [("b", True), ("a", False), ("c", False)]


def test_what_a_process_does_not_load_it_does_not_unload(make_site: Callable[..., Site]) -> None:
    """A part of a cluster without engines lists the models and refuses the rest."""
    site, other = make_site(), ScriptedTranscriber(ready=False)
    cards = [ModelCard("a"), ModelCard("b", ("bob",))]
    registry = FixedRegistry([(site.transcriber, cards[0]), (other, cards[1])])
    site.services.backend.arrive_all(registry)
    listed = httpx.get(f"{site.url}/v1/models").json()["data"]
    assert [(model["id"], model["state"]) for model in listed] == [
        ("a", "loaded"), ("whisper-1", "loaded"), ("b", "unloaded"),
    ]  # fmt: skip
    for method in ("POST", "DELETE"):
        assert httpx.request(method, f"{site.url}/v1/models/bob").json()["error"]["code"] == "conflict"
    site.post(data={"model": "bob"})
    assert len(other.calls) == 1
    assert registry.settled


def test_ids_go_before_aliases() -> None:
    """Then the operator's own names, OpenAI's, and the first model with an alias."""
    cards = [ModelCard("a", ("x", "b")), ModelCard("b", ("x", "whisper-1", "y"))]
    theirs = dict.fromkeys(OPENAI_NAMES, "a")
    assert names_of(cards) == {"a": "a", "b": "b", **theirs, "x": "a", "y": "b"}
    assert names_of(cards, {"whisper-1": "b", "y": "a"})["whisper-1"] == "b"
    assert find(names_of(cards), None, "a") == "a"
    with pytest.raises(ModelNotFound):
        find(names_of(cards), "z", "a")


def test_a_candidate_answers_its_share_once_it_is_loaded(harbour: Harbour) -> None:
    """The same audio always gets the same model; who names a model gets that one; until it is loaded, all go on."""
    registry = harbour.site.services.backend.registry
    assert isinstance(registry, LocalRegistry)
    gate = harbour.depot.gates["b@cpu"] = threading.Event()
    registry.divide(Division("rol_1", "b", 1.0))
    assert not registry.divided
    harbour.site.post()
    assert harbour.heard == ["a"]
    gate.set()
    wait_until(lambda: registry.divided)
    for name in (None, "whisper-1", "a", "anna"):
        harbour.site.post() if name is None else harbour.say(name)
    assert harbour.heard == ["a", "b", "b", "a", "a"]
    registry.divide(None)
    harbour.site.post()
    assert harbour.heard[-1] == "a"
    with pytest.raises(ModelNotFound):
        registry.divide(Division("rol_2", "nobody", 1.0))


def test_a_candidate_that_is_unloaded_is_asked_for_again_and_one_that_fails_is_not(harbour: Harbour) -> None:
    """Its share goes to the default meanwhile."""
    registry = harbour.site.services.backend.registry
    assert isinstance(registry, LocalRegistry)
    registry.divide(Division("rol_1", "b", 1.0))
    wait_until(lambda: registry.divided)
    registry.divide(Division("rol_2", "c", 1.0))
    wait_until(lambda: registry.view("c").state == "failed")
    tries = harbour.depot.loads.count("c@cpu")
    registry.divide(Division("rol_2", "c", 1.0))
    harbour.site.post()
    assert harbour.heard == ["a"]
    assert harbour.depot.loads.count("c@cpu") == tries


def test_what_a_candidate_cannot_do_is_for_the_default(harbour: Harbour) -> None:
    """It refuses nobody whom the default would serve."""
    registry = harbour.site.services.backend.registry
    assert isinstance(registry, LocalRegistry)
    registry.divide(Division("rol_1", "b", 1.0))
    wait_until(lambda: registry.divided)
    cast("ScriptedTranscriber", registry.pick("b")[0]).info = Facts(languages=("en",))
    asked = Options(language="de")
    assert candidate_for(registry, None, "key", Options(language="en")) == "b"
    assert candidate_for(registry, None, "key", asked) is None
    assert pick(registry, None, "key", asked)[1].id == "a"


def test_shares_are_drawn_evenly_and_for_good() -> None:
    """A tenth is a tenth; another rollout draws others; more of a share keeps those who were in it."""
    keys = [str(number) for number in range(4_000)]
    tenth = {key for key in keys if Division("rol_1", "b", 0.1).takes(key)}
    assert 320 <= len(tenth) <= 480
    assert tenth <= {key for key in keys if Division("rol_1", "b", 0.2).takes(key)}
    assert tenth != {key for key in keys if Division("rol_2", "b", 0.1).takes(key)}
    assert all(Division("rol_1", "b", 1.0).takes(key) for key in keys)
    assert not any(Division("rol_1", "b", 0.0).takes(key) for key in keys)
