"""Webhooks from the tables to the receiver: signatures, schedule, faults, fairness and throughput."""

import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import standardwebhooks
import svix.webhooks
from sqlalchemy import text

from tests.egress_support import ScriptedResolver, certify, closed_port, silent_port
from tests.log_support import captured_log
from tests.webhook_receiver import (
    FLOOD,
    HANG,
    HASTY,
    KEY,
    QUICK,
    RESET,
    Message,
    Post,
    Reaction,
    post_office,
    wait_until,
)
from tympan import faultpoints
from tympan.domain import JobState, NewJob, Options, Source, SourceKind
from tympan.egress import DownloadLimits, Egress, EgressRules, PostLimits
from tympan.egress.exchange import CONNECT_S
from tympan.errors import Conflict, NotFound, StorageUnavailable
from tympan.faultpoints import InjectedFault
from tympan.jobs import delivery
from tympan.jobs.delivery import DeliveryOptions
from tympan.jobs.delivery_rules import Reply, Schedule, judge
from tympan.jobs.sealing import Sealer
from tympan.jobs.webhooks import MAX_BODY_BYTES, EndpointChange, message_body, new_secret
from tympan.storage.batches import BatchStore, NewBatch
from tympan.storage.database import sqlite_url
from tympan.storage.deliveries import UNUSED_S, DeliveryStore
from tympan.storage.delivery_backlog import DeliveryBacklog, delivery_backlog
from tympan.storage.delivery_marks import KEPT_ATTEMPTS
from tympan.storage.delivery_values import DeliveryClaim, Event, Outcome
from tympan.storage.endings import Endings
from tympan.storage.jobs import JobStore

DAY_S = 86_400.0
CLAIM = DeliveryClaim(1, 1, 1, "whe_1", "https://a.example", ("sealed",), on_trial=True, failing_s=0.0,
                      event=Event("evt_1", "job.succeeded", 1, 1.7e9, "{}"))  # fmt: skip


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the address of an empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "t.db")
    address: str = request.getfixturevalue("postgres").url
    return address


@pytest.fixture
def post(url: str) -> Iterator[Post]:
    """Return both sides: a receiver that says yes, and what sends to it."""
    with post_office(url) as running:
        yield running


def verify(secret: str, message: Message) -> dict[str, object]:
    """Check a message as receivers do, with both libraries, and return its body."""
    svix.webhooks.Webhook(secret).verify(message.body, message.headers)
    checked: dict[str, object] = standardwebhooks.Webhook(secret).verify(message.body, message.headers)
    return checked


# ------------------------------------------------------------------------------------------------------ signatures


def test_W1_receivers_can_verify_what_is_sent(post: Post) -> None:
    """A message verifies with both libraries and holds type, time, sequence and data, and nothing else."""
    endpoint = post.endpoint()
    (job,) = post.send(endpoint, metadata={"name": "Zoë 🎧"})
    assert post.loop().run_once() == 1
    (message,) = post.receiver.messages
    body = verify(post.webhooks.secret("default", endpoint).secret, message)
    assert set(body) == {"type", "timestamp", "seq", "data"}
    assert (body["type"], body["seq"]) == ("job.succeeded", 1)
    assert body["data"] == {"id": job, "state": "succeeded", "metadata": {"name": "Zoë 🎧"}, "error": None}
    at = datetime.fromisoformat(str(body["timestamp"]))
    assert str(body["timestamp"]).endswith("Z")
    assert abs((datetime.now(UTC) - at).total_seconds()) < 10
    assert message.headers["content-type"] == "application/json"


@pytest.mark.parametrize("part", ["body", "id", "timestamp", "secret"])
def test_W1_a_message_that_was_changed_does_not_verify(post: Post, part: str) -> None:
    """Changing the body, the id or the time, or checking with another secret, fails."""
    endpoint = post.endpoint()
    post.send(endpoint)
    post.loop().run_once()
    (message,) = post.receiver.messages
    secret = post.webhooks.secret("default", endpoint).secret
    headers, body = dict(message.headers), message.body
    if part == "body":
        body = body.replace(b"succeeded", b"succeedee", 1)
    elif part == "id":
        headers["webhook-id"] += "0"
    elif part == "timestamp":
        headers["webhook-timestamp"] = str(int(headers["webhook-timestamp"]) - 1)
    else:
        secret = new_secret()
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verify(secret, replace(message, headers=headers, body=body))


def test_W1_both_secrets_sign_for_a_day_after_a_rotation(post: Post) -> None:
    """After a rotation receivers with the old and with the new secret verify; a day later only the new one does."""
    endpoint = post.endpoint()
    old = post.webhooks.secret("default", endpoint).secret
    new = post.webhooks.rotate("default", endpoint)
    assert new.secret != old
    post.send(endpoint)
    loop = post.loop()
    loop.run_once()
    (first,) = post.receiver.messages
    assert len(first.headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new.secret):
        verify(secret, first)
    post.pass_time(DAY_S + 1)
    post.send(endpoint)
    loop.run_once()
    second = post.receiver.messages[-1]
    verify(new.secret, second)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        verify(old, second)


def test_W1_the_known_vector_of_the_standard_verifies() -> None:
    """The signature of the specification's own example is the one our library makes."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signed = standardwebhooks.Webhook(secret).sign(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), '{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_bodies_stay_under_twenty_kilobytes() -> None:
    """Metadata that would make a message too long is left out; the rest of it arrives."""
    long = json.dumps({"id": "job_1", "state": "failed", "metadata": {"a": "é" * 12_000}, "error": None})
    body = message_body(replace(CLAIM.event, data=long))
    assert len(body) < MAX_BODY_BYTES
    assert json.loads(body)["data"] == {"id": "job_1", "state": "failed", "metadata": None, "error": None}


def test_secrets_are_not_in_the_database(tmp_path: Path) -> None:
    """No secret, in use or old, can be read out of the database's files."""
    with post_office(sqlite_url(tmp_path / "t.db")) as post:
        endpoint = post.endpoint()
        secrets = [post.webhooks.secret("default", endpoint).secret, post.webhooks.rotate("default", endpoint).secret]
        stored = b"".join(path.read_bytes() for path in tmp_path.glob("t.db*"))
    assert endpoint.encode() in stored
    assert b"whsec_" not in stored
    for secret in secrets:
        assert secret.removeprefix("whsec_").encode() not in stored


# -------------------------------------------------------------------------------------------------- schedule, retry


def test_W2_a_failing_receiver_is_tried_again_by_the_schedule(post: Post) -> None:
    """Four failures, then success: waits as scheduled within a fifth, the same id, a new time each."""
    post.receiver.script("/hook", 500, 500, 503, 500, 200)
    post.send(post.endpoint())
    loop = post.loop()
    now = [time.time()]
    loop._tools = replace(loop._tools, clock=lambda: now[0])
    for wait_s in (5.0, 300.0, 1800.0, 7200.0):
        assert loop.run_once() == 1
        due_s = post.due_in_s()
        assert 0.8 * wait_s - 1 < due_s < 1.2 * wait_s
        assert loop.run_once() == 0
        post.pass_time(due_s + 0.1)
        now[0] += due_s
    assert loop.run_once() == 1
    assert post.states() == {"delivered": 1}
    messages = post.receiver.messages
    assert len(messages) == 5
    assert len({message.id for message in messages}) == 1
    assert len({message.body for message in messages}) == 1
    assert len({message.headers["webhook-timestamp"] for message in messages}) == 5


def test_W2_the_log_tells_every_attempt(post: Post) -> None:
    """Each attempt is listed with its number, status, error and the beginning of the answer."""
    post.receiver.script("/hook", Reaction(500, body=b"no\x00way\n" + b"x" * 5000), 200)
    endpoint = post.endpoint()
    (job,) = post.send(endpoint)
    loop = post.loop()
    loop.run_once()
    post.pass_time(10)
    loop.run_once()
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert (delivery.state, delivery.subject_id, delivery.attempts) == ("delivered", job, 2)
    first, second = delivery.log
    assert (first.number, first.status, first.error) == (1, 500, "The receiver answered 500.")
    assert first.excerpt.startswith("no?way?xxx")
    assert len(first.excerpt.encode()) <= 1024
    assert (second.number, second.status, second.error, second.excerpt) == (2, 200, None, "thanks")
    assert delivery.event_id == post.receiver.messages[0].id


def test_the_schedule_varies_by_a_fifth_and_ends() -> None:
    """Waits stay within 20 % of the plan, reach both ends, and there are nine after the first attempt."""
    schedule = Schedule()
    for attempts, planned in enumerate(schedule.waits_s[1:], start=1):
        waits = [schedule.wait_s(attempts, draw / 10) for draw in range(11)]
        assert all(wait is not None for wait in waits)
        assert waits[0] == pytest.approx(planned * 0.8)
        assert waits[-1] == pytest.approx(planned * 1.2)
    assert schedule.wait_s(10, 0.5) is None


@pytest.mark.parametrize(
    ("status", "asked_s", "expected_s"),
    [(429, 60.0, 60.0), (503, 7.0, 7.0), (429, 1.0, 5.0), (429, 10 * DAY_S, DAY_S), (429, None, 5.0)],
)
def test_W4_retry_after_is_honoured_up_to_a_day(status: int, asked_s: float | None, expected_s: float) -> None:
    """The wait is what the receiver asks for, if that is longer than the schedule's, and a day at most."""
    outcome = judge(CLAIM, Reply(status, retry_after_s=asked_s), Schedule(), 0.5)
    assert outcome.result == "pending"
    assert outcome.retry_in_s == pytest.approx(expected_s)
    assert outcome.rest_s == pytest.approx(expected_s)


def test_W4_a_receiver_that_asks_for_time_gets_it(post: Post) -> None:
    """After 429 with Retry-After nothing goes to the endpoint until then, other events included."""
    post.receiver.script("/hook", Reaction(429, ("retry-after: 120",)), 200)
    post.send(post.endpoint(), 3)
    loop = post.loop()
    assert loop.run_once() == 1
    post.pass_time(118)
    assert loop.run_once() == 0
    post.pass_time(3)
    assert loop.run_once() == 1
    assert loop.run_once() == 2
    assert post.states() == {"delivered": 3}


def test_W4_gone_disables_the_endpoint_at_once(post: Post) -> None:
    """After 410 the endpoint is disabled with a reason, and what waits for it is dropped and listed."""
    post.receiver.script("/hook", 410)
    endpoint = post.endpoint()
    post.send(endpoint, 5)
    loop = post.loop()
    assert loop.run_once() == 1
    found = post.webhooks.get("default", endpoint)
    assert (found.enabled, found.disabled_reason) == (False, "The receiver answered 410 Gone.")
    assert post.states() == {"failed": 1, "dropped": 4}
    post.send(endpoint, 2)
    post.pass_time(30 * 60)
    assert loop.run_once() == 0
    assert post.states() == {"failed": 1, "dropped": 6}
    assert len(post.receiver.messages) == 1
    assert (post.outcomes["failed"], post.outcomes["dropped"]) == (1, 4)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_W4_redirects_are_failures(post: Post, status: int) -> None:
    """A redirect is not followed: it counts as a failure, and says so."""
    post.receiver.script("/hook", Reaction(status, (f"location: {post.receiver.url('/other')}",)))
    endpoint = post.endpoint()
    post.send(endpoint)
    post.loop().run_once()
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert (delivery.state, delivery.last_status) == ("pending", status)
    assert "redirects are not followed" in (delivery.last_error or "")
    assert not post.receiver.at("/other")


@pytest.mark.parametrize("fault", [HANG, RESET])
def test_W4_no_answer_is_a_failure(post: Post, fault: str) -> None:
    """A receiver that hangs or resets costs no more than the time limit, and is tried again."""
    post.receiver.script("/hook", fault)
    endpoint = post.endpoint()
    post.send(endpoint)
    began = time.monotonic()
    post.loop(replace(QUICK, limits=HASTY)).run_once()
    assert time.monotonic() - began < 30
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert (delivery.state, delivery.last_status) == ("pending", None)
    assert delivery.last_error == "The message could not be delivered to its address."


def test_W4_a_huge_answer_is_not_read(post: Post) -> None:
    """Of an endless answer little is taken; its status counts."""
    post.receiver.script("/hook", FLOOD)
    post.send(post.endpoint())
    post.loop().run_once()
    assert post.states() == {"delivered": 1}
    wait_until(lambda: not post.receiver.open_now["/hook"])
    assert post.receiver.bytes_taken < 32 << 20  # What the kernel's buffers take; the sender reads 64 kB at most.


def test_W4_a_certificate_that_nobody_vouches_for_is_refused(url: str, tmp_path: Path) -> None:
    """Nothing is sent to a receiver that cannot prove its name."""
    tls, _ = certify(tmp_path, "hooks.example")
    with post_office(url, tls) as post:
        post.send(post.endpoint())
        post.loop(replace(QUICK, limits=HASTY)).run_once()
        assert post.states() == {"pending": 1}
        assert not post.receiver.messages


def test_W4_a_closed_port_is_a_failure(post: Post) -> None:
    """Nobody listening is a failure like others."""
    endpoint = post.endpoint()
    post.send(endpoint)
    post.receiver.port = closed_port()
    post.database.write(
        lambda tx: tx.execute(text("update webhook_endpoints set url = :u"), {"u": post.receiver.url()})
    )
    post.loop().run_once()
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert (delivery.state, len(delivery.log)) == ("pending", 1)


def test_an_address_that_is_refused_later_is_not_reached(post: Post) -> None:
    """The rules hold at each attempt, not only when the endpoint is made."""
    endpoint = post.endpoint()
    post.send(endpoint)
    post.database.write(
        lambda tx: tx.execute(text("update webhook_endpoints set url = 'http://169.254.169.254/latest'"))
    )
    post.loop().run_once()
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert delivery.state == "pending"
    assert delivery.last_error == "This address may not be reached from here."


def test_a_secret_that_cannot_be_opened_sends_nothing(post: Post) -> None:
    """With another key nothing is sent unsigned; the attempt fails with a cause."""
    endpoint = post.endpoint()
    post.send(endpoint)
    post.sealer = Sealer.from_secret("another key for tests that is also long enough")
    post.loop().run_once()
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert delivery.last_error == "A secret in the database was sealed with another key."
    assert not post.receiver.messages


def test_after_the_loss_of_the_key_a_new_secret_signs_at_once(post: Post) -> None:
    """The secret before it, which nobody can open, holds no message up for the day that it would sign too."""
    endpoint = post.endpoint()
    post.sealer = Sealer.from_secret("another key for tests that is also long enough")
    new = post.webhooks.rotate("default", endpoint)
    post.send(endpoint)
    post.loop().run_once()
    assert post.states() == {"delivered": 1}
    (message,) = post.receiver.messages
    assert len(message.headers["webhook-signature"].split()) == 1
    verify(new.secret, message)


def test_a_mistake_in_one_delivery_does_not_stop_others(post: Post) -> None:
    """An event whose body cannot be read fails by itself."""
    broken, fine = post.endpoint("/broken"), post.endpoint("/fine")
    post.send(broken)
    post.database.write(lambda tx: tx.execute(text("update events set body = 'no JSON'")))
    post.send(fine)
    assert post.loop().run_once() == 2
    assert post.states() == {"pending": 1, "delivered": 1}


# ------------------------------------------------------------------------------------------------- crashes, fairness

_SENDER = """
import sys
from tympan.egress import Egress, EgressRules
from tympan.jobs.delivery import DeliveryLoop
from tympan.jobs.sealing import Sealer
from tympan.storage.database import Database
from tympan.storage.deliveries import DeliveryStore
url, rule, key = sys.argv[1:]
store = DeliveryStore(Database(url), lease_s=2.0)
DeliveryLoop(store, Egress(EgressRules(allow=(rule,))), Sealer.from_secret(key)).run_once()
"""


@pytest.mark.parametrize(("point", "sent"), [("webhook.claim", 0), ("webhook.send", 0), ("webhook.mark", 1)])
def test_W3_a_delivery_survives_the_death_of_its_sender(post: Post, url: str, point: str, sent: int) -> None:
    """A sender that is killed at any point leaves a delivery that is made again, under the same id."""
    post.send(post.endpoint())
    command = [sys.executable, "-c", _SENDER, url, f"127.0.0.1:{post.receiver.port}", KEY]
    died = subprocess.run(command, env=os.environ | {"TYMPAN_FAULT": f"{point}:crash"}, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(post.receiver.messages) == sent
    assert post.states() == {"pending": 1}
    loop = post.loop()
    if point != "webhook.claim":
        assert loop.run_once() == 0  # Its lease has not run out.
        post.pass_time(2.1)
    assert loop.run_once() == 1
    assert post.states() == {"delivered": 1}
    assert len(post.receiver.messages) == sent + 1
    assert len({message.id for message in post.receiver.messages}) == 1


def test_two_senders_share_the_work(post: Post) -> None:
    """Two senders on one database deliver each event once, and no endpoint sees more than four at a time."""
    endpoints = [post.endpoint(f"/{number}") for number in range(6)]
    for endpoint in endpoints:
        post.send(endpoint, 30)
    for _ in range(2):
        post.loop().start()
    wait_until(lambda: post.states() == {"delivered": 180})
    assert len(post.receiver.messages) == len({message.id for message in post.receiver.messages}) == 180
    assert max(post.receiver.most_open.values()) <= 4
    assert post.outcomes["lost"] == 0


def test_a_sender_that_lost_its_lease_notes_nothing(post: Post) -> None:
    """What a frozen sender brings back after another has taken over is not counted."""
    endpoint = post.endpoint()
    post.send(endpoint)
    store = DeliveryStore(post.database)
    (claim,) = store.claim("frozen", 1, 1)
    post.pass_time(61)
    assert not store.holds(claim)
    assert post.loop().run_once() == 1
    assert store.mark([judge(claim, Reply(500), Schedule(), 0.5)]) == {"lost": 1}
    assert post.states() == {"delivered": 1}
    assert post.webhooks.get("default", endpoint).failing_since is None


def _waits_s(post: Post, healthy: list[str], rounds: int) -> list[float]:
    """Send one event a round to each endpoint, and return how long each took to arrive."""
    waits = []
    for _ in range(rounds):
        began, before = time.time(), len(post.receiver.messages)
        for endpoint in healthy:
            post.send(endpoint)
        post.loops[-1].wake()
        wait_until(lambda before=before: _arrived(post, before) == len(healthy))  # type: ignore[misc]
        waits += [message.at - began for message in post.receiver.messages[before:] if message.path != "/dead"]
    return sorted(waits)


def _arrived(post: Post, before: int) -> int:
    return sum(message.path != "/dead" for message in post.receiver.messages[before:])


@pytest.mark.alone
def test_W5_a_dead_endpoint_does_not_hold_up_others(post: Post) -> None:
    """With 5,000 events for a receiver that never answers, 50 others wait at most twice as long; it gets one place."""
    healthy = [post.endpoint(f"/{number}") for number in range(50)]
    post.receiver.script("/dead", HANG)
    dead = post.endpoint("/dead")
    post.loop(replace(DeliveryOptions(), limits=HASTY)).start()
    _waits_s(post, healthy, 1)
    baseline = _waits_s(post, healthy, 4)
    post.send(dead, 5_000)
    wait_until(lambda: post.receiver.open_now["/dead"] == 1)
    disturbed = _waits_s(post, healthy, 4)
    assert post.receiver.most_open["/dead"] == 1
    assert disturbed[int(len(disturbed) * 0.95)] <= 2 * baseline[int(len(baseline) * 0.95)]


@pytest.mark.alone
def test_W5_many_dead_endpoints_leave_room_for_others(post: Post) -> None:
    """Forty receivers that never answer take half of the places at most: one that does is served at once."""
    for number in range(40):
        post.receiver.script(f"/dead/{number}", HANG)
        post.send(post.endpoint(f"/dead/{number}"), 3)
    fine = post.endpoint("/fine")
    loop = post.loop(replace(DeliveryOptions(), limits=replace(HASTY, total_s=3.0)))
    post.database.write(lambda tx: tx.execute(  # It has answered before.
        text("update webhook_endpoints set open_at = created_at where id = :id"), {"id": fine}))  # fmt: skip
    loop.start()
    wait_until(lambda: sum(post.receiver.open_now.values()) == 8)
    post.send(fine, 20)
    began = time.monotonic()
    wait_until(lambda: len(post.receiver.at("/fine")) == 20)
    assert time.monotonic() - began < 2
    assert sum(count for path, count in post.receiver.most_open.items() if path != "/fine") <= 40


def test_an_endpoint_rests_after_a_failure(post: Post) -> None:
    """After a failure the other events of the endpoint wait unclaimed, then one is tried, then, after success, all."""
    post.receiver.script("/hook", 500, 200)
    post.send(post.endpoint(), 9)
    loop = post.loop()
    loop._tools = replace(loop._tools, draw=lambda: 0.5)
    assert loop.run_once() == 1
    assert loop.run_once() == 0
    post.pass_time(5.1)
    assert [loop.run_once() for _ in range(4)] == [1, 4, 4, 0]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_G6_a_receiver_that_is_busy_is_asked_seldom_whatever_waits_for_it(post: Post) -> None:
    """With 5,000 events for one that answers 503, one is sent at a time, with a rest after it, and none twice."""
    post.receiver.script("/hook", *[503] * 100)
    post.send(post.endpoint(), 5_000)
    loop = post.loop()
    for _ in range(30):
        assert loop.run_once() == 1
        assert loop.run_once() == 0
        post.pass_time(60.0)
    assert len({message.headers["webhook-id"] for message in post.receiver.messages}) == 30


# ------------------------------------------------------------------------------------- what a failure tells of where


@contextlib.contextmanager
def _unanswered(post: Post) -> Iterator[list[str]]:
    """Give an endpoint at a closed port, one at a port that stays silent, and one whose name leads inside."""
    closed = closed_port()
    with silent_port() as silent:
        rules = EgressRules(allow=(f"127.0.0.1:{closed}", f"127.0.0.1:{silent}"))
        post.egress = Egress(rules, ScriptedResolver(["10.0.0.1"]), connect_timeout_s=0.4)
        urls = (f"http://127.0.0.1:{closed}/", f"http://127.0.0.1:{silent}/", "http://inside.example/")
        yield [post.webhooks.create("default", url)[0].id for url in urls]


def _told_after_s(post: Post, endpoints: Sequence[str], attempts: int) -> list[float]:
    """Return after how long the owner of each endpoint sees so many attempts in its log."""
    began, seen = time.monotonic(), dict.fromkeys(endpoints, 0.0)

    def look() -> bool:
        for endpoint in endpoints:
            (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
            if len(delivery.log) == attempts:
                seen[endpoint] = seen[endpoint] or time.monotonic() - began
        return all(seen.values())

    wait_until(look)
    return list(seen.values())


@pytest.mark.alone
def test_L9_the_log_of_deliveries_does_not_tell_closed_from_silent(post: Post) -> None:
    """A closed port, a silent one and a refused address: the same text, length and time until the owner sees it."""
    with _unanswered(post) as endpoints:
        for endpoint in endpoints:
            post.send(endpoint)
        loop = post.loop(DeliveryOptions(limits=PostLimits(told_after_s=0.6)))
        loop.start()
        waits = [_told_after_s(post, endpoints, 1)]
        for attempts in range(2, 6):
            for endpoint in endpoints:
                (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
                post.webhooks.replay("default", endpoint, delivery.event_id)
            loop.wake()
            waits.append(_told_after_s(post, endpoints, attempts))
        logs = [post.webhooks.deliveries("default", endpoint, 10)[0].log for endpoint in endpoints]
    medians = [statistics.median(one) for one in zip(*waits, strict=True)]
    assert max(medians) <= 1.2 * min(medians)
    told = {(attempt.status, attempt.error, attempt.duration_ms, attempt.excerpt) for log in logs for attempt in log}
    assert told == {(None, "The message could not be delivered to its address.", 600, "")}


def test_L9_an_unanswered_attempt_is_told_later_than_any_connection_fails() -> None:
    """By default the time at which failures are noted lies beyond the limit for connections, and within the lease."""
    assert CONNECT_S < PostLimits().told_after_s < PostLimits().total_s
    assert DownloadLimits(1).told_after_s == PostLimits().told_after_s


@pytest.mark.alone
def test_W5_a_failure_that_is_kept_back_occupies_no_sender(post: Post) -> None:
    """With two senders and six endpoints at closed ports, a seventh that answers does not wait for their time."""
    with _unanswered(post) as (dead, *_):
        url = post.webhooks.get("default", dead).url
        for number in range(6):
            post.send(post.webhooks.create("default", f"{url}{number}")[0].id)
        rules = EgressRules(allow=(url.removeprefix("http://").rstrip("/"), f"127.0.0.1:{post.receiver.port}"))
        post.egress = Egress(rules)
        post.send(post.endpoint("/fine"))
        post.loop(DeliveryOptions(workers=2, limits=PostLimits(told_after_s=10.0))).start()
        wait_until(lambda: post.states()["delivered"] == 1, 8)
        assert post.states() == {"delivered": 1, "pending": 6}
        began = time.monotonic()
        post.loops[-1].stop()
    assert time.monotonic() - began < 5
    assert post.outcomes == {"delivered": 1, "pending": 6}


def test_W5_so_many_failures_are_kept_back_and_no_more(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints that do not answer fill half of the places for what is kept back; one that does is served all along."""
    monkeypatch.setattr(delivery, "_MAX_KEPT_BACK", 6)
    fine = post.endpoint("/fine")
    post.send(fine)
    post.loop().run_once()
    closed = closed_port()
    post.egress = Egress(EgressRules(allow=(f"127.0.0.1:{closed}", f"127.0.0.1:{post.receiver.port}")))
    for number in range(8):
        post.send(post.webhooks.create("default", f"http://127.0.0.1:{closed}/{number}")[0].id)
    loop = post.loop(DeliveryOptions(limits=PostLimits(told_after_s=60.0)))
    loop.start()
    wait_until(lambda: len(loop._kept_back) == 3)
    for count in range(2, 5):
        post.send(fine)
        wait_until(lambda count=count: post.states()["delivered"] == count)  # type: ignore[misc]
        assert len(loop._kept_back) == 3


def test_the_rest_grows_with_the_failure() -> None:
    """An endpoint rests five seconds at first, and five minutes when it has failed for long."""
    schedule = Schedule()
    assert [schedule.rest_s(failing_s) for failing_s in (0, 60, 3600)] == [5, 30, 300]


# ---------------------------------------------------------------------------------------- disabled, exhausted, replay


@pytest.mark.parametrize("how", ["deleted", "disabled"])
def test_W6_nothing_is_sent_after_an_endpoint_has_gone(post: Post, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits when an endpoint is deleted or disabled is dropped, even if a sender holds it; it stays visible."""
    endpoint = post.endpoint()
    post.send(endpoint, 3)
    monkeypatch.setattr(faultpoints, "_seen", {})
    monkeypatch.setenv("TYMPAN_FAULT", "webhook.send:delay")
    loop = post.loop()
    loop.start()
    wait_until(lambda: post.database.read(_leased))
    if how == "deleted":
        post.webhooks.delete("default", endpoint)
    else:
        post.webhooks.change("default", endpoint, EndpointChange(enabled=False))
    assert post.states() == {"dropped": 3}
    wait_until(lambda: not loop._in_flight)  # The delay is over, and the sender has looked again.
    assert not post.receiver.messages
    listed = post.webhooks.deliveries("default", endpoint, 10, states=("dropped",))
    assert [one.last_error for one in listed] == ["The endpoint is disabled or deleted."] * 3


def _leased(tx: object) -> bool:
    return bool(tx.execute(text("select 1 from deliveries where lease_owner is not null")).first())  # type: ignore[attr-defined]


def test_W6_events_for_a_deleted_endpoint_are_dropped(post: Post) -> None:
    """A job that ends after its endpoint was deleted still ends; its event is dropped."""
    endpoint = post.endpoint()
    post.webhooks.delete("default", endpoint)
    post.send(endpoint, 2)
    assert post.loop().run_once() == 0
    assert post.states() == {"dropped": 2}
    with pytest.raises(NotFound):
        post.webhooks.get("default", endpoint)
    with pytest.raises(NotFound):
        post.webhooks.secret("default", endpoint)
    assert len(post.webhooks.deliveries("default", endpoint, 10)) == 2


def test_W7_a_receiver_that_stays_down_exhausts_the_schedule(post: Post) -> None:
    """After ten attempts in 75 hours a delivery has failed and is listed; sent again by request, it arrives."""
    post.receiver.script("/hook", 500)
    endpoint = post.endpoint()
    post.send(endpoint)
    loop = post.loop()
    passed_s = 0.0
    for _ in range(9):
        assert loop.run_once() == 1
        waits_s = post.due_in_s()
        passed_s += waits_s
        post.pass_time(waits_s + 0.1)
    assert loop.run_once() == 1
    assert 0.8 * 272_105 < passed_s < 1.2 * 272_105
    (failed,) = post.webhooks.deliveries("default", endpoint, 10, states=("failed",))
    assert (failed.attempts, len(failed.log), len(post.receiver.messages)) == (10, 10, 10)
    post.receiver.script("/hook", 200)
    again = post.webhooks.replay("default", endpoint, failed.event_id)
    assert (again.state, again.attempts, again.finished_at) == ("pending", 0, None)
    assert loop.run_once() == 1
    (delivered,) = post.webhooks.deliveries("default", endpoint, 10, states=("delivered",))
    assert [attempt.number for attempt in delivered.log] == list(range(1, 12))
    assert {message.id for message in post.receiver.messages} == {failed.event_id}


def test_W7_the_schedule_runs_by_itself(post: Post) -> None:
    """On a schedule that is a hundred thousand times faster, a running loop makes ten attempts and gives up."""
    post.receiver.script("/hook", 500)
    post.send(post.endpoint())
    fast = Schedule(waits_s=tuple(wait / 1e5 for wait in Schedule().waits_s))
    post.loop(replace(DeliveryOptions(), schedule=fast)).start()
    wait_until(lambda: post.states() == {"failed": 1})
    assert len(post.receiver.messages) == 10
    assert post.outcomes["pending"] == 9


def test_W7_lost_events_since_a_time_are_replayed(post: Post) -> None:
    """What failed or was dropped since a time is sent again; what is older, or arrived, is not."""
    endpoint = post.endpoint()
    loop = post.loop()
    post.send(endpoint)
    loop.run_once()
    post.webhooks.change("default", endpoint, EndpointChange(enabled=False))
    post.send(endpoint, 2)
    loop.run_once()
    post.pass_time(3600)
    old = post.states()
    post.send(endpoint, 3)
    loop.run_once()
    assert (old, post.states()) == ({"delivered": 1, "dropped": 2}, {"delivered": 1, "dropped": 5})
    with pytest.raises(Conflict):
        post.webhooks.replay_failed("default", endpoint, 0)
    post.webhooks.change("default", endpoint, EndpointChange(enabled=True))
    assert post.webhooks.replay_failed("default", endpoint, time.time() - 1800) == 3
    while loop.run_once():
        pass
    assert post.states() == {"delivered": 4, "dropped": 2}


def test_an_endpoint_that_fails_for_days_is_disabled(post: Post) -> None:
    """After five days without a success an endpoint is disabled, with a reason; a success in between counts anew."""
    post.receiver.script("/hook", 500, 200, 500)
    endpoint = post.endpoint()
    loop = post.loop()
    for expected in (True, True, True, False):
        post.send(endpoint)
        assert loop.run_once()
        assert post.webhooks.get("default", endpoint).enabled is expected
        post.pass_time(
            3 * DAY_S if expected and post.webhooks.get("default", endpoint).failing_since is None else 6 * DAY_S
        )
    assert post.webhooks.get("default", endpoint).disabled_reason == "Nothing could be delivered for days."


def test_an_endpoint_with_a_new_address_starts_afresh(post: Post) -> None:
    """What failed at the address before neither makes the new one rest nor counts towards disabling it."""
    post.receiver.script("/old", 500)
    endpoint = post.endpoint("/old")
    post.send(endpoint, 2)
    loop = post.loop()
    assert loop.run_once() == 1
    post.pass_time(4 * DAY_S)
    assert loop.run_once() == 1
    moved = post.webhooks.change("default", endpoint, EndpointChange(url=post.receiver.url("/new")))
    assert moved.failing_since is None
    assert loop.run_once() == 1
    assert len(post.receiver.at("/new")) == 1


def test_the_log_of_a_delivery_is_bounded(post: Post) -> None:
    """However often a delivery is replayed, the newest attempts are kept."""
    endpoint = post.endpoint()
    post.send(endpoint)
    loop = post.loop()
    for _ in range(KEPT_ATTEMPTS + 3):
        loop.run_once()
        (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
        post.webhooks.replay("default", endpoint, delivery.event_id)
    (delivery,) = post.webhooks.deliveries("default", endpoint, 10)
    assert [attempt.number for attempt in delivery.log] == list(range(4, KEPT_ATTEMPTS + 4))


def test_stopping_waits_for_what_is_being_sent(post: Post) -> None:
    """A loop that is stopped while receivers think claims nothing more, and notes what they answer."""
    post.receiver.script("/slow", Reaction(200, delay_s=1.0))
    post.send(post.endpoint("/slow"), 3)
    loop = post.loop()
    loop.start()
    wait_until(lambda: post.receiver.open_now["/slow"])
    loop.stop()
    assert post.states() == {"delivered": 1, "pending": 2}
    assert not post.database.read(_leased)


def test_a_database_that_fails_costs_no_attempt(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing can be noted the answers are kept; when it can, each is noted once and nothing is sent again."""
    post.send(post.endpoint())
    loop = post.loop()
    noted, fails = loop._store.mark, [StorageUnavailable(), StorageUnavailable()]

    def mark(outcomes: Sequence[Outcome]) -> Counter[str]:
        if fails:
            raise fails.pop()
        return noted(outcomes)

    monkeypatch.setattr(loop._store, "mark", mark)
    loop.start()
    wait_until(lambda: post.states() == {"delivered": 1})
    assert not fails
    assert len(post.receiver.messages) == 1


def test_the_log_holds_no_address_and_no_content(post: Post) -> None:
    """Attempts are logged by ids; paths, queries, metadata and secrets are not."""
    with captured_log() as stream:
        post.receiver.script("/path?token=hidden", 500, 200)
        endpoint = post.endpoint("/path?token=hidden")
        post.send(endpoint, metadata={"who": "Kowalczyk"})
        loop = post.loop()
        loop.run_once()
        post.pass_time(10)
        loop.run_once()
    logged = stream.getvalue()
    assert logged.count("webhook_attempt") == 2
    assert endpoint in logged
    for word in ("/path", "hidden", "Kowalczyk", "whsec_", "v1,"):
        assert word not in logged


# ------------------------------------------------------------------------------------------------ order, throughput


def test_W8_the_sequence_grows_with_each_event_of_a_job(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 1,000 events, some of whose transactions fail and are made again, each job's arrive with growing numbers."""
    endings = Endings(post.database, audio_days=1, text_days=1)
    endpoint = post.endpoint()
    kinds = ("job.failed", "job.succeeded")
    dice = random.Random(8)  # noqa: S311 (no secret)
    failures = 0
    for job in range(500):
        for seq, kind in enumerate(kinds, start=1):
            if seq == 2 and dice.random() < 0.2:
                with pytest.raises(InjectedFault):
                    post.database.write(lambda tx: _torn(tx, endings, endpoint, f"job_{job}", kind))  # noqa: B023
                failures += 1
            post.database.write(
                lambda tx: Post.write(tx, endings, endpoint, f"job_{job}", kind, seq, {})  # noqa: B023
            )
    post.loop().start()
    wait_until(lambda: post.states() == {"delivered": 1000}, 60)
    seen: dict[str, list[tuple[str, int]]] = {}
    for message in post.receiver.messages:
        payload = message.payload
        seen.setdefault(payload["data"]["id"], []).append((payload["timestamp"], payload["seq"]))
    assert failures > 50
    assert len(seen) == 500
    assert all([seq for _, seq in sorted(found)] == [1, 2] for found in seen.values())


def _torn(tx: object, endings: Endings, endpoint: str, job: str, kind: str) -> None:
    Post.write(tx, endings, endpoint, job, kind, 2, {})  # type: ignore[arg-type]
    raise InjectedFault


def _deliver(post: Post, count: int) -> float:
    """Deliver so many events, each once, and return how many a second."""
    endpoint = post.endpoint()
    for _ in range(count // 1000):
        post.send(endpoint, 1000)
    began = time.monotonic()
    post.loop().start()
    wait_until(lambda: post.outcomes["delivered"] == count, 200)
    seconds = time.monotonic() - began
    assert len({message.id for message in post.receiver.messages}) == len(post.receiver.messages) == count
    assert post.states() == {"delivered": count}
    return count / seconds


@pytest.mark.alone
def test_W9_a_thousand_events_go_out_quickly(post: Post) -> None:
    """They reach one receiver side by side, also on a slow machine; one look for each would make a few a second."""
    assert _deliver(post, 1_000) >= 30


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_W9_ten_thousand_events_go_out_quickly(post: Post) -> None:
    """At least a hundred events a second reach one receiver, and none is lost."""
    assert _deliver(post, 10_000) >= 100


# --------------------------------------------------------------------------------------------------------- retention


def test_old_events_are_forgotten_and_what_waits_is_kept(post: Post) -> None:
    """After their time events go with their log; pending ones stay, and so does the endpoint that somebody made."""
    hooks, store = post.webhooks, DeliveryStore(post.database)
    kept = post.endpoint()
    post.send(kept)
    post.loop().run_once()
    post.receiver.script("/hook", 500)
    post.send(kept)
    post.loop().run_once()
    post.pass_time(100)
    post.age_events(100)
    assert store.forget(200) == 0
    assert store.forget(50) == 1
    assert store.forget_endpoints() == 0
    assert [one.state for one in hooks.deliveries("default", kept, 10)] == ["pending"]


def test_an_endpoint_that_was_deleted_keeps_no_address_and_goes_in_the_end(post: Post) -> None:
    """Nothing of the address is left at once; the row goes after its time, and not before its last delivery."""
    endpoint = post.webhooks.create("default", post.receiver.url("/canary"))[0].id
    post.send(endpoint)
    post.webhooks.delete("default", endpoint)
    assert not _known(post, "canary")
    store = DeliveryStore(post.database)
    post.pass_time(DAY_S + 1)
    post.age_events(DAY_S + 1)
    assert (store.forget_endpoints(), store.forget(DAY_S), store.forget_endpoints()) == (0, 1, 1)
    assert _count(post, "webhook_endpoints") == 0


def test_a_jobs_endpoint_goes_with_the_last_job_that_names_it(post: Post) -> None:
    """While a job or a batch names it, it stays; when the last one is erased, the next sweep removes its address."""
    jobs = JobStore(post.database, Endings(post.database, audio_days=1, text_days=1))
    batches, store = BatchStore(jobs), DeliveryStore(post.database)
    endpoint = post.webhooks.ensure_endpoint("default", post.receiver.url("/canary"))
    for job_id in ("job_1", "job_2"):
        jobs.submit(_job(job_id, endpoint))
    batches.submit(NewBatch("bat_1", webhook_endpoint=endpoint), [_job("job_3", None, "bat_1")], None)
    post.pass_time(10_000)
    for job_id in ("job_1", "job_2"):
        assert store.forget_endpoints() == 0
        jobs.erase("default", job_id)
    assert store.forget_endpoints() == 0
    while batches.erase_some("default", "bat_1"):
        pass
    assert store.forget_endpoints() == 1
    assert not _known(post, "canary")
    with pytest.raises(NotFound):
        post.webhooks.get("default", endpoint)


def test_a_job_that_is_stored_after_its_endpoint_has_gone_ends_all_the_same(post: Post) -> None:
    """A request that took too long costs the message, not the job; the next one with that address is told again."""
    jobs = JobStore(post.database, Endings(post.database, audio_days=1, text_days=1))
    store, url = DeliveryStore(post.database), post.receiver.url()
    endpoint = post.webhooks.ensure_endpoint("default", url)
    post.pass_time(UNUSED_S + 1)
    assert store.forget_endpoints() == 1
    jobs.submit(_job("job_1", endpoint))
    assert jobs.cancel("default", "job_1").state is JobState.CANCELLED
    assert post.loop().run_once() == 0
    assert post.states() == {"dropped": 1}
    post.pass_time(2 * DAY_S)
    assert store.forget_endpoints() == 0
    assert post.webhooks.ensure_endpoint("default", url) == endpoint
    jobs.submit(_job("job_2", endpoint))
    jobs.cancel("default", "job_2")
    assert post.loop().run_once() == 1


def test_a_jobs_endpoint_stays_for_what_waits_and_goes_with_its_log(post: Post) -> None:
    """A delivery that is still to be made keeps it, one that was made does not."""
    store = DeliveryStore(post.database)
    endpoint = post.webhooks.ensure_endpoint("default", post.receiver.url())
    post.webhooks.ping("default", endpoint)
    post.pass_time(10_000)
    assert store.forget_endpoints() == 0
    assert post.loop().run_once() == 1
    assert store.forget_endpoints() == 1
    assert not post.states()
    assert _count(post, "events") == 0


@pytest.mark.parametrize("how", ["address", "id"])
def test_a_jobs_endpoint_stays_until_the_job_is_stored(post: Post, how: str) -> None:
    """Asking for it again, by its address or its id, keeps it for ten minutes more."""
    store, url = DeliveryStore(post.database), post.receiver.url()
    endpoint = post.webhooks.ensure_endpoint("default", url)
    post.pass_time(UNUSED_S - 100)
    if how == "address":
        assert post.webhooks.ensure_endpoint("default", url) == endpoint
    else:
        assert post.webhooks.require_endpoint("default", endpoint).id == endpoint
    post.pass_time(600)
    assert store.forget_endpoints() == 0
    post.pass_time(UNUSED_S)
    assert store.forget_endpoints() == 1


def test_a_running_sender_forgets_what_nobody_wants(post: Post) -> None:
    """The sweep is part of the loop that delivers."""
    post.webhooks.ensure_endpoint("default", post.receiver.url("/canary"))
    post.pass_time(10_000)
    post.loop().start()
    wait_until(lambda: not _known(post, "canary"))


def _job(job_id: str, endpoint: str | None, batch_id: str | None = None) -> NewJob:
    return NewJob(job_id, Source(SourceKind.STORED), Options(), webhook_endpoint=endpoint, batch_id=batch_id)


def _count(post: Post, table: str) -> int:
    return post.database.read(lambda tx: int(tx.scalar(text(f"select count(*) from {table}")) or 0))  # noqa: S608


def _known(post: Post, word: str) -> bool:
    query = text("select 1 from webhook_endpoints where url like :word")
    return post.database.read(lambda tx: tx.scalar(query, {"word": f"%{word}%"})) is not None


def test_what_is_late_for_receivers_that_answer_is_told(post: Post) -> None:
    """What waits is counted, whoever it is for; late is only what nobody but this server keeps waiting."""
    good, bad = (post.webhooks.ensure_endpoint("default", post.receiver.url(path)) for path in ("/good", "/bad"))
    assert delivery_backlog(post.database) == DeliveryBacklog(0, 0.0)
    post.webhooks.ping("default", bad)
    failing = text("update webhook_endpoints set failing_since = created_at where id = :id")
    post.database.write(lambda tx: tx.execute(failing, {"id": bad}))
    post.pass_time(500)
    assert delivery_backlog(post.database) == DeliveryBacklog(1, 0.0)
    post.webhooks.ping("default", good)
    post.pass_time(300)
    found = delivery_backlog(post.database)
    assert found.count == 2
    assert 300 <= found.lag_s < 500
