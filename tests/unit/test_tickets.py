"""Tickets to one job's audio: opened by whoever has the key, for that job, until they end."""

import pytest

from tympan.jobs.sealing import Sealer
from tympan.jobs.tickets import LIFETIME_S, Tickets

KEY, OTHER = "k" * 40, "o" * 40


def test_a_ticket_opens_its_job_for_its_tenant_until_it_ends() -> None:
    """In every process that has the key, and not a second longer."""
    now = 1000.0
    ticket, until = Tickets(Sealer([KEY]), lambda: now).issue("acme", "job_1")
    assert until == now + LIFETIME_S
    for moment, tenant in ((now, "acme"), (until - 1, "acme"), (until, None), (until + 1e6, None)):
        assert Tickets(Sealer([KEY]), lambda moment=moment: moment).holder(ticket, "job_1") == tenant  # type: ignore[misc]
    assert Tickets(Sealer([KEY]), lambda: now).holder(ticket, "job_2") is None
    assert Tickets(Sealer([OTHER]), lambda: now).holder(ticket, "job_1") is None
    assert Tickets(Sealer([OTHER, KEY]), lambda: now).holder(ticket, "job_1") == "acme"


def test_what_was_sealed_for_something_else_is_no_ticket() -> None:
    """The same key seals webhooks' secrets; whoever got hold of one sealed has no ticket."""
    sealer = Sealer([KEY])
    tickets = Tickets(sealer)
    for text in ("whsec_abc", "[]", "{}", "null", '["audio","job_1","acme"]', '["other","job_1","acme",9999999999]',
                 '["audio","job_1","acme","soon"]', '["audio","job_1","acme",null]', "\u00e9"):  # fmt: skip
        assert tickets.holder(sealer.seal(text), "job_1") is None, text


@pytest.mark.parametrize("ticket", ["", "x", "gAAAAA==", "\u20ac" * 5, "a" * 100_000, "\0", " "])
def test_nonsense_opens_nothing(ticket: str) -> None:
    """Of any length and in any script."""
    assert Tickets().holder(ticket, "job_1") is None


def test_no_letter_of_a_ticket_can_be_changed() -> None:
    """One that was bent is none."""
    tickets = Tickets()
    ticket, _ = tickets.issue("acme", "job_1")
    for place in range(0, len(ticket), 7):
        bent = ticket[:place] + ("A" if ticket[place] != "A" else "B") + ticket[place + 1 :]
        assert tickets.holder(bent, "job_1") is None, place


def test_without_a_key_of_the_deployment_a_process_opens_its_own_alone() -> None:
    """Two that have none share nothing."""
    one, another = Tickets(), Tickets()
    ticket, _ = one.issue("acme", "job_1")
    assert one.holder(ticket, "job_1") == "acme"
    assert another.holder(ticket, "job_1") is None
