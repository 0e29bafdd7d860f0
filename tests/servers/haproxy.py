"""HAProxy with the configuration that a test gives it."""

import socket
from collections.abc import Iterable

from tests.servers.process import Command, Keeper, Server
from tests.servers.provision import Installation


class HaproxyServer(Server):
    """A load balancer in front of something; ``@PORT@`` and ``@FOLDER@`` in its configuration are replaced."""

    name = "haproxy"

    def __init__(self, keeper: Keeper, installation: Installation, text: str) -> None:
        """Use ``text`` as the configuration."""
        super().__init__(keeper)
        self._installation = installation
        self.file = self.folder / "haproxy.cfg"
        self.file.write_text(text.replace("@PORT@", str(self.port)).replace("@FOLDER@", str(self.folder)))

    def commands(self) -> Iterable[Command]:
        """Start the server."""
        yield self._command("-db")

    def check(self) -> str:
        """Return what the program says of the configuration; AssertionError when that is wrong."""
        return self.run(self._command("-c"))

    def ask(self, words: str) -> str:
        """Return the answer to a command on the admin socket at ``@FOLDER@/admin.sock``."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.settimeout(10)
            admin.connect(str(self.folder / "admin.sock"))
            admin.sendall(f"{words}\n".encode())
            return b"".join(iter(lambda: admin.recv(65_536), b"")).decode()

    def up(self, backend: str) -> set[str]:
        """Return the servers of ``backend`` that get requests."""
        rows = [line.split(",") for line in self.ask("show stat").splitlines()]
        servers = [row for row in rows if row[0] == backend and row[1] != "BACKEND"]
        return {row[1] for row in servers if row[17].startswith("UP")}

    def _command(self, *more: str) -> Command:
        return Command((str(self._installation.program), *more, "-f", str(self.file)), self._installation.env)
