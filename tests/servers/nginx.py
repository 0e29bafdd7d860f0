"""nginx with the configuration that a test gives it."""

import os
from collections.abc import Iterable

from tests.servers.process import Command, Keeper, Server
from tests.servers.provision import Installation

_FRAME = """
{user}worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/server.log warn;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{http}
}}
"""


class NginxServer(Server):
    """A web server in front of something."""

    name = "nginx"

    def __init__(self, keeper: Keeper, installation: Installation, http: str) -> None:
        """Use ``http`` as the inside of the ``http`` block; ``@PORT@`` and ``@FOLDER@`` in it are replaced."""
        super().__init__(keeper)
        self._installation = installation
        self.configure(http)

    def configure(self, http: str) -> None:
        """Write another configuration; ``reload`` or ``restart`` makes it count."""
        text = http.replace("@PORT@", str(self.port)).replace("@FOLDER@", str(self.folder))
        user = "user root;\n" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(_FRAME.format(user=user, folder=self.folder, http=text))

    def commands(self) -> Iterable[Command]:
        """Start the server."""
        yield self._command()

    def url(self, path: str = "/") -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def reload(self) -> None:
        """Let the server read its configuration again; AssertionError when it is wrong."""
        self.run(self._command("-t"))
        self.run(self._command("-s", "reload"))

    def wipe(self) -> None:
        """Empty the log of requests."""
        (self.folder / "access.log").write_text("")

    def _command(self, *more: str) -> Command:
        folder = str(self.folder)
        program = str(self._installation.program)
        arguments = ("-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/server.log")
        return Command((program, *arguments, *more), self._installation.env)
