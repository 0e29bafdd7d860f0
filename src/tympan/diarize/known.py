"""Speakers who are known by a sample of their voice: what a sample is like, and whom of a recording it is. Pure.

A speaker of a recording is as alike to a sample as the mean of all that was heard of them. What a telephone does to any
voice is taken off both before: else two strangers on the telephone are as alike as one person is elsewhere, and nobody
on the telephone is like a sample that was recorded otherwise.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.base import FRAME_S, Embedding, Heard, Track
from tympan.diarize.clustering import Crowd, grouped

ALIKE = 0.5
"""Who is less alike to a sample than this is somebody else."""

_FORM = np.dtype("<f2")
_TELEPHONE = (
    "Iq+qqMsrBa3BqnkkBCOjLBaqxaUfrzotDillp4+sEiqEoCkrgSxSJGAwyiy3KMcuJSf7qBWq6a6qK64xYaERKdOou6skHQsulLF4q1ow"
    "N6bhLeqiQK+1KHEmKaSfrx4qYi4zE0wsTSmYmrOpSiUALXwjk6XbqaatTqj1oeskHaMyrGctTK0TrSojeCeUIg8u3KdTIy2wfSpVqdqj"
    "Rq/upVutEjCRqrAoIqwDquYzDqCBsK6sta4AJA+s2yWlm0skWSlOJpUj6iL/rbatWKpnqg8viarVK7EvLa+YIGAYwayVK4en76wqoPQu"
    "fypcLICtk63UrmquEq0CrGeoqCu6rPYjmSRwqG0sRCQ1KNQD8iymoJCx3KhAoFqq6ybPlRoxvZTxr/QstCDRrIehSawfseMkC68Er4gc"
    "e6XqFJ+tFahnMBsqWS1UMTYlJyh6pegmL6m5LP0s6q4PH+0p8pL4KD0tATAIpVqj15aGqAevJi+vqqMr6R1bHkos5y0SpUcs"
)
"""Where voices move to when all but a telephone's band is taken from them: the mean of 29 readers, packed."""

_HAIR = 1e-9
_LEAST_S = 0.5


@dataclass(frozen=True, slots=True)
class Known:
    """A voice that has a name."""

    name: str
    voice: Embedding


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a sample came to: the voice that speaks most, for how long, and what share of all speech that is."""

    voice: Embedding | None
    speech_s: float
    share: float


def recognised(tracks: Sequence[Track], groups: Sequence[int], known: Sequence[Known]) -> dict[int, str]:
    """Return the names of groups that are known: the most alike first, each name and each group once."""
    if not tracks or not known:
        return {}
    alike = _own(_means(tracks, groups)) @ _own(np.stack([each.voice for each in known])).T
    found: dict[int, str] = {}
    while alike.max() >= ALIKE:
        group, number = (int(place) for place in np.unravel_index(alike.argmax(), alike.shape))
        found[group] = known[number].name
        alike[group, :] = alike[:, number] = -1.0
    return found


def sampled(heard: Heard) -> Sampled:
    """Return whose voice a sample holds."""
    if not heard.tracks:
        return Sampled(None, 0.0, 0.0)
    groups = grouped(heard.tracks, Crowd(), least_s=_LEAST_S)
    seconds = np.bincount(groups, _seconds(heard.tracks))
    most = int(seconds.argmax())
    voice = _means(heard.tracks, groups)[most].astype(np.float32)
    return Sampled(voice, float(seconds[most]), float(seconds[most] / seconds.sum()))


def packed(voice: Embedding) -> str:
    """Return a voice as text, 512 characters."""
    return base64.b64encode(voice.astype(_FORM).tobytes()).decode("ascii")


def unpacked(text: str) -> Embedding:
    """Return the voice that is ``packed`` in a text."""
    voice = np.frombuffer(base64.b64decode(text), _FORM).astype(np.float32)
    unit: Embedding = voice / np.linalg.norm(voice)
    return unit


def _means(tracks: Sequence[Track], groups: Sequence[int]) -> NDArray[np.float64]:
    """Return the mean voice of each group, longer tracks counting more."""
    sums = np.zeros((1 + max(groups), len(tracks[0].voice)))
    np.add.at(sums, list(groups), np.stack([track.voice for track in tracks]) * _seconds(tracks)[:, None])
    return _unit(sums)


def _seconds(tracks: Sequence[Track]) -> NDArray[np.float64]:
    return np.array([track.active.sum() * FRAME_S for track in tracks])


def _own(voices: NDArray[Any]) -> NDArray[np.float64]:
    """Return voices, of length 1, without what a telephone does to any of them."""
    telephone = unpacked(_TELEPHONE)
    return _unit(voices - (voices @ telephone)[:, None] * telephone)


def _unit(vectors: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _HAIR)
    return found
