"""systemd units and Kubernetes manifests: their own tools take them, and their parts fit together."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from tests.deploy.files import DEPLOY, Unset, compose, documents
from tympan.api.app import description
from tympan.config import Settings

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
KUBERNETES = DEPLOY / "kubernetes"
COMMANDS = {"tympan": "serve", "tympan-api@": "api", "tympan-worker@": "worker", "tympan-scheduler": "scheduler"}
NAME = "app.kubernetes.io/name"


def _unit(path: Path) -> dict[str, list[str]]:
    """Return a unit's settings; what is given twice has two values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_its_command_and_lets_it_finish(path: Path) -> None:
    """The right command; only the main process is asked to stop; a lost child does not end the service."""
    unit = _unit(path)
    assert unit["ExecStart"] == [f"/opt/tympan/bin/tympan {COMMANDS[path.stem]}"]
    assert (unit["KillMode"], unit["KillSignal"]) == (["mixed"], ["SIGTERM"])
    assert unit["OOMPolicy"] == ["continue"]
    assert unit["Restart"] == ["on-failure"]
    assert float(unit["RestartSec"][0]) >= 1
    state = f"/var/lib/{unit['StateDirectory'][0]}"
    assert f"TYMPAN_DATA_DIR={state}" in unit["Environment"][0].split()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_the_hardening_of_a_unit_leaves_the_decoders_sandbox_whole(path: Path) -> None:
    """What would take a protection away from the decoder, or its tools from the engine, is not there."""
    unit = _unit(path)
    assert unit["ProtectSystem"] == ["strict"]
    assert unit["NoNewPrivileges"] == ["yes"]
    assert not {"RestrictNamespaces", "MemoryDenyWriteExecute", "ProcSubset", "PrivateUsers", "PrivateNetwork"} & set(
        unit
    )
    allowed = set(unit["SystemCallFilter"][0].split())
    assert {"@system-service", "landlock_create_ruleset", "landlock_restrict_self", "seccomp"} <= allowed


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """No word is unknown to it, and it finds little to be afraid of."""
    for path in UNITS:
        copy = tmp_path / path.name
        copy.write_text(path.read_text("utf-8").replace("/opt/tympan/bin/tympan", "/bin/true"))
        verify = ["systemd-analyze", "verify", "--man=no", str(copy)]
        done = subprocess.run(verify, capture_output=True, text=True, check=False, timeout=30)
        ours = [line for line in (done.stdout + done.stderr).splitlines() if path.stem in line]
        assert (done.returncode, ours) == (0, [])
        audit = ["systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", str(path)]
        done = subprocess.run(audit, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout[-600:]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed here")
def test_system_calls_of_the_sandbox_pass_the_filter_of_the_units() -> None:
    """Namespaces and privileges are given up by calls that this machine's systemd lets through."""
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True, timeout=30
    )
    groups = {
        name: set(body.split()) for name, body in re.findall(r"^(@[\w-]+)\n((?:    .*\n)*)", shown.stdout, re.MULTILINE)
    }

    def calls(name: str) -> set[str]:
        inside = groups.get(name, {name} - {""})
        return {call for each in inside for call in (calls(each) if each.startswith("@") else {each})}

    allowed = {call for word in _unit(UNITS[0])["SystemCallFilter"][0].split() for call in calls(word)}
    needed = {"unshare", "setgroups", "setgid", "setuid", "capset", "prctl", "prlimit64", "clone", "wait4", "sendmsg"}
    assert needed | {"landlock_create_ruleset", "landlock_restrict_self", "seccomp"} <= allowed


def _objects(*paths: Path) -> list[dict[str, Any]]:
    return [document for path in paths for document in documents(path)]


BASE = _objects(*(path for path in sorted((KUBERNETES / "base").glob("*.yaml")) if path.name != "kustomization.yaml"))
WORKLOADS = {each["metadata"]["name"]: each for each in BASE if each["kind"] in {"Deployment", "Job"}}


def _pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def _selectors() -> list[dict[str, str]]:
    """Return everything that chooses pods by labels."""
    found = []
    for each in BASE:
        spec = each.get("spec", {})
        if each["kind"] == "Service":
            found.append(spec["selector"])
        elif each["kind"] in {"PodDisruptionBudget", "Deployment"}:
            found.append(spec["selector"]["matchLabels"])
        elif each["kind"] == "NetworkPolicy":
            found.append(spec["podSelector"].get("matchLabels", {}))
        if each["kind"] == "Deployment":
            spread = each["spec"]["template"]["spec"]["topologySpreadConstraints"]
            found += [constraint["labelSelector"]["matchLabels"] for constraint in spread]
    return found


def test_the_kustomization_lists_every_file_of_the_base() -> None:
    """A manifest that is not listed is not applied; names are there once."""
    (listed,) = documents(KUBERNETES / "base" / "kustomization.yaml")
    files = {path.name for path in (KUBERNETES / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == files
    names = [(each["kind"], each["metadata"]["name"]) for each in BASE]
    assert len(names) == len(set(names))
    assert set(WORKLOADS) == {"tympan-api", "tympan-worker", "tympan-scheduler", "tympan-migrate"}


def test_every_selector_finds_the_pods_of_one_workload() -> None:
    """Service, budget, spread and policy speak of labels that pods have."""
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in WORKLOADS.values()]
    assert len(_selectors()) == 1 + 2 + 3 + 2 + 6
    for selector in _selectors():
        assert sum(selector.items() <= found.items() for found in labels) == (1 if selector else len(labels))
    for name, each in WORKLOADS.items():
        assert each["spec"]["template"]["metadata"]["labels"][NAME] == name


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_a_pod_is_closed_in_and_bounded(name: str) -> None:
    """No root, no rights, nothing to write but what is mounted, and limits on memory and disk."""
    pod = _pod(WORKLOADS[name])
    (container,) = pod["containers"]
    assert container["args"] == [name.removeprefix("tympan-")]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
    assert pod["automountServiceAccountToken"] is False
    # A Service named tympan would set TYMPAN_PORT to something that is no port.
    assert pod["enableServiceLinks"] is False
    closed = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == closed
    assert "memory" in container["resources"]["limits"]
    assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"]}
    assert {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]} == {
        "data": "/data",
        "tmp": "/tmp",
    }
    assert set(volumes) == {"data", "tmp"}
    assert [next(iter(source.values()))["name"] for source in container["envFrom"]] == ["tympan", "tympan-addresses"]


@pytest.mark.parametrize("name", sorted(set(WORKLOADS) - {"tympan-migrate"}))
def test_probes_ask_what_the_process_answers(name: str) -> None:
    """The port is the one it listens on; a process is restarted when it hangs and asked when it is ready."""
    (container,) = _pod(WORKLOADS[name])["containers"]
    (config,) = documents(KUBERNETES / "base" / "config.yaml")
    (port,) = container["ports"]
    assert str(port["containerPort"]) == config["data"]["TYMPAN_PORT"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": port["name"]}
    # The scheduler takes no requests and is ready when it lives.
    ready = "/livez" if name == "tympan-scheduler" else "/readyz"
    assert container["readinessProbe"]["httpGet"] == {"path": ready, "port": port["name"]}
    # A busy process is not taken for a dead one.
    assert container["livenessProbe"]["failureThreshold"] * container["livenessProbe"]["periodSeconds"] >= 60


def test_the_pause_before_a_stop_fits_into_the_time_for_it() -> None:
    """The ingress hears of a pod's end before the pod refuses calls."""
    pod = _pod(WORKLOADS["tympan-api"])
    _, pause_s = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    drain_s = Settings.model_fields["drain_s"].default
    assert pod["terminationGracePeriodSeconds"] >= float(pause_s) + drain_s + 45


def test_the_way_in_leads_to_the_api() -> None:
    """Ingress to Service to port by their names."""
    (ingress,) = [each for each in BASE if each["kind"] == "Ingress"]
    (service,) = [each for each in BASE if each["kind"] == "Service"]
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    for path in paths:
        target = path["backend"]["service"]
        assert target["name"] == service["metadata"]["name"]
        assert target["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    assert not {"/metrics", "/health"} & {path["path"] for path in paths}
    assert {"path": "/", "pathType": "Exact"}.items() <= next(path for path in paths if path["path"] == "/").items()
    ways = [path["path"] for path in paths if path["path"] != "/"]
    inside = {"/livez", "/health", "/metrics", "/openapi.json"}
    assert {route for route in description()["paths"] if not route.startswith(tuple(ways))} <= inside


def test_both_autoscalers_watch_the_same_number_and_the_same_workers() -> None:
    """KEDA and the plain autoscaler ask for the backlog in seconds of audio and never go down to no worker."""
    (keda,) = documents(KUBERNETES / "components" / "keda" / "scaledobject.yaml")
    (plain,) = documents(KUBERNETES / "components" / "hpa" / "hpa.yaml")
    (trigger,) = keda["spec"]["triggers"]
    (metric,) = plain["spec"]["metrics"]
    assert "tympan_job_backlog_seconds" in trigger["metadata"]["query"]
    assert metric["external"]["metric"]["name"] == "tympan_job_backlog_seconds"
    assert trigger["metadata"]["threshold"] == metric["external"]["target"]["averageValue"]
    assert keda["spec"]["scaleTargetRef"]["name"] == plain["spec"]["scaleTargetRef"]["name"] == "tympan-worker"
    assert keda["spec"]["minReplicaCount"] == plain["spec"]["minReplicas"] >= 1
    behavior = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == plain["spec"]["behavior"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed here")
def test_kustomize_builds_what_is_meant() -> None:
    """The overlay for GPUs keeps all of the base and changes the workers alone."""
    built = {name: _built(name) for name in ("base", "overlays/gpu")}
    for objects in built.values():
        assert {each["metadata"].get("namespace") for each in objects if each["kind"] != "Namespace"} == {"tympan"}
    before, after = ({(each["kind"], each["metadata"]["name"]): each for each in objects} for objects in built.values())
    assert set(after) - set(before) == {("ScaledObject", "tympan-worker")}
    assert {key for key in before if before[key] != after[key]} == {("Deployment", "tympan-worker")}
    worker = after["Deployment", "tympan-worker"]
    (container,) = _pod(worker)["containers"]
    assert "replicas" not in worker["spec"]
    assert container["image"] == "tympan:cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"name": "TYMPAN_DEVICE", "value": "cuda"} in container["env"]


def _built(name: str) -> list[dict[str, Any]]:
    command = ["kubectl", "kustomize", str(KUBERNETES / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_compose_asks_for_every_secret_and_publishes_nginx_alone() -> None:
    """No password has a default; data stores have no way out and no way in."""
    with pytest.raises(Unset, match="set it in"):
        compose({})
    file = compose()
    services = file["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"nginx"}
    assert all(port.startswith("127.0.0.1:") for port in services["nginx"]["ports"])
    assert file["networks"]["inner"]["internal"] is True
    for name in ("postgres", "rabbitmq", "redis", "s3", "bucket", "migrate", "prometheus", "grafana"):
        assert services[name]["networks"] == ["inner"]
    for name, service in services.items():
        assert set(service["networks"]) <= set(file["networks"])
        assert "memory" in service["deploy"]["resources"]["limits"]
        assert service["restart"] == ("no" if name in {"migrate", "bucket"} else "unless-stopped")


def test_compose_starts_things_in_an_order_that_works() -> None:
    """Whoever is waited for by its health has a check of it, in the file or in our image."""
    file = compose()
    services = file["services"]
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            wanted = services[other]
            if how["condition"] == "service_healthy":
                assert "test" in wanted.get("healthcheck", {}) or wanted["image"].startswith("tympan:")
            else:
                assert wanted["restart"] == "no"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source.startswith("./") or source in file["volumes"]


def test_the_example_of_the_secrets_names_all_that_compose_asks_for() -> None:
    """Nothing is asked for that the example does not name, and it holds no password."""
    lines = (DEPLOY / "env.example").read_text("utf-8").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    empty = {name for name, value in given.items() if not value}
    filled = {**given, **dict.fromkeys(empty, "x" * 32)}
    assert compose(filled)["services"]["nginx"]["ports"][0] == "127.0.0.1:8080:8080"
    for name in sorted(empty):
        with pytest.raises(Unset, match=name):
            compose({key: value for key, value in filled.items() if key != name})
