"""Prometheus, which asks servers of the tests for their metrics every second and goes by the rules of a test."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Any

from tests.servers.process import Command, Keeper, Server
from tests.servers.provision import Installation


class PrometheusServer(Server):
    """A Prometheus that asks the ports of ``jobs`` by name."""

    name = "prometheus"

    def __init__(self, keeper: Keeper, installation: Installation, jobs: Mapping[str, int], rules: str) -> None:
        """Use the program of ``installation`` and ``rules``, the text of a file of rules."""
        super().__init__(keeper)
        self._installation = installation
        scraped = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
        ]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": scraped}
        (self.folder / "rules.yml").write_text(rules)
        (self.folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML.

    def commands(self) -> Iterable[Command]:
        """Start the server."""
        options = {
            "config.file": str(self.folder / "prometheus.yml"),
            "storage.tsdb.path": str(self.folder / "data"),
            "web.listen-address": f"127.0.0.1:{self.port}",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        yield Command((str(self._installation.program), *words), self._installation.env)

    def ready(self) -> bool:
        """Return whether it goes by its rules."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that an expression gives now."""
        query = urllib.parse.urlencode({"query": expression})
        found: list[dict[str, Any]] = self._get(f"/api/v1/query?{query}")["result"]
        return found

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        alerts = self._get("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)["data"]
            return found
