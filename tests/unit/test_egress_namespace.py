"""L2, L3, L6, L9 with nothing stood in for: the system's resolver, a name server on the wire, a network of its own.

In that network every address there is leads to one host that counts its visitors, so nothing that should not be
reached can be reached unseen. It takes Linux and root; elsewhere these tests say that they did not run.
"""

import contextlib
import ipaddress
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.egress_support import PUBLIC, PUBLIC_V6, REFUSED_URLS, Host, silent_port
from tympan.egress import DownloadLimits, Egress, EgressRules, PostLimits
from tympan.egress.wire import never
from tympan.errors import TympanError

REPOSITORY = Path(__file__).parents[2]
A, CNAME, AAAA = 1, 5, 28

# Each name's answers, one list a question, the last one for ever.
RECORDS: dict[tuple[str, int], list[list[str]]] = {
    ("public.test", A): [[str(PUBLIC)]],
    ("public6.test", AAAA): [[str(PUBLIC_V6)]],
    ("alias.test", A): [["public.test"]],
    ("rebind.test", A): [[str(PUBLIC)], ["127.0.0.1"]],
    ("back.test", A): [["127.0.0.1"], [str(PUBLIC)]],
    ("mixed.test", A): [[str(PUBLIC), "10.0.0.1"]],
    ("families.test", A): [[str(PUBLIC)]],
    ("families.test", AAAA): [["fd00::1"]],
    ("many.test", A): [[*(f"93.184.216.{n}" for n in range(1, 25)), "192.168.1.1"]],
    ("private6.test", AAAA): [["fd00::1"]],
    ("mapped.test", AAAA): [["::ffff:10.0.0.1"]],
    ("nat64.test", AAAA): [["64:ff9b::a00:1"]],
    ("sixtofour.test", AAAA): [["2002:a00:1::1"]],
    ("link.test", AAAA): [["fe80::1"]],
    ("chain.test", A): [["metadata.test"]],
    ("metadata.test", A): [["169.254.169.254"]],
    ("carrier.test", A): [["100.64.0.1"]],
    ("loop.test", A): [["loop.test"]],
}
REACHED = ("public.test", "public6.test", "alias.test", "rebind.test")
REFUSED = tuple(name for name in dict.fromkeys(name for name, _ in RECORDS) if name not in REACHED)


class NameServer:
    """Answers questions over UDP on 127.0.0.1:53 from ``RECORDS``, and counts them."""

    def __init__(self) -> None:
        """Open the port and begin to answer."""
        self.questions: Counter[tuple[str, int]] = Counter()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, asker = self._socket.recvfrom(4096)
            self._socket.sendto(self._reply(question), asker)

    def _reply(self, message: bytes) -> bytes:
        labels, at = [], 12
        while message[at]:
            labels.append(message[at + 1 : at + 1 + message[at]].decode().lower())
            at += 1 + message[at]
        question = message[12 : at + 5]
        name, kind = ".".join(labels), int.from_bytes(message[at + 1 : at + 3])
        self.questions[name, kind] += 1
        answers = list(self._answers(name, kind, self.questions[name, kind]))
        known = any(known == name for known, _ in RECORDS)
        header = message[:2] + struct.pack("!HHHHH", 0x8180 if known else 0x8183, 1, len(answers), 0, 0)
        return header + question + b"".join(answers)

    def _answers(self, name: str, kind: int, count: int, depth: int = 0) -> Iterator[bytes]:
        lists = RECORDS.get((name, kind), [[]])
        for text in lists[min(count, len(lists)) - 1]:
            with contextlib.suppress(ValueError):
                yield _record(name, kind, ipaddress.ip_address(text).packed)
                continue
            yield _record(name, CNAME, _wire_name(text))
            if depth < 3:
                yield from self._answers(text, kind, 1, depth + 1)


def _record(name: str, kind: int, data: bytes) -> bytes:
    """Return one answer that may not be kept for even a second."""
    return _wire_name(name) + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def _wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _prepare_network() -> None:
    """Lead every address to this machine and every name to the name server."""
    for line in (
        "link set lo up",
        "route add local default dev lo table main",
        "-6 route add local default dev lo table main",
    ):
        subprocess.run(["ip", *line.split()], check=True)
    folder = Path(tempfile.mkdtemp())
    for name, text in (
        ("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
    ):
        (folder / name).write_text(text)
        subprocess.run(["mount", "--bind", str(folder / name), f"/etc/{name}"], check=True)


def _outcomes(egress: Egress, url: str) -> list[list[str]]:
    """Return what both errands to ``url`` come to."""
    path = Path(tempfile.mkdtemp()) / "fetched"

    def post() -> str:
        return egress.post(url, b"{}", {}, PostLimits(total_s=3.0)).excerpt

    def download() -> str:
        egress.download(url, path, DownloadLimits(1000, total_s=3.0, told_after_s=0.0), never)
        return path.read_text()

    found = []
    for errand in (post, download):
        try:
            found.append(["ok", errand()])
        except TympanError as error:
            found.append([error.code, str(error)])
    return found


def inside() -> dict[str, Any]:
    """Return what happened in the network of our own."""
    _prepare_network()
    names = NameServer()
    scenes: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        hosts = [
            stack.enter_context(Host(lambda visit: visit.answer(200, b"reached"), address, port))
            for address in ("0.0.0.0", "::")  # noqa: S104
            for port in (80, 443, 8080)
        ]
        silent = stack.enter_context(silent_port("0.0.0.0"))  # noqa: S104
        egress = Egress(EgressRules(ports=(80, 443, 81, silent)), connect_timeout_s=0.7)

        def scene(key: str, url: str) -> None:
            before = [len(host.visits) for host in hosts]
            names.questions.clear()
            outcomes = _outcomes(egress, url)
            visits = [visit for host, n in zip(hosts, before, strict=True) for visit in host.visits[n:]]
            asked = {f"{name} {kind}": n for (name, kind), n in names.questions.items()}
            scenes[key] = {"outcomes": outcomes, "visits": visits, "asked": asked}

        for name in (*REACHED, *REFUSED):
            scene(name, f"http://{name}/")
        for number, url in enumerate(REFUSED_URLS):
            scene(f"form {number}", url)
        scene("closed", "http://public.test:81/")
        scene("silent", f"http://public.test:{silent}/")
        scene("no tls", "https://public.test/")
        scene("no name", "http://none.test/")
    return scenes


@pytest.fixture(scope="module")
def scenes() -> dict[str, Any]:
    """Return what happened in a network of its own."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network of its own takes Linux, root and the ip command: the canaries were NOT tried")
    apart = ["unshare", "--net", "--mount", "--propagation", "private"]
    if subprocess.run([*apart, "true"], check=False, capture_output=True, timeout=10).returncode:
        pytest.skip("this machine gives no network of its own: the canaries were NOT tried")
    done = subprocess.run(
        [*apart, sys.executable, __file__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY)])},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", REACHED)
def test_L2_what_is_public_is_reached_where_it_was_checked(scenes: dict[str, Any], name: str) -> None:
    """The canary does see visitors: those of public names, at the very address that was looked up."""
    address = str(PUBLIC_V6 if name == "public6.test" else PUBLIC)
    scene = scenes[name]
    expected = 1 if name == "rebind.test" else 2
    assert [outcome[0] for outcome in scene["outcomes"]][:expected] == ["ok"] * expected
    assert scene["visits"] == [address] * expected


def test_L2_the_second_answer_is_not_connected_to(scenes: dict[str, Any]) -> None:
    """Two errands ask twice, once each; the second is told 127.0.0.1 and goes nowhere."""
    scene = scenes["rebind.test"]
    assert [outcome[0] for outcome in scene["outcomes"]] == ["ok", "fetch_failed"]
    assert scene["asked"] == {f"rebind.test {A}": 2, f"rebind.test {AAAA}": 2}


@pytest.mark.parametrize("name", [name for name in REFUSED if name != "back.test"])
def test_L3_L6_names_that_lead_inside_lead_nowhere(scenes: dict[str, Any], name: str) -> None:
    """One private answer of any kind, behind aliases too, and nobody is visited."""
    assert [outcome[0] for outcome in scenes[name]["outcomes"]] == ["fetch_failed"] * 2
    assert scenes[name]["visits"] == []
    assert scenes[name]["asked"][f"{name} {A}"] == 2


def test_L2_a_name_that_was_inside_is_judged_anew(scenes: dict[str, Any]) -> None:
    """Private first, public later: refused first, reached later, each at the address of its own answer."""
    assert [outcome[0] for outcome in scenes["back.test"]["outcomes"]] == ["fetch_failed", "ok"]
    assert scenes["back.test"]["visits"] == [str(PUBLIC)]


def test_L1_odd_forms_reach_nobody(scenes: dict[str, Any]) -> None:
    """No spelling of any address gets a question to the name server or a visitor to the canary."""
    for number, url in enumerate(REFUSED_URLS):
        scene = scenes[f"form {number}"]
        assert {outcome[0] for outcome in scene["outcomes"]} <= {"invalid_request", "address_refused"}, url
        assert (scene["visits"], scene["asked"]) == ([], {}), url


def test_L9_closed_silent_and_refused_read_the_same(scenes: dict[str, Any]) -> None:
    """A closed port, one that drops everything, no TLS, no name and a private name: the same code and text."""
    for errand in (0, 1):
        told = {
            tuple(scenes[key]["outcomes"][errand]) for key in ("closed", "silent", "no tls", "no name", "mixed.test")
        }
        assert len(told) == 1
        assert next(iter(told))[0] == "fetch_failed"


if __name__ == "__main__":
    print(json.dumps(inside()))  # noqa: T201
