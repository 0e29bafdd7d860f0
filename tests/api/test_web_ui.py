"""The files of the web UI, over HTTP: types, tags, what browsers are told, and that nothing else is served."""

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.access_support import entry
from tests.api.doors_support import Guarded, guarded
from tests.conftest import REPOSITORY
from tympan.access.tokens import mint
from tympan.api.pages import HEADERS
from tympan.web.assets import FOLDER, MEDIA_TYPES, PAGE, load_assets

FILES = sorted(load_assets())
PLAIN = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path_factory.mktemp("pages")) as opened:
        yield opened


def test_the_page_needs_no_key_and_neither_do_its_files(house: Guarded) -> None:
    """A person has to see the page to give it a key; one that was revoked does not shut it either."""
    revoked = house.give()
    house.keys.revoke(revoked.id, entry())
    for path in ("/", "/favicon.ico", *(f"/ui/{name}" for name in FILES)):
        for key in (None, mint(), revoked):
            assert house.ask("GET", path, key).status_code == 200, path


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_its_type_its_tag_and_its_policy(house: Guarded, name: str) -> None:
    """What is asked for again with the tag is not sent again; HEAD says the same as GET."""
    answer = house.ask("GET", f"/ui/{name}")
    assert answer.content == (FOLDER / name).read_bytes()
    assert answer.headers["content-type"] == MEDIA_TYPES[Path(name).suffix]
    for header, value in HEADERS.items():
        assert answer.headers[header] == value
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    tag = answer.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{20}"', tag)
    for known in (tag, f'"other", W/{tag}', "*"):
        again = house.ask("GET", f"/ui/{name}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert house.ask("GET", f"/ui/{name}", headers={"if-none-match": '"other"'}).status_code == 200
    head = house.ask("HEAD", f"/ui/{name}")
    same = ("content-type", "content-length", "etag", "content-security-policy")
    assert [head.headers[each] for each in same] == [answer.headers[each] for each in same]
    assert head.content == b""


def test_the_page_may_run_its_own_scripts_and_nothing_else(house: Guarded) -> None:
    """No script or style that stands in the page, nothing of another site, no frame around it."""
    policy = house.ask("GET", "/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == rules["form-action"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert "unsafe" not in policy
    assert "http" not in policy


@pytest.mark.parametrize(
    "path",
    [
        "/ui/",
        "/ui/nothing.js",
        "/ui/../assets.py",
        "/ui/..%2f..%2fassets.py",
        "/ui/%2e%2e/%2e%2e/__init__.py",
        "/ui/js/../../assets.py",
        "/ui//etc/passwd",
        "/ui/%2fetc%2fpasswd",
        "/ui/js/main.js/",
        "/ui/js/main.js%00.html",
        "/ui/js%5cmain.js",
        "/ui/INDEX.html",
    ],
)
def test_nothing_but_its_files_is_served(house: Guarded, path: str) -> None:
    """Names are looked up among those that were read at the start; no path reaches the disk."""
    answer = house.http.request("GET", "/ui/", extensions={"target": path.encode()})
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_files_are_only_read(house: Guarded, method: str) -> None:
    """Other methods are refused, with those that are there."""
    for path in ("/", "/ui/js/main.js"):
        answer = house.ask(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_other_answers_keep_their_headers(house: Guarded) -> None:
    """What is no page of ours is not kept, and nothing in it runs."""
    key = house.give()
    for path in ("/health", "/openapi.json", "/v1/models", "/v1/jobs", "/v1/jobs/job_x/events", "/v1/nothing"):
        answer = house.ask("GET", path, key)
        assert answer.headers.get_list("content-security-policy") == [PLAIN], path
        assert answer.headers.get_list("cache-control") == ["no-store"], path
        assert answer.headers.get_list("referrer-policy") == ["no-referrer"], path
        assert "permissions-policy" not in answer.headers


def test_the_page_is_no_part_of_the_described_interface(house: Guarded) -> None:
    """Programs read /openapi.json, and have no use for it."""
    paths = house.ask("GET", "/openapi.json").json()["paths"]
    assert not [path for path in paths if path in {"/", "/favicon.ico"} or path.startswith("/ui")]


def test_an_operator_can_switch_it_off(tmp_path: Path) -> None:
    """Then there is nothing where it was, and the API is as before."""
    with guarded(tmp_path, {"web_ui": False}) as house:
        for path in ("/", "/favicon.ico", "/ui/js/main.js"):
            assert house.ask("GET", path).status_code == 404
        assert house.ask("GET", "/v1/models", house.give()).status_code == 200


def test_only_known_types_are_read(tmp_path: Path) -> None:
    """A note or a backup beside the files is not served."""
    for name in ("a.js", "b.css~", "notes.txt", ".hidden"):
        (tmp_path / name).write_text("x")
    assert list(load_assets(tmp_path)) == ["a.js"]


def test_the_files_come_with_the_package(tmp_path: Path) -> None:
    """In the wheel and in the source distribution: a server that was installed from either has its page."""
    wheel = next(WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"]))
    with zipfile.ZipFile(wheel) as archive:
        packed = {name.removeprefix("tympan/web/static/") for name in archive.namelist()}
    assert packed >= set(FILES) | {PAGE}
    source = next(SdistBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(source) as archive:
        found = {name.rpartition("/web/static/")[2] for name in archive.getnames()}
    assert found >= set(FILES) | {PAGE}
