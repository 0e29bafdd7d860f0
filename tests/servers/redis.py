"""Redis without persistence: ``kill`` and ``restart`` lose everything."""

import socket
from collections.abc import Iterable

from tests.servers.process import Command, Keeper, Server
from tests.servers.provision import Installation


class RedisServer(Server):
    """A Redis at ``127.0.0.1:port``."""

    name = "redis"

    def __init__(self, keeper: Keeper, installation: Installation) -> None:
        """Use the program of ``installation``."""
        super().__init__(keeper)
        self._installation = installation

    def commands(self) -> Iterable[Command]:
        """Start the server."""
        arguments = {"--port": str(self.port), "--bind": "127.0.0.1", "--save": "", "--appendonly": "no"}
        words = [word for pair in arguments.items() for word in pair]
        yield Command((str(self._installation.program), *words, "--dir", str(self.folder)), self._installation.env)

    def ready(self) -> bool:
        """Return whether it answers a PING."""
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def ask(self, *words: str, lines: int = 1) -> str:
        """Send one command and return a line of the answer, the first unless said otherwise, as the protocol has it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n".encode())
            for word in words:
                connection.sendall(f"${len(word.encode())}\r\n{word}\r\n".encode())
            with connection.makefile("rb") as answer:
                return [answer.readline().decode().rstrip("\r\n") for _ in range(lines)][-1]

    def url(self, port: int | None = None) -> str:
        """Return the address; ``port`` leads through a proxy."""
        return f"redis://127.0.0.1:{port or self.port}/0"

    def wipe(self) -> None:
        """Delete all keys."""
        assert self.ask("FLUSHALL") == "+OK"
