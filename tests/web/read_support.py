"""Made transcripts and a page that shows them, for what real recordings are too short or too well behaved for."""

import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from playwright.sync_api import Page, Route

JOB_ID = f"job_{'0' * 32}"
_WORDS = [
    "people",
    "of",
    "this",
    "town",
    "have",
    "never",
    "seen",
    "such",
    "weather",
    "before",
    "and",
    "nobody",
    "knows",
    "what",
    "to",
    "do",
    "about",
    "the",
    "river",
]


@dataclass
class Told:
    """What the page is told in place of the server: a job, its transcript, and whether there is audio."""

    job: dict[str, Any]
    result: dict[str, Any]

    def answer(self, route: Route) -> None:
        """Answer as the server does for a job without audio and without an edited version."""
        path = route.request.url.split("?")[0]
        if path.endswith("/result"):
            route.fulfill(json=self.result)
        elif path.endswith(JOB_ID):
            route.fulfill(json=self.job)
        else:
            error = {"message": "It is gone.", "type": "invalid_request_error", "param": None, "code": "media_missing"}
            route.fulfill(status=404, json={"error": error})

    def show(self, page: Page, query: str = "") -> None:
        """Open the page of the job and wait for its text."""
        page.route(f"**/v1/jobs/{JOB_ID}**", self.answer)
        page.route(f"**/v1/jobs/{JOB_ID}/**", self.answer)
        page.goto(f"/#/jobs/{JOB_ID}{query}")
        page.locator(".seg .w").first.wait_for(state="attached")


def told(segments: list[dict[str, Any]], name: str = "talk.wav", language: str = "en") -> Told:
    """Return a job that has succeeded with these segments: ``text``, and what is not to be as usual."""
    made: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    at_s = 0.0
    for number, segment in enumerate(segments):
        parts = segment["text"].split()
        times = [at_s + 0.35 * place for place in range(len(parts) + 1)]
        for word, (start, end) in zip(parts, pairwise(times), strict=True):
            sure = 0.3 if len(words) % 10 == 7 else 0.95
            words.append({"word": word, "start": round(start, 3), "end": round(end, 3), "probability": sure})
        usual = {"avg_logprob": -0.2, "no_speech_prob": 0.01, "compression_ratio": 1.1, "confidence": 0.9}
        span = {"id": number, "start": round(at_s, 3), "end": round(times[-1], 3)}
        made.append({**usual, "hallucination_score": 0.02, **span, **segment})
        at_s = times[-1] + 0.2
    result = {"duration": at_s, "text": "", "segments": made, "words": words, "language_code": language, "model": "m"}
    progress = {"sections_done": 1, "sections_total": 1, "audio_s_done": at_s, "audio_s_total": at_s}
    job = {"id": JOB_ID, "state": "succeeded", "progress": progress, "error": None, "metadata": {"file": name}}
    return Told({**job, "created_at": "2026-01-02T03:04:05Z", "finished_at": "2026-01-02T03:05:05Z"}, result)


def three_hours() -> Told:
    """Return a transcript of three hours: 30,000 words in more than 3,000 segments of four speakers."""
    dice = random.Random(7)  # noqa: S311
    segments = [
        {"text": " ".join(dice.choices(_WORDS, k=dice.randint(6, 13))), "speaker": "ABCD"[place // 9 % 4]}
        for place in range(3200)
    ]
    return told(segments, "three hours.wav")


def dialogue(folder: Path, left: Path, right: Path) -> Path:
    """Return a recording in which one clip is on the left channel and another follows on the right."""
    one, rate_hz = soundfile.read(left)
    two, _ = soundfile.read(right)
    samples = np.zeros((len(one) + len(two) + rate_hz, 2))
    samples[: len(one), 0] = one
    samples[len(one) + rate_hz :, 1] = two
    path = folder / "dialogue.wav"
    soundfile.write(path, samples, rate_hz, "PCM_16")
    return path


def repeated(folder: Path, clip: Path, times: int) -> Path:
    """Return a recording of a clip again and again."""
    samples, rate_hz = soundfile.read(clip)
    path = folder / "repeated.wav"
    soundfile.write(path, np.tile(samples, times), rate_hz, "PCM_16")
    return path
