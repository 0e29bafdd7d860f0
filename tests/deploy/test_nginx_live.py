"""Live speech through the shipped nginx: WebSockets pass, in both directions and both ways of ending."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.api.live_sites import dialled, readable, said, tell
from tests.api.support import Site, site
from tests.deploy.nginx_files import Ports, host_files, installed
from tests.live_support import joined, quiet, spoken
from tests.servers import provision
from tests.servers.nginx import NginxServer
from tests.servers.process import Keeper, free_port
from tympan.api.deps import Limits


@pytest.fixture(scope="module")
def front(server_keeper: Keeper, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that reads words off live audio, as it is reached through nginx."""
    installation = provision.find("nginx")
    if installation is None:
        pytest.skip("nginx is not installed here")
    folder, door = tmp_path_factory.mktemp("front"), free_port()
    with site(tmp_path_factory.mktemp("staging"), Limits(), readable()) as behind:
        own = behind.url.removeprefix("http://")
        ports = Ports({8080: f"127.0.0.1:{door}"}, {f"127.0.0.1:{8001 + n}": own for n in range(3)})
        server = NginxServer(server_keeper, installation, installed(host_files("http"), folder, ports))
        server.start()
        yield replace(behind, url=f"http://127.0.0.1:{door}")
        server.close()


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/realtime?intent=transcription"])
def test_the_upgrade_passes(front: Site, path: str) -> None:
    """Both paths, with the id that nginx gives the request."""
    with dialled(front, path, origin=front.url) as socket:
        assert said(socket, "ready" if "stream" in path else "session.created")
        assert socket.response is not None
        assert len(socket.response.headers["x-request-id"]) >= 16


def test_audio_and_text_pass_while_somebody_speaks(front: Site) -> None:
    """A partial arrives before the end of the audio, the rest after it, and a normal end."""
    with dialled(front, "/v1/stream") as socket:
        for number in range(1, 9):
            socket.send(spoken(number).tobytes())
        assert said(socket, "partial")[-1]["tail"]
        socket.send(joined(quiet(1.0)).tobytes())
        tell(socket, "finish")
        assert said(socket, "ended")[-1]["text"].endswith("w8")


def test_refusals_are_those_of_the_server(front: Site) -> None:
    """With its envelope, also for pages of other sites, which nginx's own address does not hide."""
    for path, origin, status in (("/v1/stream?colour=red", None, 400), ("/v1/stream", "https://evil.example", 403)):
        with pytest.raises(InvalidStatus) as caught, dialled(front, path, origin=origin):
            pass
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body or b"")["error"]["type"] == "invalid_request_error"


def test_the_paths_are_among_the_lasting_ones() -> None:
    """Or nginx would end a session after the time that a file may take."""
    text = (Path(host_files()["tympan/site.conf"])).read_text(encoding="utf-8")
    location = next(part for part in text.split("location ") if part.startswith("~ ^/v1/(jobs/"))
    assert "realtime" in location
    assert "stream" in location
    assert "proxy_read_timeout 1h" in location
