"""Reading, playing and correcting a transcript in a real browser, of speech that the real engine has heard."""

import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.conftest import SpokenClip
from tests.web.conftest import LIMIT_MS
from tests.web.read_support import dialogue, repeated, told
from tests.web.support import WebServer, check_everywhere

expect.set_options(timeout=LIMIT_MS)

TIMED = {"word_timestamps": "true", "language": "en"}


@pytest.fixture(scope="module")
def spoken_job(web_server: WebServer, speech: Path) -> str:
    """Return a job with word times whose text nobody changes."""
    return web_server.job(speech, **TIMED, metadata='{"file": "one to ten.wav"}')


@pytest.fixture
def own_job(web_server: WebServer, speech: Path) -> str:
    """Return a job of the test's own."""
    return web_server.job(speech, **TIMED)


@pytest.fixture
def two_voices(web_server: WebServer, spoken_clips: tuple[SpokenClip, ...], tmp_path: Path) -> str:
    """Return a job with two speakers."""
    paths = {clip.path.stem: clip.path for clip in spoken_clips if clip.language == "en"}
    path = dialogue(tmp_path, paths["hello_world"], paths["quick_brown_fox"])
    return web_server.job(path, **TIMED, diarize="true")


def _open(page: Page, job_id: str, query: str = "") -> Locator:
    """Open a transcript and return its segments."""
    page.goto(f"/#/jobs/{job_id}{query}")
    page.locator(".seg .w").first.wait_for(state="attached")
    return page.locator(".seg")


def _heard(web_server: WebServer, job_id: str, **query: str) -> str:
    return httpx.get(f"{web_server.url}/v1/jobs/{job_id}/result", params=query).raise_for_status().text


def _saved(page: Page, revision: int) -> None:
    expect(page.locator(".saved")).to_have_text(f"Saved · revision {revision}")


def _replace(page: Page, segment: Locator, text: str) -> None:
    """Type another text in the place of a segment's."""
    segment.focus()
    page.keyboard.press("e")
    page.locator(".seg-edit").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".seg-edit")).to_have_count(0)


def test_the_word_that_is_said_is_marked(page: Page, spoken_job: str, web_server: WebServer) -> None:
    """From a word that is clicked, in step with the audio, and as long as it is said."""
    words = httpx.get(f"{web_server.url}/v1/jobs/{spoken_job}/result", params={"format": "verbose_json"}).json()[
        "words"
    ]
    _open(page, spoken_job)
    expect(page.locator("h1")).to_have_text("one to ten.wav")
    third = words[2]
    page.locator(".w").nth(2).click()
    expect(page.locator(".w.now")).not_to_have_count(0)
    seen: dict[str, float] = {}
    for _ in range(60):
        word, time_s = page.evaluate(
            "() => [document.querySelector('.w.now')?.textContent, document.querySelector('video').currentTime]"
        )
        if word:
            seen.setdefault(word, time_s)
        page.wait_for_timeout(50)
    assert third["word"] in seen
    assert len(seen) >= 3, seen
    for word in words[2:]:
        if word["word"] in seen:
            assert word["start"] - 0.3 <= seen[word["word"]] <= word["end"] + 0.9, (word, seen)


def test_the_recording_is_steered_by_keys_and_wave(page: Page, spoken_job: str) -> None:
    """Space plays, J and L skip, the wave is a slider, a click on it goes there."""
    _open(page, spoken_job)
    expect(page.locator(".wave")).to_have_attribute("data-state", "drawn")
    page.locator("video").evaluate(
        "(node) => new Promise((go) => node.readyState ? go() : (node.onloadedmetadata = go))"
    )
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.keyboard.press("k")
    expect(page.get_by_role("button", name="Play (Space or K)")).to_be_visible()
    page.keyboard.press("l")
    box = page.locator(".wave").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 10)
    time_s, total_s = page.locator("video").evaluate("(node) => [node.currentTime, node.duration]")
    assert abs(time_s - total_s / 2) < 0.2
    slider = page.get_by_role("slider", name="Place in the audio")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuenow", "0")
    page.get_by_label("Speed").select_option("1.5")
    assert page.locator("video").evaluate("(node) => node.playbackRate") == 1.5


def test_a_link_leads_to_a_moment(page: Page, spoken_job: str, web_server: WebServer) -> None:
    """Its word is marked, and the audio stands there."""
    words = httpx.get(f"{web_server.url}/v1/jobs/{spoken_job}/result", params={"format": "verbose_json"}).json()[
        "words"
    ]
    _open(page, spoken_job, f"?t={(words[4]['start'] + words[4]['end']) / 2:.2f}")
    expect(page.locator(".w.now")).to_have_text(words[4]["word"])


def test_corrections_are_kept_beside_the_original(page: Page, own_job: str, web_server: WebServer) -> None:
    """Change, undo, redo, saved as one goes, there after a reload, exported; the original stays as it was."""
    before = _heard(web_server, own_job, format="text")
    segments = _open(page, own_job)
    first = segments.first.locator(".seg-text").inner_text()
    _replace(page, segments.first, "Eins, zwei, drei.")
    expect(segments.first.locator(".seg-text")).to_have_text("Eins, zwei, drei.")
    page.keyboard.press("Control+z")
    expect(segments.first.locator(".seg-text")).to_have_text(first)
    page.keyboard.press("Control+Shift+Z")
    expect(page.locator(".saved")).to_have_text(re.compile(r"Saved · revision \d"))
    page.reload()
    expect(segments.first.locator(".seg-text")).to_have_text("Eins, zwei, drei.")
    expect(page.get_by_role("button", name="Edited")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Original").click()
    expect(segments.first.locator(".seg-text")).to_have_text(first)
    page.get_by_role("button", name="Export").click()
    page.get_by_role("combobox", name="Version").select_option("edited")
    page.get_by_label("Format").select_option("srt")
    expect(page.locator(".cues .screen").first).to_contain_text("Eins, zwei, drei.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert "Eins, zwei, drei." in download.value.path().read_text(encoding="utf-8")
    assert download.value.suggested_filename.endswith(".srt")
    assert _heard(web_server, own_job, format="text") == before


def test_segments_are_split_and_joined(page: Page, own_job: str, web_server: WebServer) -> None:
    """Split at the caret, at the time of the word there; joined with the one below; words keep their times."""
    segments = _open(page, own_job)
    count = segments.count()
    words = httpx.get(f"{web_server.url}/v1/jobs/{own_job}/result", params={"format": "verbose_json"}).json()["words"]
    segments.first.focus()
    page.keyboard.press("e")
    text = page.locator(".seg-edit").input_value()
    place = text.index(words[1]["word"], len(words[0]["word"]))
    page.locator(".seg-edit").evaluate("(node, place) => node.setSelectionRange(place, place)", place)
    page.keyboard.press("Control+Enter")
    expect(segments).to_have_count(count + 1)
    page.keyboard.press("Escape")
    _saved(page, 1)
    edited = httpx.get(f"{web_server.url}/v1/jobs/{own_job}/edited").json()["segments"]
    assert edited[1]["start"] == pytest.approx(words[1]["start"], abs=0.01)
    assert edited[0]["text"] == words[0]["word"]
    segments.first.focus()
    page.keyboard.press("m")
    expect(segments).to_have_count(count)
    expect(segments.first.locator(".seg-text")).to_have_text(text)


def test_a_speaker_is_renamed_everywhere(page: Page, two_voices: str, web_server: WebServer) -> None:
    """In the text, in the choice of each segment, and in what is exported; also a name that looks like markup."""
    segments = _open(page, two_voices)
    name = "Dr. <i>Weber</i>"
    page.get_by_label("Name of Speaker A").fill(name)
    page.keyboard.press("Enter")
    expect(segments.first.locator(".seg-who")).to_have_text(name)
    _saved(page, 1)
    assert f"{name}: " in _heard(web_server, two_voices, format="srt", version="edited")
    assert name not in _heard(web_server, two_voices, format="srt")
    segments.first.focus()
    segments.last.click(position={"x": 3, "y": 3})
    segments.last.get_by_label("Speaker of this segment").select_option(label=name)
    _saved(page, 2)
    kept = httpx.get(f"{web_server.url}/v1/jobs/{two_voices}/edited").json()
    assert (kept["speakers"], kept["segments"][-1]["speaker"]) == ({"A": name}, "A")
    assert page.locator("i").count() == 0


def test_two_windows_do_not_overwrite_each_other(page: Page, context: BrowserContext, own_job: str) -> None:
    """Who comes second is told, may take the other's version and undo that, or put their own in its place."""
    segments = _open(page, own_job)
    other = context.new_page()
    others = _open(other, own_job)
    _replace(other, others.first, "From the other window.")
    _saved(other, 1)
    _replace(page, segments.first, "From this window.")
    box = page.get_by_role("dialog", name="Somebody else has changed this transcript")
    expect(box).to_contain_text("Revision 1 was saved")
    box.get_by_role("button", name="Load theirs").click()
    expect(segments.first.locator(".seg-text")).to_have_text("From the other window.")
    page.keyboard.press("Control+z")
    expect(segments.first.locator(".seg-text")).to_have_text("From this window.")
    _saved(page, 2)
    _replace(other, others.first, "Once more.")
    other.get_by_role("dialog").get_by_role("button", name="Overwrite with mine").click()
    _saved(other, 3)
    other.close()


def test_search_counts_walks_and_replaces(page: Page, own_job: str) -> None:
    """From the key, whatever the case; all hits are replaced in one step that undo takes back."""
    segments = _open(page, own_job)
    word = re.sub(r"\W", "", segments.first.locator(".w").first.inner_text())
    page.keyboard.press("/")
    page.keyboard.type(word.upper())
    expect(page.locator(".hits")).to_have_text(re.compile(r"^1 of \d"))
    shown = page.evaluate("() => [...CSS.highlights.get('hit')].map((range) => range.toString().toLowerCase())")
    assert shown
    assert set(shown) == {word.lower()}
    page.get_by_role("button", name="Replace", exact=True).click()
    page.get_by_label("Replace with").fill("Neunundneunzig")
    page.get_by_role("button", name="Replace all").click()
    expect(segments.first.locator(".seg-text")).to_contain_text("Neunundneunzig")
    expect(page.locator(".hits")).to_have_text("no matches")
    page.locator("h1").click()
    page.keyboard.press("Control+z")
    expect(segments.first.locator(".seg-text")).to_contain_text(word)


def test_changes_are_shown_word_by_word(page: Page, own_job: str) -> None:
    """What went and what came; one can be taken back."""
    segments = _open(page, own_job)
    text = segments.first.locator(".seg-text").inner_text()
    first, rest = text.split(" ", 1)
    _replace(page, segments.first, f"Zero {rest}")
    page.get_by_role("button", name="Changes").click()
    expect(page.locator(".changes del")).to_have_text(first)
    expect(page.locator(".changes ins")).to_have_text("Zero")
    check_everywhere(page, widths=(1440,))
    page.get_by_role("button", name="Undo this").click()
    expect(page.locator(".changes li")).to_have_count(0)


def test_an_edited_version_can_be_removed(page: Page, own_job: str, web_server: WebServer) -> None:
    """After a question; the original is shown then."""
    segments = _open(page, own_job)
    text = segments.first.locator(".seg-text").inner_text()
    _replace(page, segments.first, "Wrong.")
    _saved(page, 1)
    page.locator(".saved").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove it").click()
    expect(segments.first.locator(".seg-text")).to_have_text(text)
    assert httpx.get(f"{web_server.url}/v1/jobs/{own_job}/edited").status_code == 404


def test_every_format_is_exported(page: Page, spoken_job: str) -> None:
    """As a file with a name of its own; a document begins as archives do."""
    _open(page, spoken_job)
    page.get_by_role("button", name="Export").click()
    begins = {"txt": b"", "docx": b"PK", "srt": b"1\n", "vtt": b"WEBVTT", "tsv": b"start\t", "json": b"{"}
    for name, start in begins.items():
        page.get_by_label("Format").select_option(name)
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == f"one to ten.{name}"
        assert download.value.path().read_bytes().startswith(start), name
    page.get_by_label("Format").select_option("vtt")
    page.get_by_label("Characters per line").fill("6")
    expect(page.locator(".cues li").nth(1)).to_be_visible()
    lines = [line for cue in page.locator(".cues .screen").all_inner_texts() for line in cue.split("\n")]
    assert max(map(len, lines)) <= 6
    check_everywhere(page, widths=(360, 1440))


def test_a_time_code_is_added_to_what_is_shown_and_exported(page: Page, own_job: str) -> None:
    """A recording that began at ten o'clock."""
    segments = _open(page, own_job)
    page.get_by_label("Time code at the start").fill("10:00:00")
    page.keyboard.press("Tab")
    expect(segments.first.locator(".seg-time")).to_have_text(re.compile(r"^10:00:0\d$"))
    page.get_by_role("button", name="Export").click()
    page.get_by_label("Format").select_option("srt")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert "\n10:00:0" in download.value.path().read_text(encoding="utf-8")


def test_without_audio_the_text_is_still_there(page: Page, own_job: str) -> None:
    """What is gone or cannot be played is said, and everything else works."""
    gone = {"error": {"message": "gone", "type": "invalid_request_error", "param": None, "code": "media_missing"}}
    page.route("**/audio-link", lambda route: route.fulfill(status=404, json=gone))
    segments = _open(page, own_job)
    expect(page.get_by_text("The audio has been deleted")).to_be_visible()
    expect(page.get_by_role("button", name="Play (Space or K)")).to_be_disabled()
    segments.first.locator(".w").nth(1).click()
    expect(segments.first.locator(".w").nth(1)).to_have_class(re.compile("now"))
    page.unroute("**/audio-link")
    page.route("**/audio?ticket=*", lambda route: route.fulfill(body=b"no sound", content_type="audio/wav"))
    page.reload()
    expect(page.get_by_text("Your browser cannot play this kind of file")).to_be_visible()
    expect(page.get_by_role("link", name="Download the audio")).to_be_visible()


def test_text_stays_text(page: Page) -> None:
    """Whatever a recording, its name or its speaker says: no element comes of it, and nothing runs."""
    bad = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script> & done"
    shown = told([{"text": bad, "speaker": bad}, {"text": "fine", "hallucination_score": 0.9, "speaker": bad}], bad)
    shown.show(page)
    expect(page.locator("h1")).to_have_text(bad)
    expect(page.locator(".seg-text").first).to_have_text(bad)
    expect(page.locator(".seg-who").first).to_have_text(bad)
    expect(page.locator(".seg-note")).to_contain_text("May be made up (90 %)")
    assert page.evaluate("() => [window.hurt, document.querySelectorAll('main img, main script').length]") == [None, 0]
    page.keyboard.press("/")
    page.keyboard.type("<img")
    expect(page.locator(".hits")).to_have_text("1 of 1")


def test_doubtful_words_are_marked_and_found(page: Page) -> None:
    """With their probability; N goes from one to the next; the marks can be switched off."""
    told([{"text": "one two three four five six seven eight nine ten"}] * 4).show(page)
    assert page.locator(".w.low").all_inner_texts() == ["eight"] * 4
    expect(page.locator(".w.low").first).to_have_attribute("title", "30 % sure")
    expect(page.get_by_text("4 unsure words, 0 doubtful segments")).to_be_visible()
    page.keyboard.press("n")
    page.keyboard.press("n")
    expect(page.locator(".seg").nth(1).locator(".w.now")).to_have_text("eight")
    page.get_by_label("Words the model was unsure of").uncheck()
    expect(page.locator(".w.low")).to_have_count(0)


def test_other_scripts_read_their_own_way(page: Page) -> None:
    """Arabic from right to left; Chinese in words, though there are no spaces between them."""
    told([{"text": "مرحبا بكم في المدينة"}, {"text": "今天天气很好。我们去公园。"}], language="ar").show(page)
    ways = page.locator(".seg-text").evaluate_all("(nodes) => nodes.map((node) => getComputedStyle(node).direction)")
    assert ways == ["rtl", "ltr"]
    words = page.locator(".seg").nth(1).locator(".w").all_inner_texts()
    assert len(words) > 3
    assert "".join(words) == "今天天气很好。我们去公园。"


def test_the_page_is_accessible(page: Page, two_voices: str) -> None:
    """In both themes at three widths, with a segment chosen, another one open, and doubtful words."""
    segments = _open(page, two_voices)
    segments.first.click(position={"x": 3, "y": 3})
    page.keyboard.press("e")
    check_everywhere(page)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Play or pause")
    check_everywhere(page, widths=(360,))
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_job_that_runs_is_followed_and_cancelled(
    page: Page, web_server: WebServer, speech: Path, tmp_path: Path
) -> None:
    """How far it is, until somebody stops it; it can be handed in again; one that is erased meanwhile is gone."""
    audio = repeated(tmp_path, speech, 120).read_bytes()
    made = httpx.post(f"{web_server.url}/v1/jobs", files={"file": ("long.wav", audio)}, data=TIMED)
    page.goto(f"/#/jobs/{made.json()['id']}")
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel the job").click()
    expect(page.get_by_text("This job was cancelled")).to_be_visible()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_url(lambda url: "#/jobs/job_" in url and made.json()["id"] not in url)
    expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
    check_everywhere(page, widths=(360,))
    httpx.delete(f"{web_server.url}/v1/jobs/{page.url.rsplit('/', 1)[1]}").raise_for_status()
    expect(page.get_by_role("alert")).to_contain_text("no such job")


def test_a_job_that_failed_says_why(page: Page, web_server: WebServer, tmp_path: Path) -> None:
    """The cause and the remedy in the server's words; an address that leads nowhere too."""
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"this is no recording " * 100)
    job_id = web_server.job(noise)
    fault = httpx.get(f"{web_server.url}/v1/jobs/{job_id}").json()["error"]
    page.goto(f"/#/jobs/{job_id}")
    expect(page.get_by_text("This job failed")).to_be_visible()
    expect(page.get_by_text(fault["message"])).to_be_visible()
    expect(page.get_by_text(fault["remedy"])).to_be_visible()
    check_everywhere(page, widths=(360,))
    page.goto(f"/#/jobs/job_{'0' * 32}")
    expect(page.get_by_role("alert")).to_contain_text("no such job")
