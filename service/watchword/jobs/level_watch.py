"""Follows the wrong codes of everybody and raises the level of new codes (otp/level.py).

Every replica looks; one of them raises a level and leaves the audit event, and all log what they
see. The level ends by itself, in the database, so nothing has to be lowered.
"""

import asyncio
from contextlib import suppress

import structlog

from watchword.errors import Overloaded, StorageUnavailable
from watchword.login import auditing
from watchword.login.ports import Database, Tx
from watchword.otp.level import CALM_TIME, EXTEND_AFTER, Alarm, CodeLevel, reached_level
from watchword.otp.policy import OtpPolicy

# Twice within the second in which the codes have to become longer.
LOOK_SECONDS = 0.5

_log = structlog.get_logger(__name__)


class LevelWatch:
    """The watch of this process."""

    def __init__(self, database: Database, policy: OtpPolicy) -> None:
        self._database = database
        self._policy = policy
        self._known = CodeLevel.CALM

    async def run(self) -> None:
        """Looks for ever; a database that is gone, of which the pool tells, is asked again."""
        while True:
            # While it is away no code is compared either.
            with suppress(StorageUnavailable, Overloaded):
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Looks once: raises or extends the level if need be, and logs it when it has changed."""
        alarm = await self._database.run_statement(lambda tx: tx.installation.alarm())
        reached = reached_level(self._policy, in_minute=alarm.in_minute, in_day=alarm.in_day)
        if reached > alarm.level:
            await self._raise(reached)
        elif reached is not CodeLevel.CALM and alarm.left(reached) < CALM_TIME - EXTEND_AFTER:
            await self._extend(reached)
        self._tell(max(reached, alarm.level), alarm)

    async def _raise(self, level: CodeLevel) -> None:
        event = auditing.level_raised(level)

        async def transaction(tx: Tx) -> None:
            if await tx.installation.raise_level(level, lasts=CALM_TIME):
                await tx.audit.put(event)

        await self._database.run_tx(transaction)

    async def _extend(self, level: CodeLevel) -> None:
        await self._database.run_statement(
            lambda tx: tx.installation.extend_level(level, lasts=CALM_TIME, not_within=EXTEND_AFTER)
        )

    def _tell(self, level: CodeLevel, alarm: Alarm) -> None:
        if level == self._known:
            return
        counts = {"code_form": level.value, "in_minute": alarm.in_minute, "in_day": alarm.in_day}
        if level > self._known:
            _log.warning(
                "code level raised",
                **counts,
                hint="somebody guesses codes at many addresses; see docs/codes.md",
            )
        else:
            _log.info("code level lowered", **counts)
        self._known = level
