"""What a live session comes to while it goes on: it may last for hours, and limits count by the minute."""

import asyncio

from tympan.access.limits import LimitDesk
from tympan.api.intake.metering import Bill

SPEND_S = 10.0
"""Seconds of audio that are charged at a time."""


class LiveBill:
    """Charges one session's audio as it comes; what is left over is charged with its end."""

    def __init__(self, bill: Bill, desk: LimitDesk) -> None:
        """Begin with no audio."""
        self._bill, self._desk = bill, desk
        self.audio_s = 0.0

    async def hear(self, audio_s: float) -> None:
        """Take note of audio that was taken. Raises ``RateLimited`` and ``QuotaExceeded`` when there may be no more."""
        self.audio_s += audio_s
        unpaid_s = self.audio_s - self._bill.spent_s
        if unpaid_s < SPEND_S:
            return
        if self._desk.ledger.blocks:
            await asyncio.to_thread(self._desk.spend, self._bill.tenant, unpaid_s)
        else:
            self._desk.spend(self._bill.tenant, unpaid_s)
        self._bill.spent_s += unpaid_s
