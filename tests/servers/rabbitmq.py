"""RabbitMQ with its own node name, cookie, folders and ports; every test gets a virtual host of its own."""

import base64
import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

from tests.servers.process import START_S, Command, Keeper, Server, free_port, port_open, wait_until
from tests.servers.provision import Installation

_AUTHORIZATION = "Basic " + base64.b64encode(b"guest:guest").decode()


class RabbitServer(Server):
    """A broker at ``127.0.0.1:port`` with the management interface at ``management_port``."""

    name = "rabbitmq"

    def __init__(self, keeper: Keeper, installation: Installation, *, consumer_timeout_ms: int | None = None) -> None:
        """Use the scripts of ``installation``.

        Whoever keeps a message for longer than ``consumer_timeout_ms`` loses its channel, half a second later at most.
        """
        super().__init__(keeper)
        self._installation = installation
        self.management_port, self._dist_port, self._epmd_port = free_port(), free_port(), free_port()
        (self.folder / "home").mkdir()
        cookie = self.folder / "home" / ".erlang.cookie"
        cookie.write_text(f"tympan{self.port}")
        cookie.chmod(0o400)
        (self.folder / "enabled_plugins").write_text("[rabbitmq_management].\n")
        (self.folder / "environment").write_text("")
        # How often a quorum queue says how long it is; else tests would wait ten seconds for a number.
        ticks = ["{quorum_tick_interval, 500}"]
        if consumer_timeout_ms is not None:  # Channels look at their clocks once a minute, unless told otherwise.
            ticks += ["{channel_tick_interval, 500}", f"{{consumer_timeout, {consumer_timeout_ms}}}"]
        (self.folder / "advanced.config").write_text(f"[{{rabbit, [{', '.join(ticks)}]}}].\n")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            f"management.tcp.port = {self.management_port}\nmanagement.tcp.ip = 127.0.0.1\n"
            # The alarm on a full disk is for tests to raise, not for the machine they run on.
            "disk_free_limit.absolute = 1MB\nlog.console = true\nlog.console.level = warning\nlog.file = false\n"
            "collect_statistics_interval = 1000\n"
        )

    def commands(self) -> Iterable[Command]:
        """Start the port mapper, which Erlang would leave running for ever, and the broker."""
        env = self._env()
        yield Command(("epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)), env)
        wait_until(lambda: port_open(self._epmd_port), START_S, self.log_tail)
        yield Command((str(self._installation.program),), env)

    def ready(self) -> bool:
        """Return whether the broker accepts connections and answers questions."""
        if not port_open(self.port):
            return False
        try:
            return self.api("GET", "/api/overview") is not None
        except (OSError, urllib.error.HTTPError):
            return False

    def url(self, vhost: str, port: int | None = None) -> str:
        """Return the address of a virtual host; ``port`` leads through a proxy."""
        return f"amqp://guest:guest@127.0.0.1:{port or self.port}/{urllib.parse.quote(vhost, safe='')}"

    def api(self, method: str, path: str, body: object = None, limit_s: float = 30) -> Any:
        """Ask the management interface; return its answer, None when it is empty."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.management_port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": _AUTHORIZATION, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=limit_s) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def ctl(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` (takes one to three seconds) and return what it says."""
        script = self._installation.program.with_name("rabbitmqctl")
        return self.run(Command((str(script), *arguments), self._env()))

    def lose_data(self) -> None:
        """Kill the broker, delete all that it keeps on its disk (messages, queues, virtual hosts), and start it."""
        self.kill()
        shutil.rmtree(self.folder / "data")
        self.start()

    def block_publishers(self) -> None:
        """Raise the alarm about memory: the broker reads no more from connections that publish."""
        self.ctl("set_vm_memory_high_watermark", "0")

    def unblock_publishers(self) -> None:
        """Take the alarm back."""
        self.ctl("set_vm_memory_high_watermark", "0.8")

    def wipe(self) -> None:
        """Delete the virtual hosts of all tests with their queues."""
        for vhost in self.api("GET", "/api/vhosts"):
            if vhost["name"] != "/":
                self.api("DELETE", f"/api/vhosts/{urllib.parse.quote(vhost['name'], safe='')}")

    def _env(self) -> dict[str, str]:
        folder = str(self.folder)
        node = f"tympan{self.port}@localhost"
        return {
            **self._installation.env,
            "HOME": f"{folder}/home",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/environment",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced.config",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": f"{folder}/logs",
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            "RABBITMQ_SCHEMA_DIR": f"{folder}/schema",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{folder}/feature_flags",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false +S 2:2 +sbwt none",
        }


class VirtualHost:
    """An empty virtual host of one test."""

    def __init__(self, server: RabbitServer, name: str) -> None:
        """Create the virtual host ``name`` and let ``guest`` in."""
        self.server, self.name = server, name
        self._create()

    def lose_everything(self) -> None:
        """Let the broker lose its disk; the virtual host is made again, as whoever runs a broker has to."""
        self.server.lose_data()
        self._create()

    @property
    def url(self) -> str:
        """Its address, ``amqp://...``."""
        return self.server.url(self.name)

    def url_at(self, port: int) -> str:
        """Return its address through a proxy at ``port``."""
        return self.server.url(self.name, port)

    def queues(self) -> dict[str, int]:
        """Return how many messages wait or are unacknowledged in each queue, as of a second ago."""
        found = self.server.api("GET", f"/api/queues/{self.name}")
        return {queue["name"]: int(queue.get("messages", 0)) for queue in found}

    def consumers(self) -> dict[str, str]:
        """Return who consumes each queue: the name of the channel, which changes when a channel is made anew."""
        found = self.server.api("GET", f"/api/consumers/{self.name}")
        # A channel without a name is so new that the management interface has not heard more of it.
        named = [each for each in found if each["channel_details"]]
        return {each["queue"]["name"]: each["channel_details"]["name"] for each in named}

    def deliveries(self, queue: str) -> dict[str, int]:
        """Return how often messages of a queue were delivered, acknowledged, redelivered, as of a second ago."""
        counts = self.server.api("GET", f"/api/queues/{self.name}/{queue}").get("message_stats", {})
        return {name: int(counts.get(name, 0)) for name in ("deliver", "ack", "redeliver")}

    def disconnect_all(self) -> int:
        """Break every connection to this virtual host; return how many."""
        found = self.server.api("GET", f"/api/vhosts/{self.name}/connections")
        for connection in found:
            self.server.api("DELETE", f"/api/connections/{urllib.parse.quote(connection['name'], safe='')}")
        return len(found)

    def drop(self) -> None:
        """Delete the virtual host with its queues."""
        self.server.api("DELETE", f"/api/vhosts/{self.name}")

    def _create(self) -> None:
        self.server.api("PUT", f"/api/vhosts/{self.name}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.server.api("PUT", f"/api/permissions/{self.name}/guest", rights)
