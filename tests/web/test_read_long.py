"""Three hours of transcript: shown at once, scrolled smoothly; and the parts of the page that need no page."""

import json
from itertools import pairwise
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.web.conftest import LIMIT_MS
from tests.web.read_support import JOB_ID, three_hours

expect.set_options(timeout=LIMIT_MS)

FIRST_PAINT_S = 1.0
LONGEST_TASK_MS = 100.0
MEAN_FRAME_MS = 25.0
"""Of processor time, so that other work on the machine does not count."""

_SCROLL = """async (frames) => {
  for (let at = 0; at < frames; at++) { window.scrollBy(0, 200); await new Promise(requestAnimationFrame); }
}"""
_JUMPS = """async (places) => {
  for (const place of places) {
    window.scrollTo(0, place * document.documentElement.scrollHeight);
    await new Promise((go) => setTimeout(go, 100));
  }
}"""


_MARK = """() => new MutationObserver((_, watch) => {
  if (!document.querySelector(".seg")) return;
  watch.disconnect();
  requestAnimationFrame(() => setTimeout(() => performance.mark("shown")));
}).observe(document.body, {childList: true, subtree: true})"""


def _tasks_ms(trace: bytes, until: str = "") -> list[float]:
    """Return the processor times of the tasks of the page's main thread that a trace holds, longest first.

    Those count that began before the mark ``until``, all without one.
    """
    events: list[dict[str, Any]] = json.loads(trace)["traceEvents"]
    names = {(one["pid"], one["tid"]): one["args"]["name"] for one in events if one["name"] == "thread_name"}
    end = min((one["ts"] for one in events if until and one["name"] == until), default=float("inf"))
    assert not until or end < float("inf")
    tasks = [one for one in events if one["name"].endswith("RunTask") and "tdur" in one and one["ts"] < end]
    mains = [one["tdur"] / 1000 for one in tasks if names.get((one["pid"], one["tid"])) == "CrRendererMain"]
    assert mains
    return sorted(mains, reverse=True)


def test_three_hours_are_shown_at_once_and_scroll_smoothly(page: Page, browser: Browser) -> None:
    """The first text within a second of processor time, all of it soon after, and no long task while it scrolls."""
    shown = three_hours()
    page.goto("/")
    page.evaluate(_MARK)
    browser.start_tracing(page=page)
    shown.show(page)
    load = _tasks_ms(browser.stop_tracing(), until="shown")
    assert sum(load) < FIRST_PAINT_S * 1000, load[:5]
    page.locator(".seg").nth(3199).wait_for(state="attached")
    page.locator(".read[data-surveyed]").wait_for()
    frames = 60
    browser.start_tracing(page=page)
    page.evaluate(_SCROLL, frames)
    scroll = _tasks_ms(browser.stop_tracing())
    assert scroll[0] < LONGEST_TASK_MS, scroll[:5]
    assert sum(scroll) / frames < MEAN_FRAME_MS
    browser.start_tracing(page=page)
    page.evaluate(_JUMPS, [0.9, 0.1, 0.5, 1, 0, 0.7])
    jumps = _tasks_ms(browser.stop_tracing())
    assert jumps[0] < LONGEST_TASK_MS, jumps[:5]
    drawn = page.locator(".w").count()
    assert 0 < drawn < 3000, "only what is near is drawn word by word"


def test_a_place_far_away_is_found(page: Page) -> None:
    """A link to a moment in the third hour, and the hits of a search that are spread over all of it."""
    shown = three_hours()
    at_s = shown.result["segments"][3000]["start"] + 0.1
    shown.show(page, f"?t={at_s:.1f}")
    expect(page.locator(".w.now")).to_be_in_viewport()
    expect(page.locator(".seg.selected")).to_be_in_viewport()
    page.keyboard.press("/")
    page.keyboard.type("nobody knows")
    expect(page.locator(".hits")).to_contain_text("of")
    for _ in range(3):
        page.keyboard.press("Enter")
    expect(page.locator(".seg.selected")).to_be_in_viewport()
    assert page.locator(".seg.selected").inner_text().count("nobody knows") >= 1
    assert JOB_ID in page.url


def _module(page: Page, path: str, call: str, *values: Any) -> Any:
    """Return what a function of one of the page's own modules gives."""
    page.goto("/")
    return page.evaluate(
        f"async (values) => {{ const m = await import('/ui/js/read/{path}'); return {call}; }}", list(values)
    )


def _old(text: str) -> list[dict[str, Any]]:
    return [
        {"text": word, "start": place * 1.0, "end": place + 0.8, "p": 0.9} for place, word in enumerate(text.split())
    ]


def test_words_keep_their_times_across_corrections(page: Page) -> None:
    """Words that stayed have theirs, others share out the time of what they replaced."""
    old = _old("the quick brown fox jumps over the lazy dog")
    now = "the very quick red fox hops the lazy dogs today"
    words = _module(page, "words.js", "m.aligned(values[0], values[1], 0, 9)", now, old)
    times = {word["text"]: (word["start"], word["end"], word["p"]) for word in words}
    assert times["quick"] == (1.0, 1.8, 0.9)
    assert times["lazy"] == (7.0, 7.8, 0.9)
    assert times["red"][:2] == (2.0, 2.8)
    assert times["red"][2] is None
    assert (times["dogs"][0], times["today"][1]) == (8.0, 8.8)
    starts = [word["start"] for word in words]
    assert starts == sorted(starts)
    assert all(word["end"] >= word["start"] for word in words)


def test_changes_turn_the_old_list_into_the_new_one(page: Page) -> None:
    """Whatever the lists; runs are in order and do not overlap."""
    lists = [("", "a b"), ("a b", ""), ("a b c", "a x c"), ("a b c d", "b d e"), ("a a a b", "a b a a"), ("x", "x")]
    for one, two in lists:
        old, now = one.split(), two.split()
        runs = _module(page, "diff.js", "m.changes(values[0], values[1])", old, now)
        made, at = [], 0
        for run in runs:
            made += old[at : run["a"]] + now[run["c"] : run["d"]]
            at = run["b"]
        assert made + old[at:] == now
        assert all(before["b"] <= after["a"] for before, after in pairwise(runs))


def test_search_sees_through_case_and_accents(page: Page) -> None:
    """The places are those of the text as it stands."""
    found = _module(
        page, "search.js", "m.hitsIn(m.folded(values[0]), m.folded(values[1]).plain)", "Élan, ELAN, e\u0301lan", "élan"
    )
    assert found == [[0, 4], [6, 10], [12, 17]]


def test_subtitles_are_read_and_moved(page: Page) -> None:
    """Times in the text of a cue stay what they are."""
    srt = "1\n00:00:01,500 --> 00:00:02,750\nat 00:00:01,500\n\n2\n00:59:59,999 --> 01:00:01,000\nB: two\nlines\n\n"
    moved = _module(page, "cues.js", "m.moved(values[0], 'srt', 3600)", srt)
    assert "01:00:01,500 --> 01:00:02,750\nat 00:00:01,500" in moved
    assert "01:59:59,999 --> 02:00:01,000" in moved
    cues = _module(page, "cues.js", "m.cuesOf(values[0])", srt)
    assert [(cue["start"], cue["end"], cue["lines"]) for cue in cues] == [
        (1.5, 2.75, ["at 00:00:01,500"]),
        (3599.999, 3601, ["B: two", "lines"]),
    ]
    assert _module(page, "cues.js", "values.map(m.parsedTime)", "10:00:00", "1:30", "95.5", "x") == [
        36000,
        90,
        95.5,
        None,
    ]
