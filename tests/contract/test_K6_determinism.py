"""K6: the same audio and options give the same text alone and in any company, on any lane, through the real batcher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, pcm, task
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.queue import Origin
from tympan.domain import DecodeParams, Lane, WindowResult, WindowTask
from tympan.engine.base import EngineSpec
from tympan.engine.models import ResolvedModel

pytestmark = pytest.mark.model

FEW, MANY = 12, 200
CUTS_S = (1.1, 1.7)

SEARCHES: Mapping[str, DecodeParams] = {
    "greedy": GREEDY,
    "five beams": replace(GREEDY, beam_size=5),
    "a prompt": replace(GREEDY, prompt="UN DEUX TROIS", hotwords="Zanzibar"),
    "another prompt": replace(GREEDY, prompt="Minutes of the meeting."),
    "another language": replace(GREEDY, language="fr"),
    "first step of the ladder": replace(GREEDY, temperature=0.2, best_of=3, full_context=True),
    "warm": replace(GREEDY, temperature=0.8, best_of=3),
}
PLAIN = tuple(name for name, params in SEARCHES.items() if params.temperature == 0.0)

SPECS = {
    "onnx": (EngineSpec("onnx", "tiny.en"), tuple(SEARCHES)),
    "ct2": (EngineSpec("ct2", "tiny.en"), PLAIN),
    "ct2 deterministic": (EngineSpec("ct2", "tiny.en", options=(("deterministic", "on"),)), tuple(SEARCHES)),
}
"""Engines, and which searches they promise: CTranslate2 throws dice above temperature 0 unless told otherwise."""


_SLOW = {"ct2 deterministic": (pytest.mark.long,)}


@pytest.fixture(params=[pytest.param(spec, id=name, marks=_SLOW.get(name, ())) for name, spec in SPECS.items()])
def served(request: pytest.FixtureRequest, tiny_en: ResolvedModel) -> Iterator[tuple[Batcher, Sequence[str]]]:
    """Give a batcher over each engine, in its own process as in the server, with the searches that it promises."""
    spec, searches = request.param
    batcher = Batcher(replace(spec, path=str(tiny_en.path), threads=2), BatcherOptions())
    batcher.start()
    try:
        batcher.wait_ready(100.0)
        yield batcher, searches
    finally:
        batcher.close(0.0)


def windows(spoken_clips: Sequence[SpokenClip], searches: Sequence[str]) -> list[WindowTask]:
    """Return short cuts of clips, each to be searched in every way."""
    clips = [clip for clip in spoken_clips if clip.language in {"en", "es"}][: len(CUTS_S)]
    cuts = [pcm(clip.path)[: int(16_000 * length_s)] for clip, length_s in zip(clips, CUTS_S, strict=True)]
    return [task(cut, SEARCHES[name], index) for name in searches for index, cut in enumerate(cuts)]


def answers(batcher: Batcher, asked: Sequence[WindowTask], draw: np.random.Generator) -> list[WindowResult]:
    """Return what is answered when all are asked at once, by different callers in different lanes."""
    lanes = draw.integers(0, len(Lane), len(asked))
    origins = [Origin(f"r{n}", f"t{n % 2}", Lane(int(lane))) for n, lane in enumerate(lanes)]
    replies = [batcher.submit(one, origin) for one, origin in zip(asked, origins, strict=True)]
    return [reply.result(60.0) for reply in replies]


def check(served: tuple[Batcher, Sequence[str]], spoken_clips: Sequence[SpokenClip], interleavings: int) -> None:
    """Compare every window's text, alone, with what it is in random company in random order."""
    batcher, searches = served
    asked, draw = windows(spoken_clips, searches), np.random.default_rng(20)
    alone = [answers(batcher, [one], draw)[0] for one in asked]
    assert len({(result.text, result.temperature) for result in alone}) > len(CUTS_S)
    for _ in range(interleavings):
        picked = draw.permutation(len(asked))[: int(draw.integers(2, 5))]
        found = answers(batcher, [asked[i] for i in picked], draw)
        wanted = [alone[i] for i in picked]
        assert [result.text for result in found] == [result.text for result in wanted]
        assert [result.tokens for result in found] == [result.tokens for result in wanted]
        assert [result.avg_logprob for result in found] == pytest.approx(
            [result.avg_logprob for result in wanted], abs=1e-4
        )


def test_K6_a_text_does_not_depend_on_its_company(
    served: tuple[Batcher, Sequence[str]], spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """Beside other prompts, languages and searches, batched or not, urgent or not."""
    check(served, spoken_clips, FEW)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_K6_a_text_is_the_same_in_200_interleavings(
    served: tuple[Batcher, Sequence[str]], spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """The whole of what is asked for."""
    check(served, spoken_clips, MANY)
