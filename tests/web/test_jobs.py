"""Jobs, in a real browser: the live list, its filters and actions, batches, and webhooks with their deliveries."""

import io
import re
import zipfile
from pathlib import Path

import httpx
from playwright.sync_api import Locator, Page, expect

from tests.web.support import Site, WebServer, check_everywhere, long_clip

HOSTILE = '"><script>alert(1)</script>.wav'


def hand_in(server: WebServer, data: bytes, name: str, **fields: str) -> str:
    """Return the id of a new job whose file is called ``name``."""
    form = {"metadata": httpx_json({"file": name}), **fields}
    answer = httpx.post(f"{server.url}/v1/jobs", files={"file": data}, data=form)
    return str(answer.raise_for_status().json()["id"])


def httpx_json(value: object) -> str:
    """Return a value as JSON text."""
    return httpx.Request("POST", "http://x", json=value).content.decode()


def row(page: Page, name: str) -> Locator:
    """Return the row of a job."""
    return page.get_by_role("row").filter(has_text=name)


def state(found: Locator, wanted: str) -> None:
    """Wait until a row is in a state."""
    expect(found).to_have_attribute("data-state", wanted)


def test_the_list_is_live(page: Page, web_server: WebServer, speech: Path) -> None:
    """A job that is handed in elsewhere appears, moves and ends without a click; a failure says why and what to do."""
    page.goto("/#/jobs")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    job_id = hand_in(web_server, speech.read_bytes(), HOSTILE)
    hand_in(web_server, b"this is no audio", "broken.wav")
    state(row(page, HOSTILE), "succeeded")
    expect(row(page, HOSTILE).get_by_role("link", name="Read")).to_have_attribute("href", f"#/jobs/{job_id}")
    expect(row(page, HOSTILE)).to_contain_text("English")
    state(row(page, "broken.wav"), "failed")
    expect(row(page, "broken.wav").locator(".note.bad")).to_contain_text("not audio in a known format. Send WAV")
    assert page.locator("main script").count() == 0
    check_everywhere(page)


def test_jobs_are_found_and_filtered(page: Page, web_server: WebServer, speech: Path) -> None:
    """By state in the address, by name in what is loaded; an empty answer says so."""
    web_server.ended(hand_in(web_server, speech.read_bytes(), "needle.wav"))
    web_server.ended(hand_in(web_server, b"no audio", "hay.wav"))
    page.goto("/#/jobs")
    page.get_by_label("Find by name or id").fill("NEEDLE")
    expect(row(page, "needle.wav")).to_be_visible()
    expect(row(page, "hay.wav")).to_be_hidden()
    page.get_by_label("Find by name or id").fill("nobody has this")
    expect(page.get_by_text("has “nobody has this” in its name")).to_be_visible()
    page.get_by_role("link", name="Failed").click()
    expect(row(page, "hay.wav").first).to_be_visible()
    expect(row(page, "needle.wav")).to_be_hidden()
    assert page.url.endswith("#/jobs?state=failed")
    page.reload()
    expect(page.get_by_role("link", name="Failed")).to_have_attribute("aria-current", "true")
    expect(row(page, "needle.wav")).to_be_hidden()


def test_a_job_is_cancelled_retried_and_deleted(page: Page, web_server: WebServer, speech: Path) -> None:
    """What cannot be undone is asked about first."""
    job_id = hand_in(web_server, long_clip(speech, 1200), "long.wav")
    page.goto("/#/jobs")
    found = row(page, "long.wav")
    _cancel(page, found.first)
    state(found, "cancelled")
    assert web_server.ended(job_id)["state"] == "cancelled"
    found.get_by_role("button", name="Retry").click()
    expect(found).to_have_count(2)
    _cancel(page, found.first)
    state(found.first, "cancelled")
    found.last.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete long.wav?")
    expect(dialog).to_contain_text("for good")
    page.keyboard.press("Escape")
    expect(found).to_have_count(2)
    found.last.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(found).to_have_count(1)
    assert httpx.get(f"{web_server.url}/v1/jobs/{job_id}").status_code == 404


def _cancel(page: Page, found: Locator) -> None:
    """Cancel a job that runs, which is asked about."""
    state(found, "running")
    found.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel it").click()


def test_older_jobs_come_when_they_are_asked_for(page: Page, web_server: WebServer) -> None:
    """Fifty at a time."""
    for number in range(52):
        hand_in(web_server, b"no audio", f"many{number:02}.wav")
    page.goto("/#/jobs")
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(row(page, "many00.wav")).to_be_hidden()
    page.get_by_role("button", name="Older ones").click()
    expect(row(page, "many00.wav")).to_be_visible()
    page.wait_for_timeout(2500)  # The list has been looked at again by now, and keeps what was loaded.
    expect(row(page, "many00.wav")).to_be_visible()


def test_nothing_is_asked_while_nobody_looks(page: Page) -> None:
    """A page in a hidden tab is quiet, and looks at once when it is seen again."""
    page.goto("/#/jobs")
    expect(page.locator("table, .empty").first).to_be_visible()
    hidden = "(value) => { Object.defineProperty(document, 'hidden', {value, configurable: true}) }"
    page.evaluate(hidden, True)
    page.wait_for_timeout(2500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert [url for url in asked if "/v1/jobs" in url] == []
    page.evaluate(hidden, False)
    with page.expect_request(re.compile("/v1/jobs")):
        pass


def test_batches_tell_their_counts_and_give_their_results(page: Page, web_server: WebServer, speech: Path) -> None:
    """How many jobs are in each state; the jobs by themselves; the results in an archive; deleted as one."""
    files = [("file", speech.read_bytes()), ("file", speech.read_bytes()), ("file", b"no audio")]
    made = httpx.post(f"{web_server.url}/v1/batches", files=files, data={"metadata": httpx_json({"name": "Monday"})})
    batch_id = made.raise_for_status().json()["id"]
    page.goto("/#/jobs?show=batches")
    card = page.get_by_role("listitem").filter(has_text="Monday")
    expect(card).to_contain_text("3 of 3 jobs")
    expect(card).to_contain_text("2 done")
    expect(card).to_contain_text("1 failed")
    check_everywhere(page)
    with page.expect_download() as saved:
        card.get_by_role("button", name="Results").click()
    assert saved.value.suggested_filename == f"{batch_id}.zip"
    with zipfile.ZipFile(io.BytesIO(Path(saved.value.path()).read_bytes())) as archive:
        assert len(archive.namelist()) == 3
    card.get_by_role("link", name="Jobs of Monday").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    page.go_back()
    card.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete them").click()
    expect(card).to_have_count(0)
    assert httpx.get(f"{web_server.url}/v1/batches/{batch_id}").status_code == 404


def test_webhooks_are_made_tried_and_replayed(
    page: Page, web_server: WebServer, audio_site: Site, speech: Path
) -> None:
    """The secret is shown once; a delivery that failed says how, and is sent again with a click."""
    url = f"http://{audio_site.address}/hook"
    page.goto("/#/jobs?show=webhooks")
    page.get_by_role("button", name="New endpoint").click()
    dialog = page.get_by_role("dialog", name="New endpoint")
    dialog.get_by_label("Address").fill("http://10.0.0.1/hook")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.locator(".note.bad")).to_contain_text("Only https addresses may be reached. Use https.")
    dialog.get_by_label("Address").fill(url)
    dialog.get_by_label("Description").fill("<i>billing</i>")
    dialog.get_by_role("button", name="Create").click()
    secret = page.get_by_role("dialog", name="The endpoint's secret")
    expect(secret.locator(".secret")).to_have_text(re.compile("^whsec_"))
    check_everywhere(page, widths=(360,))
    secret.get_by_role("button", name="Close").click()
    endpoint = page.get_by_role("listitem").filter(has_text=url)
    expect(endpoint).to_contain_text("<i>billing</i>")

    audio_site.status = 410
    endpoint.get_by_role("button", name="Test").click()
    delivery = endpoint.locator(".delivery").first
    expect(delivery).to_contain_text("failed")
    delivery.get_by_text("1 attempt").click()
    expect(delivery.locator(".excerpt")).to_have_text("<b>thanks</b>")
    expect(endpoint.get_by_text("Disabled: ")).to_be_visible()
    check_everywhere(page)
    audio_site.status = 200
    endpoint.get_by_role("button", name="Enable").click()
    expect(endpoint.locator(".tag").first).to_have_text("enabled")
    delivery.get_by_role("button", name="Replay").click()
    expect(delivery).to_contain_text("delivered")
    listed = httpx.get(f"{web_server.url}/v1/webhook-endpoints").json()["data"][0]
    web_server.ended(hand_in(web_server, speech.read_bytes(), "told.wav", webhook_endpoint=listed["id"]))
    expect(endpoint.locator(".delivery").first).to_contain_text("job.succeeded")
    expect(endpoint.locator(".delivery").first).to_contain_text("delivered")
    endpoint.get_by_role("button", name="Change secret").click()
    page.get_by_role("button", name="Change it").click()
    expect(secret).to_contain_text("works until")
    secret.get_by_role("button", name="Close").click()
    endpoint.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete it").click()
    expect(endpoint).to_have_count(0)
