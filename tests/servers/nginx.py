"""nginx with the configuration that a test gives it."""

import os
import subprocess
from collections.abc import Iterable

from tests.servers.process import START_S, Command, Keeper, Server, wait_until
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
        """Return when the server goes by its configuration as it is now; AssertionError when that is wrong."""
        (master,) = self._processes
        workers = set(self.pids) - {master.pid}
        self.run(self._command("-t"))
        self.run(self._command("-s", "reload"))
        wait_until(lambda: not any(map(_accepts, workers)), START_S, self.log_tail)

    def wipe(self) -> None:
        """Empty the log of requests."""
        (self.folder / "access.log").write_text("")

    def _command(self, *more: str) -> Command:
        folder = str(self.folder)
        program = str(self._installation.program)
        arguments = ("-p", folder, "-c", f"{folder}/nginx.conf", "-e", f"{folder}/server.log")
        return Command((program, *arguments, *more), self._installation.env)


def _accepts(worker: int) -> bool:
    """Return whether a worker still takes connections; one that only ends those it has says so in its title."""
    listed = subprocess.run(["ps", "-o", "command=", "-p", str(worker)], capture_output=True, text=True, check=False)
    return bool(listed.stdout.strip()) and "shutting down" not in listed.stdout
