"""A word that one tenant says wherever a caller can say something, and where others might come to read it."""

import base64
import json
from collections.abc import Iterable
from typing import Any

import httpx

from tests.media import tone, wav

_TUS = {"tus-resumable": "1.0.0"}


def say_everywhere(url: str, word: str, key: str | None = None) -> list[str]:
    """Send ``word`` in every field there is, through success and failure, and return the ids of the jobs.

    It is in names of files, prompts, hot words, metadata, addresses, keys of idempotency and the bytes of the audio.
    """
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        jobs = [_job(http, word, audio) for audio in (wav(tone(2.0), 16_000) + word.encode() * 50, word.encode() * 50)]
        jobs.append(_fetched(http, word))
        _other_things(http, word)
        _mistakes(http, word)
    return jobs


def _job(http: httpx.Client, word: str, audio: bytes) -> str:
    answer = http.post(
        "/v1/jobs",
        files={"file": (f"{word}-name.wav", audio)},
        data={
            "vad": "false",
            "prompt": f"{word}-prompt",
            "hotwords": f"{word}-hot",
            "metadata": json.dumps({"note": f"{word}-note"}),
            "webhook_url": f"https://hooks.example/{word}-path?token={word}-query",
        },
        headers={"idempotency-key": f"{word}-key-{len(audio)}"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _fetched(http: httpx.Client, word: str) -> str:
    address = f"https://audio.example/{word}.wav?signature={word}"
    answer = http.post("/v1/jobs", json={"audio_url": address, "metadata": {"note": word}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _other_things(http: httpx.Client, word: str) -> None:
    """Make a synchronous call, a batch, an endpoint and an upload."""
    call = {"file": (f"{word}.wav", wav(tone(1.0), 16_000))}
    answers = [
        http.post("/v1/audio/transcriptions", files=call, data={"prompt": word, "hotwords": word, "vad": "false"}),
        http.post(
            "/v1/batches", json={"items": [{"audio_url": f"https://audio.example/{word}"}], "metadata": {"all": word}}
        ),
        http.post("/v1/webhook-endpoints", json={"url": f"https://hooks.example/{word}", "description": word}),
        http.post(
            "/v1/uploads",
            headers={
                **_TUS,
                "upload-length": "100",
                "upload-metadata": f"filename {base64.b64encode(word.encode()).decode()}",
            },
        ),
    ]
    assert [answer.status_code // 100 for answer in answers] == [2, 2, 2, 2], [answer.text for answer in answers]


def _mistakes(http: httpx.Client, word: str) -> None:
    """Send what is refused, with the word in the place that is wrong."""
    file = {"file": (f"{word}.wav", word.encode())}
    mistakes: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/audio/transcriptions", {"files": file}),
        ("POST", "/v1/audio/transcriptions", {"files": file, "data": {"language": word}}),
        ("POST", "/v1/audio/transcriptions", {"files": file, "data": {"model": word}}),
        ("POST", "/v1/audio/transcriptions", {"files": file, "data": {word: "1"}}),
        ("POST", "/v1/jobs", {"content": f'{{"audio_url": "{word}', "headers": {"content-type": "application/json"}}),
        ("POST", "/v1/jobs", {"files": file, "data": {"webhook_url": f"gopher://{word}"}}),
        ("GET", f"/v1/jobs/{word}", {}),
        ("GET", f"/v1/jobs?state={word}&after={word}", {}),
        ("GET", f"/{word}/{word}?key={word}", {}),
        ("DELETE", f"/v1/models/{word}", {}),
        ("PATCH", f"/v1/uploads/{word}", {"headers": _TUS, "content": word.encode()}),
        ("GET", "/v1/jobs", {"headers": {"authorization": f"Bearer {word}"}}),
    ]
    for method, path, more in mistakes:
        answer = http.request(method, path, **more)
        # A key that is no key is an error only where keys are asked for.
        assert answer.status_code >= 400 or "headers" in more, (method, path, answer.status_code)


def what_others_read(url: str, key: str | None, ids: Iterable[str]) -> str:
    """Return, as one text, all that somebody else with ``key`` is told: lists, answers about ``ids``, figures."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    paths = ["/v1/jobs", "/v1/batches", "/v1/webhook-endpoints", "/v1/models", "/v1/usage", "/health", "/readyz"]
    paths += [f"/v1/jobs/{job_id}{more}" for job_id in ids for more in ("", "/result", "/events")]
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        return "\n".join(answer.text + str(answer.headers) for answer in map(http.get, paths))
