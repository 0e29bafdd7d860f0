"""Transcribe, in a real browser with the real engine: every way in, and what becomes of it when something breaks."""

import base64
import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, FilePayload, Locator, Page, expect

from tests.web.support import Site, WebServer, browsing, check_everywhere, long_clip

HOSTILE = "<img src=x onerror=alert(1)>.wav"
FILES = "input[type=file]:not([webkitdirectory])"
FOLDER = "input[type=file][webkitdirectory]"
WORDS = re.compile(r"\b(ten|10)\b")

HOLD = """() => {
  const real = window.fetch;
  const held = [];
  const begun = new Set();
  let holds = true;
  window.release = () => { holds = false; held.splice(0).forEach((go) => go()); };
  window.fetch = async (url, options) => {
    if (options?.method === "PATCH" && holds && begun.has(url))
      await new Promise((go, stop) => {
        held.push(go);
        options.signal.addEventListener("abort", () => stop(new DOMException("Aborted", "AbortError")));
      });
    if (options?.method === "PATCH") begun.add(url);
    return real(url, options);
  };
}"""
"""Lets one piece of each upload through, and holds the others until they are released."""

DROP = """async ([name, text]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name, {type: "audio/wav"}));
  document.querySelector("main").dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}"""
PASTE = """([name, text]) => {
  const transfer = new DataTransfer();
  if (name) transfer.items.add(new File([text], name, {type: "audio/wav"}));
  else transfer.setData("text", text);
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true, cancelable: true}));
}"""


@pytest.fixture(scope="module")
def browser(speech: Path) -> Iterator[Browser]:
    """Return a browser whose microphone plays the spoken clip, over and over."""
    sound = f"--use-file-for-fake-audio-capture={speech}"
    with browsing("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", sound) as found:
        yield found


def payload(name: str, data: bytes) -> FilePayload:
    """Return a file as the browser gets it."""
    return {"name": name, "mimeType": "audio/wav", "buffer": data}


def row(page: Page, name: str) -> Locator:
    """Return the row of a file."""
    return page.get_by_role("list", name="Files").get_by_role("listitem").filter(has_text=name)


def state(found: Locator, wanted: str) -> None:
    """Wait until a row is in a state."""
    expect(found).to_have_attribute("data-state", wanted)


def test_several_files_become_texts(page: Page, web_server: WebServer, speech: Path) -> None:
    """Each is its own job with its name; the ids are in the address, which shows them again in another browser."""
    page.goto("/")
    data = speech.read_bytes()
    page.set_input_files(FILES, [payload("one.wav", data), payload(HOSTILE, data), payload("notes.txt", b"no audio")])
    for name in ("one.wav", HOSTILE):
        state(row(page, name), "succeeded")
        expect(row(page, name).get_by_text(WORDS)).to_be_visible()
    state(row(page, "notes.txt"), "failed")
    expect(row(page, "notes.txt").locator(".note")).to_contain_text("not audio in a known format. Send WAV")
    expect(page.get_by_role("heading", name="3 of 3 done")).to_be_visible()
    assert page.locator("main img").count() == 0
    link = row(page, HOSTILE).get_by_role("link", name="Read")
    job_id = (link.get_attribute("href") or "").removeprefix("#/jobs/")
    job = httpx.get(f"{web_server.url}/v1/jobs/{job_id}").json()
    assert job["metadata"] == {"file": HOSTILE}
    assert job_id in page.url
    check_everywhere(page)

    elsewhere = page.context.browser
    assert elsewhere is not None
    other = elsewhere.new_page()
    other.goto(page.url)
    state(row(other, "one.wav"), "succeeded")
    other.close()


def test_a_folder_brings_its_recordings(page: Page, speech: Path, tmp_path: Path) -> None:
    """With those of folders in it, and without what is no audio; their paths are their names."""
    (tmp_path / "calls" / "monday").mkdir(parents=True)
    for name in ("calls/a.wav", "calls/monday/b.wav"):
        (tmp_path / name).write_bytes(speech.read_bytes())
    (tmp_path / "calls" / "readme.txt").write_text("not this one")
    page.goto("/")
    page.set_input_files(FOLDER, tmp_path / "calls")
    for name in ("calls/a.wav", "calls/monday/b.wav"):
        state(row(page, name), "succeeded")
    expect(page.get_by_text("1 file was left out")).to_be_visible()
    expect(page.get_by_role("listitem")).to_have_count(2)


def test_files_can_be_dropped_and_pasted(page: Page, speech: Path) -> None:
    """Anywhere on the page; a pasted address goes where addresses go."""
    page.goto("/")
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    page.evaluate(DROP, ["dropped.wav", base64.b64encode(speech.read_bytes()).decode()])
    state(row(page, "dropped.wav"), "succeeded")
    page.evaluate(PASTE, ["pasted.wav", "not really"])
    state(row(page, "pasted.wav"), "failed")
    page.evaluate(PASTE, ["", "https://example.com/talk.mp3"])
    expect(page.get_by_label("Web address of audio or video")).to_have_value("https://example.com/talk.mp3")


def test_an_address_is_fetched_and_a_forbidden_one_is_explained(page: Page, audio_site: Site) -> None:
    """In the server's words, with what to do; trying again asks with the options of now."""
    page.goto("/")
    field = page.get_by_label("Web address of audio or video")
    field.fill(f"http://{audio_site.address}/speech.wav")
    field.press("Enter")
    state(row(page, "speech.wav"), "succeeded")
    field.fill("http://127.0.0.1:1/secret.wav")
    field.press("Enter")
    forbidden = row(page, "secret.wav")
    expect(forbidden.locator(".note.bad")).to_contain_text("may not be reached")
    field.fill("talk.mp3")
    field.press("Enter")
    expect(page.get_by_text("A web address begins with https:// or http://.")).to_be_visible()


def test_options_are_asked_for_and_kept(page: Page, web_server: WebServer, speech: Path) -> None:
    """What the model cannot do is refused in its words; with other options the same file goes through."""
    page.goto("/")
    page.get_by_role("combobox", name="Language spoken").select_option("de")
    page.get_by_text("More options:").click()
    page.get_by_label("Words to expect").fill("Tympan")
    page.set_input_files(FILES, [payload("german.wav", speech.read_bytes())])
    refused = row(page, "german.wav")
    expect(refused.locator(".note.bad")).to_contain_text("does not know the language")
    page.reload()
    expect(page.get_by_role("combobox", name="Language spoken")).to_have_value("de")
    page.get_by_role("combobox", name="Language spoken").select_option("en")
    refused.get_by_role("button", name="Try again").click()
    state(refused, "succeeded")
    job_id = (refused.get_by_role("link", name="Read").get_attribute("href") or "").rpartition("/")[2]
    result = httpx.get(f"{web_server.url}/v1/jobs/{job_id}/result", params={"format": "verbose_json"}).json()
    assert len(result["words"]) >= 5


def test_an_upload_goes_on_after_a_reload(page: Page, web_server: WebServer, speech: Path) -> None:
    """Where it was: the browser kept the file, the server kept the bytes, and one job comes of it."""
    page.goto("/")
    page.evaluate(HOLD)
    data = long_clip(speech, 30)
    page.set_input_files(FILES, [payload("reloaded.wav", data)])
    found = row(page, "reloaded.wav")
    expect(found.locator(".facts")).to_contain_text(re.compile(r"^[1-9]\d* kB of .* left"))
    kept = "() => Object.values(localStorage).some((text) => text.includes('\"kept\":true'))"
    page.wait_for_function(kept)
    uploads: list[str] = []
    page.on(
        "request", lambda asked: uploads.append(f"{asked.method} {asked.url}") if "/v1/uploads" in asked.url else None
    )
    page.reload()
    state(found, "succeeded")
    assert uploads[0].startswith("HEAD ")
    assert not [each for each in uploads if each.startswith("POST ")]
    files = (
        "() => new Promise((done) => { indexedDB.open('tympan').onsuccess = ({target}) => { target.result"
        ".transaction('files').objectStore('files').count().onsuccess = ({target}) => done(target.result) } })"
    )
    assert page.evaluate(files) == 0
    assert _jobs_named(web_server, "reloaded.wav") == 1


def test_an_upload_can_rest_and_be_cancelled(page: Page, web_server: WebServer, speech: Path) -> None:
    """While it rests nothing is sent; cancelled, its bytes are gone from the server."""
    page.goto("/")
    page.evaluate(HOLD)
    page.set_input_files(FILES, [payload("rest.wav", long_clip(speech, 30))])
    found = row(page, "rest.wav")
    expect(found.locator(".facts")).to_contain_text("left")
    found.get_by_role("button", name="Pause").click()
    state(found, "paused")
    page.reload()
    state(found, "paused")
    item = page.evaluate("() => JSON.parse(Object.values(localStorage).find((text) => text.includes('rest.wav')))")
    address = f"{web_server.url}/v1/uploads/{item['upload']}"
    assert httpx.head(address, headers={"tus-resumable": "1.0.0"}).status_code == 200
    found.get_by_role("button", name="Cancel").click()
    state(found, "cancelled")
    for _ in range(50):
        gone = httpx.head(address, headers={"tus-resumable": "1.0.0"}).status_code
        if gone in (404, 410):
            break
        page.wait_for_timeout(100)
    assert gone in (404, 410)


def test_a_file_that_the_browser_lost_is_asked_for_again(page: Page, speech: Path) -> None:
    """Another file is not taken for it; the right one goes on where the upload was."""
    page.goto("/")
    page.evaluate(HOLD)
    data = long_clip(speech, 30)
    page.set_input_files(FILES, [payload("lost.wav", data)])
    found = row(page, "lost.wav")
    expect(found.locator(".facts")).to_contain_text("left")
    page.evaluate("() => new Promise((done) => { indexedDB.deleteDatabase('tympan').onsuccess = done })")
    page.reload()
    state(found, "missing")
    expect(found.locator(".note")).to_contain_text("Choose it again")
    found.locator("input[type=file]").set_input_files([payload("other.wav", speech.read_bytes())])
    expect(page.get_by_text("That is a different file")).to_be_visible()
    found.locator("input[type=file]").set_input_files([payload("lost.wav", data)])
    state(found, "succeeded")


def test_a_restart_of_the_server_loses_nothing(serve: Callable[..., WebServer], browser: Browser, speech: Path) -> None:
    """Killed in the middle of an upload and in the middle of a job, without a word to the page."""
    server = serve()
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(server.url)
    page.evaluate(HOLD)
    page.set_input_files(
        FILES, [payload("job.wav", long_clip(speech, 6)), payload("upload.wav", long_clip(speech, 40))]
    )
    expect(row(page, "upload.wav").locator(".facts")).to_contain_text("left")
    expect(row(page, "job.wav")).to_have_attribute("data-state", re.compile("queued|running|succeeded"))
    server.stop(signal.SIGKILL)
    page.evaluate("window.release()")
    page.wait_for_timeout(1500)
    server.start()
    for name in ("job.wav", "upload.wav"):
        expect(row(page, name)).to_have_attribute("data-state", "succeeded", timeout=60_000)
    assert _jobs_named(server, "upload.wav") == _jobs_named(server, "job.wav") == 1
    page.close()


def test_the_microphone_is_heard_live_and_kept(page: Page, web_server: WebServer) -> None:
    """Text comes while it runs; what was recorded is a WAV file, and a job."""
    page.goto("/")
    page.get_by_role("button", name="Record", exact=True).click()
    text = page.get_by_role("log", name="Text as it is spoken")
    expect(text).to_contain_text(re.compile(r"\b(five|5)\b"))
    assert page.get_by_label("How loud it is").evaluate("(meter) => meter.value > 0")
    check_everywhere(page, widths=(360, 1440))
    page.get_by_role("button", name="Stop and transcribe").click()
    found = row(page, "Recording")
    state(found, "succeeded")
    expect(found.get_by_text(re.compile(r"\b(five|5)\b"))).to_be_visible()
    expect(text).to_be_hidden()
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator(".live .time")).to_have_text("0:01")
    page.get_by_role("button", name="Discard").click()
    expect(text).to_be_hidden()
    expect(page.get_by_role("listitem")).to_have_count(1)


def test_a_server_with_keys_and_limits(serve: Callable[..., WebServer], browser: Browser, speech: Path) -> None:
    """After a wrong key one is asked for again; a right one opens files and the microphone. Too large is refused."""
    server = serve(MAX_RESUMABLE_MB="1", API_KEYS="required")
    secret = re.search(r"tym_[\w-]+", server.tympan("keys", "create", "--tenant", "default"))
    assert secret
    page = browser.new_page()
    page.goto(server.url)
    dialog = page.get_by_role("dialog", name="Your API key")
    expect(dialog).to_be_visible()
    check_everywhere(page, widths=(360,))
    dialog.get_by_label("Key").first.fill("tym_0123456789abcdef_wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.locator(".note.warn")).to_be_visible()
    dialog.get_by_label("Key").first.fill(secret[0])
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog).to_be_hidden()
    large = long_clip(speech, 40)
    page.set_input_files(FILES, [payload("small.wav", speech.read_bytes()), payload("large.wav", large)])
    state(row(page, "small.wav"), "succeeded")
    state(row(page, "large.wav"), "refused")
    expect(row(page, "large.wav").locator(".note.bad")).to_contain_text(re.compile(r"1 MB|1,000,000|larger"))
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.get_by_role("log", name="Text as it is spoken")).to_contain_text(re.compile(r"\b(five|5)\b"))
    expect(page.locator(".live .note")).to_be_hidden()
    page.get_by_role("button", name="Discard").click()
    assert secret[0] not in json.dumps(page.evaluate("() => ({...localStorage})"))
    page.close()


def _jobs_named(server: WebServer, name: str) -> int:
    jobs = httpx.get(f"{server.url}/v1/jobs", params={"limit": 100}).json()["data"]
    return sum(job["metadata"].get("file") == name for job in jobs)
