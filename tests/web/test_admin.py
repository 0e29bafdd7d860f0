"""Admin in a real browser against a real server: keys from the first one on, tenants and their limits, usage."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.api.support import wait_for
from tests.web.support import WebServer, check_everywhere, serving
from tympan.access.tokens import parse

HOSTILE = "<b>x</b><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Iterator[WebServer]:
    """Return a server of these tests' own: the first of them shuts its door. The engine is made up."""
    with serving(tmp_path_factory.mktemp("admin"), models_folder, ENGINE="fake", MODEL="base") as server:
        yield server


@pytest.fixture(scope="module")
def secrets() -> dict[str, str]:
    """Return the keys that were made so far, by name."""
    return {}


@pytest.fixture
def admin(browser: Browser, house: WebServer, secrets: dict[str, str]) -> Iterator[Page]:
    """Return a page that has the operator's key, once there is one."""
    context = browser.new_context(base_url=house.url, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    if key := secrets.get("operator"):
        context.add_init_script(f"sessionStorage.setItem('tympan.key', {json.dumps(key)})")
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("dialog", lambda dialog: pytest.fail(f"a name was run: {dialog.message}"))
    yield page
    context.close()


def transcribe(house: WebServer, key: str, speech: Path) -> httpx.Response:
    """Ask for a text with a key."""
    file = {"file": ("speech.wav", speech.read_bytes())}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{house.url}/v1/audio/transcriptions", files=file, headers=headers, timeout=60)


def used_by(house: WebServer, key: str, tenant: str) -> list[Any]:
    """Return what is on the books of a tenant: calls get there within seconds."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{house.url}/v1/usage", params={"tenant": tenant}, headers=headers)
    found: list[Any] = answer.raise_for_status().json()["data"]
    return found


def row_of(page: Page, name: str) -> Any:
    """Return the row of a key or a tenant."""
    return page.get_by_role("row").filter(has_text=name)


def test_the_first_key_shuts_the_door_and_is_taken(admin: Page, secrets: dict[str, str]) -> None:
    """It is an operator's; it is shown once, copied, and used from then on."""
    admin.goto("/#/admin")
    expect(admin.get_by_text("No key is needed")).to_be_visible()
    expect(admin.get_by_text("There are no keys yet.")).to_be_visible()
    check_everywhere(admin, themes=("light",))
    admin.get_by_role("button", name="New key").click()
    form = admin.get_by_role("dialog", name="New key")
    expect(form.get_by_label(re.compile("^Run the server"))).to_be_checked()
    form.get_by_label("Name").fill("operator")
    check_everywhere(admin, themes=("dark",), widths=(360, 1440))
    form.get_by_role("button", name="Make the key").click()
    shown = admin.get_by_label("The key")
    expect(shown).to_be_visible()
    secrets["operator"] = shown.input_value()
    assert parse(secrets["operator"]) is not None
    admin.get_by_role("button", name="Copy").click()
    expect(admin.get_by_text("Copied.")).to_be_visible()
    assert admin.evaluate("() => navigator.clipboard.readText()") == secrets["operator"]
    check_everywhere(admin, themes=("light",), widths=(360,))
    admin.get_by_role("button", name="Use it in this browser").click()
    expect(row_of(admin, "operator")).to_contain_text("yours")
    expect(admin.get_by_text("No key is needed")).to_be_hidden()
    expect(admin.get_by_role("button", name="Key", exact=True)).to_be_visible()
    assert secrets["operator"] not in admin.content()


def test_a_key_is_made_used_rotated_and_revoked(
    admin: Page, house: WebServer, secrets: dict[str, str], speech: Path
) -> None:
    """Its name is text whatever it is; a mistake is told beside the form, in the server's words."""
    admin.goto("/#/admin/keys")
    admin.get_by_role("button", name="New key").click()
    form = admin.get_by_role("dialog")
    form.get_by_label(re.compile("^Tenant")).fill("acme")
    form.get_by_label("Name").fill(HOSTILE)
    for box in form.get_by_role("checkbox").all():
        box.uncheck()
    form.get_by_role("button", name="Make the key").click()
    expect(form.get_by_text("A key needs at least one scope.")).to_be_visible()
    form.get_by_role("button", name="An application").click()
    form.get_by_role("button", name="Make the key").click()
    first = admin.get_by_label("The key").input_value()
    admin.get_by_role("button", name="I have saved it").click()
    row = row_of(admin, "acme")
    expect(row).to_contain_text(HOSTILE)
    expect(row).to_contain_text("never")
    assert transcribe(house, first, speech).status_code == 200
    check_everywhere(admin)
    row.get_by_role("button", name=f"Rotate {HOSTILE}").click()
    admin.get_by_label("The old key goes on working").select_option("0")
    admin.get_by_role("dialog").get_by_role("button", name="Rotate").click()
    second = admin.get_by_label("The key").input_value()
    admin.get_by_role("button", name="I have saved it").click()
    assert second != first
    assert transcribe(house, second, speech).status_code == 200
    expect(row_of(admin, "acme")).to_have_count(1)
    row_of(admin, "acme").get_by_role("button", name=f"Revoke {HOSTILE}").click()
    asked = admin.get_by_role("dialog")
    expect(asked).to_contain_text(HOSTILE)
    asked.get_by_role("button", name="Revoke").click()
    expect(row_of(admin, "acme")).to_have_count(0)
    admin.get_by_label("Which keys").select_option("revoked")
    expect(row_of(admin, "acme")).to_contain_text("revoked")
    admin.wait_for_timeout(5500)  # Every process refuses it within five seconds.
    assert transcribe(house, second, speech).status_code == 401
    assert admin.locator("main img").count() == 0
    secrets["acme"] = second


def test_the_last_operators_key_cannot_be_revoked_from_here(admin: Page) -> None:
    """The server says why, and the key stays."""
    admin.goto("/#/admin/keys")
    row_of(admin, "operator").get_by_role("button", name="Revoke operator").click()
    expect(admin.get_by_role("dialog")).to_contain_text("It is the key you are using here.")
    admin.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(admin.get_by_text("This is the last key with the scope 'admin'")).to_be_visible()
    expect(row_of(admin, "operator")).to_contain_text("active")


def test_a_tenants_limit_is_changed_and_holds(
    admin: Page, house: WebServer, secrets: dict[str, str], speech: Path
) -> None:
    """Fields are checked before they are sent; what holds is told, with units, and so is what was used."""
    made = house.tympan("keys", "create", "--tenant", "globex", "--json")
    key = str(json.loads(made)["key"])
    assert transcribe(house, key, speech).status_code == 200
    wait_for(lambda: used_by(house, secrets["operator"], "globex"))
    admin.goto("/#/admin/tenants")
    row_of(admin, "globex").get_by_role("button", name="Change globex").click()
    form = admin.get_by_role("dialog", name="Tenant globex")
    expect(form.get_by_text(re.compile(r"Used today \(UTC\): 1 requests"))).to_be_visible()
    form.get_by_label("Requests in a minute").fill("1.5")
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_text("Write a whole number, or nothing.")).to_be_visible()
    check_everywhere(admin, themes=("light",), widths=(360, 1440))
    form.get_by_label("Requests in a minute").fill("1")
    form.get_by_label("Audio in 24 hours, min").fill("600")
    form.get_by_role("button", name="Save").click()
    expect(row_of(admin, "globex")).to_contain_text("requests in a minute: 1")
    expect(row_of(admin, "globex")).to_contain_text("audio in 24 hours: 600 min")
    admin.wait_for_timeout(5500)  # Servers follow within five seconds.
    assert [transcribe(house, key, speech).status_code for _ in range(2)][-1] == 429
    row_of(admin, "globex").get_by_role("button", name="Change globex").click()
    form.get_by_label("Requests in a minute").fill("")
    form.get_by_role("button", name="Save").click()
    expect(row_of(admin, "globex")).not_to_contain_text("requests in a minute")
    check_everywhere(admin)


def test_a_tenant_is_made_before_it_has_anything(admin: Page) -> None:
    """One that is there already is refused in the server's words, and so is a name that cannot be one."""
    admin.goto("/#/admin/tenants")
    for name, shown in (("initech", None), ("initech", re.compile("initech"))):
        admin.get_by_role("button", name="New tenant").click()
        form = admin.get_by_role("dialog", name="New tenant")
        form.get_by_label("Name").fill(name)
        form.get_by_label("Weight beside others").fill("2")
        form.get_by_role("button", name="Make the tenant").click()
        if shown is None:
            expect(row_of(admin, "initech")).to_contain_text("2")
        else:
            expect(form.locator(".note.bad")).to_have_text(shown)
            form.get_by_role("button", name="Cancel").click()


def test_usage_is_shown_split_and_saved(admin: Page) -> None:
    """Of every tenant, by kind, model or tenant, as a chart, as a table, as a file from the server."""
    admin.goto("/#/admin/usage")
    sums = admin.get_by_role("table", name="Sums of the period")
    expect(sums).to_contain_text("globex")
    expect(sums).to_contain_text("acme")
    admin.get_by_label("Split").select_option("tenant")
    admin.get_by_label("What is counted").select_option("requests")
    plot = admin.get_by_role("slider", name="Requests a day (UTC): choose a moment")
    expect(plot).to_have_attribute("aria-valuetext", re.compile(r"acme 2.*globex|globex.*acme 2"))
    check_everywhere(admin)
    with admin.expect_download() as waiting:
        admin.get_by_role("button", name="Download CSV").click()
    assert re.fullmatch(r"tympan-usage-[\d-]+\.csv", waiting.value.suggested_filename)
    rows = list(csv.DictReader(io.StringIO(waiting.value.path().read_text())))
    assert {row["tenant"] for row in rows} >= {"acme", "globex"}
    admin.get_by_label("Tenant").fill("nobody-at-all")
    admin.get_by_label("Tenant").press("Enter")
    expect(admin.get_by_text("Nothing was used in this period.")).to_be_visible()


def test_a_key_without_the_scope_is_told_what_is_missing(admin: Page, house: WebServer) -> None:
    """In Admin and in Operate, where everything else is shown; a button opens the dialog for another key."""
    made = house.tympan("keys", "create", "--tenant", "globex", "--json")
    key = str(json.loads(made)["key"])
    admin.add_init_script(f"sessionStorage.setItem('tympan.key', {json.dumps(key)})")
    admin.goto("/#/admin")
    expect(admin.get_by_text("This needs the scope 'admin'")).to_be_visible()
    admin.get_by_role("button", name="Use another key").click()
    expect(admin.get_by_role("dialog", name="Your API key")).to_be_visible()
    admin.keyboard.press("Escape")
    admin.goto("/#/admin/usage")
    expect(admin.get_by_text("the scope admin shows every tenant's")).to_be_visible()
    expect(admin.get_by_role("table", name="Sums of the period")).to_contain_text("globex")
    admin.goto("/#/operate")
    expect(admin.get_by_text("Load, latency and queues are not shown without it.")).to_be_visible()
    expect(admin.get_by_role("table", name="Parts of the server")).to_contain_text("database")
    check_everywhere(admin, widths=(360,))


def test_without_a_key_one_is_asked_for(browser: Browser, house: WebServer) -> None:
    """The door is shut by now; the page says so and does not ask the server again and again."""
    page = browser.new_page(base_url=house.url)
    asked: list[int] = []
    page.on("response", lambda answer: asked.append(answer.status) if answer.status == 401 else None)
    page.goto("/#/operate")
    expect(page.get_by_role("dialog", name="Your API key")).to_be_visible()
    page.wait_for_load_state("networkidle")  # Each of the first questions may still open it.
    page.keyboard.press("Escape")
    page.wait_for_timeout(6000)
    assert len(asked) <= 4
    expect(page.get_by_role("dialog", name="Your API key")).to_be_hidden()
    page.close()
