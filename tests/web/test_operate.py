"""Operate in a real browser against a real server: load while work runs, models, quality, alarms, capacity."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.capacity_support import SLOW
from tests.conftest import SpokenClip
from tests.golden_support import write_voices
from tests.web.support import WebServer, check_everywhere
from tympan.capacity.kept import kept_path, kept_text

PLAN_MS = 140_000
"""Longest wait for a plan, whose process gives way to everything else on the machine."""

HOSTILE = "<b>x</b><img src=x onerror=alert(1)>"


def tile(page: Page, title: str) -> Any:
    """Return the figure with this title."""
    return page.locator(".tile", has_text=title).first


def answer_with(page: Page, path: str, body: Any, status: int = 200) -> None:
    """Let the server say something else at ``path``."""

    def answer(route: Route) -> None:
        route.fulfill(status=status, content_type="application/json", body=json.dumps(body))

    page.route(re.compile(re.escape(path) + r"(\?.*)?$"), answer)


def test_load_shows_while_work_runs(page: Page, web_server: WebServer, speech: Path) -> None:
    """Calls, a stream and jobs move the tiles, the charts and their tables; nobody has to reload."""
    page.goto("/#/operate")
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    expect(page.locator(".headline")).to_contain_text("healthy")
    expect(page.locator(".headline")).to_contain_text("tiny.en")
    expect(tile(page, "Requests")).to_contain_text("0")
    expect(page.get_by_text("No alarm is firing.")).to_be_visible()
    web_server.job(speech)
    file = {"file": ("speech.wav", speech.read_bytes())}
    for fields in ({}, {"stream": "true"}):
        httpx.post(f"{web_server.url}/v1/audio/transcriptions", files=file, data=fields, timeout=60).raise_for_status()
    expect(tile(page, "Engine busy").locator(".tile-value")).to_have_text(re.compile(r"^[1-9]\d* %$|^\d\.\d %$"))
    expect(tile(page, "Speed").locator(".tile-value")).to_have_text(re.compile("[1-9]"))
    expect(tile(page, "Latency").locator(".tile-value")).to_have_text(re.compile(r"^\d.* m?s$"))
    expect(tile(page, "First text").locator(".tile-value")).to_have_text(re.compile(r"^\d.* m?s$"))
    expect(page.get_by_text(re.compile(r"^succeeded [1-9]"))).to_be_visible()
    done = page.locator("figure", has_text="Audio done, times real time")
    expect(done.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile(r"(calls|jobs) [\d.]*[1-9]"))
    done.get_by_text("As a table").click()
    expect(done.get_by_role("row").nth(1)).to_contain_text("\u00d7")
    expect(page.get_by_role("table", name="Parts of the server")).to_contain_text("database")
    check_everywhere(page)


def test_what_was_seen_is_kept_on_the_way_to_another_view(page: Page) -> None:
    """And nothing is asked any more while the view is not shown."""
    page.goto("/#/operate")
    slider = page.get_by_role("slider", name="Requests a minute")
    expect(slider).to_have_attribute("aria-valuemax", re.compile("[1-9]"))
    page.goto("/#/operate/capacity")
    expect(page.get_by_role("heading", name="Plan capacity")).to_be_visible()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(6000)
    assert [url for url in asked if "metrics" in url] == []
    page.goto("/#/operate")
    expect(slider).to_have_attribute("aria-valuemax", re.compile("[1-9]"), timeout=1000)


def test_a_model_is_unloaded_and_loaded(page: Page) -> None:
    """After a question; the server's state follows, and so does what can be done next."""
    page.goto("/#/operate/models")
    row = page.get_by_role("row", name=re.compile("^tiny.en"))
    expect(row).to_contain_text("loaded")
    expect(row).to_contain_text("default")
    row.get_by_role("button", name="Unload tiny.en").click()
    page.get_by_role("dialog", name="Unload tiny.en?").get_by_role("button", name="Cancel").click()
    expect(row).to_contain_text(re.compile("(?<!un)loaded"))
    check_everywhere(page)
    row.get_by_role("button", name="Unload tiny.en").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    expect(row).to_contain_text("unloaded")
    row.get_by_role("button", name="Load tiny.en").click()
    expect(row.get_by_role("button", name="Unload tiny.en")).to_be_visible()


def test_a_model_in_use_is_refused_in_the_servers_words(page: Page) -> None:
    """Nothing changes then."""
    page.goto("/#/operate/models")
    refusal = {"message": "The model is in use. Try again.", "type": "x", "param": None, "code": "model_in_use"}
    page.route("**/v1/models/*", lambda route: route.fulfill(status=409, json={"error": refusal}))
    page.get_by_role("button", name="Unload tiny.en").click()
    page.get_by_role("dialog").get_by_role("button", name="Unload").click()
    expect(page.get_by_role("status").filter(has_text="The model is in use.")).to_be_visible()
    expect(page.get_by_role("button", name="Unload tiny.en")).to_be_enabled()


def test_a_golden_set_is_measured_and_seen(
    page: Page, web_server: WebServer, spoken_clips: tuple[SpokenClip, ...], tmp_path: Path
) -> None:
    """Before: how to make one. After: errors with their band, the baseline, what was heard and what was said."""
    page.goto("/#/operate/quality")
    expect(page.get_by_text("A golden set is a folder of recordings")).to_be_visible()
    check_everywhere(page, themes=("light",), widths=(360,))
    voices = [clip for clip in spoken_clips if clip.language == "en"][:2]
    folder = write_voices(tmp_path / "calls", voices, [voices[0].text, "something else was said here"])
    web_server.tympan("quality", "add", str(folder), "--name", "calls", "--schedule", "off")
    web_server.tympan("quality", "run", "calls", "--wait")
    page.reload()
    card = page.get_by_role("region", name="calls", exact=True)
    expect(card.get_by_text("baseline", exact=True).first).to_be_visible()
    expect(tile(page, "Word errors")).to_contain_text("95 %:")
    expect(card.get_by_role("slider")).to_have_attribute("aria-valuetext", re.compile(r"tiny\.en .* % \(.* to .*\)"))
    card.get_by_text("Runs (1)").click()
    card.get_by_role("button", name="Worst clips").click()
    worst = page.get_by_role("dialog")
    expect(worst.locator("del").first).to_be_visible()
    expect(worst).to_contain_text("something")
    page.keyboard.press("Escape")
    expect(worst).to_have_count(0)


def _run(at: str, wer: float, **more: Any) -> dict[str, Any]:
    return {
        "object": "quality_run", "id": "run_1", "golden_set": HOSTILE, "version": 1, "model": HOSTILE,
        "asked_model": None, "state": "succeeded", "cause": "request", "created_at": at, "finished_at": at,
        "clips": 18, "failed": 1, "words": 99, "wer_percent": wer, "cer_percent": wer / 2,
        "wer_interval_percent": [wer / 2, wer * 1.5], "silent_clips": 6, "hallucinated_clips": 6,
        "hallucination_percent": 100.0, "is_baseline": False, "verdict": "worse",
        "comparison": {"difference_points": 4.5, "low_points": 2.5, "high_points": 5.5}, **more,
    }  # fmt: skip


def _quality() -> dict[str, Any]:
    worse, good = _run("2026-03-09T03:00:00Z", 9.0), _run("2026-03-02T03:00:00Z", 4.5, verdict="no_worse")
    first = _run("2026-02-23T03:00:00Z", 4.0, is_baseline=True, verdict="not_compared", comparison=None, model="b")
    bins = [{"bin": HOSTILE, "now": 0.5, "before": 0.1}, {"bin": "en", "now": 0.5, "before": 0.9}]
    feature = {"kind": "call", "feature": "language", "title": HOSTILE, "ordered": False, "n_now": 9, "n_before": 9,
               "psi": 0.6, "chance_psi": 0.01, "p": 1e-9, "shift": 0.3, "is_drift": True, "reason": None,
               "bins": bins}  # fmt: skip
    opinion = {"windows": 70, "days": 7, "words": 1400, "wer_percent": 5.1, "wer_interval_percent": [4.8, 5.5]}
    return {
        "object": "quality",
        "golden_sets": [
            {"name": HOSTILE, "version": 1, "clips": 18, "bytes": 1800, "schedule": "0 3 * * 1", "sample": None,
             "model": HOSTILE, "next_run_at": None, "runs": [worse, good, first], "has_more": False},
        ],
        "traffic": {
            "window": {"first": "2026-03-03", "last": "2026-03-09"},
            "baseline": {"first": "2026-02-03", "last": "2026-03-02"},
            "baseline_is_kept": False,
            "languages": [{"language": HOSTILE, "count": 4, "share": 0.5, "share_before": 0.1}],
            "features": [feature, {**feature, "is_drift": False, "reason": "Too few."}],
        },
        "shadow": {"model": HOSTILE,
                   "disagreement": [{"model": HOSTILE, "kind": "call", "now": opinion, "before": opinion}]},
        "rollout": {"id": "r", "candidate": HOSTILE, "incumbent": "b", "share": 0.05,
                    "began_at": "2026-03-02T03:00:00Z", "transcripts_candidate": 1,
                    "transcripts_incumbent": 2, "verdict": "worse",
                    "reasons": [HOSTILE], "missing": [], "golden_sets": []},
        "alarms": [_alarm("ticket", HOSTILE)],
    }  # fmt: skip


def _alarm(severity: str, name: str) -> dict[str, Any]:
    return {
        "object": "alarm", "name": name, "source": "quality", "subject": HOSTILE, "severity": severity,
        "since": "2026-03-09T03:00:00Z", "summary": HOSTILE, "remedy": None, "detail": {"set": HOSTILE},
        "runbook": "docs/howto/respond-to-alerts.md#tympantranscriptsworse",
    }  # fmt: skip


def test_bad_news_is_readable_and_hostile_names_stay_text(page: Page) -> None:
    """Alarms, a worse run, drift, a shadow and a model on trial, all with names that would be markup."""
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    answer_with(page, "/v1/quality", _quality())
    page.goto("/#/operate/quality")
    expect(page.get_by_role("heading", name=HOSTILE)).to_be_visible()
    expect(tile(page, "Against the baseline")).to_contain_text("+4.5 points")
    expect(tile(page, "Text from silence")).to_contain_text("6 of 6")
    expect(page.get_by_text("1 changed")).to_be_visible()
    expect(page.get_by_role("region", name="Model on trial")).to_contain_text("answers 5 %")
    shadow = page.get_by_role("table", name="Disagreement with the second model")
    expect(shadow).to_contain_text("5.1 % (4.8 % to 5.5 %)")
    assert page.locator("main b, main img").filter(has_text=re.compile("^x$")).count() == 0
    assert page.locator("main img").count() == 0
    check_everywhere(page)


def test_alarms_say_what_to_do_the_urgent_ones_first(page: Page) -> None:
    """Also while the server is not well; its parts say why, and those that are not well stand first."""
    part = {**_alarm("page", "database"), "source": "component", "remedy": "Start it.", "subject": "database"}
    answer_with(page, "/v1/alarms", {"object": "list", "data": [_alarm("ticket", "wer_regression"), part]})
    down = {"status": "down", "reason": "It does not answer.", "remedy": "Start it."}
    parts = {"engine": {"status": "ok"}, "database": down}
    health = {"status": "unhealthy", "model": None, "version": "1", "memory_used_mb": 0, "components": parts}
    answer_with(page, "/health", health, 503)
    page.goto("/#/operate")
    alarms = page.get_by_role("region", name="Alarms").get_by_role("listitem")
    expect(alarms).to_have_count(2)
    expect(alarms.nth(0)).to_contain_text("look at it now")
    expect(alarms.nth(0)).to_contain_text("Start it.")
    expect(alarms.nth(1)).to_contain_text("tympan quality baseline RUN")
    expect(page.locator(".headline")).to_contain_text("No requests are accepted.")
    rows = page.get_by_role("table", name="Parts of the server").get_by_role("row")
    expect(rows.nth(1)).to_contain_text("It does not answer.")
    check_everywhere(page, widths=(360,))


def test_capacity_is_planned_once_something_was_measured(page: Page, web_server: WebServer) -> None:
    """Before that the server says what to do; a goal that cannot be met is refused with what would help."""
    kept = kept_path(web_server.folder)
    kept.unlink(missing_ok=True)
    page.goto("/#/operate/capacity")
    way, send = page.get_by_label("Demand from"), page.get_by_role("button", name="Plan", exact=True)
    way.select_option("per_hour")
    page.get_by_label("How many at peak").fill("200")
    page.get_by_label("Mean length, seconds").fill("120")
    send.click()
    expect(page.get_by_text("No machine has been measured yet.")).to_be_visible()
    expect(page.locator("pre", has_text="tympan capacity")).to_be_visible()
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(kept_text(SLOW, {}))
    page.get_by_label("95 of 100 are answered within, s").fill("0.01")
    send.click()
    expect(page.get_by_text("Allow more time")).to_be_visible()
    page.get_by_label("95 of 100 are answered within, s").fill("")
    page.get_by_label("Growth").select_option("2")
    page.get_by_label("An hour of a machine costs").fill("0.4")
    send.click()
    answer = page.get_by_role("region", name=re.compile(r"^\d+ machines?$"))
    expect(answer).to_be_visible(timeout=PLAN_MS)
    expect(answer).to_contain_text("400 requests in the busiest hour")
    expect(answer).to_contain_text("If one machine dies")
    expect(answer.get_by_role("table", name="What to expect")).to_contain_text("twice the demand")
    expect(answer.locator(".tile", has_text="Cost of a day")).to_be_visible()
    check_everywhere(page)
