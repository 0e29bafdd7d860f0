"""Names in the deployment files mean something: settings and metrics exist, numbers are in step with the settings."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, ROOT, compose, dockerfile, documents, image_environment
from tympan import telemetry
from tympan.api.intake.uploads import FORM_BYTES
from tympan.api.jobs.batches import _TOTAL_UPLOADS
from tympan.api.server import _KEEP_ALIVE_S
from tympan.config import Settings

FILES = sorted(path for path in [ROOT / "Dockerfile", ROOT / "compose.yaml", *DEPLOY.rglob("*")] if path.is_file())
SETTINGS = {name: field.default for name, field in Settings.model_fields.items()}


def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _number(text: str, directive: str) -> list[str]:
    return re.findall(rf"\b{directive} ([\w.]+);", text)


def _seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def test_every_setting_that_a_file_names_exists() -> None:
    """A setting that was renamed must not survive in what operators copy."""
    named = {(path.name, name) for path in FILES for name in re.findall(r"\bTYMPAN_([A-Z][A-Z_]*[A-Z])\b", _text(path))}
    assert len({name for _, name in named}) > 10
    assert {each for each in named if each[1].lower() not in SETTINGS} == set()


def test_every_metric_that_a_file_names_exists() -> None:
    """Alerts, dashboards and autoscalers ask for series that are there, as they are scraped."""
    known = set()
    for row in telemetry.metric_rows():
        known |= {row.name, *(f"{row.name}_{part}" for part in ("bucket", "sum", "count") if row.kind == "histogram")}
    named = {
        (path.name, name)
        for path in FILES
        if path.suffix in {".yml", ".yaml", ".json"}
        for name in re.findall(r"\btympan_[a-z_]+", _text(path))
    }
    assert len({name for _, name in named}) > 10
    assert {each for each in named if each[1] not in known} == set()


def test_labels_that_alerts_and_dashboards_use_exist() -> None:
    """A series is chosen and grouped by labels that it has."""
    labels = {label for row in telemetry.metric_rows() for label in row.labels} | {"instance", "job", "le", "namespace"}
    text = "\n".join(_text(path) for path in FILES if path.suffix in {".yml", ".json", ".yaml"})
    grouped = {name.strip() for group in re.findall(r"\bby \(([a-z_, ]+)\)", text) for name in group.split(",")}
    chosen = set(re.findall(r"tympan_[a-z_]+\{([a-z_]+)[=!]", text.replace('\\"', '"')))
    assert {"status", "code"} <= grouped
    assert grouped | chosen <= labels


def test_nginx_turns_away_no_upload_that_tympan_would_take() -> None:
    """Its limit holds the largest file with the form around it, and is near it."""
    text = _text(DEPLOY / "nginx" / "tympan" / "site.conf")
    small, large = (int(number.removesuffix("m")) << 20 for number in _number(text, "client_max_body_size"))
    largest = SETTINGS["max_upload_mb"] * 1_000_000 + FORM_BYTES
    assert largest <= small <= 1.1 * largest
    assert large >= max(SETTINGS["max_resumable_mb"], _TOTAL_UPLOADS * SETTINGS["max_upload_mb"]) * 1_000_000
    (ingress,) = documents(DEPLOY / "kubernetes" / "base" / "ingress.yaml")
    size = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"]
    assert int(size.removesuffix("m")) << 20 >= large


def test_nginx_waits_longer_than_tympan() -> None:
    """Tympan's limits come first, because its answers say what to do."""
    text = _text(DEPLOY / "nginx" / "tympan" / "site.conf")
    for directive in ("proxy_read_timeout", "proxy_send_timeout"):
        assert min(map(_seconds, _number(text, directive))) > SETTINGS["request_timeout_s"]
    assert _seconds(_number(text, "client_body_timeout")[0]) > SETTINGS["upload_idle_s"]
    for name in ("upstream.conf", "upstream-compose.conf"):
        (keep,) = _number(_text(DEPLOY / "nginx" / "tympan" / name), "keepalive_timeout")
        assert _seconds(keep) < _KEEP_ALIVE_S
    (ingress,) = documents(DEPLOY / "kubernetes" / "base" / "ingress.yaml")
    read = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"]
    assert int(read) > SETTINGS["request_timeout_s"]


def test_no_upload_is_buffered_and_no_post_repeated() -> None:
    """What must not change: the directives that keep copies away and calls single."""
    text = re.sub(r"#.*", "", _text(DEPLOY / "nginx" / "tympan" / "site.conf"))
    assert _number(text, "proxy_request_buffering") == _number(text, "proxy_buffering") == ["off"]
    assert re.findall(r"proxy_next_upstream ([^;]+);", text) == ["error timeout"]
    assert "$request_body" not in "".join(_text(path) for path in DEPLOY.glob("nginx/**/*.conf"))


def _graces() -> Iterator[tuple[str, int]]:
    """Return how long each way of deployment waits after asking a process to stop, in seconds."""
    for name, service in compose()["services"].items():
        if service["image"].startswith("tympan:") and service["restart"] != "no":
            yield f"compose {name}", _seconds(service["stop_grace_period"])
    for path in DEPLOY.glob("systemd/*.service"):
        yield path.name, int(re.findall(r"^TimeoutStopSec=(\d+)$", _text(path), re.MULTILINE)[0])
    for path in DEPLOY.glob("kubernetes/base/*.yaml"):
        for document in documents(path):
            if document["kind"] == "Deployment":
                yield path.name, document["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]


def test_nobody_is_killed_while_it_drains() -> None:
    """Every supervisor waits for DRAIN_S, and for what comes after it."""
    graces = dict(_graces())
    assert len(graces) == 6 + 4 + 3
    assert min(graces.values()) >= SETTINGS["drain_s"] + 45
    for given in (compose()["services"]["api-1"]["environment"], _config_map()):
        assert float(given["TYMPAN_DRAIN_S"]) == SETTINGS["drain_s"]


def _config_map() -> dict[str, str]:
    (found,) = documents(DEPLOY / "kubernetes" / "base" / "config.yaml")
    data: dict[str, str] = found["data"]
    return data


@pytest.mark.parametrize("source", ["compose", "kubernetes"])
def test_the_settings_of_a_cluster_are_valid_together(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file gives a process is accepted, with nothing else set."""
    if source == "compose":
        given = compose()["services"]["worker-1"]["environment"]
    else:
        (secret,) = documents(DEPLOY / "kubernetes" / "secret.example.yaml")
        given = _config_map() | secret["stringData"] | {"TYMPAN_SECRET_KEY": "k" * 32}
    for name, value in {**image_environment(), **given}.items():
        if name.startswith("TYMPAN_"):
            monkeypatch.setenv(name, value)
    settings = Settings()  # type: ignore[call-arg]
    assert settings.mode == "cluster"
    assert str(settings.data_dir) == "/data"


def test_every_image_is_named_by_version() -> None:
    """No `latest` but our own, which is built here."""
    images = [service["image"] for service in compose()["services"].values()]
    images += [stage.base for stage in dockerfile() if ":" in stage.base]
    for image in images:
        name, _, tag = image.partition(":")
        assert tag, image
        assert name == "tympan" or tag != "latest", image
