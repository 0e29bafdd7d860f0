"""The frame around the views, in a real browser: theme, key, how the server is, and what a stranger sees."""

from playwright.sync_api import Page, expect


def test_the_page_says_how_the_server_is(page: Page) -> None:
    """Beside the name of the view; without keys there is no button for one."""
    page.goto("/")
    expect(page.locator("#health")).to_have_text("healthy")
    expect(page.locator("#health")).to_have_attribute("data-status", "healthy")
    expect(page.get_by_role("button", name="Key")).to_be_hidden()
    expect(page.get_by_role("navigation", name="Main").get_by_role("link", name="Transcribe")).to_have_attribute(
        "aria-current", "page"
    )


def test_the_theme_is_kept(page: Page) -> None:
    """What was chosen holds after a reload, whatever the system prefers."""
    page.emulate_media(color_scheme="dark")
    page.goto("/")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.get_by_role("button", name="Change between dark and light").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
