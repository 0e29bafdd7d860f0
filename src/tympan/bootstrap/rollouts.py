"""From the database to the models: who is the default, and which share of the calls a candidate answers.

And what operators may decide about that, for the command line; a server may be running on the same stores.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tympan import telemetry
from tympan.api.model_names import Division, ModelCard, find
from tympan.api.registry import ModelRegistry
from tympan.bootstrap.access import operator_entry
from tympan.bootstrap.measuring import make_trial_desk
from tympan.bootstrap.pipeline import with_model
from tympan.bootstrap.quality import open_quality
from tympan.bootstrap.registry import configured_models, names
from tympan.config import Settings
from tympan.errors import InvalidRequest, ModelNotFound
from tympan.quality.rollout import Judgement, RolloutWatch
from tympan.quality.trial import TrialDesk
from tympan.storage.database import Database
from tympan.storage.rollouts import Rollout, RolloutStore, Standing

__all__ = ["Judgement", "Rollout", "Rollouts", "make_rollout_watch", "open_rollouts", "promoted_model"]

_LOG = telemetry.get_logger(__name__)


class Follower:
    """Has a process's models follow what was decided. For one thread."""

    def __init__(self, registry: ModelRegistry, home: str) -> None:
        """Change ``registry``; ``home`` is the id of the settings' model, the default unless another was promoted."""
        self._registry, self._home = registry, home
        self._missed = self._shown = ""

    @property
    def _default(self) -> str:
        return self._registry.pick(None)[1].id

    def follow(self, standing: Standing) -> None:
        """Let the right model be the default, and let a candidate answer its share if it is here."""
        self._promote(standing.promoted.candidate if standing.promoted is not None else self._home)
        self._divide(standing.running)

    def _promote(self, wanted: str) -> None:
        before = self._default
        if wanted == before:
            return
        try:
            self._registry.promote(wanted)
        except ModelNotFound:
            self._miss(wanted)
        else:
            _LOG.info("default_model_changed", model=wanted, before=before)

    def _divide(self, running: Rollout | None) -> None:
        division = None
        if running is not None and running.candidate != self._default:
            division = Division(running.id, running.candidate, running.share)
        try:
            self._registry.divide(division)
        except ModelNotFound as error:
            self._registry.divide(None)
            self._miss(running.candidate if running is not None else str(error))
        self._show(running)

    def _show(self, running: Rollout | None) -> None:
        candidate = running.candidate if running is not None else ""
        if candidate != self._shown:
            telemetry.ROLLOUT_SHARE.clear()
            self._shown = candidate
        if running is not None:
            telemetry.ROLLOUT_SHARE.labels(candidate).set(running.share if self._registry.divided else 0.0)

    def _miss(self, model: str) -> None:
        """Say once that a model is not served here."""
        if model != self._missed:
            self._missed = model
            _LOG.error("rollout_of_a_model_not_served", model=model)


def make_rollout_watch(database: Database, registry: ModelRegistry, home: str) -> RolloutWatch:
    """Return what has ``registry`` follow the decisions, not started yet; ``home`` is as for ``Follower``."""
    return RolloutWatch(RolloutStore(database), Follower(registry, home).follow)


def promoted_model(database: Database) -> str | None:
    """Return the id of the model that was promoted to be the default. Raises ``StorageUnavailable``."""
    promoted = RolloutStore(database).standing().promoted
    return None if promoted is None else promoted.candidate


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Rollouts of an installation, while its stores are open."""

    desk: TrialDesk
    _settings: Settings
    has_workers: bool
    """Whether a server was there to do the work when the stores were opened."""

    def start(self, model: str, share: float) -> tuple[Rollout, list[str]]:
        """Begin a rollout of ``model``, by any of its names; return it with the golden sets that are measured for it.

        Raises ``ModelNotFound``, ``InvalidRequest`` for the default itself, and ``Conflict`` while another one runs.
        """
        cards, incumbent = self._cards(), self.default
        candidate = find(names(self._settings, cards), model, incumbent)
        if candidate == incumbent:
            remedy = "Name another model of MODELS."
            raise InvalidRequest(f"{candidate!r} is the default already.", remedy=remedy)
        return self.desk.start(candidate, incumbent, share, operator_entry("rollout.start", share=share))

    def change_share(self, share: float) -> Rollout:
        """Let the candidate answer another share. Raises ``NotFound``."""
        return self.desk.store.change_share(share, operator_entry("rollout.share", share=share))

    def promote(self, *, anyway: bool) -> Rollout:
        """Let the candidate be the default. Raises ``NotFound``; ``Conflict`` unless it is no worse, or ``anyway``."""
        return self.desk.promote(operator_entry("rollout.promote", anyway=anyway), anyway=anyway)

    def roll_back(self) -> Rollout:
        """End the rollout, or undo the last promotion. Raises ``NotFound``."""
        return self.desk.store.roll_back(operator_entry("rollout.rollback"))

    @property
    def default(self) -> str:
        """The id of the model that is the default now."""
        promoted = self.desk.store.standing().promoted
        return self._cards()[0].id if promoted is None else promoted.candidate

    def _cards(self) -> list[ModelCard]:
        return [each.card for each in configured_models(with_model(self._settings))]


@contextmanager
def open_rollouts(settings: Settings) -> Iterator[Rollouts]:
    """Yield what may be asked and decided. Raises ``StorageUnavailable``."""
    with open_quality(settings) as quality:
        yield Rollouts(make_trial_desk(settings, quality.desk), settings, quality.has_workers)
