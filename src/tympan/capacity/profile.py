"""What one machine costs: a batch in its engine, and a request beside the engine. Pure values; JSON in and out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from tympan.errors import InvalidRequest

KIND = "tympan.capacity.profile"
VERSION = 1

WINDOW_S = 28.0
"""Longest window, as the server packs them."""

TYPICAL_WINDOW_S = 26.0
"""How long a full window is as a rule: it ends with the last stretch of speech that fits."""

Facts: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Milliseconds that a batch takes: for itself, each window, each second of audio, and its square.

    ``longest_ms`` is for each second of the longest window: all windows of a batch are decoded together, so that one
    sets the number of steps. The square is the encoder's attention.
    """

    batch_ms: float = 0.0
    window_ms: float = 0.0
    audio_ms: float = 0.0
    square_ms: float = 0.0
    longest_ms: float = 0.0

    def ms(self, lengths_s: Sequence[float]) -> float:
        """Return the milliseconds of a batch of windows of these lengths."""
        return sum(cost * unit for cost, unit in zip(self.terms, features(lengths_s), strict=True))

    @property
    def terms(self) -> tuple[float, float, float, float, float]:
        """The five costs, in the order of ``features``."""
        return self.batch_ms, self.window_ms, self.audio_ms, self.square_ms, self.longest_ms


def features(lengths_s: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Return what the five costs of a batch are multiplied by."""
    squares = sum(length_s * length_s for length_s in lengths_s)
    return 1.0, float(len(lengths_s)), sum(lengths_s), squares, max(lengths_s)


@dataclass(frozen=True, slots=True)
class Door:
    """What a request costs beside the engine: receiving, decoding, finding speech, answering.

    ``request_ms`` each, ``audio_ms`` for each second of audio; ``hands`` requests are worked on side by side.
    ``contention``: how much of this work the engine loses while both compute, and the other way round. 0 where the
    engine has a device of its own.
    """

    request_ms: float = 0.0
    audio_ms: float = 0.0
    hands: int = 1
    contention: float = 0.0

    def seconds(self, audio_s: float, *, first: bool) -> float:
        """Return the seconds of work on so much audio of a request, its ``first`` part or a further one."""
        return (self.request_ms * first + self.audio_ms * audio_s) / 1000.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One machine with one model. ``ratios`` say how far single batches lie from their cost: measured over fitted.

    ``speech_share`` is how much of the audio reaches the engine; ``measured`` is what was seen when it was made:
    throughput by concurrency and length.
    """

    name: str
    cost: BatchCost
    door: Door = field(default_factory=Door)
    ratios: tuple[float, ...] = (1.0,)
    speech_share: float = 1.0
    model: str = ""
    engine: str = ""
    device: str = ""
    compute_type: str = ""
    threads: int = 0
    source: str = "measured"
    measured: tuple[Facts, ...] = ()
    origin: Facts = field(default_factory=dict)

    def windows_of(self, audio_s: float) -> tuple[float, ...]:
        """Return the lengths of the windows that a recording of ``audio_s`` seconds becomes."""
        speech_s = max(0.2, audio_s * self.speech_share)
        if speech_s <= WINDOW_S:
            return (speech_s,)
        whole = math.ceil(speech_s / TYPICAL_WINDOW_S) - 1
        return (*(TYPICAL_WINDOW_S,) * whole, speech_s - whole * TYPICAL_WINDOW_S)

    def alone_s(self, audio_s: float) -> float:
        """Return how long a request takes on an idle machine, its windows one after the other."""
        return self.door.seconds(audio_s, first=True) + self.engine_s(audio_s)

    def engine_s(self, audio_s: float) -> float:
        """Return how long the engine takes for a request by itself, window by window."""
        return sum(self.cost.ms([length_s]) for length_s in self.windows_of(audio_s)) / 1000.0


def as_json(profile: Profile) -> dict[str, Any]:
    """Return the profile as a JSON object."""
    return {"kind": KIND, "version": VERSION, **asdict(profile)}


def from_json(document: Facts) -> Profile:
    """Return the profile that ``as_json`` made the document from; raises ``InvalidRequest`` for anything else."""
    if document.get("kind") != KIND or document.get("version") != VERSION:
        raise InvalidRequest(
            "This is not the profile of a machine, or it is from another version.", remedy="Measure again with --fresh."
        )
    values = {name: value for name, value in document.items() if name not in {"kind", "version"}}
    try:
        values |= {"cost": BatchCost(**document["cost"]), "door": Door(**document["door"])}
        values |= {name: tuple(document.get(name, ())) for name in ("ratios", "measured")}
        profile = Profile(**values)
        checked(profile)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequest(f"The profile is damaged: {error}.", remedy="Measure again with --fresh.") from error
    return profile


def checked(profile: Profile) -> None:
    """Raise ``ValueError`` when the figures cannot be a machine's."""
    door = profile.door
    numbers = [*profile.cost.terms, *profile.ratios, door.request_ms, door.audio_ms, door.contention]
    if not all(math.isfinite(number) and number >= 0.0 for number in numbers) or not profile.ratios:
        raise ValueError("a cost is missing, negative or no number")
    if profile.cost.ms([1.0]) <= 0.0 or door.hands < 1 or not 0.0 < profile.speech_share <= 1.0:
        raise ValueError("a batch costs nothing, or nobody is at the door")
