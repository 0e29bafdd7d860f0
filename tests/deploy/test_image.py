"""The Dockerfile, without Docker: what it copies is there, its stages fit, and its steps are carried out here."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.support import Node
from tests.deploy.files import ROOT, Instruction, dockerfile, image_environment
from tests.servers.process import free_port, wait_until

KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "RUN", "STOPSIGNAL", "USER"}
KNOWN |= {"WORKDIR"}
STAGES = {stage.name: stage for stage in dockerfile()}


def _copies() -> list[tuple[str, Instruction]]:
    return [(stage.name, each) for stage in STAGES.values() for each in stage.all("COPY")]


def _is_sent(path: str) -> bool:
    """Return whether ``.dockerignore`` lets a path through: the last line that matches it decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines():
        pattern = line.removeprefix("!")
        parts = [path, *map(str, Path(path).parents)]
        if line and not line.startswith("#") and any(fnmatch.fnmatch(part, pattern) for part in parts):
            sent = line.startswith("!")
    return sent


def _health_check() -> list[str]:
    (check,) = STAGES["base"].all("HEALTHCHECK")
    _, _, command = check.arguments.partition("CMD ")
    return Instruction("CMD", command).words


def test_stages_and_instructions_are_ones_that_exist() -> None:
    """Each stage stands on an image or an earlier stage; the last, which is built by default, is the one for CPUs."""
    names = list(STAGES)
    assert names == ["environment", "environment-cuda", "base", "cuda", "cpu"]
    for number, stage in enumerate(STAGES.values()):
        assert stage.base in names[:number] or re.fullmatch(r"[a-z./-]+:[\w.-]+", stage.base)
        assert {each.name for each in stage.instructions} <= KNOWN


def test_everything_that_is_copied_is_there_and_sent_to_the_builder() -> None:
    """A source is in the repository and not ignored; a stage that is copied from comes before."""
    assert len(_copies()) == 6
    for stage, copy in _copies():
        words = copy.words
        if words[0].startswith("--from="):
            assert list(STAGES).index(words[0].removeprefix("--from=")) < list(STAGES).index(stage)
            continue
        for source in words[:-1]:
            assert (ROOT / source).exists(), source
            assert _is_sent(source), source
    assert not any(
        map(_is_sent, (".env", ".git/config", "tests/conftest.py", "src/tympan/x.pyc", "deploy/env.example"))
    )


def test_the_image_runs_as_nobody_in_particular_and_stops_when_asked() -> None:
    """A fixed user without rights, the program as the first process, and nothing to write outside /data and /tmp."""
    assert [each.arguments for each in STAGES["base"].all("ENTRYPOINT")] == ['["tympan"]']
    assert [each.arguments for each in STAGES["base"].all("CMD")] == ['["serve"]']
    assert [each.arguments for each in STAGES["base"].all("STOPSIGNAL")] == ["SIGTERM"]
    for name in ("cpu", "cuda"):
        assert [each.arguments for each in STAGES[name].all("USER")] == ["10001:10001"]
        # A model is in the image only when it is asked for.
        (baked,) = STAGES[name].all("RUN")
        assert "for name in ${BAKE_MODEL}" in baked.arguments
    environment = image_environment()
    assert environment["TYMPAN_DATA_DIR"] == "/data"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_the_libraries_for_gpus_are_looked_for_where_their_wheels_put_them() -> None:
    """The folders are those of the packages in requirements/cuda.txt, under the Python of the base image."""
    locked = (ROOT / "requirements" / "cuda.txt").read_text("utf-8")
    version = re.findall(r"python:(3\.\d+)-", STAGES["environment"].base)[0]
    for folder in image_environment("cuda")["LD_LIBRARY_PATH"].split(":"):
        found = re.fullmatch(rf"/opt/tympan/lib/python{version}/site-packages/nvidia/(\w+)/lib", folder)
        assert found, folder
        assert f"nvidia-{found[1].replace('_', '-')}-cu12==" in locked


def test_the_health_check_tells_a_server_that_lives_from_one_that_does_not(tmp_path: Path) -> None:
    """The command of the file, against a server of the same program."""
    port = free_port()
    command = [sys.executable, *_health_check()[1:]]
    environment = {**os.environ, "TYMPAN_PORT": str(port)}
    assert _health_check()[0] == "python"
    assert subprocess.run(command, env=environment, check=False, capture_output=True, timeout=20).returncode != 0
    settings = {"PORT": str(port), "ENGINE": "fake", "DATA_DIR": str(tmp_path / "data")}
    server = Node("serve", port, tmp_path / "log", {**os.environ, **{f"TYMPAN_{k}": v for k, v in settings.items()}})
    server.start()
    try:
        wait_until(
            lambda: (
                subprocess.run(command, env=environment, check=False, capture_output=True, timeout=20).returncode == 0
            ),
            30,
            server.log.read_text,
        )
    finally:
        server.kill()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_steps_of_the_build_succeed_with_nothing_but_what_is_copied(tmp_path: Path) -> None:
    """The steps up to the finished environment, carried out here in folders of their own; then the program starts."""
    places = {"/opt/tympan": str(tmp_path / "tympan"), "/build": str(tmp_path / "build")}
    (tmp_path / "build").mkdir()
    for instruction in STAGES["environment"].instructions:
        if instruction.name == "COPY":
            *sources, target = instruction.words
            _copy(sources, tmp_path / "build" / target)
        elif instruction.name == "RUN":
            words = [_moved(word, places) for word in instruction.words]
            words[0] = sys.executable if words[0] == "python" else words[0]
            done = subprocess.run(
                words, cwd=tmp_path / "build", capture_output=True, text=True, check=False, timeout=600
            )
            assert done.returncode == 0, f"{instruction.arguments}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    shutil.rmtree(tmp_path / "build")
    program = str(tmp_path / "tympan" / "bin" / "tympan")
    said = subprocess.run([program, "--help"], cwd="/", capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(word in said for word in ("serve", "worker", "scheduler", "migrate"))
    check = [program, "migrate", "--check"]
    environment = {"TYMPAN_DATA_DIR": str(tmp_path / "data"), "PATH": os.environ["PATH"]}
    assert "missing" in subprocess.run(check, env=environment, capture_output=True, text=True, check=False).stderr


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("names", [("runtime", "cluster"), ("cuda",)])
def test_the_locks_that_are_installed_together_agree(names: tuple[str, ...], tmp_path: Path) -> None:
    """One call of pip takes them all, hashes included."""
    files = [word for name in names for word in ("-r", str(ROOT / "requirements" / f"{name}.txt"))]
    words = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--require-hashes", "--ignore-installed"]
    done = subprocess.run([*words, *files], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, done.stderr[-3000:]


def _copy(sources: list[str], target: Path) -> None:
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            place = target / path.name if str(target).endswith("requirements") or target.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)


def _moved(word: str, places: dict[str, str]) -> str:
    for there, here in places.items():
        word = word.replace(there, here)
    return word
