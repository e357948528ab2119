"""Counts the wrong codes of everybody, which the installation's level follows (otp/level.py).

After the comparison, since a right code is no failure and would have to be taken back, and before
the answer: who is told that a code was wrong has been counted.
"""

import asyncio
from dataclasses import dataclass
from functools import partial

from watchword.crypto import shuffled
from watchword.errors import Overloaded, StorageUnavailable
from watchword.login.ports import Database, Tx
from watchword.otp.policy import FAILURE_STRIPES


@dataclass(slots=True)
class _Batch:
    """The wrong codes of the calls that wait for one write, and how that ended."""

    units: int = 0
    written: bool = False
    error: StorageUnavailable | Overloaded | None = None


class FailureCounter:
    """The counter of this process. One write is under way at a time; calls that come meanwhile
    share the next one, so that a flood costs no more than that.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._gathering = _Batch()

    async def count(self, units: int) -> None:
        """Returns once so many wrong codes are counted and committed; 0 costs nothing.

        Raises StorageUnavailable and Overloaded; then they may have been counted or not, as when
        the call is cancelled, and it must not say that the code was wrong.
        """
        if units == 0:
            return
        batch = self._gathering
        batch.units += units
        async with self._turn:
            # A batch whose writer was cancelled is written by the next of its calls.
            if not batch.written and batch.error is None:
                await self._write(batch)
        if batch.error is not None:
            raise batch.error

    async def _write(self, batch: _Batch) -> None:
        if batch is self._gathering:
            self._gathering = _Batch()
        stripe = shuffled(range(FAILURE_STRIPES))[0]
        try:
            await self._database.run_statement(partial(_count, stripe, batch.units))
        except (StorageUnavailable, Overloaded) as error:
            batch.error = error
        else:
            batch.written = True


async def _count(stripe: int, units: int, tx: Tx) -> None:
    await tx.installation.count_failures(stripe, units)
